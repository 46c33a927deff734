//! What it costs to serve HTTP from long-lived instances, and to restart them meanwhile.
//!
//! | key | meaning |
//! | --- | --- |
//! | `rps_over_wasmtime_serve` | requests per second on the component `hello`, over those of `wasmtime serve` on the same component: the better of its default and of instances reused without end; medians of paired rounds |
//! | `p99_restarting_over_rest` | 99th percentile of latency while replicas are restarted one after the other without a pause, over the same at rest; medians of paired rounds |
//! | `runner_rss_over_body_500mb` | growth of the runner's resident memory, linear memories not counted, over the body, while 500 MB pass to a guest that reads them as they come |
//! | `restart_p50_us_http`, `restart_p99_us_http` | order sent to answer received, of an instance of `hello` at rest; loopback HTTP included |
//! | `failed_requests` | answers with another status, bodies with a wrong byte, broken connections, in all of the above and in mixed load with slow transfers during 200 restarts |
//!
//! Server and load tool share the machine's processors, ours and the peer's alike.

pub(crate) mod load_tool;
mod memory;
mod peer;
mod restarts;

use ebb_testbed::{paths, runner::Runner};

use self::{
    load_tool::{Measured, measure},
    peer::WasmtimeServe,
    restarts::{Restarting, mixed_load_with_restarts},
};
use crate::{
    report::{Aim, Report},
    restart_latency::restart_latencies_us,
    statistics::{median, percentile},
};

const ROUNDS: usize = 5;

#[tokio::main]
pub(crate) async fn run() {
    let mut report = Report::new("http");
    let mut failed = 0;
    failed += throughput(&mut report).await;
    failed += latency_during_restarts(&mut report).await;

    let runner = Runner::start_quiet(&hello()).await;
    let latencies = restart_latencies_us(&runner, "hello").await;
    drop(runner);
    report.figure("restart_p50_us_http", median(latencies.clone()));
    report.aimed_figure("restart_p99_us_http", percentile(latencies, 0.99), Aim::AtMost(1000.0));

    failed += mixed_load_with_restarts().await;
    let growth = memory::growth_over_body().await;
    report.ratio("runner_rss_over_body_500mb", growth, Some(Aim::AtMost(0.02)));
    report.aimed_figure("failed_requests", failed as f64, Aim::AtMost(0.0));
    report.publish();
}

/// As many instances as the load keeps busy: one per processor.
fn hello() -> String {
    let replicas = std::thread::available_parallelism().map_or(2, usize::from);
    let path = paths::guest("hello");
    format!("  - name: hello\n    path: {}\n    kind: http\n    replicas: {replicas}\n", path.display())
}

/// Requests per second, ours and the peer's in turn. Returns the failed requests.
async fn throughput(report: &mut Report) -> u64 {
    let runner = Runner::start_quiet(&hello()).await;
    let default = WasmtimeServe::start(&[]).await;
    let reusing = WasmtimeServe::start(&["--max-instance-reuse-count", "1000000000"]).await;
    let servers = [&runner.http_address, &default.address, &reusing.address];
    let mut rounds: Vec<[Measured; 3]> = Vec::new();
    for round in 0..=ROUNDS {
        let measured = servers.map(|address| measure(address));
        if round > 0 {
            rounds.push(measured);
        }
    }
    let rps = |server: usize| median(rounds.iter().map(|round| round[server].requests_per_second).collect());
    report.figure("rps_ebb", rps(0));
    report.figure("rps_wasmtime_serve_default", rps(1));
    report.figure("rps_wasmtime_serve_reuse", rps(2));
    let ratio = |[ours, default, reusing]: &[Measured; 3]| {
        ours.requests_per_second / default.requests_per_second.max(reusing.requests_per_second)
    };
    let ratio = median(rounds.iter().map(ratio).collect());
    report.ratio("rps_over_wasmtime_serve", ratio, Some(Aim::AtLeast(1.1)));
    rounds.iter().map(|[ours, ..]| ours.failed).sum()
}

/// Latency at rest and during restarts, in turn. Returns the failed requests.
async fn latency_during_restarts(report: &mut Report) -> u64 {
    let runner = Runner::start_quiet(&hello()).await;
    measure(&runner.http_address);
    let mut rounds = Vec::new();
    let mut restarts_per_second = Vec::new();
    for _ in 0..ROUNDS {
        let rest = measure(&runner.http_address);
        let restarting = Restarting::begin(&runner, "hello");
        let during = measure(&runner.http_address);
        restarts_per_second.push(restarting.end());
        rounds.push((rest, during));
    }
    let p99 = |of: fn(&(Measured, Measured)) -> &Measured| {
        median(rounds.iter().map(|round| of(round).p99_us).collect())
    };
    report.figure("p99_us_rest", p99(|(rest, _)| rest));
    report.figure("p99_us_restarting", p99(|(_, during)| during));
    report.figure("restarts_per_second", median(restarts_per_second));
    let ratio = median(rounds.iter().map(|(rest, during)| during.p99_us / rest.p99_us).collect());
    report.ratio("p99_restarting_over_rest", ratio, Some(Aim::AtMost(1.5)));
    rounds.iter().map(|(rest, during)| rest.failed + during.failed).sum()
}
