//! An evaluator that is killed knows the same afterwards: everything it knows is in the store.

use std::{collections::HashSet, time::Duration};

use ebb_testbed::{
    evaluator::Evaluator,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::{Value, json};

use crate::support::{self, DEADLINE};

#[tokio::test]
async fn a_killed_evaluator_learns_the_same_to_the_bit_from_prometheus_2() {
    is_the_same_after_a_kill(Major::Two).await;
}

#[tokio::test]
async fn a_killed_evaluator_learns_the_same_to_the_bit_from_prometheus_3() {
    is_the_same_after_a_kill(Major::Three).await;
}

async fn is_the_same_after_a_kill(major: Major) {
    let mut runner = Runner::start(&[support::leaky(5), support::steady(5)].concat()).await;
    let prometheus = Prometheus::start(major, &[&runner.address]).await;
    let store = support::prometheus_store(&prometheus.url);
    let mut evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    wait::until("instances were restarted", DEADLINE, async || {
        let restarted =
            evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""]);
        (restarted >= 5.0).then_some(())
    })
    .await;
    // Killed between two restarts, and back: it goes on restarting, each generation once.
    evaluator.kill_and_start().await;
    wait::until("the new evaluator restarts instances", DEADLINE, async || {
        let restarted =
            evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""]);
        (restarted >= 2.0).then_some(())
    })
    .await;
    let orders = orders_done(&evaluator.process.log());
    assert!(orders.len() >= 7, "{orders:?}");
    let once: HashSet<_> = orders.iter().collect();
    assert_eq!(once.len(), orders.len(), "both evaluators together restarted a generation twice: {orders:?}");

    // With the runner gone no more samples come, and what was learned stands still.
    runner.process.kill();
    wait::until("no instance lives", DEADLINE, async || {
        (evaluator.api("status").await["instances"] == 0).then_some(())
    })
    .await;
    let before = learned(&evaluator).await;
    assert!(before.len() == 2 && before.iter().all(|one| one["threshold"]["bytes"].is_f64()), "{before:#?}");
    evaluator.kill_and_start().await;
    let after = wait::until("the new evaluator has learned", Duration::from_secs(30), async || {
        Some(learned(&evaluator).await).filter(|learned| !learned.is_empty())
    })
    .await;
    assert_eq!(before, after);

    // Remote read does not take a matcher in single quotes; queries do. Both ways lead to the same.
    let store = store.replace("{url:", "{matchers: [\"job='ebb-runner'\"], url:");
    let by_queries = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    let learned_by_queries = wait::until("the evaluator has learned by queries", DEADLINE, async || {
        Some(learned(&by_queries).await).filter(|learned| !learned.is_empty())
    })
    .await;
    assert!(by_queries.process.log().contains("bootstrapping by queries"), "{}", by_queries.process.log());
    assert_eq!(before, learned_by_queries);
}

/// Slot and generation of every restart that was done, by both evaluators: they write into one log.
pub(crate) fn orders_done(log: &str) -> Vec<(String, String)> {
    let field = |line: &str, name: &str, end: &str| {
        let (_, rest) = line.split_once(name)?;
        rest.split_once(end).map(|(value, _)| value.to_owned())
    };
    let done = log.lines().filter(|line| line.contains("action=\"restarted\""));
    done.filter_map(|line| {
        Some((field(line, "instance=", " generation=")?, field(line, "generation=", " ")?))
    })
    .collect()
}

/// What was learned of each population. JSON tells a floating-point number so that it reads back the same.
pub(crate) async fn learned(evaluator: &Evaluator) -> Vec<Value> {
    let modules = evaluator.api("modules").await;
    let of = |one: &Value| {
        json!({
            "module": one["module"],
            "sample_size": one["sample_size"],
            "mean_bytes": one["mean_bytes"],
            "stddev_bytes": one["stddev_bytes"],
            "threshold": one["threshold"],
            "fresh_bytes": one["fresh_bytes"],
        })
    };
    modules.as_array().unwrap().iter().map(of).collect()
}
