//! PURE: the policies, one file each where there is anything to compute, and the guard rails that hold for all.
//!
//! | policy | file | an instance is restarted when |
//! | --- | --- | --- |
//! | `t_interval` | `t_interval.rs` | it holds more than the upper end of an interval of the medians of all lifetimes |
//! | `renewal` | `renewal.rs` | it holds more than its slot costs on average, restarts included |
//! | `largest_first`, `oldest_first` | `pressure.rs` | its host is short of memory and it comes first |
//! | `static` | | it holds more than the guard rail `max_bytes`, and the policy adds nothing to that |
//! | `max_age` | | it has run that long |
//! | `none` | | never, but for the guard rail `max_bytes` |

mod pressure;
mod renewal;
mod t_interval;

use ebb_units::{ByteCount, Span};
use serde::Serialize;

pub use self::{
    pressure::{HostMemory, Hosts, Pressure, VictimOrder},
    renewal::{CostBasis, Pooling, Renewal},
    t_interval::{Adapt, IntervalKind, StepBounds, TInterval},
};
use ebb_units::ConfidenceLevel;

use crate::{
    estimate::{Estimate, MedianSample, NoEstimate, cost::PopulationCost},
    history::{Lifetime, Slot},
};

/// When an instance is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Above the upper end of a Student-t interval of the medians of all lifetimes.
    TInterval(TInterval),
    /// Above the average cost of its slot.
    Renewal(Renewal),
    /// When the host is short of memory: the largest first.
    LargestFirst(Pressure),
    /// When the host is short of memory: the oldest first.
    OldestFirst(Pressure),
    /// Above the guard rail `max_bytes`, which is then needed.
    Static,
    /// At this age.
    MaxAge(Span),
    /// Never, but for the guard rail `max_bytes`.
    None,
}

/// What holds whatever the policy is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GuardRails {
    /// Younger instances are neither restarted nor counted in the sample.
    pub min_age: Span,
    /// With fewer lifetimes in the sample it gives no threshold.
    pub min_lifetimes: u64,
    /// Above this an instance is restarted whatever the policy says.
    pub max_bytes: Option<ByteCount>,
    /// Where a restart would give back less, nothing is restarted, but for `max_age`, and for who stands above `max_bytes`
    /// while nobody knows what it started with.
    pub min_reclaim: ByteCount,
}

/// All that decides about the instances of one module.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// When.
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
    /// Their growth: all of it over all of their time, in bytes per second.
    pub mean_slope: f64,
    /// The size above which instances are restarted, or why there is none. With `renewal`, where each slot has its
    /// own, the module's average cost; with `adapt`, that of an instance that grows as its population does.
    pub threshold: Threshold,
    /// The least size that a start of this population was seen with: what a restart goes back to. None while
    /// no lifetime was seen from its start.
    pub fresh_bytes: Option<u64>,
    /// The size above which instances are restarted at each step of growth, where the policy looks at growth.
    #[serde(skip)]
    pub step_bounds: Option<StepBounds>,
    /// What the slots cost, where the policy asks for it.
    #[serde(skip)]
    pub cost: Option<PopulationCost>,
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

impl Threshold {
    /// The size, if there is one.
    #[must_use]
    pub const fn bytes(self) -> Option<f64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Unavailable(_) | Self::NotSought => None,
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
    pub cost: Option<CostBasis>,
}

