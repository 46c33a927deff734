//! Faults mean hold: a fault of the monitoring never reaches the fleet.

use ebb_testbed::{
    evaluator::Evaluator,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};

use crate::{
    programs::run,
    support::{self, DEADLINE},
};

async fn held(evaluator: &Evaluator, reason: &str) -> f64 {
    evaluator.scrape().await.sum("ebb_evaluator_held_total", &[&format!("reason=\"{reason}\"")])
}

async fn restarted(evaluator: &Evaluator) -> f64 {
    evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""])
}

#[tokio::test]
async fn an_evaluator_without_prometheus_holds_and_goes_on_when_it_is_back() {
    let runner = Runner::start(&support::leaky(6)).await;
    let mut prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
    let store = support::prometheus_store(&prometheus.url);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    wait::until("an instance is restarted", DEADLINE, async || {
        (restarted(&evaluator).await >= 1.0).then_some(())
    })
    .await;

    prometheus.process.kill();
    wait::until("the evaluator holds", DEADLINE, async || {
        (held(&evaluator, "query_failed").await >= 1.0).then_some(())
    })
    .await;
    let (restarts, holds) = (restarted(&evaluator).await, held(&evaluator, "query_failed").await);
    wait::until("it has held for ten more ticks", DEADLINE, async || {
        (held(&evaluator, "query_failed").await >= holds + 10.0).then_some(())
    })
    .await;
    assert_eq!(restarted(&evaluator).await, restarts, "nothing is restarted without data");
    assert_eq!(evaluator.scrape().await.one("ebb_evaluator_holding", &[]), Some(1.0));
    let asked = ["explain", "leaky/0", "--evaluator", &evaluator.address];
    let (_, said) = run("ebb-evaluator", &asked);
    assert!(said.starts_with("All restarts are held: query_failed: "), "{said}");

    prometheus.start_again().await;
    wait::until("it goes on restarting", DEADLINE, async || {
        (restarted(&evaluator).await > restarts).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_empty_prometheus_is_a_hold() {
    let prometheus = Prometheus::start(Major::Three, &[]).await;
    let store = support::prometheus_store(&prometheus.url);
    let evaluator = Evaluator::start(&support::evaluator(&store, &["127.0.0.1:1"], "")).await;
    wait::until("the evaluator holds", DEADLINE, async || {
        (held(&evaluator, "empty_answer").await >= 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_clock_ahead_of_the_newest_sample_is_a_hold() {
    let mut runner = Runner::start(&support::steady(5)).await;
    let prometheus = Prometheus::start(Major::Two, &[&runner.address]).await;
    let store = support::prometheus_store(&prometheus.url);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    wait::until("a tick succeeds", DEADLINE, async || {
        (evaluator.api("status").await["instances"] == 5).then_some(())
    })
    .await;
    runner.process.kill();
    wait::until("the evaluator holds", DEADLINE, async || {
        (held(&evaluator, "clock_ahead").await >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_killed_runner_ends_its_lifetimes_and_changes_nothing_else() {
    let mut lost = Runner::start(&support::steady(4)).await;
    let kept = Runner::start(&support::steady(5)).await;
    let prometheus = Prometheus::start(Major::Three, &[&lost.address, &kept.address]).await;
    let store = support::prometheus_store(&prometheus.url);
    let config = support::evaluator(&store, &[&lost.address, &kept.address], "");
    let evaluator = Evaluator::start(&config).await;
    let living = async |address: &str| {
        evaluator.api(&format!("instances?instance={address}")).await.as_array().unwrap().clone()
    };
    wait::until("all instances are judged by a threshold", DEADLINE, async || {
        (evaluator.api("instances?verdict=within").await.as_array()?.len() == 9).then_some(())
    })
    .await;
    let generations = |instances: &[serde_json::Value]| -> Vec<_> {
        instances.iter().map(|one| (one["replica"].clone(), one["generation"].clone())).collect()
    };
    let before = generations(&living(&kept.address).await);
    let module = evaluator.api("modules").await[0].clone();

    lost.process.kill();
    wait::until("its lifetimes have ended", DEADLINE, async || {
        living(&lost.address).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(generations(&living(&kept.address).await), before);
    let after = evaluator.api("modules").await[0].clone();
    assert_eq!(after["sample_size"], module["sample_size"], "lifetimes that ended still count");
    assert_eq!(after["threshold"], module["threshold"]);
    assert_eq!(restarted(&evaluator).await, 0.0);
}

#[tokio::test]
async fn a_reload_takes_a_new_policy_over_and_keeps_the_old_one_on_error() {
    let runner = Runner::start(&support::steady(5)).await;
    let store = support::scrape_store(&[&runner.address]);
    let config = |more: &str| support::evaluator(&store, &[&runner.address], more);
    let evaluator = Evaluator::start(&config("")).await;
    let level = async || evaluator.api("modules").await[0]["rule"]["policy"].clone();
    wait::until("the module is known", DEADLINE, async || (!level().await.is_null()).then_some(())).await;
    let reload = async || {
        let url = format!("http://{}/-/reload", evaluator.address);
        ebb_testbed::http::answer(ebb_testbed::http::client().post(url)).await
    };

    let from_a_page = ebb_testbed::http::client()
        .post(format!("http://{}/-/reload", evaluator.address))
        .header("Origin", "http://example.org");
    assert_eq!(ebb_testbed::http::answer(from_a_page).await.0, 403);

    evaluator.rewrite_config(&config("modules: {steady: {confidence_level: 2}}\n"));
    let (status, body) = reload().await;
    assert_eq!(status, 400);
    let error = body["error"].as_str().unwrap();
    assert!(error.contains("evaluator.yml:") && error.contains("strictly between 0 and 1"), "{error}");
    assert_eq!(evaluator.scrape().await.one("ebb_evaluator_config_last_reload_successful", &[]), Some(0.0));

    evaluator.rewrite_config(&config("modules: {steady: {confidence_level: 0.999}}\n"));
    assert_eq!(reload().await.0, 200);
    wait::until("the new level is in force", DEADLINE, async || {
        (level().await["t_interval"]["confidence_level"] == 0.999).then_some(())
    })
    .await;
}
