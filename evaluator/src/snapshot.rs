//! What the newest tick saw, published for metrics, API and page, which only read it.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use ebb_core::{
    decide::{exhaustion::Outlook, hold::Hold, judgement::Judgement},
    estimate::{growth::GrowthTrend, versions::Comparison},
    explain::explain,
    policy::{Learned, Rule},
};
use ebb_units::{Millis, Population};
use serde::Serialize;

/// One population.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PopulationSnapshot {
    /// Which.
    #[serde(flatten)]
    pub population: Population,
    /// How it is judged.
    pub rule: Rule,
    /// What was learned of it.
    #[serde(flatten)]
    pub learned: Learned,
    /// How its memory grows; none in its first tick.
    pub growth: Option<GrowthTrend>,
    /// Beside the binary before it, if this is its module's newest.
    pub comparison: Option<Comparison>,
    /// Live instances.
    pub instances: usize,
    /// Their linear memory together, in bytes.
    pub memory_bytes: u64,
    /// What restarting those above the threshold would give back, in bytes.
    pub reclaimable_bytes: u64,
    /// Until when its restarts are suspended because they did not help.
    pub suspended_until: Option<Millis>,
    /// Why no restart of this module is ordered.
    pub hold: Option<Hold>,
}

/// One tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Snapshot {
    /// When it was.
    pub at: Millis,
    /// Why no restart was ordered.
    pub hold: Option<Hold>,
    /// Whether restarts are decided but not carried out.
    pub dry_run: bool,
    /// Up to how many living instances each one's threshold is a series of its own.
    #[serde(skip)]
    pub instance_series: usize,
    /// Restarts that the budget would allow immediately.
    pub restarts_available: i64,
    /// Lifetimes in the history.
    pub lifetimes: usize,
    /// What restarts have saved at least since the evaluator was started, in byte-seconds, by module.
    pub saved_byte_seconds: BTreeMap<Arc<str>, f64>,
    /// When memory runs out, as far as that can be foreseen.
    #[serde(skip)]
    pub outlook: Arc<Outlook>,
    /// Each population, in order of module and digest.
    pub populations: Vec<PopulationSnapshot>,
    /// Each living instance, in order of module, digest, runner and replica.
    pub instances: Vec<Judgement>,
}

impl Snapshot {
    /// The population, if an instance of it lives or lived inside the window.
    pub(crate) fn population(&self, population: &Population) -> Option<&PopulationSnapshot> {
        let at = self.populations.binary_search_by(|known| known.population.cmp(population)).ok()?;
        self.populations.get(at)
    }

    /// Why this is said of an instance, in a sentence.
    pub(crate) fn explanation(&self, judgement: &Judgement) -> String {
        let population = self.population(&judgement.slot.population);
        let mut explanation = population
            .map_or_else(String::new, |snapshot| explain(&snapshot.rule, &snapshot.learned, judgement));
        if let Some(found) = self.outlook.instances.get(&judgement.slot) {
            explanation += &format!("; it reaches its limit {found}");
        }
        explanation
    }
}

/// The newest snapshot.
#[derive(Debug, Default)]
pub(crate) struct SnapshotCell(RwLock<Arc<Snapshot>>);

impl SnapshotCell {
    /// Replaces the snapshot.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
    }

    /// The newest snapshot; `at` 0 before the first tick.
    pub(crate) fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
