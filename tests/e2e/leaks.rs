//! No leak, however slow, escapes: one that the lookback sees too little of is restarted near its best lifetime.

use std::{collections::BTreeMap, time::Duration};

use ebb_testbed::{
    evaluator::Evaluator,
    paths,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::Value;

use crate::support::{self, DEADLINE};

/// One replica that leaks 64 KiB a second.
fn slow_leak() -> String {
    format!(
        "  - name: slow\n    path: {}\n    kind: command\n    replicas: 1\n    \
         env: {{LEAK_BYTES_MIN: \"65536\", LEAK_BYTES_MAX: \"65536\", LEAK_EVERY_MS_MIN: \"1000\", LEAK_EVERY_MS_MAX: \"1000\"}}\n",
        paths::guest("leaky").display()
    )
}

/// The window sees 64 KiB/s · (10 s)² / 2 = 3.2 MiB·s of excess at most, far less than a restart is worth: of that alone,
/// the threshold would run ahead for ever. The best restart is after sqrt(2 · 20 MiB·s / 64 KiB/s) = 25 s.
fn config(store: &str, runner: &Runner) -> String {
    format!(
        "interval: 1s\nlookback: 10s\n{store}hold: {{stale_after: 6s, clock_skew: 6s}}\n\
         runners: {{allow: [\"{}\"], verify_within: 20s}}\n\
         budget: {{restarts_per_minute: 600, burst: 20, cooldown: 2s}}\n\
         defaults: {{policy: renewal, restart_price: 1MiB*20s, min_age: 2s, min_reclaim: 64KiB}}\n",
        runner.address
    )
}

async fn is_restarted(runner: &Runner, store: &str) {
    let evaluator = Evaluator::start(&config(store, runner)).await;
    let restarted = async || {
        let decisions = evaluator.api("decisions?module=slow&action=restarted").await;
        decisions.as_array().cloned().filter(|decisions| decisions.len() >= 2)
    };
    let decisions = wait::until("the slow leak was restarted twice", DEADLINE * 2, restarted).await;
    for decision in &decisions {
        // Sizes are whole pages, and a busy machine ticks late: 25 s, give or take. By the window alone, it would be never.
        let age = decision["age_millis"].as_f64().unwrap() / 1000.0;
        assert!((20.0..60.0).contains(&age), "restarted at the age of {age} s: {decision:#}");
        assert!(decision["observed_seconds"].as_f64().unwrap() > 20.0, "{decision:#}");
    }
    assert_eq!(decisions.last().unwrap()["effect"], "memory_fell", "{decisions:#?}");
}

#[tokio::test]
async fn a_leak_slower_than_the_lookback_is_restarted_by_what_is_scraped() {
    let runner = Runner::start(&slow_leak()).await;
    is_restarted(&runner, &support::scrape_store(&[&runner.address])).await;
}

#[tokio::test]
async fn a_leak_slower_than_the_lookback_is_restarted_by_what_prometheus_has() {
    let runner = Runner::start(&slow_leak()).await;
    let prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
    is_restarted(&runner, &support::prometheus_store(&prometheus.url)).await;
}

#[tokio::test]
async fn an_evaluator_started_anew_knows_what_ran_before_the_lookback_to_the_bit_with_prometheus_2() {
    knows_what_ran_before(Major::Two).await;
}

#[tokio::test]
async fn an_evaluator_started_anew_knows_what_ran_before_the_lookback_to_the_bit_with_prometheus_3() {
    knows_what_ran_before(Major::Three).await;
}

async fn knows_what_ran_before(major: Major) {
    /// In blocks of two seconds; long enough that a new evaluator has learned before what it learned from is forgotten.
    const LOOKBACK: i64 = 48_000;
    let mut runner = Runner::start(&[slow_leak(), support::leaky(2)].concat()).await;
    let prometheus = Prometheus::start(major, &[&runner.address]).await;
    // It restarts nothing: everything runs on since before the lookback.
    let config = format!(
        "interval: 200ms\nlookback: {LOOKBACK}ms\ndry_run: true\n{}\
         defaults: {{policy: renewal, restart_price: 1MiB*1000h}}\n",
        support::prometheus_store(&prometheus.url)
    );
    let through = Evaluator::start(&config).await;
    wait::until("everything runs for longer than the lookback", DEADLINE, async || {
        let instances = through.api("instances").await;
        let ages = instances.as_array()?.iter().map(|one| one["age_millis"].as_i64().unwrap());
        (ages.min()? > LOOKBACK + 8000).then_some(())
    })
    .await;
    for instance in through.api("instances").await.as_array().unwrap() {
        let observed = instance["observed_seconds"].as_f64().unwrap();
        let age = instance["age_millis"].as_f64().unwrap() / 1000.0;
        assert!((age - 10.0..=age).contains(&observed), "seen for {observed} of {age} s: {instance:#}");
    }
    // With the runner gone no more samples come: what is known changes with the window's blocks alone.
    runner.process.kill();
    wait::until("no instance lives", DEADLINE, async || {
        (through.api("status").await["instances"] == 0).then_some(())
    })
    .await;
    let anew = Evaluator::start(&config).await;
    let (mut learned_through, mut learned_anew) = (BTreeMap::new(), BTreeMap::new());
    let compared = wait::until("both were seen at the same block", Duration::from_secs(40), async || {
        for (evaluator, learned) in [(&through, &mut learned_through), (&anew, &mut learned_anew)] {
            if let Some((block, thresholds)) = at_block(evaluator, LOOKBACK).await {
                learned.insert(block, thresholds);
            }
        }
        let both = learned_through.iter().filter_map(|(block, one)| Some((one, learned_anew.get(block)?)));
        let both: Vec<_> = both.map(|(one, other)| (one.clone(), other.clone())).collect();
        (both.len() >= 5).then_some(both)
    })
    .await;
    for (through, anew) in compared {
        assert_eq!(through.len(), 2, "{through:?}");
        assert_eq!(through, anew);
    }
    assert!(!anew.process.log().contains("does not reach back"), "{}", anew.process.log());
}

/// In which block the window begins, and what was learned of each module.
async fn at_block(evaluator: &Evaluator, lookback: i64) -> Option<(i64, Vec<Value>)> {
    let at = async || evaluator.api("status").await["at"].as_i64();
    let before = at().await?;
    let modules = evaluator.api("modules").await;
    let block = |at: i64| (at - lookback).div_euclid(lookback / 24);
    let same = before > 0 && Some(block(before)) == at().await.map(block);
    let thresholds = modules.as_array()?.iter().map(|one| one["threshold"].clone()).collect();
    same.then_some((block(before), thresholds))
}
