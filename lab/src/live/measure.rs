//! What Prometheus and the programs know of an arm → its figures.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use ebb_core::estimate::Estimate;
use ebb_testbed::{evaluator::Evaluator, http, runner::Runner};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arm::{Arm, Kind, Protocol};

/// A value at each tick, from the arm's beginning: seconds, and what it was.
pub(crate) type Series = Vec<(f64, f64)>;

/// The figures of one arm.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// The arm's name.
    pub name: String,
    /// What it is.
    pub about: String,
    /// Linear memory of all instances together, at each tick, in bytes.
    pub memory: Series,
    /// Mean of it.
    pub mean_bytes: f64,
    /// Most of it.
    pub peak_bytes: f64,
    /// Linear memory of each module at each tick, in bytes.
    pub module_memory: BTreeMap<String, Series>,
    /// Linear memory of one leaking replica at each tick, in bytes.
    pub one_replica: Series,
    /// The threshold of that replica at each tick, in bytes.
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

/// The estimate of instances whose needs are known, relative to these: 0 is exact, 0.1 is a tenth too much.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Accuracy {
    /// The mean of the needs, in bytes.
    pub mean_need_bytes: f64,
    /// The largest of the needs, in bytes.
    pub largest_need_bytes: f64,
    /// Lifetimes in the sample.
    pub lifetimes: u64,
    /// Mean of the medians, to the mean of the needs.
    pub mean: f64,
    /// Upper end of the confidence interval at level 0.95, to the mean of the needs: it is meant to lie above.
    pub confidence: f64,
    /// Upper end of the prediction interval at level 0.95, to the largest need: it is meant to lie above.
    pub prediction: f64,
}

/// What the programs had counted at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    at: f64,
    runners_cpu: f64,
    evaluator_cpu: f64,
    /// Restarts of each module that the evaluator ordered.
    restarts: BTreeMap<String, f64>,
    reclaimed_bytes: f64,
    restart_seconds: f64,
    restarts_timed: f64,
}

impl Counters {
    /// Reads them.
    ///
    /// # Panics
    /// When a program does not answer.
    pub(crate) async fn read(runners: &[Runner], evaluator: &Evaluator) -> Self {
        let mut counters = Self {
            at: now(),
            runners_cpu: 0.0,
            evaluator_cpu: evaluator.scrape().await.sum(CPU, &[]),
            restarts: BTreeMap::new(),
            reclaimed_bytes: 0.0,
            restart_seconds: 0.0,
            restarts_timed: 0.0,
        };
        for runner in runners {
            let scrape = runner.scrape().await;
            counters.runners_cpu += scrape.sum(CPU, &[]);
            counters.reclaimed_bytes += scrape.sum("wasm_restart_reclaimed_bytes_total", &[]);
            counters.restart_seconds += scrape.sum("wasm_restart_duration_seconds_sum", &[]);
            counters.restarts_timed += scrape.sum("wasm_restart_duration_seconds_count", &[]);
            for module in MODULES {
                let ordered = ["threshold", "pressure"].map(|reason| {
                    let labels = [format!("module=\"{module}\""), format!("reason=\"{reason}\"")];
                    scrape.sum("wasm_instance_restarts_total", &labels.each_ref().map(String::as_str))
                });
                *counters.restarts.entry((*module).to_owned()).or_default() += ordered.iter().sum::<f64>();
            }
        }
        counters
    }
}

const CPU: &str = "process_cpu_seconds_total";

/// The modules of all protocols.
const MODULES: &[&str] = &["leaky", "steady", "bursty"];

/// Seconds since the Unix epoch.
///
/// # Panics
/// When the clock is before 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970").as_secs_f64()
}

/// What would be available on the host if no instance took any memory, in bytes.
///
/// # Panics
/// When a runner does not answer.
pub(crate) async fn available_without_instances(runners: &[Runner]) -> u64 {
    let (mut available, mut taken) = (f64::INFINITY, 0.0);
    for runner in runners {
        let scrape = runner.scrape().await;
        let told = scrape.one("ebb_runner_host_memory_available_bytes", &[]);
        available = available.min(told.expect("the runner tells its host's memory"));
        taken += scrape.sum("wasm_linear_memory_bytes", &[]);
    }
    (available + taken) as u64
}

/// Lets an arm run for `time`, and tells what the first leaking replica of `runner` was compared with each second: with
/// some policies each has a threshold of its own.
pub(crate) async fn threshold_of_one(runner: &Runner, evaluator: &Evaluator, time: Duration) -> Series {
    let began = Instant::now();
    let mut series = Series::new();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    while began.elapsed() < time {
        seconds.tick().await;
        let instances = evaluator.api("instances?module=leaky").await;
        let is_it = |one: &&Value| one["instance"] == runner.address.as_str() && one["replica"] == 0;
        let threshold = instances.as_array().and_then(|all| all.iter().find(is_it));
        if let Some(bytes) = threshold.and_then(|one| one["threshold_bytes"].as_f64()) {
            series.push((began.elapsed().as_secs_f64(), bytes));
        }
    }
    series
}

