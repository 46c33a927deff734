//! What the evaluator costs, Prometheus' share included, against what Prometheus spends on the same threshold
//! as a recording rule.
//!
//! Everything is measured in CPU-seconds, by the CPU clocks of the two processes: a real, release-built
//! `ebb-evaluator` and a real Prometheus 3 that holds 26 hours of 10 s scrapes of a made-up fleet (24 h in
//! blocks, 2 h in its head) and is fed further scrapes while the evaluator ticks.
//!
//! | file | subject |
//! | --- | --- |
//! | `fleet.rs` | PURE: the fleet's readings, by a seed |
//! | `xor_chunk.rs`, `block.rs` | readings → blocks of Prometheus' database |
//! | `feed.rs` | readings → remote write, as they fall due |
//! | `server.rs` | Prometheus with its history |
//!
//! **The peer** is [`recording_rule`], evaluated as an instant query, which is what Prometheus does with a
//! recording rule. It needs three passes over the history because a vector cannot be named inside an
//! expression. A rule group could record the medians first and aggregate the recorded series afterwards;
//! `quantile_over_time_cpu_over_tick_cpu_*` is the ratio for that cheaper variant, which still costs
//! one pass.
//!
//! **A tick** is measured with `interval: 2s` and `overlap: 28s`, so that its query spans the same 30 s as with
//! the defaults (10 s and 20 s) and more ticks fit into the run. What Prometheus spends anyway, most of it on
//! ingesting scrapes, is measured before and after without an evaluator and subtracted.
//!
//! At 10,000 instances about three quarters of a tick is Prometheus selecting 20,000 series, which no form of
//! the query avoids that reads both gauges: remote read costs it twice as much, an instant query a quarter less.

mod block;
mod feed;
mod fleet;
mod server;
mod xor_chunk;

use std::time::Duration;

use ebb_testbed::{evaluator::Evaluator, metrics::Scrape, wait};
use tokio::time::{Instant, sleep};

use self::{feed::Feed, server::Prometheus};
use crate::{
    cpu::{CpuClock, resident_bytes},
    report::{Aim, Report},
    statistics::median,
};

/// The medians of a day, one per series.
const MEDIANS: &str = "quantile_over_time(0.5, wasm_linear_memory_bytes[24h])";

/// One size of fleet.
struct Size {
    instances: usize,
    suffix: &'static str,
    repetitions: usize,
    aim: f64,
}

const SIZES: [Size; 2] = [
    Size { instances: 1_000, suffix: "1k", repetitions: 5, aim: 300.0 },
    Size { instances: 10_000, suffix: "10k", repetitions: 3, aim: 400.0 },
];

/// How long the evaluator ticks while it is measured.
const TICKING: Duration = Duration::from_secs(60);
/// How long Prometheus is measured without it, before and after.
const IDLING: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run() {
    let mut report = Report::new("evaluator");
    for size in &SIZES {
        measure(size, &mut report).await;
    }
    report.publish();
}

async fn measure(size: &Size, report: &mut Report) {
    let Size { instances, suffix, repetitions, aim } = *size;
    progress(&format!("{instances} instances: writing their history"));
    let (prometheus, mut feed) = Prometheus::with_history(instances).await;

    progress(&format!("{instances} instances: the recording rule"));
    let rule = query_cpu(&prometheus, &mut feed, &recording_rule(), repetitions).await;
    let medians = query_cpu(&prometheus, &mut feed, MEDIANS, repetitions).await;

    progress(&format!("{instances} instances: bootstrap"));
    let bootstrap = bootstrap_cpu(&prometheus, &mut feed, repetitions).await;

    progress(&format!("{instances} instances: ticks"));
    let ticks = tick_cpu(&prometheus, &mut feed, instances).await;
    let tick = ticks.evaluator + ticks.prometheus;

    report.figure(format!("tick_cpu_seconds_{suffix}"), tick);
    report.figure(format!("tick_evaluator_cpu_seconds_{suffix}"), ticks.evaluator);
    report.figure(format!("tick_prometheus_cpu_seconds_{suffix}"), ticks.prometheus);
    report.figure(format!("idle_prometheus_cpu_seconds_per_second_{suffix}"), ticks.idle_per_second);
    report.figure(format!("rss_bytes_{suffix}"), ticks.rss_bytes);
    report.figure(format!("bootstrap_cpu_seconds_{suffix}"), bootstrap.evaluator + bootstrap.prometheus);
    report.figure(format!("bootstrap_evaluator_cpu_seconds_{suffix}"), bootstrap.evaluator);
    report.figure(format!("bootstrap_prometheus_cpu_seconds_{suffix}"), bootstrap.prometheus);
    report.figure(format!("quantile_over_time_cpu_seconds_{suffix}"), medians);
    report.figure(format!("recording_rule_cpu_seconds_{suffix}"), rule);
    report.ratio(format!("recording_rule_cpu_over_tick_cpu_{suffix}"), rule / tick, Some(Aim::AtLeast(aim)));
    report.ratio(format!("quantile_over_time_cpu_over_tick_cpu_{suffix}"), medians / tick, None);
    report.ratio(
        format!("bootstrap_cpu_over_quantile_over_time_{suffix}"),
        (bootstrap.evaluator + bootstrap.prometheus) / medians,
        Some(Aim::AtMost(1.0)),
    );
}

