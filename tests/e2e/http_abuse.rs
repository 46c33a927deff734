//! Clients and guests that do not behave: right status, bounded memory, others unharmed.

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

use crate::support::{self, DEADLINE, rude::Rude};

/// What a test client waits for an answer.
const ANSWER: Duration = Duration::from_secs(30);

/// A module whose exchanges may stand still for a second, beside one that must not notice anything.
fn modules() -> String {
    let limits = "request_timeout: 1s, routes: [{path: /}], body_limit: 1MiB";
    [
        support::http("test_http", 4, "max_restarting: 1", limits),
        support::http("hello", 2, "max_restarting: 1", "routes: [{host: other}]"),
    ]
    .concat()
}

/// Load on the other module while `deed` is done; none of it fails.
async fn beside_others(runner: &Runner, deed: impl AsyncFnOnce()) {
    let others = Load::start(&runner.http_address, 2, |_| {
        Ask::get("/", Expected::Exactly("hello\n".into())).of("other")
    });
    deed().await;
    wait::until("others are served", DEADLINE, async || (others.served() > 0).then_some(())).await;
    let summary = others.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
}

async fn status(runner: &Runner, path: &str) -> u16 {
    let url = format!("http://{}{path}", runner.http_address);
    client().get(url).send().await.map_or(0, |response| response.status().as_u16())
}

async fn crashes(runner: &Runner) -> f64 {
    runner.scrape().await.sum("wasm_instance_restarts_total", &["reason=\"crash\""])
}

#[tokio::test]
async fn ten_thousand_requests_through_one_instance() {
    let runner = Runner::start(&support::http("test_http", 1, "max_restarting: 1", "")).await;
    let load = Load::start(&runner.http_address, 100, |n| match n % 2 {
        0 => Ask::get("/hello", Expected::Exactly("hello".into())),
        _ => Ask::echo(Pattern { bytes: 100 + n % 5000, seed: n }),
    });
    wait::until("ten thousand are served", DEADLINE, async || (load.served() >= 10_000).then_some(())).await;
    let summary = load.stop().await;
    assert_eq!(summary.failed, 0, "{summary}");
    let scrape = runner.scrape().await;
    assert_eq!(scrape.sum("wasm_instance_restarts_total", &[]), 0.0, "it is the same instance all along");
    // Neither the guest nor the host's view of it grows with the number of requests.
    let memory = scrape.one("wasm_linear_memory_bytes", &[]).unwrap();
    assert!(memory < 4.0 * 1_048_576.0, "{memory}");
    let count = http::json(&format!("http://{}/count", runner.http_address)).await.unwrap();
    assert_eq!(count["count"].as_u64(), Some(summary.served + 1));
}