/// Measures an arm that ran between the readings `from` and `to`.
///
/// # Panics
/// When a program does not answer.
pub(crate) async fn arm(
    protocol: &Protocol,
    arm: &Arm,
    prometheus: &str,
    runners: &[Runner],
    evaluator: &Evaluator,
    (from, to): (&Counters, &Counters),
) -> Measured {
    let store = Store { url: prometheus, from: from.at, to: to.at, step: protocol.clock };
    let seconds = to.at - from.at;
    let memory = store.one("sum(wasm_linear_memory_bytes)").await;
    let mut measured = Measured {
        name: arm.name.to_owned(),
        about: arm.about.to_owned(),
        mean_bytes: mean(&memory),
        peak_bytes: most(&memory),
        memory,
        runners_cpu: (to.runners_cpu - from.runners_cpu) / seconds,
        evaluator_cpu: (to.evaluator_cpu - from.evaluator_cpu) / seconds,
        reclaimed_bytes: to.reclaimed_bytes - from.reclaimed_bytes,
        accuracy: accuracy(protocol, &evaluator.api("modules").await),
        uptimes: store.uptimes("leaky").await,
        ..Measured::default()
    };
    for guests in &protocol.guests {
        let name = guests.kind.name();
        let series = store.one(&format!("sum(wasm_linear_memory_bytes{{module=\"{name}\"}})")).await;
        measured.module_memory.insert(name.to_owned(), series);
        measured.restarts.insert(name.to_owned(), to.restarts[name] - from.restarts[name]);
    }
    let replica = format!("module=\"leaky\",replica=\"0\",instance=\"{}\"", runners[0].address);
    measured.one_replica = store.one(&format!("sum(wasm_linear_memory_bytes{{{replica}}})")).await;
    let available = store.one("min(ebb_runner_host_memory_available_bytes)").await;
    if let (Some(first), Some(last)) = (available.first(), available.last()) {
        measured.host_change_bytes = first.1 - last.1;
        let least = available.iter().map(|(_, bytes)| *bytes).fold(f64::INFINITY, f64::min);
        measured.host_peak_bytes = first.1 - least;
    }
    let timed = to.restarts_timed - from.restarts_timed;
    measured.restart_seconds = (timed > 0.0).then(|| (to.restart_seconds - from.restart_seconds) / timed);
    let price = protocol.price(protocol.clock);
    let restarts: f64 = measured.restarts.values().sum();
    measured.cost_bytes = measured.mean_bytes + price.byte_seconds() * restarts / seconds;
    measured
}

fn accuracy(protocol: &Protocol, modules: &Value) -> Option<Accuracy> {
    let needs: Vec<f64> = protocol.guests.iter().find_map(|guests| match guests.kind {
        Kind::Steady { required_bytes, more_bytes, .. } => {
            let need = |replica| (required_bytes + more_bytes * u64::from(replica)) as f64;
            Some((0..guests.replicas).map(need).collect())
        }
        Kind::Leaky { .. } | Kind::Bursty { .. } => None,
    })?;
    let mean_need_bytes = needs.iter().sum::<f64>() / needs.len() as f64;
    let largest_need_bytes = needs.iter().copied().fold(0.0, f64::max);
    let steady = modules.as_array()?.iter().find(|module| module["module"] == "steady")?;
    let estimate = Estimate {
        lifetimes: steady["lifetimes"].as_u64()?,
        mean_bytes: steady["mean_bytes"].as_f64()?,
        stddev_bytes: steady["stddev_bytes"].as_f64()?,
    };
    let level = 0.95.try_into().expect("a level");
    Some(Accuracy {
        mean_need_bytes,
        largest_need_bytes,
        lifetimes: estimate.lifetimes,
        mean: estimate.mean_bytes / mean_need_bytes - 1.0,
        confidence: estimate.confidence_upper_bytes(level) / mean_need_bytes - 1.0,
        prediction: estimate.prediction_upper_bytes(level) / largest_need_bytes - 1.0,
    })
}

/// A Prometheus and the time of an arm.
struct Store<'a> {
    url: &'a str,
    from: f64,
    to: f64,
    /// Seconds between two values.
    step: u64,
}

impl Store<'_> {
    /// The one series that `query` gives at each tick; empty when it gives none.
    async fn one(&self, query: &str) -> Series {
        self.all(query).await.into_iter().next().unwrap_or_default()
    }

    async fn all(&self, query: &str) -> Vec<Series> {
        let (start, end, step) = (self.from.to_string(), self.to.to_string(), self.step.to_string());
        let parameters = [("query", query), ("start", &start), ("end", &end), ("step", &step)];
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

fn mean(series: &Series) -> f64 {
    series.iter().map(|(_, value)| value).sum::<f64>() / series.len().max(1) as f64
}

fn most(series: &Series) -> f64 {
    series.iter().map(|(_, value)| *value).fold(0.0, f64::max)
}
