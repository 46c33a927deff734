//! Apps that no one of this project wrote, and apps in other languages, run unchanged.

use ebb_testbed::{
    http::{self, client},
    paths,
    runner::Runner,
    wait,
};
use serde_json::Value;

use crate::support::{self, DEADLINE};

/// One module with the foreign app `name`, for the host of the same name.
fn app(name: &str, replicas: u64) -> String {
    let more = "memory_limit: 256MiB\n    start_timeout: 60s";
    support::http_app(name, &paths::foreign(name), replicas, more, &format!("routes: [{{host: {name}}}]"))
}

async fn ask(runner: &Runner, app: &str, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
    let url = format!("http://{}{path}", runner.http_address);
    let response = client().post(url).header("host", app).body(body).send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.text().await.unwrap())
}

#[tokio::test]
async fn published_samples_of_wasi_http_behave() {
    let runner = Runner::start(&[app("wasip2", 1), app("wasip3", 1), app("wstd", 1)].concat()).await;
    for _ in 0..50 {
        assert_eq!(ask(&runner, "wasip2", "/", "").await, (200, "Hello, WASI!".to_owned()));
        assert_eq!(ask(&runner, "wasip3", "/", "").await, (200, "Hello, WASI!".to_owned()));
        let home = "Hello, wasi:http/proxy world!\n".to_owned();
        assert_eq!(ask(&runner, "wstd", "/", "").await, (200, home));
    }
    let echoed = "x".repeat(1 << 20);
    assert_eq!(ask(&runner, "wstd", "/echo", echoed.clone()).await, (200, echoed));
    let (status, streamed) = ask(&runner, "wstd", "/stream-body", "").await;
    assert_eq!((status, streamed.lines().count()), (200, 5), "{streamed}");
    assert_eq!(ask(&runner, "wstd", "/nowhere", "").await.0, 404);
    assert_eq!(ask(&runner, "wstd", "/response-fail", "").await.0, 502, "an error instead of a response");
    assert_eq!(ask(&runner, "wstd", "/", "").await.0, 200);
    let scrape = runner.scrape().await;
    assert_eq!(
        scrape.sum("wasm_instance_restarts_total", &[]),
        0.0,
        "each instance served all of its requests"
    );
    for name in ["wasip2", "wasip3", "wstd"] {
        assert_eq!(ask_restart(&runner, name).await, 200);
        assert_eq!(ask(&runner, name, "/", "").await.0, 200);
    }
}

async fn ask_restart(runner: &Runner, name: &str) -> u16 {
    runner.restart(name, 0).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn python_and_javascript_live_on_swell_and_are_restarted() {
    let runner = Runner::start(&[app("python", 1), app("javascript", 1)].concat()).await;
    for begun in 1..=20 {
        for (name, language) in [("python", "Python"), ("javascript", "JavaScript")] {
            let (status, told) = ask(&runner, name, "/some/path", "body").await;
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(
                (status, &told["language"], &told["path"], &told["begun"]),
                (200, &language.into(), &"/some/path".into(), &begun.into())
            );
        }
    }
    let held = async |name: &str| {
        let label = format!("module=\"{name}\"");
        runner.scrape().await.one("wasm_linear_memory_bytes", &[&label]).unwrap()
    };
    let before = held("python").await;
    let swollen = vec![b'x'; 30 << 20];
    let (status, told) = ask(&runner, "python", "/keep", swollen).await;
    assert_eq!(status, 200, "{told}");
    assert!(held("python").await >= before + (25 << 20) as f64, "what it keeps is seen");
    let growth =
        http::json(&format!("http://{}/api/v1/modules/python/growth", runner.address)).await.unwrap();
    let (grown, requests, functions) = (&growth[0]["bytes"], &growth[0]["requests"], &growth[0]["functions"]);
    assert_eq!(
        (&requests[0]["method"], &requests[0]["route"]),
        (&"POST".into(), &"/keep".into()),
        "{requests}"
    );
    assert!(
        requests[0]["bytes"].as_u64().unwrap() * 100 >= grown.as_u64().unwrap() * 98,
        "{requests} of {grown}"
    );
    // Those of the interpreter: nobody else has names.
    let is_told = |name: &str| functions.as_array().unwrap().iter().any(|told| told["function"] == name);
    assert!(is_told("PyBytes_FromStringAndSize"), "{functions}");
    let (status, restarted) = http::answer(runner.restart("python", 0)).await;
    assert_eq!(status, 200, "{restarted}");
    assert!(restarted["reclaimed_bytes"].as_u64().unwrap() >= 25 << 20, "{restarted}");
    let (_, told) = ask(&runner, "python", "/", "").await;
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["begun"], 1, "a fresh instance");
}

#[tokio::test]
async fn an_app_that_can_answer_once_only_is_told_apart_from_a_crash() {
    let runner = Runner::start(&app("fetch-event", 1)).await;
    assert_eq!(ask(&runner, "fetch-event", "/", "").await, (200, "answered by a fetch event\n".to_owned()));
    let (status, text) = ask(&runner, "fetch-event", "/", "").await;
    assert_eq!(status, 502, "{text}");
    wait::until("the log says what to do about it", DEADLINE, async || {
        runner.process.log().contains("can serve one request only").then_some(())
    })
    .await;
    assert_eq!(ask(&runner, "fetch-event", "/", "").await.0, 200, "the next request finds a fresh instance");
}
