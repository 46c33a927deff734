//! What Prometheus and the programs know of an arm → its figures.

use std::{collections::BTreeMap, time::SystemTime};

use ebb_evaluator::{rule::estimate::Estimate, units::RestartPrice};
use ebb_testbed::{evaluator::Evaluator, http, metrics::Scrape, runner::Runner};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arm::{Arm, Kind, Protocol};

/// A value at each second, from the arm's beginning.
pub type Series = Vec<(f64, f64)>;

/// The figures of one arm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The arm's name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// Linear memory of all instances together, at each second, in bytes.
    pub memory: Series,
    /// Mean of it.
    pub mean_bytes: f64,
    /// Most of it.
    pub peak_bytes: f64,
    /// Linear memory of each module at each second, in bytes.
    pub module_memory: BTreeMap<String, Series>,
    /// Linear memory of one leaking replica at each second, in bytes.
    pub one_replica: Series,
    /// The threshold of the leaking module at each second, in bytes.
    pub threshold: Series,
    /// Memory in use on the host at the end, less at the beginning, in bytes.
    pub host_change_bytes: f64,
    /// Most of that change at any time, in bytes.
    pub host_peak_bytes: f64,
    /// Processor seconds per second of the runners together.
    pub runners_cpu: f64,
    /// Processor seconds per second of the evaluator.
    pub evaluator_cpu: f64,
    /// Restarts of each module.
    pub restarts: BTreeMap<String, f64>,
    /// Bytes that these gave back.
    pub reclaimed_bytes: f64,
    /// Mean time of a restart, start of the new instance included, in seconds. None without restarts.
    pub restart_seconds: Option<f64>,
    /// Uptimes of the instances of the leaking module, those that lived at the end included, in seconds.
    pub uptimes: Vec<f64>,
    /// How close the estimate comes to the known need.
    pub accuracy: Option<Accuracy>,
    /// Mean memory plus the price of the restarts over time, in bytes: one figure for both.
    pub cost_bytes: f64,
}

/// The estimate of instances whose need is known, relative to that need: 0 is exact, 0.1 is a tenth too much.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Accuracy {
    /// The need, in bytes.
    pub need_bytes: f64,
    /// Lifetimes in the sample.
    pub lifetimes: u64,
    /// Mean of the medians.
    pub mean: f64,
    /// Upper end of the confidence interval at level 0.95.
    pub confidence: f64,
    /// Upper end of the prediction interval at level 0.95.
    pub prediction: f64,
}

/// Seconds since the Unix epoch.
///
/// # Panics
/// When the clock is before 1970.
#[must_use]
pub fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs_f64()
}

/// What is available on the host of the runner at `address`, in bytes.
///
/// # Panics
/// When it does not answer.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub async fn available_bytes(address: &str) -> u64 {
    let scrape = Scrape::of(address).await.expect("the runner answers a scrape");
    scrape.one("ebb_runner_host_memory_available_bytes", &[]).expect("the runner tells its host's memory")
        as u64
}

/// Measures an arm that ran from `from` to `to`.
///
/// # Panics
/// When a program does not answer.
pub async fn arm(
    protocol: &Protocol,
    arm: &Arm,
    prometheus: &str,
    runners: &[Runner],
    evaluator: &Evaluator,
    from: f64,
    to: f64,
) -> Measured {
    let store = Store { url: prometheus, from, to };
    let memory = store.one("sum(wasm_linear_memory_bytes)").await;
    let mut measured = Measured {
        name: arm.name.to_owned(),
        about: arm.about.to_owned(),
        mean_bytes: mean(&memory),
        peak_bytes: most(&memory),
        memory,
        ..Measured::default()
    };
    for guests in &protocol.guests {
        let name = guests.kind.name();
        let series = store.one(&format!("sum(wasm_linear_memory_bytes{{module=\"{name}\"}})")).await;
        measured.module_memory.insert(name.to_owned(), series);
        let mut restarts = 0.0;
        for runner in runners {
            let scrape = runner.scrape().await;
            let module = format!("module=\"{name}\"");
            for reason in ["threshold", "pressure"] {
                restarts +=
                    scrape.sum("wasm_instance_restarts_total", &[&module, &format!("reason=\"{reason}\"")]);
            }
        }
        measured.restarts.insert(name.to_owned(), restarts);
    }
    measured.one_replica = store
        .one(&format!(
            "sum(wasm_linear_memory_bytes{{module=\"leaky\",replica=\"0\",instance=\"{}\"}})",
            runners[0].address
        ))
        .await;
    measured.threshold = store.one("max(ebb_evaluator_threshold_bytes{module=\"leaky\"})").await;
    let available = store.one("min(ebb_runner_host_memory_available_bytes)").await;
    if let (Some(first), Some(last)) = (available.first(), available.last()) {
        measured.host_change_bytes = first.1 - last.1;
        let least = available.iter().map(|(_, bytes)| *bytes).fold(f64::INFINITY, f64::min);
        measured.host_peak_bytes = first.1 - least;
    }
    measured.uptimes = store.uptimes("leaky").await;
    let (mut cpu, mut seconds, mut count) = (0.0, 0.0, 0.0);
    for runner in runners {
        let scrape = runner.scrape().await;
        cpu += scrape.sum("process_cpu_seconds_total", &[]);
        seconds += scrape.sum("wasm_restart_duration_seconds_sum", &[]);
        count += scrape.sum("wasm_restart_duration_seconds_count", &[]);
        measured.reclaimed_bytes += scrape.sum("wasm_restart_reclaimed_bytes_total", &[]);
    }
    measured.runners_cpu = cpu / (to - from);
    measured.evaluator_cpu = evaluator.scrape().await.sum("process_cpu_seconds_total", &[]) / (to - from);
    measured.restart_seconds = (count > 0.0).then(|| seconds / count);
    measured.accuracy = accuracy(protocol, &evaluator.api("modules").await);
    let price: RestartPrice = protocol.restart_price.parse().expect("a price");
    let restarts: f64 = measured.restarts.values().sum();
    measured.cost_bytes = measured.mean_bytes + price.byte_seconds() * restarts / (to - from);
    measured
}

