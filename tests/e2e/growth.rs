//! Which functions made memory grow: told by the runner, to the byte, over lifetimes.

use std::process::Command;

use ebb_host::growth::{OfBinary, Report};
use ebb_testbed::{
    evaluator::Evaluator,
    http::{client, json},
    paths,
    runner::Runner,
    wait,
};
use tokio::task::JoinSet;

use crate::support::{self, DEADLINE};

const PAGE_BYTES: u64 = 65_536;

/// The growth of the newest binary of `module`.
async fn growth(runner: &Runner, module: &str) -> Report {
    let url = format!("http://{}/api/v1/modules/{module}/growth", runner.address);
    let binaries: Vec<OfBinary> = serde_json::from_value(json(&url).await.unwrap()).unwrap();
    binaries.into_iter().next().unwrap().growth
}

async fn held(runner: &Runner) -> u64 {
    runner.scrape().await.sum("wasm_linear_memory_bytes", &[]) as u64
}

/// Waits until all instances of the guest `two-leaks` have leaked what they do, and are `instances`.
async fn have_leaked(runner: &Runner, instances: u64) {
    wait::until("all of it is leaked", DEADLINE, async || {
        (held(runner).await == instances * 101 * PAGE_BYTES).then_some(())
    })
    .await;
}

fn shown(runner: &Runner, module: &str, more: &[&str]) -> String {
    let arguments = [&["growth", module, "--address", &runner.address], more].concat();
    let output = Command::new(paths::program("ebb-runner")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn two_leaks_are_told_to_the_byte_over_lifetimes() {
    let runner =
        Runner::start(&support::wat("two-leaks", "    replicas: 2\n").replacen("    replicas: 1\n", "", 1))
            .await;
    have_leaked(&runner, 2).await;
    let first = growth(&runner, "two-leaks").await;
    assert_eq!(first.initial_bytes + first.start_bytes + first.bytes, held(&runner).await);
    assert!(runner.restart("two-leaks", 0).send().await.unwrap().status().is_success());
    have_leaked(&runner, 2).await;
    let report = growth(&runner, "two-leaks").await;
    assert_eq!((report.lifetimes, report.initial_bytes), (3, 3 * PAGE_BYTES));
    assert_eq!((report.start_bytes, report.unknown_bytes), (0, 0));
    let told: Vec<_> =
        report.functions.iter().map(|told| (told.function.as_str(), told.bytes / PAGE_BYTES)).collect();
    assert_eq!(told, [("app::sessions::open", 210), ("app::cache::fill", 90)]);

    let table = shown(&runner, "two-leaks", &[]);
    assert!(table.contains("70.0 %") && table.contains("30.0 %"), "{table}");
    let folded = shown(&runner, "two-leaks", &["--format", "folded"]);
    let expected = format!("_start;app::sessions::open;malloc {}\n", 210 * PAGE_BYTES);
    assert!(folded.starts_with(&expected), "{folded}");
    assert!(shown(&runner, "two-leaks", &["--format", "pprof"]).contains("app::cache::fill"));
    assert!(
        shown(&runner, "two-leaks", &["--digest", "000000000000"])
            .contains("no instance of two-leaks with the digest")
    );
}

#[tokio::test]
async fn what_leaks_in_rust_is_told_by_its_name() {
    let runner = Runner::start(&support::leaky(2)).await;
    wait::until("it has leaked", DEADLINE, async || {
        (growth(&runner, "leaky").await.bytes > 32 * 1024 * 1024).then_some(())
    })
    .await;
    let report = growth(&runner, "leaky").await;
    let leak = &report.functions[0];
    assert_eq!(leak.function, "ebb_guests::memory::leak", "{:?}", report.functions);
    assert!(leak.bytes * 100 >= report.bytes * 99, "{:?}", report.functions);
}

#[tokio::test]
async fn two_leaks_in_cpp_are_told_by_their_names() {
    let module = format!("  - name: cpp\n    path: {}\n    kind: command\n", paths::foreign("cpp").display());
    let runner = Runner::start(&module).await;
    let report = wait::until("all of it is leaked", DEADLINE, async || {
        let report = growth(&runner, "cpp").await;
        // 200 times 64 KiB, in grows of more than that.
        (report.bytes >= 200 * PAGE_BYTES).then_some(report)
    })
    .await;
    assert_eq!(report.initial_bytes + report.start_bytes + report.bytes, held(&runner).await);
    let told: Vec<_> = report.functions.iter().map(|told| told.function.as_str()).collect();
    assert_eq!(told, ["app::Sessions::open()", "app::Cache::fill()"]);
    let percent = 100.0 * report.functions[0].bytes as f64 / report.bytes as f64;
    assert!((68.0..72.0).contains(&percent), "{:?}", report.functions);
}

#[tokio::test]
async fn what_several_requests_at_once_make_grow_is_told_in_full() {
    const BYTES: u64 = 1 << 20;
    let runner =
        Runner::start(&support::http("test_http_03", 2, "memory_limit: 64MiB", "concurrency: 8")).await;
    let before = growth(&runner, "test_http_03").await;
    let mut requests = JoinSet::new();
    for _ in 0..16 {
        let url = format!("http://{}/grow?bytes={BYTES}", runner.http_address);
        requests.spawn(async move { client().get(url).send().await.unwrap().status().as_u16() });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    let report = growth(&runner, "test_http_03").await;
    assert_eq!(report.initial_bytes + report.start_bytes + report.bytes, held(&runner).await);
    assert!(report.bytes - before.bytes >= 16 * BYTES, "{report:#?}");
    let known: u64 = report.functions.iter().map(|function| function.bytes).sum();
    assert_eq!(known + report.unknown_bytes, report.bytes);
    assert!(report.functions[0].bytes >= 16 * BYTES, "{:#?}", report.stacks);
}

/// Of the requests of `module`: method and route, how many there were, how much grew during them.
async fn requests(runner: &Runner, module: &str) -> Vec<(String, u64, u64)> {
    let told = growth(runner, module).await.requests;
    told.into_iter().map(|of| (format!("{} {}", of.method, of.route), of.requests, of.bytes)).collect()
}

/// Sends a request for each of `targets`, all at once.
async fn get_all(runner: &Runner, targets: impl Iterator<Item = String>) {
    let mut requests = JoinSet::new();
    for target in targets {
        let url = format!("http://{}{target}", runner.http_address);
        requests.spawn(async move { client().get(url).send().await.unwrap().bytes().await.unwrap() });
    }
    requests.join_all().await;
}

#[tokio::test]
async fn the_one_route_of_ten_that_leaks_is_found() {
    const BYTES: u64 = 1 << 20;
    let runner = Runner::start(&support::http("test_http", 2, "memory_limit: 128MiB", "")).await;
    let others =
        ["hello", "count", "headers", "status?code=200", "unread", "objects/1", "objects/2", "a", "b"];
    for round in 0..20 {
        let others = others.iter().map(|target| format!("/{target}"));
        get_all(&runner, others.chain([format!("/grow?bytes={BYTES}&round={round}")])).await;
    }
    let told = requests(&runner, "test_http").await;
    let (route, number, bytes) = &told[0];
    assert_eq!((route.as_str(), *number), ("GET /grow", 20), "{told:#?}");
    let report = growth(&runner, "test_http").await;
    assert!(*bytes >= 20 * BYTES && bytes * 100 >= report.bytes * 98, "{told:#?}");
    assert_eq!(
        told.iter().find(|(route, ..)| route == "GET /objects/*").map(|(_, number, _)| *number),
        Some(40)
    );
    let table = shown(&runner, "test_http", &[]);
    assert!(table.contains("GET /grow  20\n"), "{table}");
}

#[tokio::test]
async fn of_several_requests_at_once_the_one_that_makes_memory_grow_is_told() {
    const BYTES: u64 = 1 << 20;
    let runner =
        Runner::start(&support::http("test_http_03", 1, "memory_limit: 128MiB", "concurrency: 16")).await;
    for _ in 0..8 {
        // Tasks that are over lend their names to new ones.
        let others = (0..16).flat_map(|number| [format!("/sleep?ms={}", 5 * number), "/hello".to_owned()]);
        let growing = (0..4).map(|_| format!("/grow?bytes={BYTES}"));
        get_all(&runner, others.chain(growing)).await;
    }
    let told = requests(&runner, "test_http_03").await;
    let (route, number, bytes) = &told[0];
    assert_eq!((route.as_str(), *number), ("GET /grow", 32), "{told:#?}");
    let report = growth(&runner, "test_http_03").await;
    assert!(bytes * 100 >= report.bytes * 98, "{told:#?} of {}", report.bytes);
}

#[tokio::test]
async fn a_cache_that_fills_up_is_seen_as_a_plateau_and_its_function_is_told() {
    let cache = support::steady(3).replacen("name: steady", "name: cache", 1).replacen(
        "REQUIRED_BYTES: \"4194304\"",
        "REQUIRED_BYTES: \"33554432\", RAMP_MS: \"5000\"",
        1,
    );
    let runner = Runner::start(&cache).await;
    let config = support::evaluator(&support::scrape_store(&[&runner.address]), &[&runner.address], "");
    let evaluator = Evaluator::start(&format!("dry_run: true\n{config}")).await;
    // It is looked at each minute, once something is known.
    wait::until("the growth has come to an end", 2 * DEADLINE, async || {
        let modules = evaluator.api("modules").await;
        (modules[0]["growth"]["kind"] == "plateau").then_some(())
    })
    .await;
    let modules = evaluator.api("modules").await;
    let plateau = modules[0]["growth"]["plateau"]["bytes"].as_f64().unwrap();
    let report = growth(&runner, "cache").await;
    let grown = (report.start_bytes + report.bytes) as f64 / 3.0;
    assert!((0.8..1.25).contains(&(plateau / grown)), "{plateau} {grown} {modules:#}");
    assert_eq!(report.initial_bytes + report.start_bytes + report.bytes, held(&runner).await);
    let told = report.functions.iter().map(|told| told.bytes).max().unwrap();
    assert!(told as f64 >= 0.98 * report.bytes as f64, "{:?}", report.functions);
}
