//! PURE: restart above the upper end of a Student-t interval (Nakagawa & Kushida 2021).

use serde::{Deserialize, Serialize};

use crate::{rule::estimate::Estimate, units::ConfidenceLevel};

/// What the interval is an interval of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalKind {
    /// Of the population's mean: the paper. It narrows as lifetimes are added, until about half of the
    /// healthy instances lie above it; only `min_age` and the budget then hold restarts back.
    Confidence,
    /// Of one further lifetime: what a single instance may need.
    Prediction,
}

/// Restart above the upper end of an interval of the medians of all lifetimes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TInterval {
    /// What the interval is an interval of.
    pub interval: IntervalKind,
    /// Level 1 − α of the two-sided interval.
    pub confidence_level: ConfidenceLevel,
}

impl TInterval {
    /// The interval's upper end, in bytes.
    #[must_use]
    pub fn upper_bytes(&self, estimate: &Estimate) -> f64 {
        match self.interval {
            IntervalKind::Confidence => estimate.confidence_upper_bytes(self.confidence_level),
            IntervalKind::Prediction => estimate.prediction_upper_bytes(self.confidence_level),
        }
    }

    pub(super) fn describe(&self) -> String {
        let kind = match self.interval {
            IntervalKind::Confidence => "confidence",
            IntervalKind::Prediction => "prediction",
        };
        format!("upper end of the {kind} interval at level {}", self.confidence_level)
    }
}
