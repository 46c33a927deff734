//! What Ebb costs: each benchmark starts the real thing and its peer, measures both in the same run, prints a table and
//! writes `target/bench/NAME.json`.
//!
//! | module | subject |
//! | --- | --- |
//! | `restart`, `http`, `fairness`, `scrape`, `density`, `evaluator`, `host`, `growth` | the benchmarks |
//! | `restart_latency` | how long restarts take, as whoever orders them sees it |
//! | `cpu` | CPU time and memory of a process |
//! | `statistics` | PURE: many measurements → one |
//! | `report` | figures, ratios and their aims → a table, JSON |

mod cpu;
mod density;
mod evaluator;
mod fairness;
mod growth;
mod host;
mod http;
mod report;
mod restart;
mod restart_latency;
mod scrape;
mod statistics;

use clap::Parser;

/// Measures what Ebb costs, each time against a peer in the same run.
#[derive(Debug, Parser)]
#[command(name = "ebb-bench", version)]
enum Benchmark {
    /// A restart: its time, and the memory that leaves the process.
    Restart,
    /// Serving HTTP, at rest and during restarts, against `wasmtime serve`.
    Http,
    /// What busy guests cost the others.
    Fairness,
    /// A scrape of 10,000 instances.
    Scrape,
    /// How many instances one process holds, and what an idle one costs.
    Density,
    /// The evaluator, Prometheus' share included, against a recording rule.
    Evaluator,
    /// What `ebb-host` costs a host: against a server on Wasmtime's `ProxyHandler` without it.
    Host,
    /// The growth profile, against modules without one.
    Growth,
}

fn main() {
    match Benchmark::parse() {
        Benchmark::Restart => restart::run(),
        Benchmark::Http => http::run(),
        Benchmark::Fairness => fairness::run(),
        Benchmark::Scrape => scrape::run(),
        Benchmark::Density => density::run(),
        Benchmark::Evaluator => evaluator::run(),
        Benchmark::Host => host::run(),
        Benchmark::Growth => growth::run(),
    }
}
