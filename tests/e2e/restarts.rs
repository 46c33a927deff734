//! The main job: instances leak, a threshold is learned from their medians, exactly the instances above it
//! are restarted, and their memory falls.

use ebb_testbed::{
    evaluator::Evaluator,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::Value;

use crate::{
    programs::run,
    support::{self, DEADLINE},
};

#[tokio::test]
async fn exactly_the_instances_above_the_threshold_are_restarted_on_prometheus_2() {
    on_prometheus(Major::Two).await;
}

#[tokio::test]
async fn exactly_the_instances_above_the_threshold_are_restarted_on_prometheus_3() {
    on_prometheus(Major::Three).await;
}

async fn on_prometheus(major: Major) {
    let runner = fleet().await;
    let prometheus = Prometheus::start(major, &[&runner.address]).await;
    the_main_job_is_done(&runner, &support::prometheus_store(&prometheus.url)).await;
}

#[tokio::test]
async fn exactly_the_instances_above_the_threshold_are_restarted_without_a_prometheus() {
    let runner = fleet().await;
    the_main_job_is_done(&runner, &support::scrape_store(&[&runner.address])).await;
}

async fn fleet() -> Runner {
    Runner::start(&[support::leaky(6), support::steady(5)].concat()).await
}

async fn the_main_job_is_done(runner: &Runner, store: &str) {
    let evaluator = Evaluator::start(&support::evaluator(store, &[&runner.address], "")).await;
    wait::until("memory fell after three restarts", DEADLINE, async || {
        let scrape = evaluator.scrape().await;
        let fell = scrape.sum("ebb_evaluator_effects_total", &["module=\"leaky\"", "effect=\"memory_fell\""]);
        (fell >= 3.0).then_some(())
    })
    .await;

    let decisions = evaluator.api("decisions?limit=1000").await;
    let restarted: Vec<&Value> =
        list(&decisions).iter().filter(|one| one["outcome"] == "restarted").collect();
    assert!(restarted.len() >= 3, "{decisions:#}");
    for decision in &restarted {
        assert_eq!(decision["module"], "leaky", "steady instances hold equal memory: {decision:#}");
        assert!(decision["memory_bytes"].as_f64() > decision["threshold_bytes"].as_f64(), "{decision:#}");
        assert!(decision["sample_size"].as_u64() >= Some(4), "{decision:#}");
        assert!(decision["age_millis"].as_i64() >= Some(4000), "{decision:#}");
        let explanation = decision["explanation"].as_str().unwrap();
        assert!(explanation.contains("prediction interval at level 0.8"), "{explanation}");
    }
    for effect in restarted.iter().map(|decision| &decision["effect"]).filter(|effect| !effect.is_null()) {
        assert_eq!(effect, "memory_fell");
    }

    // The runner tells the same story.
    let scrape = runner.scrape().await;
    let by_threshold = |module: &str| {
        scrape.sum("wasm_instance_restarts_total", &[&format!("module=\"{module}\""), "reason=\"threshold\""])
    };
    assert!(by_threshold("leaky") >= 3.0);
    assert!(by_threshold("steady") == 0.0);
    assert!(scrape.sum("wasm_instance_restarts_total", &["reason=\"crash\""]) == 0.0);
    assert!(evaluator.scrape().await.sum("ebb_evaluator_reclaimed_bytes_total", &[]) > 0.0);
}

#[tokio::test]
async fn a_dry_run_decides_everything_and_restarts_nothing() {
    let runner = Runner::start(&support::leaky(5)).await;
    let store = support::scrape_store(&[&runner.address]);
    let evaluator =
        Evaluator::start(&support::evaluator(&store, &[&runner.address], "dry_run: true\n")).await;
    let decisions = wait::until("restarts were decided", DEADLINE, async || {
        let decisions = evaluator.api("decisions?action=dry_run").await;
        (list(&decisions).len() >= 3).then_some(decisions)
    })
    .await;
    assert!(list(&decisions).iter().all(|one| one["verdict"] == "above_threshold"), "{decisions:#}");
    assert_eq!(runner.scrape().await.sum("wasm_instance_restarts_total", &[]), 0.0);
    assert_eq!(evaluator.scrape().await.one("ebb_evaluator_dry_run", &[]), Some(1.0));
}

#[tokio::test]
async fn a_dry_run_by_flag_stays_one_after_a_reload() {
    let runner = Runner::start(&support::leaky(5)).await;
    let store = support::scrape_store(&[&runner.address]);
    let config = support::evaluator(&store, &[&runner.address], "");
    let evaluator = Evaluator::start_with(&config, &["--dry-run"]).await;
    evaluator.process.signal(nix::sys::signal::Signal::SIGHUP);
    wait::until("the config is reloaded", DEADLINE, async || {
        evaluator.process.log().contains("config reloaded").then_some(())
    })
    .await;
    wait::until("a restart was decided", DEADLINE, async || {
        let decisions = evaluator.api("decisions?action=dry_run").await;
        (!list(&decisions).is_empty()).then_some(())
    })
    .await;
    assert_eq!(runner.scrape().await.sum("wasm_instance_restarts_total", &[]), 0.0);
}

#[tokio::test]
async fn the_cli_explains_an_instance() {
    let runner = Runner::start(&support::steady(5)).await;
    let store = support::scrape_store(&[&runner.address]);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    wait::until("the instances are judged by a threshold", DEADLINE, async || {
        let instances = evaluator.api("instances?verdict=within").await;
        (list(&instances).len() == 5).then_some(())
    })
    .await;
    let explained = explain(&evaluator, "steady/3");
    assert!(
        explained.contains("steady/3 on ") && explained.contains("within: 4.0 MiB ≤ 4.0 MiB"),
        "{explained}"
    );
    // From elsewhere, where no config is.
    let asked = ["--config", "nowhere.yml", "explain", "steady/3", "--evaluator", &evaluator.address];
    let (code, elsewhere) = run("ebb-evaluator", &asked);
    assert_eq!((code, elsewhere.contains("steady/3 on ")), (Some(0), true), "{elsewhere}");
    let unknown = explain(&evaluator, "steady/99");
    assert!(unknown.contains("knows no live instance steady/99"), "{unknown}");
}

fn explain(evaluator: &Evaluator, instance: &str) -> String {
    run("ebb-evaluator", &["--config", &evaluator.config_path().display().to_string(), "explain", instance]).1
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("a list")
}
