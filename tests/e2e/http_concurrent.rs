//! WASI 0.3: one instance works on many requests at once.

use std::time::Duration;

use ebb_testbed::{
    http::{self, client},
    load::{
        Load,
        ask::{Ask, Expected, Pattern},
    },
    runner::Runner,
    wait,
};

use crate::support::{self, DEADLINE};

const NAME: &str = "test_http_03";

async fn count(runner: &Runner) -> serde_json::Value {
    http::json(&format!("http://{}/count", runner.http_address)).await.unwrap()
}

#[tokio::test]
async fn an_instance_works_on_as_many_requests_at_once_as_configured() {
    let runner = Runner::start(&support::http(NAME, 1, "max_restarting: 1", "concurrency: 8")).await;
    let load = Load::start(&runner.http_address, 20, |_| {
        Ask::get("/sleep?ms=100", Expected::Exactly("slept".into()))
    });
    wait::until("many are served", DEADLINE, async || (load.served() >= 100).then_some(())).await;
    let summary = load.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
    assert_eq!(count(&runner).await["at_once_max"], 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_fail_no_request_of_an_instance_with_many() {
    let runner = Runner::start(&support::http(NAME, 2, "max_restarting: 1", "concurrency: 8")).await;
    let load = Load::start(&runner.http_address, 12, support::mixture);
    for restart in 0..60 {
        wait::until("the restart is done", DEADLINE, async || {
            let status = runner.restart(NAME, restart % 2).send().await.unwrap().status().as_u16();
            assert!([200, 202, 409, 429].contains(&status), "{status}");
            (status < 300).then_some(())
        })
        .await;
    }
    let summary = load.stop().await;
    assert_eq!(summary.failed, 0, "{summary}\n{}", runner.process.log());
    let scrape = runner.scrape().await;
    assert_eq!(scrape.sum("wasm_instance_restarts_total", &[]), 60.0, "nothing crashed");
}

#[tokio::test]
async fn one_request_that_hangs_ends_the_instance_only_when_the_others_are_done() {
    let http = "concurrency: 8, request_timeout: 1s, drain_timeout: 10s";
    let runner = Runner::start(&support::http(NAME, 1, "max_restarting: 1", http)).await;
    let url = |path: &str| format!("http://{}{path}", runner.http_address);
    let send = |path: &str| {
        let request = client().get(url(path)).send();
        tokio::spawn(async move { request.await.map_or(0, |response| response.status().as_u16()) })
    };
    let never = send("/never");
    // Slower than request_timeout, and not stuck: it is fed byte by byte, in both directions.
    let echo = Load::start(&runner.http_address, 1, |n| {
        Ask::echo(Pattern { bytes: 60_000, seed: n }).slowly(2000, Duration::from_millis(100))
    });
    assert_eq!(never.await.unwrap(), 504, "at once, not when the others are done");
    assert_eq!(runner.scrape().await.sum("wasm_instance_restarts_total", &[]), 0.0, "the others go on");
    let summary = echo.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
    assert_eq!(send("/hello").await.unwrap(), 200);
}

#[tokio::test]
async fn a_guest_may_answer_with_the_requests_own_body() {
    let http = "concurrency: 8, request_timeout: 1s";
    let runner = Runner::start(&support::http(NAME, 1, "max_restarting: 1", http)).await;
    let load = Load::start(&runner.http_address, 4, |n| {
        let ask = Ask { path: "/mirror".to_owned(), ..Ask::echo(Pattern { bytes: 60_000, seed: n }) };
        // Every other one takes longer than request_timeout, and is not stuck.
        if n % 2 == 0 { ask } else { ask.slowly(2000, Duration::from_millis(50)) }
    });
    wait::until("some are served", DEADLINE, async || (load.served() >= 40).then_some(())).await;
    let summary = load.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
}

#[tokio::test]
async fn a_trap_fails_what_its_instance_had_begun_and_nothing_else() {
    let modules = support::http(NAME, 1, "max_restarting: 1", "concurrency: 8, request_timeout: 1s");
    let runner = Runner::start(&modules).await;
    let status = async |path: &str| {
        let url = format!("http://{}{path}", runner.http_address);
        client().get(url).send().await.map_or(0, |response| response.status().as_u16())
    };
    for (path, expected) in [("/trap", 502), ("/error", 502), ("/spin", 504), ("/never", 504)] {
        assert_eq!(status(path).await, expected, "{path}");
        assert_eq!(status("/hello").await, 200, "after {path}");
    }
    support::breaks_off(&runner, "/trap-mid-body").await;
    let log = runner.process.says("request failed").await;
    assert!(log.contains("DestinationUnavailable"), "{log}");
}

#[tokio::test]
async fn an_instance_of_a_02_component_takes_one_request_at_a_time_and_a_config_that_wants_more_is_refused() {
    let module = support::http("hello", 1, "max_restarting: 1", "concurrency: 2");
    let mut runner = Runner::spawn("", &module);
    assert_eq!(runner.process.wait().code(), Some(2));
    let log = runner.process.log();
    assert!(log.contains("http.concurrency: 2") && log.contains("one request at a time"), "{log}");
}

#[tokio::test]
async fn an_http2_client_that_does_not_read_harms_nobody_else_at_its_instance() {
    let modules = support::http(NAME, 1, "max_restarting: 1", "concurrency: 8, request_timeout: 1s");
    let runner = Runner::start(&modules).await;
    let builder = reqwest::Client::builder().no_proxy().http2_prior_knowledge();
    let client = builder.http2_initial_stream_window_size(1000).build().unwrap();
    let url = format!("http://{}/pattern?bytes=10000000&seed=1", runner.http_address);
    let unread = client.get(url).send().await.unwrap();
    assert_eq!(unread.status(), 200);
    let others = Load::start(&runner.http_address, 2, support::mixture);
    // The guest has been told twice over by then, and has long returned.
    let asked = std::time::Instant::now();
    wait::until("twice request_timeout, and more", DEADLINE, async || {
        (asked.elapsed() > Duration::from_secs(4) && others.served() > 100).then_some(())
    })
    .await;
    let summary = others.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
    assert_eq!(runner.scrape().await.sum("wasm_instance_restarts_total", &[]), 0.0, "nothing crashed");
    drop(unread);
}
