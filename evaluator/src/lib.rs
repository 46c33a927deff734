//! Learns from Prometheus how much memory WebAssembly instances need, and restarts those that hold more.
//!
//! Data flows one way, once per tick: [`store`] → [`ebb_core`] → [`evaluation`] → [`restart`].
//!
//! | module | subject |
//! | --- | --- |
//! | [`config`] | YAML → validated [`config::Config`] |
//! | [`store`] | where samples come from: Prometheus' HTTP API, or the runners themselves |
//! | [`http`] | what every HTTP client has in common |
//! | [`restart`] | (slot, generation) → an order → its outcome |
//! | [`evaluation`] | one tick as named steps |
//! | [`decisions`], [`view`], [`metrics`] | what a tick leaves behind |
//! | [`chart`] | PURE: lines over time → SVG |
//! | [`live`] | `check --live`: what store and runners say to the config |
//! | [`web`] | the API and the page that show it |

pub mod chart;
pub mod config;
pub mod decisions;
pub mod evaluation;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod http;
pub mod live;
pub mod metrics;
pub mod restart;
mod service;
pub mod store;
pub mod view;
pub mod web;

pub use self::service::{RunError, Service, check, run};
