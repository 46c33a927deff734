//! What busy guests cost the others: latency of a module's requests beside guests that compute without a pause.
//!
//! | key | meaning |
//! | --- | --- |
//! | `p99_over_tick_endless_N` | 99th percentile of latency of `hello` beside N guests of kind `http`, each in a request that never ends, over the epoch tick |
//! | `p99_over_tick_requests_N` | the same beside N that are asked again and again for something that takes 50 ms of computing |
//! | `p99_over_tick_commands_N` | the same beside N commands that never rest |
//! | `p50_over_rest_…` | the median over the median beside nobody, in the same run |
//!
//! Requests come one after the other. Load tool and runner share the machine's processors.

use std::time::{Duration, Instant};

use ebb_testbed::{http::client, paths, runner::Runner, wait};

use crate::{
    report::{Aim, Report},
    statistics::{median, percentile},
};

const REQUESTS: usize = 1000;
/// `engine.epoch_tick`'s default.
const TICK_MS: f64 = 10.0;
const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::main]
pub(crate) async fn run() {
    let mut report = Report::new("fairness");
    let runner = Runner::start_quiet(&hello()).await;
    let rest = latencies_ms(&runner).await;
    drop(runner);
    report.figure("p50_ms_rest", median(rest.clone()));
    report.figure("p99_ms_rest", percentile(rest.clone(), 0.99));
    let rest = median(rest);
    for spinners in [1, 8, 64] {
        for kind in ["endless", "requests", "commands"] {
            let latencies = beside(kind, spinners).await;
            report.figure(format!("p50_over_rest_{kind}_{spinners}"), median(latencies.clone()) / rest);
            let p99 = percentile(latencies, 0.99) / TICK_MS;
            report.aimed_figure(format!("p99_over_tick_{kind}_{spinners}"), p99, Aim::AtMost(2.0));
        }
    }
    report.publish();
}

fn hello() -> String {
    let path = paths::guest("hello");
    format!(
        "  - name: hello\n    path: {}\n    kind: http\n    replicas: 2\n    http: {{routes: [{{host: hello}}]}}\n",
        path.display()
    )
}

/// Latencies of `hello`, in milliseconds, beside `spinners` that compute.
async fn beside(kind: &str, spinners: usize) -> Vec<f64> {
    let (path, more) = match kind {
        "commands" => (paths::wat("spin"), "kind: command"),
        _ => (paths::guest("test_http"), "kind: http\n    http: {request_timeout: 1h, queue_timeout: 1h}"),
    };
    let busy =
        format!("  - name: busy\n    path: {}\n    replicas: {spinners}\n    {more}\n", path.display());
    let runner = Runner::start_quiet(&[hello(), busy].concat()).await;
    let asked = match kind {
        "endless" => "/spin",
        _ => "/compute?ms=50",
    };
    let clients: Vec<_> = (0..if kind == "commands" { 0 } else { spinners })
        .map(|_| {
            let url = format!("http://{}{asked}", runner.http_address);
            tokio::spawn(async move { while client().get(&url).send().await.is_ok() {} })
        })
        .collect();
    wait::until("all are busy", DEADLINE, async || {
        let in_flight = runner.scrape().await.sum("wasm_requests_in_flight", &["module=\"busy\""]);
        (in_flight >= clients.len() as f64 * 0.5).then_some(())
    })
    .await;
    let latencies = latencies_ms(&runner).await;
    for client in clients {
        client.abort();
    }
    latencies
}

async fn latencies_ms(runner: &Runner) -> Vec<f64> {
    let url = format!("http://{}/", runner.http_address);
    let mut latencies = Vec::with_capacity(REQUESTS);
    for _ in 0..REQUESTS {
        let sent = Instant::now();
        let response = client().get(&url).header("host", "hello").send().await.expect("hello answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.bytes().await.expect("all of it").as_ref(), b"hello\n");
        latencies.push(sent.elapsed().as_secs_f64() * 1000.0);
    }
    latencies
}
