//! Restarts under load: not one request fails, and the memory really goes back to the host.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ebb_testbed::{
    http::client,
    load::{
        Load,
        ask::{Ask, Expected, Pattern},
    },
    runner::Runner,
    wait,
};

use crate::support::{self, DEADLINE};

const REPLICAS: u64 = 8;
const RESTARTS: u64 = 200;

/// Slow transfers of all of it, in either direction.
fn slow(n: u64) -> Ask {
    let pattern = Pattern { bytes: 60_000 + n % 7 * 1000, seed: n };
    let path = format!("/pattern?bytes=8000000&seed={n}");
    match n % 2 {
        0 => Ask::echo(pattern).slowly(2000, Duration::from_millis(40)),
        _ => Ask::get(path, Expected::Pattern(Pattern { bytes: 8_000_000, seed: n }))
            .slowly(200_000, Duration::from_millis(40)),
    }
}

/// Sends and fetches over a connection of HTTP/2, several requests at once, until `stop`. Returns how many.
async fn http2_client(address: String, seed: u64, stop: Arc<AtomicBool>) -> u64 {
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let mut served = 0;
    for n in (seed..).step_by(100).take_while(|_| !stop.load(Ordering::Relaxed)) {
        let pattern = Pattern { bytes: 1 + n * 7919 % 200_000, seed: n };
        let bytes = pattern.piece(0, usize::MAX);
        let fetch = client.get(format!("http://{address}/pattern?bytes={}&seed={n}", pattern.bytes)).send();
        let echo = client.post(format!("http://{address}/echo")).body(bytes.clone()).send();
        let (fetched, echoed) = tokio::join!(fetch, echo);
        for answer in [fetched, echoed] {
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 200);
            assert!(answer.bytes().await.unwrap() == bytes, "an answer of other bytes than those of {n}");
            served += 1;
        }
    }
    served
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_restarts_under_load_fail_no_request() {
    let runner = Runner::start(&support::http("test_http", REPLICAS, "max_restarting: 2", "")).await;
    let quick = Load::start(&runner.http_address, 12, support::mixture);
    let slow = Load::start(&runner.http_address, 3, slow);
    let stop: Arc<AtomicBool> = Arc::default();
    let http2: Vec<_> = (0..4)
        .map(|n| tokio::spawn(http2_client(runner.http_address.clone(), n, Arc::clone(&stop))))
        .collect();
    for restart in 0..RESTARTS {
        let replica = restart % REPLICAS;
        // 409: this replica still finishes a slow request of before its last restart. 429: others do.
        wait::until("the restart is done", DEADLINE, async || {
            let status = runner.restart("test_http", replica).send().await.unwrap().status().as_u16();
            assert!([200, 202, 409, 429].contains(&status), "{status}");
            (status < 300).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut by_http2 = 0;
    for client in http2 {
        by_http2 += client.await.unwrap();
    }
    let (quick, slow) = (quick.stop().await, slow.stop().await);
    assert_eq!((quick.failed, slow.failed), (0, 0), "{quick}\n{slow}\n{}", runner.process.log());
    assert!(quick.served > RESTARTS && slow.served > 0 && by_http2 > RESTARTS, "{quick}\n{slow}\n{by_http2}");
    let scrape = runner.scrape().await;
    let restarts = scrape.sum("wasm_instance_restarts_total", &["reason=\"operator\""]);
    assert_eq!(restarts, RESTARTS as f64);
    assert_eq!(scrape.sum("wasm_instance_restarts_total", &[]), restarts, "nothing crashed");
    assert_eq!(scrape.sum("wasm_responses_truncated_total", &[]), 0.0);
    let answered = scrape.sum("wasm_requests_total", &["code=\"200\""]);
    assert_eq!(answered, (quick.served + slow.served + by_http2) as f64);
    assert_eq!(scrape.sum("wasm_requests_total", &[]), answered);
    assert_eq!(scrape.one("wasm_requests_in_flight", &[]), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_instance_finishes_what_it_began_and_the_rest_goes_to_its_successor() {
    let runner =
        Runner::start(&support::http("test_http", 1, "max_restarting: 1", "queue_timeout: 60s")).await;
    let before = runner.instance("test_http", 0).await["generation"].clone();
    let waiting = async |count: f64| {
        wait::until("as many requests wait", DEADLINE, async || {
            (runner.scrape().await.one("wasm_requests_waiting", &[]) == Some(count)).then_some(())
        })
        .await;
    };
    // One request holds the only instance, three wait.
    let url = format!("http://{}/sleep?ms=6000", runner.http_address);
    let requests: Vec<_> = (0..4).map(|_| tokio::spawn(client().get(&url).send())).collect();
    waiting(3.0).await;
    let restart = runner.restart("test_http", 0).send().await.unwrap();
    assert_eq!(restart.status(), 202, "the old instance has a request to finish");
    let restart: serde_json::Value = serde_json::from_slice(&restart.bytes().await.unwrap()).unwrap();
    assert_eq!((&restart["draining"], &restart["old_generation"]), (&true.into(), &before));
    let again = runner.restart("test_http", 0).send().await.unwrap();
    assert_eq!(again.status(), 409, "one restart of a slot at a time");
    // The successor took a waiting request at once: both sleep at the same time.
    waiting(2.0).await;
    assert_eq!(runner.scrape().await.sum("wasm_requests_total", &[]), 0.0, "nothing is answered yet");
    for request in requests {
        assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "slept");
    }
    wait::until("the slot takes orders again", DEADLINE, async || {
        (runner.restart("test_http", 0).send().await.unwrap().status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_not_finished_within_drain_timeout_is_cut_off_and_seen_to_be() {
    let runner =
        Runner::start(&support::http("test_http", 1, "max_restarting: 1", "drain_timeout: 300ms")).await;
    // Nobody can take a chunked answer that was cut off for a complete one.
    let load = Load::start(&runner.http_address, 1, |n| {
        let pattern = Pattern { bytes: 50_000_000, seed: n };
        let path = format!("/pattern?bytes={}&seed={n}&chunked", pattern.bytes);
        Ask::get(path, Expected::Pattern(pattern)).slowly(100_000, Duration::from_millis(50))
    });
    wait::until("the download has begun", DEADLINE, async || {
        (runner.scrape().await.one("wasm_requests_in_flight", &[]) == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(runner.restart("test_http", 0).send().await.unwrap().status(), 200);
    wait::until("the client sees it", DEADLINE, async || (load.failed() >= 1).then_some(())).await;
    let failures = load.failures();
    assert!(failures[0].contains("broke off"), "half a body does not look whole: {failures:?}");
    drop(load);
    assert!(runner.process.log().contains("requests were cut off"), "{}", runner.process.log());
    assert!(runner.scrape().await.sum("wasm_responses_truncated_total", &[]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_finish() {
    let mut runner = Runner::start(&support::http("test_http", 2, "max_restarting: 1", "")).await;
    let load = Load::start(&runner.http_address, 2, |_| {
        Ask::get("/sleep?ms=1500", Expected::Exactly("slept".into()))
    });
    wait::until("both are under way", DEADLINE, async || {
        (runner.scrape().await.one("wasm_requests_in_flight", &[]) == Some(2.0)).then_some(())
    })
    .await;
    let stopping = load.stop();
    let (summary, status) =
        tokio::join!(stopping, async { tokio::task::block_in_place(|| runner.process.terminate()) });
    assert_eq!((summary.served, summary.failed), (2, 0), "{summary}");
    assert_eq!(status.code(), Some(0), "{}", runner.process.log());
}

#[tokio::test]
async fn a_reload_that_changes_scales_or_removes_a_module_fails_no_request() {
    let modules = |replicas, env: &str| {
        support::http("test_http", replicas, &format!("max_restarting: 1\n    env: {{A: {env}}}"), "")
    };
    let runner = Runner::start(&modules(4, "1")).await;
    let load = Load::start(&runner.http_address, 6, support::mixture);
    let reload = async |modules: &str| {
        runner.rewrite_config("", modules);
        let url = format!("http://{}/-/reload", runner.address);
        assert_eq!(client().post(url).send().await.unwrap().status(), 200);
    };
    reload(&modules(4, "2")).await;
    wait::until("every instance is of the new config", DEADLINE, async || {
        let scrape = runner.scrape().await;
        (scrape.sum("wasm_instance_restarts_total", &["reason=\"reload\""]) == 4.0).then_some(())
    })
    .await;
    reload(&modules(1, "2")).await;
    reload(&modules(3, "2")).await;
    let summary = load.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
    reload(&support::http("hello", 1, "max_restarting: 1", "")).await;
    let hello = ebb_testbed::http::text(&format!("http://{}/", runner.http_address)).await;
    assert_eq!(hello.as_deref(), Some("hello\n"));
}

#[tokio::test]
async fn an_answer_that_is_complete_keeps_its_connection_whatever_its_guest_does_after_it() {
    let modules = [
        support::http("test_http", 1, "max_restarting: 1", "request_timeout: 1s, routes: [{path: /}]"),
        support::http("hello", 1, "max_restarting: 1", "routes: [{host: other}]"),
    ]
    .concat();
    let runner = Runner::start(&modules).await;
    let mut connection = ebb_testbed::load::Connection::open(&runner.http_address).await.unwrap();
    connection.ask(&Ask::get("/sleep-after?ms=60000", Expected::Exactly("answered".into()))).await.unwrap();
    // Meanwhile the connection serves others, also when that guest is given up.
    let hello = Ask::get("/", Expected::Exactly("hello\n".into())).of("other");
    wait::until("the guest was given up", DEADLINE, async || {
        connection.ask(&hello).await.unwrap();
        let scrape = runner.scrape().await;
        (scrape.sum("wasm_instance_restarts_total", &["reason=\"crash\""]) == 1.0).then_some(())
    })
    .await;
    connection.ask(&hello).await.unwrap();
    assert_eq!(runner.scrape().await.sum("wasm_requests_total", &["code=\"499\""]), 0.0);
}
