//! What both programs expose: valid, named as the contract says, scraped by both majors of Prometheus.

use std::process::{Command, Stdio};

use ebb_evaluator::store::{MEMORY_METRIC, START_TIME_METRIC};
use ebb_testbed::{
    evaluator::Evaluator,
    http,
    metrics::Scrape,
    prometheus::{Major, Prometheus, promtool},
    runner::Runner,
    wait,
};

use crate::support::{self, DEADLINE};

async fn both_programs() -> (Runner, Evaluator) {
    let runner = Runner::start(&[support::leaky(5), support::steady(2)].concat()).await;
    let store = support::scrape_store(&[&runner.address]);
    let evaluator = Evaluator::start(&support::evaluator(&store, &[&runner.address], "")).await;
    wait::until("an instance was restarted", DEADLINE, async || {
        let restarted =
            evaluator.scrape().await.sum("ebb_evaluator_restarts_total", &["outcome=\"restarted\""]);
        (restarted > 0.0).then_some(())
    })
    .await;
    (runner, evaluator)
}

fn passes_promtool(scrape: &Scrape) {
    use std::io::Write as _;
    let mut child = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(scrape.text().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.trim().is_empty(), "promtool check metrics: {said}");
}

#[tokio::test]
async fn both_programs_pass_promtool_and_use_no_label_called_instance() {
    let (runner, evaluator) = both_programs().await;
    for scrape in [runner.scrape().await, evaluator.scrape().await] {
        passes_promtool(&scrape);
        assert!(!scrape.text().contains("instance=\""), "Prometheus adds a label of that name");
    }
}

#[tokio::test]
async fn the_runner_exposes_every_metric_of_the_contract() {
    let (runner, _evaluator) = both_programs().await;
    let scrape = runner.scrape().await;
    let slot = ["module=\"leaky\"", "digest=\"", "replica=\"0\""];
    // The names that the evaluator asks for, from its own source.
    assert_eq!(scrape.values(MEMORY_METRIC, &slot).len(), 1);
    assert_eq!(scrape.values(START_TIME_METRIC, &slot).len(), 1);
    for name in [
        "wasm_linear_memory_limit_bytes",
        "wasm_linear_memory_grow_failures_total",
        "wasm_instance_up",
        "wasm_instance_ends_total",
        "wasm_restart_duration_seconds_count",
        "wasm_restart_reclaimed_bytes_total",
        "wasm_module_info",
        "ebb_runner_build_info",
        "ebb_runner_host_memory_total_bytes",
        "ebb_runner_host_memory_available_bytes",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ] {
        assert!(!scrape.values(name, &[]).is_empty(), "{name} is missing in\n{}", scrape.text());
    }
    for reason in ["threshold", "pressure", "operator", "crash", "exit", "reload"] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(scrape.values("wasm_instance_restarts_total", &["module=\"leaky\"", &label]).len(), 1);
    }
}

#[tokio::test]
async fn the_evaluator_exposes_every_metric_of_the_contract() {
    let (_runner, evaluator) = both_programs().await;
    let scrape = evaluator.scrape().await;
    for name in [
        "ebb_evaluator_threshold_bytes",
        "ebb_evaluator_instance_threshold_bytes",
        "ebb_evaluator_sample_mean_bytes",
        "ebb_evaluator_sample_stddev_bytes",
        "ebb_evaluator_sample_size",
        "ebb_evaluator_confidence_level",
        "ebb_evaluator_reclaimable_bytes",
        "ebb_evaluator_restarts_total",
        "ebb_evaluator_reclaimed_bytes_total",
        "ebb_evaluator_decisions_total",
        "ebb_evaluator_held_total",
        "ebb_evaluator_evaluation_duration_seconds_count",
        "ebb_evaluator_missed_ticks_total",
        "ebb_evaluator_last_success_timestamp_seconds",
        "ebb_evaluator_build_info",
        "process_resident_memory_bytes",
    ] {
        assert!(!scrape.values(name, &[]).is_empty(), "{name} is missing in\n{}", scrape.text());
    }
}

#[tokio::test]
async fn both_majors_of_prometheus_scrape_both_programs() {
    let (runner, evaluator) = both_programs().await;
    for major in Major::ALL {
        let prometheus = Prometheus::start(major, &[&runner.address, &evaluator.address]).await;
        let url = format!("{}/api/v1/query?query=up", prometheus.url);
        wait::until(&format!("Prometheus {major} has scraped both"), DEADLINE, async || {
            let answer = http::json(&url).await?;
            let result = answer["data"]["result"].as_array()?;
            (result.len() == 2 && result.iter().all(|one| one["value"][1] == "1")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn openmetrics_is_served_to_whom_asks_for_it() {
    let (runner, evaluator) = both_programs().await;
    for address in [&runner.address, &evaluator.address] {
        let request = http::client().get(format!("http://{address}/metrics"));
        let response =
            request.header("Accept", "application/openmetrics-text;version=1.0.0").send().await.unwrap();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        assert!(response.text().await.unwrap().ends_with("# EOF\n"));
    }
}
