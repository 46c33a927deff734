//! What `ebb-host` costs a host.
//!
//! | key | meaning |
//! | --- | --- |
//! | `rps_over_bare_proxy_handler` | requests per second of `examples/serve` on the component `hello`, over those of the same server without `ebb-host`; medians of paired rounds |
//! | `meter_ns_per_grow` | what a call of the limiter takes at a grow, less what Wasmtime's own `StoreLimits` takes; medians of paired rounds |
//! | `failed_requests` | answers with another status, and broken connections, of `examples/serve` |
//!
//! Servers and load tool share the machine's processors.

use std::{hint::black_box, time::Instant};

use ebb_host::limiter::Limiter;
use ebb_testbed::{free_address, http::client, paths, process::Process, wait};
use ebb_units::ByteCount;
use tempfile::TempDir;
use wasmtime::{ResourceLimiter, StoreLimits};

use crate::{
    http::load_tool::{Measured, measure},
    report::{Aim, Report},
    statistics::median,
};

const ROUNDS: usize = 7;

#[tokio::main]
pub(crate) async fn run() {
    let mut report = Report::new("host");
    throughput(&mut report).await;
    let over: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let bare = ns_per_grow(&mut StoreLimits::default());
            ns_per_grow(&mut Limiter::new(ByteCount(u64::MAX))) - bare
        })
        .collect();
    report.aimed_figure("meter_ns_per_grow", median(over), Aim::AtMost(10.0));
    report.publish();
}

async fn throughput(report: &mut Report) {
    let folder = TempDir::new().expect("a folder for logs");
    let (ours, control, bare) = (free_address(), free_address(), free_address());
    let replicas = std::thread::available_parallelism().map_or(2, usize::from).to_string();
    let hello = paths::guest("hello").display().to_string();
    let log = |name: &str| folder.path().join(name);
    let with = ["--listen", &ours, "--control", &control, "--replicas", &replicas, &hello];
    let _ours = Process::start(&paths::program("example-serve"), with, &log("ours"));
    let without = [&bare, &replicas, &hello];
    let _bare = Process::start(&paths::program("bench-serve-bare"), without, &log("bare"));
    let mut rounds: Vec<[Measured; 2]> = Vec::new();
    for address in [&ours, &bare] {
        let url = format!("http://{address}/");
        let answers = async || client().get(&url).send().await.ok().filter(|answer| answer.status() == 200);
        wait::until("the server answers", std::time::Duration::from_secs(60), answers).await;
    }
    for round in 0..=ROUNDS {
        let measured = [&ours, &bare].map(|address| measure(address));
        if round > 0 {
            rounds.push(measured);
        }
    }
    let rps = |server: usize| median(rounds.iter().map(|round| round[server].requests_per_second).collect());
    report.figure("rps_ebb_host", rps(0));
    report.figure("rps_bare_proxy_handler", rps(1));
    let ratio = rounds.iter().map(|[ours, bare]| ours.requests_per_second / bare.requests_per_second);
    report.ratio("rps_over_bare_proxy_handler", median(ratio.collect()), Some(Aim::AtLeast(0.98)));
    let failed: u64 = rounds.iter().map(|[ours, _]| ours.failed).sum();
    report.aimed_figure("failed_requests", failed as f64, Aim::AtMost(0.0));
}

/// Time of a grow by a page, as far as the limiter takes it, in nanoseconds.
fn ns_per_grow(limiter: &mut dyn ResourceLimiter) -> f64 {
    const GROWS: usize = 20_000_000;
    const PAGE: usize = 65_536;
    let started = Instant::now();
    for page in 0..GROWS {
        let allowed = limiter.memory_growing(black_box(page * PAGE), (page + 1) * PAGE, None);
        assert!(black_box(allowed).is_ok_and(|allowed| allowed), "nothing limits it");
    }
    started.elapsed().as_secs_f64() * 1e9 / GROWS as f64
}
