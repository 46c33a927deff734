//! Orders that must be refused are refused, and each generation is restarted at most once.

use std::{collections::HashSet, fs};

use ebb_testbed::{
    evaluator::Evaluator,
    http,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{self, DEADLINE};

/// A folder with the token file, and the `control:` lines that name it.
fn token() -> (TempDir, String) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "s3cret\n").unwrap();
    let control = format!("  bearer_token_file: {}\n", path.display());
    (dir, control)
}

#[tokio::test]
async fn the_runner_refuses_a_wrong_token_an_unknown_replica_and_a_stale_generation() {
    let (_dir, control) = token();
    let runner = Runner::start_with(&control, &support::steady(2)).await;
    let generation = runner.instance("steady", 0).await["generation"].as_u64().unwrap();
    let order = |replica, token: &str, if_match: String| {
        runner.restart("steady", replica).bearer_auth(token).header("If-Match", if_match)
    };
    let current = format!("\"{generation}\"");
    let check = async |request: reqwest::RequestBuilder, status: u16| {
        let (answered, body) = http::answer(request).await;
        assert_eq!(answered, status, "{body}");
        if status != 200 {
            assert!(!body["error"].as_str().unwrap().is_empty(), "a refusal says why: {body}");
        }
        body
    };
    check(runner.restart("steady", 0), 401).await;
    check(order(0, "wrong", current.clone()), 403).await;
    check(order(9, "s3cret", current.clone()), 404).await;
    check(order(0, "s3cret", format!("\"{}\"", generation - 1)), 412).await;
    check(order(0, "s3cret", "no generation".to_owned()), 400).await;
    assert_eq!(runner.instance("steady", 0).await["generation"], generation, "nothing was restarted");

    let report = check(order(0, "s3cret", current.clone()), 200).await;
    assert_eq!(report["old_generation"], generation);
    assert!(report["new_generation"].as_u64() > Some(generation), "{report}");
    check(order(0, "s3cret", current), 412).await;
}

#[tokio::test]
async fn an_evaluator_with_a_wrong_token_is_refused_and_says_so() {
    let (_dir, control) = token();
    let runner = Runner::start_with(&control, &support::leaky(5)).await;
    let store = support::scrape_store(&[&runner.address]);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    refused(&evaluator, &runner, "unauthorized").await;
}

#[tokio::test]
async fn an_evaluator_orders_nothing_from_an_address_outside_its_allow_list() {
    let runner = Runner::start(&support::leaky(5)).await;
    let store = support::scrape_store(&[&runner.address]);
    let evaluator = Evaluator::start(&support::evaluator(&store, &["127.0.0.1:1"], "")).await;
    refused(&evaluator, &runner, "not_allowed").await;
}

async fn refused(evaluator: &Evaluator, runner: &Runner, outcome: &str) {
    wait::until(&format!("an order ended {outcome}"), DEADLINE, async || {
        let labels = format!("outcome=\"{outcome}\"");
        let refused = evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &[&labels]);
        (refused > 0.0).then_some(())
    })
    .await;
    assert_eq!(runner.scrape().await.sum("wasm_instance_restarts_total", &[]), 0.0);
}

#[tokio::test]
async fn two_evaluators_restart_every_generation_at_most_once() {
    let runner = Runner::start(&support::leaky(8)).await;
    // Both read the same samples, up to a second old: the later one orders what is restarted already.
    let prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
    let store = support::prometheus_store(&prometheus.url);
    let config = support::evaluator(&store, &[&runner.address], "");
    let first = Evaluator::start(&config).await;
    let second = Evaluator::start(&config).await;
    wait::until("restarts were done and second orders refused", DEADLINE, async || {
        let (a, b) = (first.scrape().await, second.scrape().await);
        let count = |outcome: &str| {
            let labels = [outcome];
            a.sum("ebb_evaluator_restarts_total", &labels) + b.sum("ebb_evaluator_restarts_total", &labels)
        };
        (count("outcome=\"restarted\"") >= 8.0 && count("outcome=\"generation_gone\"") >= 1.0).then_some(())
    })
    .await;
    let (first, second) = (restarted(&first).await, restarted(&second).await);
    let mut seen = HashSet::new();
    for order in first.iter().chain(&second) {
        assert!(seen.insert(order), "{order:?} was restarted twice");
    }
}

/// Slot and generation of every restart that an evaluator was told was done.
async fn restarted(evaluator: &Evaluator) -> Vec<(u64, u64)> {
    let decisions = evaluator.api("decisions?action=restarted&limit=1000").await;
    let slot = |one: &Value| (one["replica"].as_u64().unwrap(), one["generation"].as_u64().unwrap());
    decisions.as_array().unwrap().iter().map(slot).collect()
}
