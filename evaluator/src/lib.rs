//! Learns from Prometheus how much memory WebAssembly instances need, and restarts those that hold more.
//!
//! Data flows one way, once per tick: [`store`] → [`ebb_core`] → `evaluation` → `runners`.
//!
//! | module | subject |
//! | --- | --- |
//! | [`config`] | YAML → validated [`config::Config`] |
//! | [`store`] | where samples come from: Prometheus' HTTP API, or the runners themselves |
//! | `client` | what every HTTP client has in common |
//! | `runners` | (slot, generation) → an order → its outcome |
//! | `evaluation` | one tick as named steps |
//! | `decisions`, `snapshot`, `metrics` | what a tick leaves behind |
//! | `chart` | PURE: lines over time → SVG |
//! | `advice` | a recording and a config → what to set |
//! | `live` | `check --live`: what store and runners say to the config |
//! | `web` | the API and the page that show it |
//! | [`cli`] | what the evaluator can be asked on the command line |

mod advice;
mod chart;
pub mod cli;
mod client;
pub mod config;
mod decisions;
mod evaluation;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod growth;
mod live;
mod metrics;
mod runners;
mod service;
mod snapshot;
pub mod store;
mod web;

pub(crate) use self::service::{RunError, Service, check, run};
