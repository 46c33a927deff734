//! The policies on real instances: each restarts whom it should and leaves the others alone, and a backtest tells from
//! the store what one would have done.

use std::{fs, process::Command};

use ebb_testbed::{
    evaluator::Evaluator,
    paths,
    prometheus::{Major, Prometheus},
    runner::Runner,
    wait,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{self, DEADLINE};

/// An evaluator's config with another policy than the tests' usual one.
fn config(store: &str, runner: &Runner, policy: &str) -> String {
    let usual = support::evaluator(store, &[&runner.address], "");
    let (before, _) = usual.split_once("defaults:").unwrap();
    format!("{before}defaults: {{{policy}, min_age: 2s, min_reclaim: 64KiB}}\n")
}

/// Restarts of a module that the runner counts under `reason`.
async fn restarts(runner: &Runner, module: &str, reason: &str) -> f64 {
    let labels = [format!("module=\"{module}\""), format!("reason=\"{reason}\"")];
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    runner.scrape().await.sum("wasm_instance_restarts_total", &labels)
}

async fn until_restarted(runner: &Runner, module: &str, reason: &str, count: f64) {
    let what = format!("{module} was restarted {count} times for {reason}");
    wait::until(&what, DEADLINE, async || (restarts(runner, module, reason).await >= count).then_some(()))
        .await;
}

#[tokio::test]
async fn the_default_policy_restarts_what_leaks_and_not_what_is_steady() {
    let runner = Runner::start(&[support::leaky(4), support::steady(4)].concat()).await;
    let store = support::scrape_store(&[&runner.address]);
    // What a leak of 5 MiB a second holds in excess within some seconds.
    let evaluator = Evaluator::start(&config(&store, &runner, "restart_price: 16MiB*4s")).await;
    until_restarted(&runner, "leaky", "threshold", 12.0).await;
    assert_eq!(restarts(&runner, "steady", "threshold").await, 0.0);

    let decision = &evaluator.api("decisions?module=leaky&action=restarted").await[0];
    let explanation = decision["explanation"].as_str().unwrap();
    for words in ["average cost at a restart price of", "restarts in", "the other replicas' average"] {
        assert!(explanation.contains(words), "{explanation}");
    }
    for figure in ["observed_seconds", "average_memory_bytes", "others_average_bytes", "threshold_bytes"] {
        assert!(decision[figure].as_f64().unwrap() > 0.0, "{figure}: {decision:#}");
    }
    assert!(decision["memory_bytes"].as_f64() > decision["threshold_bytes"].as_f64(), "{decision:#}");
}

#[tokio::test]
async fn what_is_frozen_is_learned_once_and_restarted_by_that_from_then_on() {
    let runner = Runner::start(&support::leaky(4)).await;
    let store = support::scrape_store(&[&runner.address]);
    let policy =
        "policy: t_interval, interval: confidence, population: frozen, baseline: 6s, min_lifetimes: 3";
    let evaluator = Evaluator::start(&config(&store, &runner, policy)).await;
    let explained = async || {
        let instances = evaluator.api("instances").await;
        instances[0]["explanation"].as_str().unwrap_or_default().to_owned()
    };
    wait::until("the baseline is told", DEADLINE, async || {
        explained().await.contains("no threshold: the baseline lasts").then_some(())
    })
    .await;
    assert_eq!(restarts(&runner, "leaky", "threshold").await, 0.0);
    until_restarted(&runner, "leaky", "threshold", 4.0).await;
    let threshold = async || evaluator.api("modules").await[0]["threshold"]["bytes"].as_f64().unwrap();
    let learned = threshold().await;
    until_restarted(&runner, "leaky", "threshold", 12.0).await;
    assert_eq!(threshold().await, learned);
}

#[tokio::test]
async fn a_host_short_of_memory_gets_it_back_from_the_largest() {
    under_pressure("largest_first", "memory_bytes").await;
}

#[tokio::test]
async fn a_host_short_of_memory_gets_it_back_from_the_oldest() {
    under_pressure("oldest_first", "age_millis").await;
}

/// The host's memory is read from Prometheus. Who is chosen stands before those who are not, by `measure`.
async fn under_pressure(policy: &str, measure: &str) {
    let large = support::steady(2)
        .replace("REQUIRED_BYTES: \"4194304\"", "REQUIRED_BYTES: \"134217728\", RAMP_MS: \"8000\"")
        .replace("64MiB", "256MiB");
    let runner = Runner::start(&[support::leaky(3), large].concat()).await;
    let prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
    let store = support::prometheus_store(&prometheus.url);
    let with = |below: &str, more: &str| {
        config(&store, &runner, &format!("policy: {policy}, available_below: {below}")) + more
    };

    // A limit that no host reaches makes every host short of memory.
    let evaluator = Evaluator::start(&with("1PiB", "")).await;
    until_restarted(&runner, "leaky", "pressure", 3.0).await;
    assert_eq!(restarts(&runner, "leaky", "threshold").await, 0.0);
    // The runner counts a restart before the evaluator has heard of it.
    let decision = wait::until("the decision is recorded", DEADLINE, async || {
        evaluator.api("decisions?verdict=host_short_of_memory").await.get(0).cloned()
    })
    .await;
    assert!(
        decision["explanation"].as_str().unwrap().contains("the host is short of memory"),
        "{decision:#}"
    );

    // A limit that some of them meet, tried dry by an evaluator that has ordered nothing. What is available changes at
    // any moment; that who is chosen stands before who is not, does not.
    drop(evaluator);
    let evaluator = Evaluator::start(&with("1MiB", "dry_run: true\n")).await;
    let available = || async {
        let available = runner.scrape().await.one("ebb_runner_host_memory_available_bytes", &[]);
        available.unwrap() as u64
    };
    wait::until("some are chosen and some are not", DEADLINE, async || {
        let below = available().await + (64 << 20);
        evaluator.rewrite_config(&with(&format!("{below}B"), "dry_run: true\n"));
        reload(&evaluator).await;
        let instances = evaluator.api("instances").await;
        let all = instances.as_array().unwrap();
        let of = |verdict: &str| -> Vec<u64> {
            let gives_back = |one: &&Value| one["reclaimable_bytes"].as_u64().unwrap() >= 64 << 10;
            let found = all.iter().filter(|one| one["verdict"] == verdict).filter(gives_back);
            found.map(|one| one[measure].as_u64().unwrap()).collect()
        };
        let (chosen, spared) = (of("host_short_of_memory"), of("within"));
        let (least, most) = (chosen.iter().min()?, spared.iter().max()?);
        assert!(least >= most, "{policy}: {instances:#}");
        Some(())
    })
    .await;

    // With enough memory, nobody is restarted.
    evaluator.rewrite_config(&with("1MiB", ""));
    reload(&evaluator).await;
    wait::until("every instance is let be", DEADLINE, async || {
        let instances = evaluator.api("instances?module=leaky").await;
        let let_be = |one: &Value| ["within", "too_young"].contains(&one["verdict"].as_str().unwrap());
        (instances.as_array().unwrap().len() == 3 && instances.as_array().unwrap().iter().all(let_be))
            .then_some(())
    })
    .await;
}

async fn reload(evaluator: &Evaluator) {
    let reload = ebb_testbed::http::client().post(format!("http://{}/-/reload", evaluator.address));
    assert_eq!(ebb_testbed::http::answer(reload).await.0, 200);
}

#[tokio::test]
async fn who_has_run_for_max_age_is_restarted_even_if_it_never_grew() {
    let runner = Runner::start(&support::steady(2)).await;
    let store = support::scrape_store(&[&runner.address]);
    let _evaluator = Evaluator::start(&config(&store, &runner, "policy: max_age, max_age: 3s")).await;
    until_restarted(&runner, "steady", "threshold", 4.0).await;
}

#[tokio::test]
async fn a_backtest_tells_what_a_policy_would_have_done() {
    let runner = Runner::start(&[support::leaky(3), support::steady(2)].concat()).await;
    let prometheus = Prometheus::start(Major::Three, &[&runner.address]).await;
    // What leaks is large enough only after a while, and by then there is a history.
    wait::until("the leaks are in the store", DEADLINE, async || {
        let query = "count(wasm_linear_memory_bytes{module=\"leaky\"} > 100e6)";
        let url = format!("{}/api/v1/query?query={query}", prometheus.url);
        let answer = ebb_testbed::http::json(&url).await?;
        (answer["data"]["result"][0]["value"][1] == "3").then_some(())
    })
    .await;
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let store = support::prometheus_store(&prometheus.url);
    fs::write(path("evaluator.yml"), config(&store, &runner, "policy: none")).unwrap();
    let ask = |more: &[&str]| {
        let mut command = Command::new(paths::program("ebb-evaluator"));
        command.args(["--config", &path("evaluator.yml"), "backtest"]).args(more).output().unwrap()
    };
    let policies = [
        "--from",
        "2m",
        "--policy",
        "none",
        "--policy",
        "static,max_bytes=64MiB",
        "--plot",
        &path("memory.svg"),
    ];
    let output = ask(&[&policies[..], &["--format", "json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["slots"], &report["real_restarts"]), (&5.into(), &0.into()));
    let [none, ceiling] = &report["policies"].as_array().unwrap()[..] else { panic!("{report:#}") };
    assert_eq!(none["restarts"].as_array().unwrap().len(), 0);
    assert_eq!(none["mean_bytes"], report["real_mean_bytes"]);
    let restarts = ceiling["restarts"].as_array().unwrap();
    assert!(restarts.len() >= 3, "{report:#}");
    for restart in restarts {
        assert_eq!(restart["module"], "leaky");
        assert!(restart["memory_bytes"].as_u64().unwrap() > 64 << 20, "{restart:#}");
    }
    assert!(ceiling["saved"].as_f64().unwrap() > 0.1, "{report:#}");
    let plot = fs::read_to_string(path("memory.svg")).unwrap();
    assert!(plot.contains("<svg") && plot.contains("static,max_bytes=64MiB"), "{plot}");

    let output = ask(&[&policies[..6], &["--list"]].concat());
    let table = String::from_utf8(output.stdout).unwrap();
    for words in ["PER HOUR", "none", "static,max_bytes=64MiB", "the module's max_bytes", "is taken to hold"]
    {
        assert!(table.contains(words), "{table}");
    }
    for (arguments, words) in [
        (["--from", "1h", "--to", "2h"], "must be before --to"),
        (["--from", "24", "--to", "0s"], "expected less time, such as --from 24h"),
        (["--policy", "static", "--to", "0s"], "the policy needs the size above which to restart"),
        (["--from", "1999-01-01T00:00:00Z", "--to", "1999-01-02T00:00:00Z"], "no samples of any instance"),
    ] {
        let output = ask(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(words), "{arguments:?}: {said}");
    }
}
