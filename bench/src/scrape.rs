//! What a scrape of a large runner costs: our `/metrics` against the least that can be done with the same
//! library and the same HTTP stack.
//!
//! | key | meaning |
//! | --- | --- |
//! | `scrape_seconds_10k` | one `GET /metrics` of a runner with 10,000 instances, median |
//! | `scrape_over_collector_10k` | over a bare prometheus-client `Collector` of the same series, held in a vector |
//! | `scrape_over_memcpy_10k` | over copying the answer's bytes once |

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::State, routing::get};
use ebb_testbed::{http, paths, runner::Runner, wait};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tokio::net::TcpListener;

use crate::{
    report::{Aim, Report},
    statistics::median,
};

const INSTANCES: u32 = 10_000;
const ROUNDS: usize = 40;

#[tokio::main]
pub(crate) async fn run() {
    let runner = Runner::start(&format!(
        "  - name: idle\n    path: {}\n    kind: command\n    replicas: {INSTANCES}\n    memory_limit: 1MiB\n",
        paths::wat("idle").display()
    ))
    .await;
    wait::until("all instances are up", Duration::from_secs(60), async || {
        (runner.scrape().await.sum("wasm_instance_up", &[]) == f64::from(INSTANCES)).then_some(())
    })
    .await;
    let exposition = openmetrics(&runner.address).await.0;
    let peer = serve(Series::parse(&exposition)).await;

    let (mut ours, mut theirs, mut copies) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(openmetrics(&runner.address).await.1);
        theirs.push(openmetrics(&peer).await.1);
        copies.push(copy(&exposition));
    }
    let (ours, theirs, copy) = (median(ours), median(theirs), median(copies));
    let mut report = Report::new("scrape");
    report.figure("series_10k", exposition.lines().filter(|line| !line.starts_with('#')).count() as f64);
    report.figure("exposition_bytes_10k", exposition.len() as f64);
    report.figure("scrape_seconds_10k", ours);
    report.figure("collector_seconds_10k", theirs);
    report.figure("memcpy_seconds_10k", copy);
    report.ratio("scrape_over_collector_10k", ours / theirs, Some(Aim::AtMost(1.2)));
    report.ratio("scrape_over_memcpy_10k", ours / copy, None);
    report.publish();
}

/// The exposition in OpenMetrics, and how many seconds it took.
async fn openmetrics(address: &str) -> (String, f64) {
    let request = http::client()
        .get(format!("http://{address}/metrics"))
        .header("Accept", "application/openmetrics-text;version=1.0.0");
    let started = Instant::now();
    let response = request.send().await.expect("the program answers a scrape");
    let text = response.text().await.expect("an exposition is text");
    (text, started.elapsed().as_secs_f64())
}

fn copy(exposition: &str) -> f64 {
    let started = Instant::now();
    let copied = std::hint::black_box(exposition.to_owned());
    let seconds = started.elapsed().as_secs_f64();
    drop(copied);
    seconds
}

/// All series of one exposition, ready to be written again.
#[derive(Debug)]
struct Series(Vec<Family>);

#[derive(Debug)]
struct Family {
    name: String,
    help: String,
    kind: MetricType,
    samples: Vec<(Vec<(String, String)>, f64)>,
}

impl Series {
    /// Gauges and counters; the few histograms among thousands of series are left out.
    fn parse(exposition: &str) -> Self {
        let mut families: Vec<Family> = Vec::new();
        let mut help = String::new();
        for line in exposition.lines() {
            if let Some(text) = line.strip_prefix("# HELP ") {
                help = text
                    .split_once(' ')
                    .map(|(_, help)| help.trim_end_matches('.').to_owned())
                    .unwrap_or_default();
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|text| text.split_once(' '))
            {
                let kind = if kind == "counter" { MetricType::Counter } else { MetricType::Gauge };
                families.push(Family {
                    name: name.to_owned(),
                    help: help.clone(),
                    kind,
                    samples: Vec::new(),
                });
            } else if let Some((labels, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))
                && let Some(family) = families.last_mut()
            {
                family
                    .samples
                    .push((parse_labels(labels), value.parse().expect("a sample ends in a number")));
            }
        }
        Self(families)
    }
}

/// `name{a="1",b="2"}` → the pairs. The runner's own values hold no quotes and commas.
fn parse_labels(text: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = text.split_once('{') else { return Vec::new() };
    let pairs = rest.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    pairs.map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned())).collect()
}

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let mut encoder = encoder.encode_descriptor(&family.name, &family.help, None, family.kind)?;
            for (labels, value) in &family.samples {
                let encoder = encoder.encode_family(labels)?;
                match family.kind {
                    MetricType::Counter => ConstCounter::new(*value).encode(encoder)?,
                    _ => ConstGauge::new(*value).encode(encoder)?,
                }
            }
        }
        Ok(())
    }
}

/// Serves a bare collector of `series`; returns its address.
async fn serve(series: Series) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(series));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound listener has an address").to_string();
    let router = Router::new().route("/metrics", get(bare)).with_state(Arc::new(registry));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn bare(State(registry): State<Arc<Registry>>) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("writing to a string never fails");
    text
}
