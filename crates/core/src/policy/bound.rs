//! What an instance is compared with, and why there may be nothing to compare it with.

use serde::Serialize;

use super::verdict::Verdict;
use crate::estimate::{NoEstimate, cost::CostBasis};

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
            Self::Unavailable(_) => Verdict::TooFewLifetimes,
            Self::Bytes(_) | Self::NotSought => Verdict::NotObserved,
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
