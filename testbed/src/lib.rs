//! Starts the real runner, evaluator and Prometheus on free loopback ports, and ends them.
//!
//! Used by the end-to-end tests, the demo and the benchmarks. What is missing is an error that says how to
//! get it; nothing is skipped.
//!
//! | module | subject |
//! | --- | --- |
//! | [`process`] | one child process: its log, its signals, its end |
//! | [`runner`], [`evaluator`], [`prometheus`] | each program with its config, address and readiness |
//! | [`http`] | requests to them |
//! | [`metrics`] | an exposition → values by name and labels |
//! | [`wait`] | conditions with a deadline |
//! | [`paths`] | where programs and guests lie |

pub mod evaluator;
pub mod http;
pub mod metrics;
pub mod paths;
pub mod process;
pub mod prometheus;
pub mod runner;
pub mod wait;

use std::net::TcpListener;

/// `127.0.0.1:PORT` with a port that nobody listens on.
#[must_use]
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound listener has an address").to_string()
}
