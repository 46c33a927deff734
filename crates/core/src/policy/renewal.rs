//! PURE: restart when the instance now costs more than its slot does on average, restart included.
//!
//! The memory of an instance never falls. So once it holds more than the long-run average cost of keeping the slot
//! running, going on can only raise that average, and restarting lowers it. For lifetimes that resemble each other
//! this is the best rule there is without knowing the future.
//!
//! Source: renewal reward; Ross, *Applied Probability Models with Optimization Applications* (1970), ch. 7: the
//! one-step-look-ahead rule is optimal in the monotone case.

use ebb_units::{Millis, RestartPrice};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    estimate::cost::{Others, PopulationCost, SlotCost},
    history::Slot,
};

/// Restart above the average cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Renewal {
    /// What a restart is worth.
    pub restart_price: RestartPrice,
    /// How far a slot's average is drawn towards its module's.
    pub pooling: Pooling,
}

/// How far a slot's average is drawn towards the average of the other slots of its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Not at all: each slot learns alone.
    Off,
    /// As far as the slots resemble each other: the more they differ beyond chance, the more each learns alone.
    Adaptive,
}

/// What the threshold of one slot rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CostBasis {
    /// Time for which the slot was observed, in seconds.
    pub observed_seconds: f64,
    /// Its average memory, in bytes.
    pub average_memory_bytes: f64,
    /// Of the life of the instance that lives there now, the seconds before it was first seen: they do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub unseen_seconds: f64,
    /// Its restarts in that time.
    pub restarts: u64,
    /// How often its memory fell without a restart in that time.
    #[serde(skip_serializing_if = "is_none")]
    pub falls: u64,
    /// Average cost of the population's other slots, in bytes.
    pub others_average_bytes: Option<f64>,
    /// For how many seconds of the slot's own time that average counts.
    pub others_weight_seconds: f64,
}

const fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

const fn is_none(count: &u64) -> bool {
    *count == 0
}

impl Renewal {
    /// What the population's slots cost. None when nothing was observed for any time.
    pub(super) fn learn<'a>(&self, slots: impl Iterator<Item = &'a Slot>) -> Option<PopulationCost> {
        PopulationCost::of(slots.filter_map(|slot| SlotCost::of(slot, self.restart_price)))
    }

    /// The size from which the instance in `slot` costs more than the average, in bytes; and what it rests on.
    pub(super) fn threshold(&self, population: &PopulationCost, slot: &Slot) -> Option<(f64, CostBasis)> {
        let own = SlotCost::of(slot, self.restart_price)?;
        let others = match self.pooling {
            Pooling::Off => None,
            Pooling::Adaptive => population.without(&own),
        };
        let prior = others.map(|others| {
            let weight = population.weight_seconds().unwrap_or(others.seconds);
            Others { seconds: weight.min(others.seconds), ..others }
        });
        let unseen_seconds = slot.newest().map_or(0.0, |newest| {
            let unseen = newest.counts_since().since(newest.started_at());
            Millis(unseen.max(0)).as_seconds()
        });
        let basis = CostBasis {
            unseen_seconds,
            observed_seconds: own.seconds(),
            average_memory_bytes: own.memory_byte_seconds() / own.seconds(),
            restarts: u64::from(own.restarts),
            falls: u64::from(own.falls),
            others_average_bytes: prior.map(|prior| prior.average_bytes),
            others_weight_seconds: prior.map_or(0.0, |prior| prior.seconds),
        };
        Some((own.average_bytes(prior), basis))
    }

    pub(super) fn describe(&self) -> String {
        let pooling = match self.pooling {
            Pooling::Off => "",
            Pooling::Adaptive => ", pooled with its module's",
        };
        format!("average cost at a restart price of {}{pooling}", self.restart_price)
    }
}
