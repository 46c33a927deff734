//! PURE: what the evaluator knows → HTML. Every text that comes from outside is escaped by the templates.
//!
//! | file | subject |
//! | --- | --- |
//! | `context.rs` | what every page rests on, and what stands around it |
//! | `overview.rs` | all modules |
//! | `module.rs` | one module: its replicas' memory over time, its instances |
//! | `instance.rs` | one instance: why it is, or was, restarted, and why not |
//! | `decisions.rs` | what was decided, newest first |
//! | `settings.rs` | the config that is in force |
//! | `instances.rs`, `charts.rs` | a table, and charts, of instances |
//! | `query.rs` | what an address asks for; the address that asks for it |
//! | `paging.rs` | a long list → one page of it, and how to get to the others |
//! | `growth.rs` | where a module's memory grows |
//! | `format.rs` | times, sizes, policies and outcomes in words |

mod advice;
mod charts;
mod context;
mod decisions;
mod findings;
mod format;
mod growth;
mod instance;
mod instances;
mod module;
mod overview;
mod paging;
mod query;
mod settings;
#[cfg(test)]
mod tests;

pub(super) use self::{
    advice::advice,
    context::{PageContext, PageData},
    decisions::{decisions, wants},
    findings::findings,
    instance::instance,
    instances::Listing,
    module::module,
    overview::overview,
    query::PageQuery,
    settings::settings,
};