/// The upper end of the confidence interval at level 0.99, as far as PromQL can say it: of the series' medians
/// rather than the lifetimes', and with the quantile of Student's t as a constant, since PromQL has none.
/// `stddev` is the population's: the sample's, over sqrt(n), is `stddev / sqrt(n − 1)`.
fn recording_rule() -> String {
    /// Upper 0.5 % point of the normal distribution, which is t's for so many series.
    const QUANTILE: f64 = 2.5758;
    let by = "by (module, digest)";
    format!("avg {by} ({MEDIANS}) + {QUANTILE} * stddev {by} ({MEDIANS}) / sqrt(count {by} ({MEDIANS}) - 1)")
}

async fn query_cpu(prometheus: &Prometheus, feed: &mut Feed, query: &str, repetitions: usize) -> f64 {
    let mut seconds = Vec::new();
    for _ in 0..repetitions {
        feed.catch_up().await;
        let (cpu, values) = prometheus.cpu_of(prometheus.query(query)).await;
        assert!(!values.is_empty(), "{query}: expected a value for each module, got none");
        seconds.push(cpu);
    }
    median(seconds)
}

/// CPU-seconds of both processes.
struct Cost {
    evaluator: f64,
    prometheus: f64,
}

/// From an evaluator's start until it has the history.
async fn bootstrap_cpu(prometheus: &Prometheus, feed: &mut Feed, repetitions: usize) -> Cost {
    let mut costs = Vec::new();
    for _ in 0..repetitions {
        feed.catch_up().await;
        let (of_prometheus, of_evaluator) = prometheus
            .cpu_of(async {
                let evaluator = Evaluator::start(&config(prometheus, "10m", "20s")).await;
                bootstrapped(&evaluator).await;
                CpuClock::of(evaluator.process.id()).seconds()
            })
            .await;
        costs.push((of_evaluator, of_prometheus));
    }
    let (evaluator, prometheus) = costs.into_iter().unzip();
    Cost { evaluator: median(evaluator), prometheus: median(prometheus) }
}

async fn bootstrapped(evaluator: &Evaluator) {
    wait::until("the evaluator has the history", Duration::from_secs(120), async || {
        evaluator.process.log().contains("bootstrapped").then_some(())
    })
    .await;
}

/// What one tick costs, and how much memory the evaluator holds meanwhile.
struct Ticks {
    evaluator: f64,
    prometheus: f64,
    idle_per_second: f64,
    rss_bytes: f64,
}

async fn tick_cpu(prometheus: &Prometheus, feed: &mut Feed, instances: usize) -> Ticks {
    let idle_before = idle_cpu(prometheus, feed).await;
    let evaluator = Evaluator::start(&config(prometheus, "2s", "28s")).await;
    let cpu = CpuClock::of(evaluator.process.id());
    let (ours, theirs, ticks, elapsed, rss_bytes) = feed
        .live_while(async {
            bootstrapped(&evaluator).await;
            after_ticks(&evaluator, 5.0).await;
            let ticks = tick_count(&evaluator).await;
            let (started, ours, theirs) = (Instant::now(), cpu.seconds(), prometheus.cpu.seconds());
            sleep(TICKING).await;
            let (ours, theirs) = (cpu.seconds() - ours, prometheus.cpu.seconds() - theirs);
            let elapsed = started.elapsed().as_secs_f64();
            let rss_bytes = resident_bytes(evaluator.process.id());
            check(&evaluator, instances).await;
            (ours, theirs, tick_count(&evaluator).await - ticks, elapsed, rss_bytes)
        })
        .await;
    drop(evaluator);
    let idle_per_second = f64::midpoint(idle_before, idle_cpu(prometheus, feed).await);
    Ticks {
        evaluator: ours / ticks,
        prometheus: (theirs - idle_per_second * elapsed) / ticks,
        idle_per_second,
        rss_bytes: rss_bytes as f64,
    }
}

/// What Prometheus spends per second on the feed alone.
async fn idle_cpu(prometheus: &Prometheus, feed: &mut Feed) -> f64 {
    feed.live_while(async {
        let (started, before) = (Instant::now(), prometheus.cpu.seconds());
        sleep(IDLING).await;
        (prometheus.cpu.seconds() - before) / started.elapsed().as_secs_f64()
    })
    .await
}

async fn tick_count(evaluator: &Evaluator) -> f64 {
    evaluator.scrape().await.sum("ebb_evaluator_ticks_total", &[])
}

async fn after_ticks(evaluator: &Evaluator, ticks: f64) {
    wait::until("the evaluator ticks", Duration::from_secs(60), async || {
        (tick_count(evaluator).await >= ticks).then_some(())
    })
    .await;
}

/// A tick that judges nothing is cheap.
async fn check(evaluator: &Evaluator, instances: usize) {
    let scrape: Scrape = evaluator.scrape().await;
    let held = scrape.sum("ebb_evaluator_held_total", &[]);
    assert_eq!(held, 0.0, "no tick is to be held; the evaluator's log:\n{}", evaluator.process.log());
    let judged = scrape.sum("ebb_evaluator_decisions_total", &[]) / tick_count(evaluator).await;
    let all = instances as f64;
    assert!(judged > all * 0.95, "expected {instances} instances judged a tick, got {judged}");
}

fn config(prometheus: &Prometheus, interval: &str, overlap: &str) -> String {
    format!(
        "interval: {interval}\nlookback: 1d\ndry_run: true\nhold: {{stale_after: 30s}}\n\
         store: {{prometheus: {{url: \"{}\", matchers: ['job=\"ebb-runner\"'], overlap: {overlap}}}}}\n\
         runners: {{allow: [\"127.0.0.1:9742\"]}}\n",
        prometheus.url
    )
}

fn progress(what: &str) {
    eprintln!("bench-evaluator: {what}");
}
