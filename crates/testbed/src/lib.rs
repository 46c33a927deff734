//! Starts the real runner, evaluator and Prometheus on free loopback ports, and ends them.
//!
//! Used by the end-to-end tests, the demo and the benchmarks. What is missing is an error that says how to
//! get it; nothing is skipped.
//!
//! | module | subject |
//! | --- | --- |
//! | [`process`] | one child process: its log, its signals, its end |
//! | [`runner`], [`evaluator`], [`prometheus`] | each program with its config, address and readiness |
//! | [`grafana`] | a dashboard's JSON → its queries |
//! | [`certificates`] | an authority of a test's own |
//! | [`clock`] | a time of day that a test sets |
//! | [`http`] | requests to them |
//! | [`load`] | HTTP load that looks at every byte |
//! | [`metrics`] | an exposition → values by name and labels |
//! | [`wait`] | conditions with a deadline |
//! | [`paths`] | where programs and guests lie |

pub mod certificates;
pub mod clock;
pub mod evaluator;
pub mod grafana;
pub mod http;
pub mod load;
pub mod metrics;
pub mod paths;
pub mod process;
pub mod prometheus;
pub mod runner;
pub mod wait;

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the range out of which systems choose ports for whoever connects somewhere.
const PORTS: std::ops::Range<u32> = 12_000..32_000;

/// `127.0.0.1:PORT` with a port that nobody listens on, that no other call of this process gets, and that no
/// connection takes in the meantime.
///
/// # Panics
/// When all ports are taken.
#[must_use]
pub fn free_address() -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    // Processes that run side by side begin at different places.
    let first = std::process::id().wrapping_mul(97);
    for _ in PORTS {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + first.wrapping_add(call) % (PORTS.end - PORTS.start);
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
    panic!("every port from {} to {} is taken", PORTS.start, PORTS.end);
}
