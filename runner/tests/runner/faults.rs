//! Guests that misbehave harm themselves only.

use std::time::{Duration, Instant};

use crate::{
    guests,
    support::{PAGE, Runner, eventually, module},
};

const SOON: &str = ", restart: {backoff_min: 10ms, backoff_max: 40ms}";

async fn restarts(runner: &Runner, module: &str, reason: &str) -> f64 {
    let series = format!(r#"wasm_instance_restarts_total{{module="{module}",reason="{reason}"}}"#);
    runner.metric(&series).await.unwrap()
}

async fn check_restarted(guest: String, reason: &str, last_end: &str) {
    let runner = Runner::start(&[("guest.wat", guest)], &module("guest", 1, SOON)).await;
    eventually("it was restarted three times", async || {
        (restarts(&runner, "guest", reason).await >= 3.0).then_some(())
    })
    .await;
    let instance = runner.instance("guest/0").await;
    assert!(instance["last_end"].as_str().unwrap().contains(last_end), "{instance}");
    assert!(instance["consecutive_failures"].as_u64().unwrap() >= 3, "{instance}");
    let other = if reason == "exit" { "crash" } else { "exit" };
    assert_eq!(restarts(&runner, "guest", other).await, 0.0);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_traps_is_started_again_as_a_crash() {
    check_restarted(guests::trap(), "crash", "unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_leaves_with_code_zero_is_started_again_as_an_exit() {
    check_restarted(guests::exit(0), "exit", "exit code 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_leaves_with_another_code_is_started_again_as_a_crash() {
    check_restarted(guests::exit(3), "crash", "exit code 3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_traps_is_started_again_as_a_crash() {
    check_restarted(guests::component("(unreachable)"), "crash", "unreachable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_reports_failure_is_started_again_as_a_crash() {
    check_restarted(guests::component("(return (i32.const 1))"), "crash", "exit code 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_waits_has_no_memory_and_no_start_time() {
    let modules = module("trap", 1, ", restart: {backoff_min: 30s}");
    let runner = Runner::start(&[("trap.wat", guests::trap())], &modules).await;
    let instance = runner.instance_in_state("trap/0", "backoff").await;
    assert!(instance["generation"].is_null() && instance["memory_bytes"].is_null(), "{instance}");
    let metrics = runner.metrics().await;
    assert!(!metrics.contains("\nwasm_linear_memory_bytes{"), "{metrics}");
    assert!(!metrics.contains("\nwasm_instance_start_time_seconds{"), "{metrics}");
    assert!(metrics.contains("wasm_instance_up{module=\"trap\",replica=\"0\"} 0\n"), "{metrics}");
    assert!(metrics.contains("wasm_linear_memory_limit_bytes{module=\"trap\"} "), "{metrics}");
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_never_rest_block_neither_others_nor_their_own_restart() {
    let guests = [("spinner.wat", guests::spinner()), ("grower.wat", guests::grower(20))];
    let modules = format!("{}{}", module("spinner", 6, ""), module("grower", 1, ""));
    let runner = Runner::start(&guests, &modules).await;
    eventually("the other guest has grown by twenty pages", async || {
        (runner.instance("grower/0").await["memory_bytes"] == 21 * PAGE).then_some(())
    })
    .await;
    for replica in 0..6 {
        let start = Instant::now();
        let answer = runner.restart(&format!("spinner/{replica}"), None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        // Six busy guests, a tick of 10 ms each; the rest is for a loaded machine.
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    let start = Instant::now();
    runner.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_asks_for_too_much_is_denied_and_lives_on() {
    let modules = module("greedy", 1, &format!(", memory_limit: {}", 20 * PAGE));
    let runner = Runner::start(&[("greedy.wat", guests::greedy())], &modules).await;
    let failures = r#"wasm_linear_memory_grow_failures_total{module="greedy"}"#;
    eventually("a request is denied", async || (runner.metric(failures).await == Some(1.0)).then_some(()))
        .await;
    let instance = runner.instance("greedy/0").await;
    assert_eq!((&instance["state"], &instance["memory_bytes"]), (&"running".into(), &(20 * PAGE).into()));
    assert_eq!(runner.restart("greedy/0", None).await.json()["reclaimed_bytes"], 19 * PAGE);
    eventually("failures are counted on", async || {
        (runner.metric(failures).await == Some(2.0)).then_some(())
    })
    .await;
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_starts_too_large_waits_while_others_run() {
    let guests = [("start_greedy.wat", guests::start_greedy()), ("sleeper.wat", guests::sleeper())];
    let modules = format!(
        "{}{}",
        module("start_greedy", 1, &format!(", memory_limit: {}{SOON}", 20 * PAGE)),
        module("sleeper", 1, "")
    );
    let runner = Runner::start(&guests, &modules).await;
    let instance = runner.instance_in_state("start_greedy/0", "backoff").await;
    let last_end = instance["last_end"].as_str().unwrap();
    assert!(last_end.contains("1000 pages exceeds memory limits"), "{last_end}");
    eventually("it is tried again", async || {
        (restarts(&runner, "start_greedy", "crash").await >= 2.0).then_some(())
    })
    .await;
    assert_eq!(runner.instance("sleeper/0").await["state"], "running");
    assert_eq!(runner.instance("sleeper/0").await["restarts"], 0);
    runner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_prints_without_end_is_stopped_like_any_other() {
    let guests = [("chatterbox.wat", guests::chatterbox("bla ")), ("sleeper.wat", guests::sleeper())];
    let modules = format!("{}{}", module("chatterbox", 2, ""), module("sleeper", 1, ""));
    let runner = Runner::start(&guests, &modules).await;
    assert_eq!(runner.restart("chatterbox/0", None).await.status, 200);
    assert_eq!(runner.restart("sleeper/0", None).await.status, 200);
    runner.stop().await;
}

async fn check_refused(file: &str, content: &[u8], needles: &[&str]) {
    let folder = crate::support::config_folder(
        &[("sleeper.wat", guests::sleeper())],
        &format!("{}  - {{name: broken, path: {file}, kind: command}}\n", module("sleeper", 1, "")),
        "",
    );
    if !content.is_empty() {
        std::fs::write(folder.path().join(file), content).unwrap();
    }
    let error = Runner::launch(folder).await.ended().await.unwrap_err();
    assert!(matches!(error, ebb_runner::RunError::Config(_)), "{error:?}");
    let message = ebb_service::logging::Chain(&error).to_string();
    for needle in [&["module \"broken\"", file], needles].concat() {
        assert!(message.contains(needle), "{needle}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_cannot_run_is_refused_before_anything_starts() {
    check_refused("missing.wasm", b"", &["is it built", "No such file"]).await;
    check_refused("text.wasm", b"\xff\xfehello", &["expected a WebAssembly binary", "complete"]).await;
    check_refused("cut.wasm", b"\0asm\x01\0\0\0\x01\xff", &["compiling"]).await;
    check_refused("broken.wat", b"(module (func", &["translating the text"]).await;
    check_refused("reactor.wat", b"(module (func (export \"run\")))", &["`_start`", "`run`"]).await;
    check_refused("wrong.wat", b"(component)", &["wasi:cli/run@0.2", "exports nothing"]).await;
    let unknown = br#"(module (import "env" "magic" (func)) (func (export "_start")))"#;
    check_refused("imports.wat", unknown, &["offers wasi_snapshot_preview1", "imports `env` `magic`;"]).await;
    let shared = br#"(module (memory 1 2 shared) (func (export "_start")))"#;
    check_refused("threads.wat", shared, &["compiling"]).await;
}

/// With these, too, a compiler would be busy for minutes, and its answer would be about the code.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_module_lacks_is_named_at_once_before_it_is_compiled() {
    let core = br#"(module
        (import "env" "magic" (func)) (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
        (import "env" "memory" (memory 1)) (import "env" "table" (table 1 2 funcref))
        (func (export "run")) (func (export "_start") (param i32)) (func i32.add))"#;
    let expected = ["exports `run`, `_start`. Besides", "`env` `magic`, `env` `memory`, `env` `table`;"];
    check_refused("core.wat", core, &expected).await;

    let component = br#"(component
        (import "wasi:keyvalue/store@0.2.0" (instance (export "store" (type (sub resource))) (export "open" (func))))
        (import "wasi:cli/exit@0.2.0" (instance (export "exit" (func (param "status" (result))))))
        (import "a:b/only-types" (instance (type $t u32) (export "t" (type (eq $t)))))
        (import "log" (func))
        (import "wasi:random/random@0.2.9" (instance (export "roll-dice" (func (result u32)))))
        (core module (func i32.add)))"#;
    let expected = [
        "exports nothing. Besides",
        "imports `wasi:keyvalue/store@0.2.0` (resource implementation is missing), \
         `log` (function implementation is missing), \
         `wasi:random/random@0.2.9` (function implementation is missing);",
        "offers wasi:cli/imports@0.2",
    ];
    check_refused("component.wat", component, &expected).await;

    let others = br#"(component
        (import "wasi:cli/exit@0.2.12" (instance (export "exit" (func (param "status" u32)))))
        (import "wasi:random/random@0.2.0" (instance (export "get-random-u64" (func (result u64)))))
        (core module (func i32.add)))"#;
    let expected = ["imports `wasi:cli/exit@0.2.12` (expected `result` found `u32`);"];
    check_refused("others.wat", others, &expected).await;

    let names: String = (0..1000).map(|n| format!("(import \"e\" \"\\1b[2J{n}\" (func))")).collect();
    let many = format!("(module {names} (func (export \"_start\")))");
    check_refused(
        "many.wat",
        many.as_bytes(),
        &["imports `e` `\\u{1b}[2J0`, ", "[2J19` and at least 980 more; kind"],
    )
    .await;
}
