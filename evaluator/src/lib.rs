//! Learns from Prometheus how much memory WebAssembly instances need, and restarts those that hold more.
//!
//! Data flows one way, once per tick: [`store`] → [`intake`] → [`history`] → [`rule`] → [`evaluation`] → [`restart`].
//!
//! | module | subject |
//! | --- | --- |
//! | [`config`] | YAML → validated [`config::Config`] |
//! | [`units`] | names and quantities |
//! | [`store`] | where samples come from: Prometheus' HTTP API, or the runners themselves |
//! | [`intake`] | PURE: what to ask a store for, and which samples enter the history |
//! | [`history`] | PURE: samples → lifetimes as growth steps |
//! | [`rule`] | PURE: lifetimes → threshold → verdicts → admitted restarts |
//! | [`explain`] | PURE: a verdict → a sentence |
//! | [`http`] | what every HTTP client has in common |
//! | [`restart`] | (slot, generation) → an order → its outcome |
//! | [`backtest`] | PURE: what a policy would have done with the past |
//! | [`evaluation`] | one tick as named steps |
//! | [`decisions`], [`view`], [`metrics`] | what a tick leaves behind |
//! | [`chart`] | PURE: lines over time → SVG |
//! | [`live`] | `check --live`: what store and runners say to the config |
//! | [`web`] | the API and the page that show it |

pub mod backtest;
pub mod chart;
pub mod config;
pub mod decisions;
pub mod evaluation;
pub mod explain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod history;
pub mod http;
pub mod intake;
pub mod live;
pub mod metrics;
pub mod restart;
pub mod rule;
mod service;
pub mod store;
pub mod units;
pub mod view;
pub mod web;

pub use self::service::{RunError, Service, check, run};
