//! A config that changes while the runner runs: all of it or nothing, and nothing more than needed.

use std::fs;

use crate::{
    guests,
    support::{Runner, eventually, module, write_config},
};

async fn two_modules() -> Runner {
    let guests = [("a.wat", guests::sleeper()), ("b.wat", guests::sleeper())];
    Runner::start(&guests, &format!("{}{}", module("a", 2, ""), module("b", 1, ""))).await
}

async fn reload(runner: &Runner, modules: &str) -> serde_json::Value {
    write_config(runner.folder.path(), modules, "");
    let answer = runner.post("/-/reload", &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn generations(runner: &Runner, slots: &[&str]) -> Vec<u64> {
    let mut generations = Vec::new();
    for slot in slots {
        generations.push(runner.generation(slot).await);
    }
    generations
}

#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_change_is_left_alone() {
    let runner = two_modules().await;
    let slots = ["a/0", "a/1", "b/0"];
    let before = generations(&runner, &slots).await;
    // Neither backoff nor max_restarting concerns an instance that runs.
    let summary = reload(
        &runner,
        &format!(
            "{}{}",
            module("b", 1, ""),
            module("a", 2, ", max_restarting: 2, restart: {backoff_max: 1m}")
        ),
    )
    .await;
    assert_eq!(summary["unchanged"], serde_json::json!(["b", "a"]));
    assert_eq!(generations(&runner, &slots).await, before);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modules_and_replicas_come_and_go() {
    let runner = two_modules().await;
    let before = runner.generation("a/0").await;
    fs::write(runner.path("c.wat"), guests::holder(3)).unwrap();
    let summary = reload(&runner, &format!("{}{}", module("a", 4, ""), module("c", 1, ""))).await;
    assert_eq!(summary["added"], serde_json::json!(["c"]));
    assert_eq!(summary["removed"], serde_json::json!(["b"]));
    assert_eq!(summary["scaled"], serde_json::json!(["a"]));
    for slot in ["a/3", "c/0"] {
        runner.instance_in_state(slot, "running").await;
    }
    assert!(runner.instance("b/0").await.is_null());
    assert!(!runner.metrics().await.contains("module=\"b\""));
    reload(&runner, &module("a", 1, "")).await;
    assert_eq!(runner.instances().await.len(), 1);
    assert_eq!(runner.generation("a/0").await, before, "it lived through both");
    assert_eq!(runner.restart("a/0", None).await.status, 200);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_module_is_restarted_replica_by_replica() {
    let runner = two_modules().await;
    let (a, b) = (runner.generation("a/1").await, runner.generation("b/0").await);
    let old_digest = runner.instance("a/1").await["digest"].clone();
    fs::write(runner.path("a.wat"), guests::other_sleeper()).unwrap();
    let summary = reload(&runner, &format!("{}{}", module("a", 2, ""), module("b", 1, ""))).await;
    assert_eq!(summary["changed"], serde_json::json!(["a"]));
    for replica in 0..2 {
        eventually("the replica has the new digest", async || {
            (runner.instance(&format!("a/{replica}")).await["digest"] != old_digest).then_some(())
        })
        .await;
    }
    let series = r#"wasm_instance_restarts_total{module="a",reason="reload"}"#;
    eventually("both restarts are counted", async || {
        (runner.metric(series).await == Some(2.0)).then_some(())
    })
    .await;
    assert!(runner.generation("a/1").await > a);
    assert_eq!(runner.generation("b/0").await, b);
    assert!(
        !runner.metrics().await.contains(old_digest.as_str().unwrap())
            || old_digest == runner.instance("b/0").await["digest"]
    );
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_settings_restart_instances_and_take_effect() {
    let runner = two_modules().await;
    let before = runner.generation("a/0").await;
    let summary =
        reload(&runner, &format!("{}{}", module("a", 2, ", memory_limit: 1MiB"), module("b", 1, ""))).await;
    assert_eq!(summary["changed"], serde_json::json!(["a"]));
    eventually("both have the new limit", async || {
        let instances = runner.instances().await;
        instances[..2].iter().all(|instance| instance["memory_limit_bytes"] == 1 << 20).then_some(())
    })
    .await;
    assert!(runner.generation("a/0").await > before);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fixed_module_is_started_without_waiting_for_its_backoff() {
    let modules = module("a", 1, ", restart: {backoff_min: 1h, backoff_max: 1h}");
    let runner = Runner::start(&[("a.wat", guests::trap())], &modules).await;
    runner.instance_in_state("a/0", "backoff").await;
    fs::write(runner.path("a.wat"), guests::sleeper()).unwrap();
    reload(&runner, &modules).await;
    runner.instance_in_state("a/0", "running").await;
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_crashes_waits_as_after_any_crash() {
    let modules = module("a", 2, ", restart: {backoff_min: 1h, backoff_max: 1h}");
    let runner = Runner::start(&[("a.wat", guests::sleeper())], &modules).await;
    fs::write(runner.path("a.wat"), guests::trap()).unwrap();
    reload(&runner, &modules).await;
    // Replica 1 gets its turn when the reload is done with replica 0.
    runner.instance_in_state("a/1", "backoff").await;
    let restarts = |reason: &str| format!(r#"wasm_instance_restarts_total{{module="a",reason="{reason}"}}"#);
    assert_eq!(runner.metric(&restarts("reload")).await, Some(2.0), "one each");
    assert_eq!(runner.metric(&restarts("crash")).await, Some(0.0));
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_start_leaves_the_old_one_running() {
    let runner = two_modules().await;
    let before = generations(&runner, &["a/0", "a/1"]).await;
    fs::write(runner.path("a.wat"), guests::start_greedy()).unwrap();
    let limit = ", memory_limit: 1MiB";
    let summary = reload(&runner, &format!("{}{}", module("a", 2, limit), module("b", 1, ""))).await;
    assert_eq!(summary["changed"], serde_json::json!(["a"]));
    let failures = r#"wasm_linear_memory_grow_failures_total{module="a"}"#;
    eventually("the new version was tried", async || {
        (runner.metric(failures).await > Some(0.0)).then_some(())
    })
    .await;
    assert_eq!(generations(&runner, &["a/0", "a/1"]).await, before);
    // The old program once more: nothing is left to do.
    fs::write(runner.path("a.wat"), guests::sleeper()).unwrap();
    reload(&runner, &format!("{}{}", module("a", 2, ""), module("b", 1, ""))).await;
    assert_eq!(generations(&runner, &["a/0", "a/1"]).await, before);
    runner.stop().await;
}

async fn check_kept(runner: &Runner, needles: &[&str]) {
    let before = generations(runner, &["a/0", "a/1", "b/0"]).await;
    let answer = runner.post("/-/reload", &[], "").await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    for needle in needles {
        assert!(answer.error().contains(needle), "{needle}: {}", answer.text);
    }
    assert_eq!(runner.metric("ebb_runner_config_last_reload_successful").await, Some(0.0));
    assert_eq!(generations(runner, &["a/0", "a/1", "b/0"]).await, before);
    assert_eq!(runner.get("/-/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_config_or_module_keeps_the_old_one_in_force() {
    let runner = two_modules().await;
    let first = runner.metric("ebb_runner_config_last_reload_success_timestamp_seconds").await.unwrap();
    assert!(first > 1.6e9);
    assert_eq!(runner.metric("ebb_runner_config_last_reload_successful").await, Some(1.0));

    write_config(runner.folder.path(), &module("a", 2, ", replcas: 3"), "");
    check_kept(&runner, &["runner.yml:", "modules[0]", "unknown field `replcas`"]).await;
    fs::write(runner.path("runner.yml"), "modules: [").unwrap();
    check_kept(&runner, &["runner.yml:"]).await;
    fs::remove_file(runner.path("runner.yml")).unwrap();
    check_kept(&runner, &["reading config file", "No such file"]).await;
    fs::write(runner.path("a.wat"), "(module (fun").unwrap();
    write_config(runner.folder.path(), &format!("{}{}", module("b", 1, ""), module("a", 2, "")), "");
    check_kept(&runner, &["module \"a\"", "a.wat"]).await;

    fs::write(runner.path("a.wat"), guests::sleeper()).unwrap();
    reload(&runner, &format!("{}{}", module("a", 2, ""), module("b", 1, ""))).await;
    assert_eq!(runner.metric("ebb_runner_config_last_reload_successful").await, Some(1.0));
    assert!(runner.metric("ebb_runner_config_last_reload_success_timestamp_seconds").await.unwrap() >= first);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_reloads_like_a_request() {
    let runner = two_modules().await;
    write_config(runner.folder.path(), &module("a", 3, ""), "");
    runner.reload.notify_one();
    runner.instance_in_state("a/2", "running").await;
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_counts_from_the_reload_on() {
    let guests = [("a.wat", guests::sleeper()), ("token", "first".to_owned())];
    let control = "control: {listen: \"127.0.0.1:0\", bearer_token_file: token}\n";
    let runner = Runner::start_with(&guests, &module("a", 1, ""), control).await;
    fs::write(runner.path("token"), "second").unwrap();
    assert_eq!(runner.post("/-/reload", &[], "").await.status, 200);
    assert_eq!(runner.restart("a/0", None).await.status, 403, "it still sends the first");
    let header = [("authorization", "Bearer second")];
    let path = "/api/v1/instances/a/0/restart";
    assert_eq!(runner.send(reqwest::Method::POST, path, &header, "").await.status, 200);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_module_that_serves_is_refused_where_nobody_takes_requests() {
    let runner = two_modules().await;
    let before = generations(&runner, &["a/0", "a/1", "b/0"]).await;
    write_config(runner.folder.path(), &module("a", 2, "").replace("command", "http"), "");
    let answer = runner.post("/-/reload", &[], "").await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert!(
        answer.text.contains("\\\"a\\\" is of kind `http`") && answer.text.contains("restart the runner"),
        "{}",
        answer.text
    );
    assert_eq!(generations(&runner, &["a/0", "a/1", "b/0"]).await, before);
    runner.stop().await;
}
