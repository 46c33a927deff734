//! Restarts by order: every answer, and what they leave behind.

use std::{fs, io::Write as _, net::TcpStream, time::Duration};

use crate::{
    guests,
    support::{Runner, eventually, module},
};

async fn sleepers(replicas: u32) -> Runner {
    Runner::start(&[("sleeper.wat", guests::sleeper())], &module("sleeper", replicas, "")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_replaces_the_lifetime_and_says_so() {
    let runner = sleepers(2).await;
    let (old, neighbour) = (runner.generation("sleeper/0").await, runner.generation("sleeper/1").await);
    let path = "/api/v1/instances/sleeper/0/restart";
    let answer =
        runner.post(path, &[("if-match", &format!("\"{old}\""))], r#"{"reason": "threshold"}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!((&body["module"], &body["replica"]), (&"sleeper".into(), &0.into()));
    assert_eq!(body["old_generation"], old);
    let new = body["new_generation"].as_u64().unwrap();
    assert!(new > old);
    assert_eq!(body["reclaimed_bytes"], 0);
    assert!(body["duration_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(runner.generation("sleeper/0").await, new);
    assert_eq!(runner.generation("sleeper/1").await, neighbour);
    let counted = r#"wasm_instance_restarts_total{module="sleeper",reason="threshold"}"#;
    assert_eq!(runner.metric(counted).await, Some(1.0));
    assert_eq!(runner.metric(r#"wasm_restart_duration_seconds_count{module="sleeper"}"#).await, Some(1.0));
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_generation_is_refused_and_changes_nothing() {
    let runner = sleepers(1).await;
    let old = format!("\"{}\"", runner.generation("sleeper/0").await);
    assert_eq!(runner.restart("sleeper/0", Some(&old)).await.status, 200);
    let current = runner.generation("sleeper/0").await;
    let doubled = runner.restart("sleeper/0", Some(&old)).await;
    assert_eq!(doubled.status, 412);
    assert!(doubled.error().contains(&current.to_string()), "{}", doubled.text);
    assert_eq!(runner.generation("sleeper/0").await, current);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_strictly_increase_however_fast_the_restarts() {
    let runner = sleepers(1).await;
    let mut last = runner.generation("sleeper/0").await;
    for _ in 0..50 {
        let answer = runner.restart("sleeper/0", None).await.json();
        assert_eq!(answer["old_generation"], last);
        let new = answer["new_generation"].as_u64().unwrap();
        assert!(new > last, "{new} after {last}");
        last = new;
    }
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_restart_has_left_room_for_the_next() {
    // Both ways to stop: the busy one takes its own turn, or is taken while it rests.
    let extra = "engine: {epoch_tick: 1ms, compile_cache: \"off\"}\n";
    let guests = [("spinner.wat", guests::spinner()), ("holder.wat", guests::holder(200))];
    let modules = format!("{}{}", module("spinner", 1, ""), module("holder", 1, ""));
    let runner = Runner::start_with(&guests, &modules, extra).await;
    for _ in 0..200 {
        for slot in ["spinner/0", "holder/0"] {
            let answer = runner.restart(slot, None).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    }
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_orders_for_one_generation_exactly_one_is_carried_out() {
    let runner = sleepers(1).await;
    for _ in 0..10 {
        let generation = format!("\"{}\"", runner.generation("sleeper/0").await);
        let orders = (0..8).map(|_| runner.restart("sleeper/0", Some(&generation)));
        let mut statuses: Vec<_> =
            futures::future::join_all(orders).await.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses[0], 200, "{statuses:?}");
        assert!(statuses[1..].iter().all(|status| matches!(status, 409 | 412)), "{statuses:?}");
    }
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_malformed_orders_are_refused_with_what_was_expected() {
    let runner = sleepers(1).await;
    let generation = runner.generation("sleeper/0").await;
    let check = async |path: &str, headers: &[(&str, &str)], body: &str, status: u16, needle: &str| {
        let answer = runner.post(path, headers, body).await;
        assert_eq!(answer.status, status, "{path} {headers:?} {body}: {}", answer.text);
        assert!(answer.error().contains(needle), "{needle}: {}", answer.text);
    };
    let path = "/api/v1/instances/sleeper/0/restart";
    check("/api/v1/instances/nobody/0/restart", &[], "", 404, "nobody").await;
    check("/api/v1/instances/sleeper/1/restart", &[], "", 404, "no replica 1").await;
    check("/api/v1/instances/sleeper/-1/restart", &[], "", 404, "no replica -1").await;
    for value in ["7", "\"x\"", "W/\"7\"", "\"\"", "\"1\", \"2\"", "\"99999999999999999999\""] {
        check(path, &[("if-match", value)], "", 400, "If-Match: expected").await;
    }
    check(path, &[], "{", 400, "body: ").await;
    check(path, &[], r#"{"reason": "mood"}"#, 400, "threshold").await;
    check(path, &[], r#"{"reason": "crash"}"#, 400, "threshold").await;
    check(path, &[], r#"{"raison": "operator"}"#, 400, "unknown field `raison`").await;
    check(path, &[], &"x".repeat(10_000), 413, "").await;
    check("/api/v1/instances", &[], "", 405, "POST").await;
    check("/nowhere", &[], "", 404, "/metrics").await;
    assert_eq!(runner.generation("sleeper/0").await, generation);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_need_the_token_and_readers_do_not() {
    let folder = crate::support::config_folder(
        &[("sleeper.wat", guests::sleeper()), ("token", "s3cret".to_owned())],
        &module("sleeper", 1, ""),
        "control: {listen: \"0.0.0.0:0\", bearer_token_file: token}\n",
    );
    let mut runner = Runner::launch(folder).await;
    runner.address.set_ip([127, 0, 0, 1].into());
    eventually("it is ready", async || (runner.get("/-/ready").await.status == 200).then_some(())).await;
    let path = "/api/v1/instances/sleeper/0/restart";
    let send = async |path: &str, headers: &[(&str, &str)]| {
        runner.send(reqwest::Method::POST, path, headers, "").await
    };
    for path in [path, "/-/reload", "/api/v1/instances/nobody/0/restart"] {
        let missing = send(path, &[]).await;
        assert_eq!(missing.status, 401, "{path}");
        assert_eq!(missing.headers["www-authenticate"], "Bearer");
        assert_eq!(send(path, &[("authorization", "Bearer wrong!")]).await.status, 403, "{path}");
        assert_eq!(send(path, &[("authorization", "Basic s3cret")]).await.status, 403, "{path}");
    }
    assert_eq!(send(path, &[("authorization", "Bearer s3cret")]).await.status, 200);
    for path in ["/metrics", "/-/healthy", "/-/ready", "/api/v1/instances"] {
        assert_eq!(runner.get(path).await.status, 200, "{path}");
    }
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_from_web_pages_are_refused() {
    let runner = sleepers(1).await;
    let generation = runner.generation("sleeper/0").await;
    for path in ["/api/v1/instances/sleeper/0/restart", "/-/reload"] {
        // As for a form in a page; a sandboxed page's origin is "null".
        for origin in ["http://example.com", "null", "", "http://127.0.0.1:9090"] {
            let headers = [("origin", origin), ("content-type", "text/plain")];
            let answer = runner.post(path, &headers, "").await;
            assert_eq!(answer.status, 403, "{path} {origin}: {}", answer.text);
            assert!(answer.error().contains("web pages"), "{}", answer.text);
        }
    }
    assert_eq!(runner.generation("sleeper/0").await, generation);
    let read = runner.send(reqwest::Method::GET, "/metrics", &[("origin", "http://example.com")], "").await;
    assert_eq!(read.status, 200);
    runner.stop().await;
}

/// Instances that can be started only while the file `gate/start` is there, and trap once `gate/end` is: a
/// restart is under way for as long as the test says.
async fn gated(replicas: u32) -> Runner {
    let extra = ", start_timeout: 10m, dirs: [{host: gate, guest: /gate}]";
    let guests = [("gated.wat", guests::gated())];
    let folder = crate::support::config_folder(&guests, &module("gated", replicas, extra), "");
    fs::create_dir(folder.path().join("gate")).unwrap();
    fs::write(folder.path().join("gate/start"), "").unwrap();
    let runner = Runner::launch(folder).await;
    for replica in 0..replicas {
        runner.instance_in_state(&format!("gated/{replica}"), "running").await;
    }
    runner
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_restart_is_under_way_others_are_told_to_wait() {
    let runner = gated(2).await;
    fs::remove_file(runner.path("gate/start")).unwrap();
    let slow = runner.restart("gated/0", None);
    let meanwhile = async {
        runner.instance_in_state("gated/0", "restarting").await;
        let stale = runner.restart("gated/0", Some("\"1\"")).await;
        let same = runner.restart("gated/0", None).await;
        let other = runner.restart("gated/1", None).await;
        fs::write(runner.path("gate/start"), "").unwrap();
        (stale, same, other)
    };
    let (slow, (stale, same, other)) = tokio::join!(slow, meanwhile);
    assert_eq!(stale.status, 412, "{}", stale.text);
    assert_eq!(same.status, 409, "{}", same.text);
    assert_eq!(other.status, 429, "{}", other.text);
    assert_eq!(other.headers["retry-after"], "1");
    assert!(other.error().contains("max_restarting"));
    assert_eq!(slow.status, 200, "{}", slow.text);
    assert_eq!(runner.restart("gated/1", None).await.status, 200);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_carried_out_even_if_its_sender_leaves() {
    let runner = gated(1).await;
    let old = runner.generation("gated/0").await;
    fs::remove_file(runner.path("gate/start")).unwrap();
    let mut connection = TcpStream::connect(runner.address).unwrap();
    connection.write_all(b"POST /api/v1/instances/gated/0/restart HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    runner.instance_in_state("gated/0", "restarting").await;
    drop(connection);
    assert_eq!(runner.instance("gated/0").await["state"], "restarting");
    fs::write(runner.path("gate/start"), "").unwrap();
    eventually("the new lifetime runs", async || {
        let instance = runner.instance("gated/0").await;
        (instance["state"] == "running" && instance["generation"].as_u64() > Some(old)).then_some(())
    })
    .await;
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_ends_while_its_successor_is_prepared_is_seen_to_end() {
    let runner = gated(1).await;
    let old = runner.generation("gated/0").await;
    fs::remove_file(runner.path("gate/start")).unwrap();
    let order = runner.restart("gated/0", None);
    let meanwhile = async {
        runner.instance_in_state("gated/0", "restarting").await;
        fs::write(runner.path("gate/end"), "").unwrap();
        // The gate stays closed: this does not wait for the successor.
        eventually("the end is told", async || {
            let instance = runner.instance("gated/0").await;
            instance["last_end"].as_str().is_some_and(|end| end.contains("unreachable")).then_some(())
        })
        .await;
        let metrics = runner.metrics().await;
        assert!(metrics.contains("wasm_instance_up{module=\"gated\",replica=\"0\"} 0\n"), "{metrics}");
        assert!(!metrics.contains("\nwasm_linear_memory_bytes{"), "{metrics}");
        assert!(runner.instance("gated/0").await["generation"].is_null());
    };
    let (answer, ()) = tokio::join!(order, meanwhile);
    assert_eq!(answer.status, 412, "{}", answer.text);
    assert!(answer.error().contains("no instance is running"), "{}", answer.text);

    fs::remove_file(runner.path("gate/end")).unwrap();
    fs::write(runner.path("gate/start"), "").unwrap();
    let instance = runner.instance_in_state("gated/0", "running").await;
    assert!(instance["generation"].as_u64() > Some(old), "{instance}");
    for (reason, count) in [("crash", 1.0), ("operator", 0.0)] {
        let series = format!(r#"wasm_instance_restarts_total{{module="gated",reason="{reason}"}}"#);
        assert_eq!(runner.metric(&series).await, Some(count), "{reason}");
    }
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn if_the_new_instance_cannot_start_the_old_one_stays() {
    let folder = crate::support::config_folder(
        &[("sleeper.wat", guests::sleeper())],
        &module("sleeper", 1, ", dirs: [{host: data, guest: /data}]"),
        "",
    );
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let runner = Runner::launch(folder).await;
    runner.instance_in_state("sleeper/0", "running").await;
    let generation = runner.generation("sleeper/0").await;
    std::fs::remove_dir(runner.path("data")).unwrap();
    let answer = runner.restart("sleeper/0", None).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.error().contains("the old one stays"), "{}", answer.text);
    assert_eq!(runner.generation("sleeper/0").await, generation);
    assert_eq!(runner.instance("sleeper/0").await["state"], "running");
    std::fs::create_dir(runner.path("data")).unwrap();
    assert_eq!(runner.restart("sleeper/0", None).await.status, 200);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_which_nothing_runs_cannot_be_restarted() {
    let modules = module("trap", 1, ", restart: {backoff_min: 30s}");
    let runner = Runner::start(&[("trap.wat", guests::trap())], &modules).await;
    runner.instance_in_state("trap/0", "backoff").await;
    for if_match in [None, Some("\"1\""), Some("*")] {
        let answer = runner.restart("trap/0", if_match).await;
        assert_eq!(answer.status, 412, "{}", answer.text);
        assert!(answer.error().contains("no instance is running"), "{}", answer.text);
    }
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_section_that_never_ends_costs_only_its_own_slot() {
    let modules =
        format!("{}{}", module("start_spinner", 1, ", start_timeout: 100ms"), module("sleeper", 1, ""));
    let guests = [("start_spinner.wat", guests::start_spinner()), ("sleeper.wat", guests::sleeper())];
    let runner = Runner::start(&guests, &modules).await;
    let instance = runner.instance_in_state("start_spinner/0", "backoff").await;
    assert!(instance["last_end"].as_str().unwrap().contains("start_timeout (100 ms)"), "{instance}");
    let start = std::time::Instant::now();
    assert_eq!(runner.restart("sleeper/0", None).await.status, 200);
    assert!(start.elapsed() < Duration::from_secs(5));
    runner.stop().await;
}
