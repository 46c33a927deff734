//! PURE: one module: what was learned of it, its replicas' memory over time, its instances.

use ebb_core::history::TRACES_MAX;
use maud::{Markup, html};

use super::{
    charts::{self, Size},
    context::{PageContext, PageData, Tab},
    decisions,
    findings::warm_up,
    format, growth,
    instances::{self, Listing},
    query::{PageQuery, module_path},
};
use crate::snapshot::PopulationSnapshot;

/// The page of a module. `None` when no instance of it was seen within the lookback, and no decision on
/// it is kept.
pub(in crate::web) fn module(
    context: &PageContext<'_>,
    module: &str,
    query: &PageQuery,
    listing: &Listing<'_>,
    data: PageData<'_>,
) -> Option<Markup> {
    let of_module = |population: &&PopulationSnapshot| &*population.population.module == module;
    let populations: Vec<_> = context.snapshot.populations.iter().filter(of_module).collect();
    if populations.is_empty() && data.decisions.is_empty() {
        return None;
    }
    let path = module_path(module);
    let charted = &listing.instances[..listing.instances.len().min(TRACES_MAX)];
    let asked_decisions = PageQuery { module: Some(module.to_owned()), ..PageQuery::default() };
    let body = html! {
        p.crumbs { a href="/" { "Modules" } }
        h1 { (module) }
        @if populations.is_empty() {
            p.empty { "No instance of it was seen within " (context.config.lookback) "." }
        }
        @for population in populations { (learned(context, population)) }
        @if let Some(saved) = context.snapshot.saved_byte_seconds.get(module) {
            p.rule {
                "Restarts have saved at least " strong { (format::byte_hours(*saved)) }
                " since the evaluator was started: without them, instances would still hold what they held then."
            }
        }
        h2 #memory { "Memory over time" }
        @if charted.len() < listing.instances.len() {
            p.faint { "Of the first " (charted.len()) " instances listed below. Every instance has a page with its own." }
        }
        (charts::charts(context, &path, query, charted, data.extract, Size::Small))
        (growth::section(module, data.growth))
        h2 #instances { "Instances" }
        (instances::table(context, module, query, listing))
        h2 { "Newest decisions" }
        (decisions::list(context, data.decisions))
        p { a href=(asked_decisions.at("/decisions")) { "All decisions on " (module) } }
    };
    Some(context.document(module, Tab::Modules, &body))
}

/// What was learned of one population, and how it is judged.
fn learned(context: &PageContext<'_>, population: &PopulationSnapshot) -> Markup {
    let rails = &population.rule.guard_rails;
    let learned = &population.learned;
    html! {
        dl.totals {
            div { dt { "Instances" } dd { (population.instances) } }
            div { dt { "Memory" } dd { (format::bytes(population.memory_bytes)) } }
            div { dt { "Threshold" } dd { (format::threshold(learned)) } }
            div { dt { "Sample" } dd { (learned.sample_size) " lifetimes" } }
            div { dt { "Reclaimable now" } dd { (format::bytes(population.reclaimable_bytes)) } }
        }
        p.rule {
            "Digest " code { (population.population.digest) }
            ", rule: " (population.rule.policy.describe(None))
            "; min_age " (rails.min_age)
            @if let Some(max_bytes) = rails.max_bytes { ", max_bytes " (max_bytes) }
            ", min_reclaim " (rails.min_reclaim) "."
            @if let Some(estimate) = &learned.estimate {
                " Medians of the sample: mean " (format::rounded(estimate.mean_bytes))
                ", deviation " (format::rounded(estimate.stddev_bytes)) "."
            }
            @if let Some(fresh) = learned.fresh_bytes { " A start was seen with " (format::bytes(fresh)) "." }
        }
        @if let Some(growth) = &population.growth {
            p.rule data-kind=(growth.kind.name()) {
                "Growth with age: " strong { (growth.kind.name()) } ": " (growth) "."
            }
        }
        @if let Some(warm_up) = warm_up(population) {
            div.notice.hold data-warm-up { strong { "Restarted for its warm-up: " } (warm_up) "." }
        }
        @if let Some((slot, found)) = context.snapshot.outlook.first.get(&population.population) {
            @let instance = format!("{}/{} on {}", population.population.module, slot.replica, slot.runner);
            @if found.with_restarts.is_some() {
                div.notice.hold data-limit-reached {
                    strong { "Memory runs out: " } (instance) " reaches its limit " (found) "."
                }
            } @else {
                p.rule data-limit-reached { (instance) " is the first to reach its limit: " (found) "." }
            }
        }
        @if let Some(comparison) = &population.comparison {
            @if comparison.is_regression {
                div.notice.hold data-regression {
                    strong { "This version needs more memory than the one before: " } (comparison) "."
                }
            } @else {
                p.rule { "Beside the version before: " (comparison) "." }
            }
        }
        @if let Some(hold) = &population.hold {
            div.notice.hold {
                strong { "No restart of this module is ordered: " (format::spaced(hold.name())) "." }
                " " (hold)
            }
        }
        @if let Some(until) = population.suspended_until {
            div.notice.hold {
                strong { "Restarts of this module are suspended until " (format::moment(until, context.now)) "." }
                " The last ones did not reduce memory."
            }
        }
    }
}