#[tokio::test]
async fn a_client_that_sends_a_byte_a_second_is_told_408() {
    let runner = Runner::start(&modules()).await;
    beside_others(&runner, async || {
        let head = "POST /sum HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
        let client = Rude::say(&runner.http_address, head).await;
        let said = client.drip(b'x', Duration::from_millis(200), ANSWER).await.expect("an answer");
        assert!(said.starts_with("HTTP/1.1 408"), "{said}");
        assert!(said.contains("connection: close"), "{said}");
    })
    .await;
    assert_eq!(crashes(&runner).await, 0.0, "the guest was not to blame");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off_and_its_instance_serves_on() {
    let runner = Runner::start(&modules()).await;
    beside_others(&runner, async || {
        let head = "GET /pattern?bytes=100000000&seed=1 HTTP/1.1\r\nhost: a\r\n\r\n";
        let _idle = Rude::say(&runner.http_address, head).await;
        wait::until("it is cut off", DEADLINE, async || {
            let scrape = runner.scrape().await;
            let over = scrape.sum("wasm_requests_total", &["module=\"test_http\""]) == 1.0;
            (over && scrape.sum("wasm_requests_in_flight", &["module=\"test_http\""]) == 0.0).then_some(())
        })
        .await;
    })
    .await;
    assert_eq!(crashes(&runner).await, 0.0, "the guest was not to blame");
}

#[tokio::test]
async fn clients_that_leave_in_the_middle_of_their_body_harm_nobody() {
    let runner = Runner::start(&modules()).await;
    beside_others(&runner, async || {
        for _ in 0..20 {
            let head = "POST /sum HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nhalf of it";
            drop(Rude::say(&runner.http_address, head).await);
        }
        wait::until("all are over", DEADLINE, async || {
            let scrape = runner.scrape().await;
            let over = scrape.sum("wasm_requests_total", &["module=\"test_http\""]) == 20.0;
            (over && scrape.sum("wasm_requests_in_flight", &["module=\"test_http\""]) == 0.0).then_some(())
        })
        .await;
        assert_eq!(status(&runner, "/hello").await, 200);
    })
    .await;
    assert_eq!(crashes(&runner).await, 0.0);
}

#[tokio::test]
async fn too_much_is_refused_with_the_status_that_says_so() {
    let runner = Runner::start(&modules()).await;
    beside_others(&runner, async || {
        let huge = format!("GET /hello HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
        let mut client = Rude::say(&runner.http_address, &huge[..200_000]).await;
        // The server does not wait for the rest.
        let _ = client.send(&huge.as_bytes()[200_000..]).await;
        assert_eq!(client.status_line(ANSWER).await, "HTTP/1.1 431 Request Header Fields Too Large");
        let announced = "POST /sum HTTP/1.1\r\nhost: a\r\ncontent-length: 1048577\r\n\r\n";
        let mut client = Rude::say(&runner.http_address, announced).await;
        assert_eq!(client.status_line(ANSWER).await, "HTTP/1.1 413 Payload Too Large");
        let chunked = "POST /sum HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut client = Rude::say(&runner.http_address, chunked).await;
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        for _ in 0..17 {
            let _ = client.send(chunk.as_bytes()).await;
        }
        assert_eq!(client.status_line(ANSWER).await, "HTTP/1.1 413 Payload Too Large");
        let mut client = Rude::say(&runner.http_address, "GET /hello HTTP/1.1\r\n\r\n").await;
        assert_eq!(client.status_line(ANSWER).await, "HTTP/1.1 400 Bad Request");
    })
    .await;
    assert_eq!(crashes(&runner).await, 0.0);
}

#[tokio::test]
async fn guests_that_do_not_answer_get_a_fresh_instance_after_them() {
    let runner = Runner::start(&modules()).await;
    beside_others(&runner, async || {
        for (path, expected) in [
            ("/trap", 502),
            ("/exit", 502),
            ("/silent", 502),
            ("/unfinished", 502),
            ("/spin", 504),
            ("/never", 504),
            ("/status?code=503", 503),
            ("/status?code=101", 500),
            ("/status?code=199", 500),
        ] {
            assert_eq!(status(&runner, path).await, expected, "{path}");
            assert_eq!(status(&runner, "/hello").await, 200, "after {path}");
        }
        // Begun, and then not finished: a client sees that it is not all.
        for path in ["/trap-mid-body", "/spin-mid-body"] {
            support::breaks_off(&runner, path).await;
        }
    })
    .await;
    wait::until("six instances were replaced", DEADLINE, async || {
        (crashes(&runner).await == 6.0).then_some(())
    })
    .await;
    runner.process.says("without setting a response").await;
    runner.process.says("no progress").await;
}

#[tokio::test]
async fn more_than_may_wait_is_told_to_come_again() {
    let module = support::http(
        "test_http",
        1,
        "max_restarting: 1",
        "queue_limit: 2, queue_timeout: 2s, request_timeout: 20s",
    );
    let runner = Runner::start(&module).await;
    let url = format!("http://{}/sleep?ms=8000", runner.http_address);
    let ask = || {
        let request = client().get(&url).send();
        tokio::spawn(async move {
            let response = request.await.unwrap();
            let (status, retry) =
                (response.status().as_u16(), response.headers().get("retry-after").is_some());
            (status, retry, response.text().await.unwrap())
        })
    };
    let under_way = async |count: f64| {
        wait::until("requests are under way", DEADLINE, async || {
            (runner.scrape().await.one("wasm_requests_in_flight", &[]) == Some(count)).then_some(())
        })
        .await;
    };
    let first = ask();
    under_way(1.0).await;
    let (second, third) = (ask(), ask());
    under_way(3.0).await;
    let refused = |(status, retry, text): (u16, bool, String), why: &str| {
        assert!(status == 503 && retry && text.contains(why), "{status} {retry} {text}");
    };
    refused(ask().await.unwrap(), "queue full: all instances are busy");
    refused(second.await.unwrap(), "no instance became free within queue_timeout");
    refused(third.await.unwrap(), "no instance became free within queue_timeout");
    assert_eq!(first.await.unwrap(), (200, false, "slept".to_owned()));
}

#[tokio::test]
async fn guests_ask_only_the_hosts_that_the_config_names() {
    let other = Runner::start(&support::http("hello", 1, "max_restarting: 1", "")).await;
    for guest in ["test_http", "test_http_03"] {
        let allowed = format!("outgoing: [\"{}\"]", other.http_address);
        let runner = Runner::start(&support::http(guest, 1, "max_restarting: 1", &allowed)).await;
        let fetch = async |address: &str| {
            let url = format!("http://{}/fetch?url=http://{address}/", runner.http_address);
            http::json(&url).await.unwrap()
        };
        let answer = fetch(&other.http_address).await;
        assert_eq!(
            (&answer["status"], &answer["body"]),
            (&200.into(), &"hello\n".into()),
            "{guest}: {answer}"
        );
        let denied = fetch(&other.address).await;
        let error = denied["error"].as_str().unwrap_or_default();
        assert!(error.to_lowercase().contains("denied"), "{guest}: {denied}");
    }
}

#[tokio::test]
async fn a_crowd_that_does_not_behave_costs_bounded_memory() {
    const CROWD: u64 = 200;
    let runner = Runner::start(&modules()).await;
    let resident = || support::resident_bytes(&runner);
    beside_others(&runner, async || {
        let before = resident();
        let mut crowd = Vec::new();
        let mut most = before;
        for n in 0..CROWD {
            // Endless heads, bodies that nobody reads, bodies that stop.
            let (head, more) = match n % 3 {
                0 => ("GET /hello HTTP/1.1\r\nhost: a\r\nx: ", 1 << 20),
                1 => ("POST /never HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n", 999_999),
                _ => ("POST /sum HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n", 500_000),
            };
            let mut client = Rude::say(&runner.http_address, head).await;
            crowd.push(tokio::spawn(async move {
                // An error: the runner has had enough of it.
                let _ = client.send(&vec![b'x'; more]).await;
                client.hear(ANSWER).await
            }));
            most = most.max(resident());
        }
        wait::until("the crowd has been answered", DEADLINE, async || {
            most = most.max(resident());
            crowd.iter().all(tokio::task::JoinHandle::is_finished).then_some(())
        })
        .await;
        // hyper reads up to 64 KiB of a head (`header_limit`) into a buffer that doubles, and keeps one piece of a
        // body; what is left is room for the allocator's own.
        let bound = CROWD * 256 * 1024;
        assert!(most - before < bound, "{} bytes more for {CROWD} clients", most - before);
    })
    .await;
    assert_eq!(status(&runner, "/hello").await, 200);
}

#[tokio::test]
async fn requests_find_their_module_by_host_and_path_over_both_versions_of_http() {
    let modules = [
        support::http("hello", 1, "max_restarting: 1", "routes: [{host: a.test}]"),
        support::http("test_http", 1, "max_restarting: 1", "routes: [{path: /headers}]"),
    ]
    .concat();
    let runner = Runner::start(&modules).await;
    let address: std::net::SocketAddr = runner.http_address.parse().unwrap();
    let builder = || {
        let builder = reqwest::Client::builder().no_proxy();
        builder.resolve("a.test", address).resolve("b.test", address)
    };
    for client in [builder(), builder().http2_prior_knowledge()] {
        let client = client.build().unwrap();
        let ask = async |host: &str, path: &str| {
            let response =
                client.get(format!("http://{host}:{}{path}", address.port())).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        assert_eq!(ask("a.test", "/headers").await, (200, "hello\n".to_owned()));
        let (status, told) = ask("b.test", "/headers?x=1").await;
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let authority = format!("b.test:{}", address.port());
        assert_eq!(
            (status, &told["target"], &told["authority"]),
            (200, &"/headers?x=1".into(), &authority.into())
        );
        assert_eq!(ask("b.test", "/headersx").await.0, 404);
    }
    let upper_case =
        client().get(format!("http://{address}/")).header("host", "A.Test").send().await.unwrap();
    assert_eq!(upper_case.text().await.unwrap(), "hello\n");
    let log = runner.process.says("path=\"/headers?x=1\"").await;
    assert!(log.contains("access"), "{log}");
}

#[tokio::test]
async fn a_head_request_of_a_guest_that_writes_a_body_all_the_same_is_answered_over_both_versions() {
    let modules = support::http("test_http", 1, "max_restarting: 1", "request_timeout: 2s");
    let runner = Runner::start(&modules).await;
    let http2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for client in [client(), &http2] {
        // Ten times what the host takes from a guest before somebody reads it.
        for path in ["/pattern?bytes=1000000&seed=1", "/pattern?bytes=1000000&seed=1&chunked", "/nowhere"] {
            let answer = client.head(format!("http://{}{path}", runner.http_address)).send().await.unwrap();
            let expected = if path == "/nowhere" { 404 } else { 200 };
            assert_eq!(answer.status(), expected, "{path}");
            assert!(answer.bytes().await.unwrap().is_empty());
        }
        let url = format!("http://{}/status?code=204", runner.http_address);
        assert_eq!(client.get(url).send().await.unwrap().status(), 204);
    }
    let scrape = runner.scrape().await;
    assert_eq!(scrape.sum("wasm_responses_truncated_total", &[]), 0.0);
    assert_eq!(scrape.sum("wasm_instance_restarts_total", &[]), 0.0, "no guest waited for a reader in vain");
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_though_no_guest_waits_for_it() {
    let runner = Runner::start_with_http("write_timeout: 1s", &modules()).await;
    beside_others(&runner, async || {
        // Answers of the runner's own, far more than the sockets' buffers hold; nobody reads them.
        let request = "GET /x HTTP/1.1\r\nhost: \r\n\r\n".repeat(1000);
        let mut client = Rude::say(&runner.http_address, "").await;
        wait::until("the runner has closed the connection", DEADLINE, async || {
            let sent = tokio::time::timeout(Duration::from_secs(5), client.send(request.as_bytes())).await;
            matches!(sent, Ok(Err(_))).then_some(())
        })
        .await;
    })
    .await;
}