impl Rule {
    /// Learns from the slots of one population, from lifetimes that are over and living alike.
    pub fn learn<'a>(&self, slots: impl Iterator<Item = &'a Slot> + Clone) -> Learned {
        let min_age = self.guard_rails.min_age.as_millis();
        let mut sample = MedianSample::default();
        let mut fresh_bytes: Option<u64> = None;
        let (mut grown, mut grown_millis) = (0_u128, 0_i128);
        for lifetime in slots.clone().flat_map(Slot::lifetimes) {
            if let Some(start) = lifetime.start_bytes() {
                fresh_bytes = Some(fresh_bytes.map_or(start, |least| least.min(start)));
            }
            if lifetime.age_millis() >= min_age {
                sample.push(lifetime.doubled_median());
                let (bytes, millis) = lifetime.growth();
                grown += u128::from(bytes);
                grown_millis += i128::from(millis);
            }
        }
        let estimate = sample.estimate(self.guard_rails.min_lifetimes);
        let cost = match self.policy {
            Policy::Renewal(policy) => policy.learn(slots),
            _ => None,
        };
        let threshold = match (self.policy, estimate) {
            (Policy::TInterval(policy), Ok(estimate)) => {
                Threshold::Bytes(policy.upper_bytes(&estimate, policy.confidence_level))
            }
            (Policy::TInterval(_), Err(reason)) => Threshold::Unavailable(reason),
            (Policy::Renewal(_), _) => {
                cost.map_or(Threshold::NotSought, |cost| Threshold::Bytes(cost.average_bytes()))
            }
            _ => Threshold::NotSought,
        };
        Learned {
            sample_size: sample.lifetimes(),
            estimate: estimate.ok(),
            mean_slope: slope(grown, grown_millis),
            threshold,
            fresh_bytes,
            step_bounds: match (self.policy, estimate) {
                (Policy::TInterval(policy), Ok(estimate)) => policy.step_bounds(&estimate),
                _ => None,
            },
            cost,
        }
    }

    /// What the instance `lifetime` that lives in `slot` is compared with.
    #[must_use]
    pub fn bound(&self, learned: &Learned, slot: &Slot, lifetime: &Lifetime) -> Bound {
        match self.policy {
            Policy::TInterval(policy) if policy.adapt == Adapt::Off => Bound {
                threshold_bytes: learned.threshold.bytes(),
                confidence_level: Some(policy.confidence_level.get()),
                ..Bound::default()
            },
            Policy::TInterval(policy) => {
                let (bytes, millis) = lifetime.growth();
                let own_slope = slope(u128::from(bytes), i128::from(millis));
                let bound = |bounds| TInterval::bound_of(bounds, own_slope, learned.mean_slope);
                Bound {
                    threshold_bytes: learned.step_bounds.as_ref().map(bound),
                    confidence_level: Some(policy.level(own_slope, learned.mean_slope).get()),
                    slope: Some(own_slope),
                    cost: None,
                }
            }
            Policy::Renewal(policy) => {
                let (threshold_bytes, cost) =
                    learned.cost.and_then(|cost| policy.threshold(&cost, slot)).unzip();
                Bound { threshold_bytes, cost, ..Bound::default() }
            }
            _ => Bound::default(),
        }
    }

    /// The policy in words, for explanations: `upper end of the prediction interval at level 0.99`. `level` is that
    /// of the instance, where it has its own.
    #[must_use]
    pub fn describe(&self, level: Option<f64>) -> String {
        match self.policy {
            Policy::TInterval(policy) => {
                let level = level.and_then(|level| ConfidenceLevel::try_from(level).ok());
                policy.describe(level.unwrap_or(policy.confidence_level))
            }
            Policy::Renewal(policy) => policy.describe(),
            Policy::LargestFirst(pressure) => {
                format!("policy largest_first below {} available", pressure.available_below)
            }
            Policy::OldestFirst(pressure) => {
                format!("policy oldest_first below {} available", pressure.available_below)
            }
            Policy::Static => "policy static".to_owned(),
            Policy::MaxAge(age) => format!("policy max_age {age}"),
            Policy::None => "policy none".to_owned(),
        }
    }

    /// The confidence level, if the policy has one.
    #[must_use]
    pub const fn confidence_level(&self) -> Option<f64> {
        match self.policy {
            Policy::TInterval(policy) => Some(policy.confidence_level.get()),
            _ => None,
        }
    }
}

/// Growth in bytes per second.
fn slope(bytes: u128, millis: i128) -> f64 {
    if millis > 0 { bytes as f64 * 1000.0 / millis as f64 } else { 0.0 }
}