fn accuracy(protocol: &Protocol, modules: &Value) -> Option<Accuracy> {
    let need = protocol.guests.iter().find_map(|guests| match guests.kind {
        Kind::Steady { required_bytes } => Some(required_bytes),
        Kind::Leaky { .. } | Kind::Bursty { .. } => None,
    })?;
    #[allow(clippy::cast_precision_loss)]
    let need = need as f64;
    let steady = modules.as_array()?.iter().find(|module| module["module"] == "steady")?;
    let estimate = Estimate {
        lifetimes: steady["lifetimes"].as_u64()?,
        mean_bytes: steady["mean_bytes"].as_f64()?,
        stddev_bytes: steady["stddev_bytes"].as_f64()?,
    };
    let level = 0.95.try_into().expect("a level");
    let error = |bytes: f64| bytes / need - 1.0;
    Some(Accuracy {
        need_bytes: need,
        lifetimes: estimate.lifetimes,
        mean: error(estimate.mean_bytes),
        confidence: error(estimate.confidence_upper_bytes(level)),
        prediction: error(estimate.prediction_upper_bytes(level)),
    })
}

/// A Prometheus and the time of an arm.
struct Store<'a> {
    url: &'a str,
    from: f64,
    to: f64,
}

impl Store<'_> {
    /// The one series that `query` gives at each second; empty when it gives none.
    async fn one(&self, query: &str) -> Series {
        self.all(query).await.into_iter().next().unwrap_or_default()
    }

    async fn all(&self, query: &str) -> Vec<Series> {
        let (start, end) = (self.from.to_string(), self.to.to_string());
        let parameters = [("query", query), ("start", &start), ("end", &end), ("step", "1")];
        let request = http::client().get(format!("{}/api/v1/query_range", self.url)).query(&parameters);
        let (status, answer) = http::answer(request).await;
        assert_eq!(status, 200, "{query}: {answer}");
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
        let series = |one: &Value| -> Series {
            let values = one["values"].as_array().map_or(&[][..], Vec::as_slice);
            values
                .iter()
                .filter_map(|pair| Some((pair[0].as_f64()? - self.from, number(&pair[1])?)))
                .collect()
        };
        answer["data"]["result"].as_array().map_or(&[][..], Vec::as_slice).iter().map(series).collect()
    }

    /// How long each instance of `module` was up, those that live at the end included.
    async fn uptimes(&self, module: &str) -> Vec<f64> {
        let mut uptimes = Vec::new();
        for starts in self.all(&format!("wasm_instance_start_time_seconds{{module=\"{module}\"}}")).await {
            let mut starts: Vec<f64> = starts.into_iter().map(|(_, start)| start).collect();
            starts.dedup();
            uptimes.extend(starts.windows(2).map(|pair| pair[1] - pair[0]));
            uptimes.extend(starts.last().map(|start| self.to - start));
        }
        uptimes
    }
}

#[allow(clippy::cast_precision_loss)]
fn mean(series: &Series) -> f64 {
    series.iter().map(|(_, value)| value).sum::<f64>() / series.len().max(1) as f64
}

fn most(series: &Series) -> f64 {
    series.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}
