//! What the evaluator's API tells, gathered over the time of the demo.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use ebb_testbed::{evaluator::Evaluator, http, metrics::Scrape};
use ebb_units::ByteCount;
use serde::Deserialize;

/// One module as it is now.
#[derive(Debug, Default)]
pub(crate) struct Module {
    pub(crate) instances: u64,
    pub(crate) memory: ByteCount,
    pub(crate) memory_max: ByteCount,
    pub(crate) threshold: Option<ByteCount>,
    pub(crate) sample_size: u64,
    pub(crate) restarts: u64,
    pub(crate) memory_fell: u64,
    pub(crate) reclaimed: ByteCount,
}

/// Everything seen so far.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) modules: BTreeMap<String, Module>,
    pub(crate) decisions: Vec<Decision>,
    pub(crate) hold: Option<String>,
    /// Requests to the storage service, answered as they should be and not.
    pub(crate) served: u64,
    pub(crate) failed: u64,
}

/// A restart that was ordered.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Decision {
    pub(crate) module: String,
    pub(crate) replica: u32,
    pub(crate) instance: String,
    pub(crate) verdict: String,
    pub(crate) explanation: String,
    pub(crate) effect: Option<String>,
    pub(crate) memory_bytes_after: Option<u64>,
}

#[derive(Deserialize)]
struct Population {
    module: String,
    instances: u64,
    memory_bytes: u64,
    sample_size: u64,
    threshold: serde_json::Value,
}

#[derive(Deserialize)]
struct Status {
    hold: Option<serde_json::Value>,
}

impl Story {
    /// Reads on. What does not answer right now is read the next time.
    pub(crate) async fn read(&mut self, evaluator: &Evaluator) {
        let api = |path: &str| format!("http://{}/api/v1/{path}", evaluator.address);
        let populations = http::json(&api("modules")).await;
        let decisions = http::json(&api("decisions?action=restarted&limit=1000")).await;
        let status = http::json(&api("status")).await;
        let (Some(populations), Some(decisions), Some(status), Some(scrape)) =
            (populations, decisions, status, Scrape::of(&evaluator.address).await)
        else {
            return;
        };
        for population in serde_json::from_value::<Vec<Population>>(populations).unwrap_or_default() {
            self.modules.entry(population.module.clone()).or_default().update(&population, &scrape);
        }
        self.decisions = serde_json::from_value(decisions).unwrap_or_default();
        let hold = serde_json::from_value::<Status>(status).ok().and_then(|status| status.hold);
        self.hold = hold.and_then(|hold| hold["reason"].as_str().map(str::to_owned));
    }

    /// Whether an instance above its threshold was restarted and its memory was seen to fall.
    pub(crate) fn memory_fell_somewhere(&self) -> bool {
        self.decisions.iter().any(|decision| {
            decision.verdict == "above_threshold" && decision.effect.as_deref() == Some("memory_fell")
        })
    }

    /// What there was to see.
    pub(crate) fn summary(&self, elapsed: Duration) -> String {
        let mut text = format!("After {} s:\n\n", elapsed.as_secs());
        let _ = writeln!(
            text,
            "  {:<8} {:>9} {:>10} {:>10} {:>10} {:>9} {:>12} {:>12}",
            "module", "instances", "memory", "highest", "threshold", "restarts", "memory fell", "reclaimed"
        );
        for (name, module) in &self.modules {
            let _ = writeln!(
                text,
                "  {name:<8} {:>9} {:>10} {:>10} {:>10} {:>9} {:>12} {:>12}",
                module.instances,
                module.memory,
                module.memory_max,
                module.threshold.map_or_else(|| "none yet".to_owned(), |bytes| bytes.to_string()),
                module.restarts,
                module.memory_fell,
                module.reclaimed
            );
        }
        let _ =
            writeln!(text, "\nThe storage service: {} requests served, {} failed.", self.served, self.failed);
        let reclaimed = self.modules.values().map(|module| module.reclaimed.0).sum();
        let _ = writeln!(
            text,
            "{} restarts gave {} back. The last of them:",
            self.decisions.len(),
            ByteCount(reclaimed)
        );
        for decision in self.decisions.iter().take(3) {
            let _ = writeln!(text, "  {decision}");
        }
        text
    }
}

impl Module {
    fn update(&mut self, population: &Population, scrape: &Scrape) {
        let label = format!("module=\"{}\"", population.module);
        let count = |name: &str, more: &str| scrape.sum(name, &[&label, more]) as u64;
        self.instances = population.instances;
        self.memory = ByteCount(population.memory_bytes);
        self.memory_max = self.memory_max.max(self.memory);
        self.threshold = population.threshold["bytes"].as_f64().map(|bytes| ByteCount(bytes as u64));
        self.sample_size = population.sample_size;
        self.restarts = count("ebb_evaluator_restarts_total", "outcome=\"restarted\"");
        self.memory_fell = count("ebb_evaluator_effects_total", "effect=\"memory_fell\"");
        self.reclaimed = ByteCount(count("ebb_evaluator_reclaimed_bytes_total", ""));
    }
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} on {}: {}", self.module, self.replica, self.instance, self.explanation)?;
        match self.memory_bytes_after {
            Some(bytes) => write!(f, " → {}", ByteCount(bytes)),
            None => Ok(()),
        }
    }
}
