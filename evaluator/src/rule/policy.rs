//! PURE: the policies, one file each, and the guard rails that hold for all of them.

mod t_interval;

use ebb_service::units::{ByteCount, Span};
use serde::{Deserialize, Serialize};

pub use self::t_interval::{IntervalKind, TInterval};
use super::estimate::{Estimate, MedianSample, NoEstimate};
use crate::history::Lifetime;

/// Above which size an instance is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Above the upper end of a Student-t interval of the medians of all lifetimes.
    TInterval(TInterval),
    /// Never, but for the guard rail `max_bytes`.
    None,
}

/// What holds whatever the policy is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GuardRails {
    /// Younger instances are neither restarted nor counted in the sample.
    pub min_age: Span,
    /// With fewer lifetimes in the sample nothing is restarted.
    pub min_lifetimes: u64,
    /// Above this an instance is restarted whatever the policy says.
    pub max_bytes: Option<ByteCount>,
    /// Where a restart would give back less, nothing is restarted.
    pub min_reclaim: ByteCount,
}

/// All that decides about the instances of one module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Above which size.
    pub policy: Policy,
    /// And what holds in any case.
    #[serde(flatten)]
    pub guard_rails: GuardRails,
}

/// What was learned of one population.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Learned {
    /// Lifetimes that count: old enough, and with samples inside the window.
    pub sample_size: u64,
    /// Mean and deviation of their medians.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
    /// The size above which instances are restarted, or why there is none.
    pub threshold: Threshold,
    /// The least size that a start of this population was seen with: what a restart goes back to. None while
    /// no lifetime was seen from its start.
    pub fresh_bytes: Option<u64>,
}

/// The size above which instances are restarted, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// Bytes; an instance that holds more is restarted.
    Bytes(f64),
    /// The sample does not support one.
    Unavailable(NoEstimate),
    /// The policy has none.
    NotSought,
}

impl Rule {
    /// Learns from `lifetimes` of one population, over and living alike.
    pub fn learn<'a>(&self, lifetimes: impl Iterator<Item = &'a Lifetime>) -> Learned {
        let min_age = self.guard_rails.min_age.as_millis();
        let mut sample = MedianSample::default();
        let mut fresh_bytes: Option<u64> = None;
        for lifetime in lifetimes {
            if lifetime.seen_from_start() {
                let first = lifetime.first_bytes();
                fresh_bytes = Some(fresh_bytes.map_or(first, |least| least.min(first)));
            }
            if lifetime.age_millis() >= min_age {
                sample.push(lifetime.doubled_median());
            }
        }
        let estimate = sample.estimate(self.guard_rails.min_lifetimes);
        let threshold = match (self.policy, estimate) {
            (Policy::None, _) => Threshold::NotSought,
            (Policy::TInterval(policy), Ok(estimate)) => Threshold::Bytes(policy.upper_bytes(&estimate)),
            (Policy::TInterval(_), Err(reason)) => Threshold::Unavailable(reason),
        };
        Learned { sample_size: sample.lifetimes(), estimate: estimate.ok(), threshold, fresh_bytes }
    }

    /// The policy in words, for explanations: `upper end of the prediction interval at level 0.99`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self.policy {
            Policy::TInterval(policy) => policy.describe(),
            Policy::None => "policy none".to_owned(),
        }
    }

    /// The confidence level, if the policy has one.
    #[must_use]
    pub const fn confidence_level(&self) -> Option<f64> {
        match self.policy {
            Policy::TInterval(policy) => Some(policy.confidence_level.get()),
            Policy::None => None,
        }
    }
}
