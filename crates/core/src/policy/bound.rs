//! What an instance is compared with, and why there may be nothing to compare it with.

use ebb_units::Millis;
use serde::Serialize;

use super::verdict::Verdict;
use crate::estimate::{NoEstimate, rhythm::Rhythm};

/// The size above which instances are restarted, or why there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// Bytes; an instance that holds more is restarted.
    Bytes(f64),
    /// The sample does not support one.
    Unavailable(NoEstimate),
    /// The policy has none.
    #[default]
    NotSought,
}

impl Threshold {
    /// The size, if there is one.
    #[must_use]
    pub const fn bytes(self) -> Option<f64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Unavailable(_) | Self::NotSought => None,
        }
    }

    /// What is said of an instance for which the policy that learned this has no bound.
    pub(super) const fn verdict_without_bound(self) -> Verdict {
        match self {
            Self::Unavailable(NoEstimate::TooFewLifetimes { .. } | NoEstimate::NotSizesOfMemory) => {
                Verdict::TooFewLifetimes
            }
            Self::Unavailable(NoEstimate::Baseline { .. }) | Self::Bytes(_) | Self::NotSought => {
                Verdict::NotObserved
            }
        }
    }
}

/// What one instance is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Bound {
    /// The size above which it is restarted, in bytes.
    pub threshold_bytes: Option<f64>,
    /// The confidence level, where the policy has one.
    pub confidence_level: Option<f64>,
    /// Its growth in bytes per second, where the policy looks at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slope: Option<f64>,
    /// The costs that the threshold rests on, where it rests on costs.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) cost: Option<CostBasis>,
}

impl Bound {
    /// The size above which it would be restarted at another time of day, in bytes, as far as is known now.
    #[must_use]
    pub fn threshold_bytes_at(&self, at: Millis) -> Option<f64> {
        let rhythm = self.cost.and_then(|cost| cost.rhythm);
        rhythm.map(|rhythm| rhythm.threshold_bytes(at)).or(self.threshold_bytes)
    }
}

/// What the threshold of one slot rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct CostBasis {
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
    /// How it follows the time of day, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rhythm: Option<Rhythm>,
}

const fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

const fn is_none(count: &u64) -> bool {
    *count == 0
}
