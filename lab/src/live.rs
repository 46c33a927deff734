//! The experiment on real instances: four runner processes, a real Prometheus, the evaluator; one arm after another,
//! the same guests with the same seeds, on an accelerated clock (scrapes and ticks once a second) or the paper's.
//!
//! | module | subject |
//! | --- | --- |
//! | [`arm`] | the fleets and the policies that are tried on them |
//! | [`measure`] | what Prometheus and the programs know of an arm → its figures |
//! | [`model`] | the same arms in the simulator |

pub(crate) mod arm;
pub(crate) mod measure;
pub(crate) mod model;

use std::time::Duration;

use ebb_testbed::{
    evaluator::Evaluator,
    prometheus::{Major, Prometheus},
    runner::Runner,
};
use serde::{Deserialize, Serialize};

use self::{
    arm::{Arm, Protocol},
    measure::{Counters, Measured},
};

/// What the experiment found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Live {
    /// Each protocol, with its arms.
    pub protocols: Vec<Tried>,
}

/// One protocol.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Tried {
    /// Its name.
    pub name: String,
    /// What it is, in a sentence.
    pub about: String,
    /// Seconds between two scrapes, and between two ticks.
    pub clock: u64,
    /// Length of each arm, in seconds.
    pub seconds: u64,
    /// Each arm, as measured.
    pub arms: Vec<Measured>,
    /// Cost of each arm in the simulator, by its name, in bytes; see [`Measured::cost_bytes`].
    pub simulated_cost_bytes: Vec<(String, f64)>,
}

/// Runs all arms of `protocol`, each for so many ticks.
///
/// # Panics
/// When a program cannot be started or does not answer.
pub(crate) async fn run(protocol: &Protocol, ticks: u64) -> Tried {
    let seconds = ticks * protocol.clock;
    let mut arms = Vec::new();
    for arm in &protocol.arms {
        eprintln!("{} / {}: {seconds} s", protocol.name, arm.name);
        arms.push(run_arm(protocol, arm, seconds).await);
    }
    Tried {
        name: protocol.name.to_owned(),
        about: protocol.about.to_owned(),
        clock: protocol.clock,
        seconds,
        arms,
        simulated_cost_bytes: model::costs(protocol, ticks),
    }
}

async fn run_arm(protocol: &Protocol, arm: &Arm, seconds: u64) -> Measured {
    let mut runners = Vec::new();
    for runner in 0..protocol.runners {
        runners.push(Runner::start_quiet(&protocol.modules(runner)).await);
    }
    let targets: Vec<&str> = runners.iter().map(|runner| runner.address.as_str()).collect();
    let evaluator_address = ebb_testbed::free_address();
    let prometheus = prometheus(protocol.clock, &targets, &evaluator_address).await;
    // Read last: what Prometheus takes is not the instances'.
    let available = measure::available_without_instances(&runners).await;
    let config = protocol.evaluator_config(arm, &prometheus.url, &targets, available);
    let evaluator = Evaluator::start_at(&evaluator_address, &config).await;
    let from = Counters::read(&runners, &evaluator).await;
    let threshold = measure::threshold_of_one(&runners[0], &evaluator, Duration::from_secs(seconds)).await;
    let to = Counters::read(&runners, &evaluator).await;
    let measured = measure::arm(protocol, arm, &prometheus.url, &runners, &evaluator, (&from, &to)).await;
    let measured = Measured { threshold, ..measured };
    drop((evaluator, prometheus, runners));
    measured
}

async fn prometheus(clock: u64, runners: &[&str], evaluator: &str) -> Prometheus {
    let quoted: Vec<String> = runners.iter().map(|runner| format!("\"{runner}\"")).collect();
    let config = format!(
        "global: {{scrape_interval: {clock}s, scrape_timeout: {clock}s}}\nscrape_configs:\n\
         - {{job_name: ebb-runner, static_configs: [{{targets: [{}]}}]}}\n\
         - {{job_name: ebb-evaluator, static_configs: [{{targets: [\"{evaluator}\"]}}]}}\n",
        quoted.join(", ")
    );
    Prometheus::start_with(Major::Three, &config, &[]).await
}
