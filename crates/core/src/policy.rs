//! The policies, and the guard rails that hold for all.
//!
//! A policy's file has its settings and their defaults, what it learns, the bound that follows, and its words. Here they
//! are put together, and every `match` names every policy.
//!
//! | policy | file | an instance is restarted when |
//! | --- | --- | --- |
//! | `t_interval` | `t_interval.rs` | it holds more than the upper end of an interval of the medians of all lifetimes |
//! | `renewal` | `renewal.rs` | it holds more than its slot costs on average, restarts included |
//! | `largest_first`, `oldest_first` | `pressure.rs` | its host is short of memory and it comes first |
//! | `static` | | it holds more than the guard rail `max_bytes`, and the policy adds nothing to that |
//! | `max_age` | `max_age.rs` | it has run that long |
//! | `none` | | never, but for the guard rail `max_bytes` |

mod bound;
mod guard_rails;
mod max_age;
mod pressure;
mod renewal;
mod t_interval;
mod verdict;

use ebb_units::{ByteCount, Elapsed, Millis, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr, VariantNames};

use self::t_interval::StepBounds;
pub use self::{
    bound::{Bound, Threshold},
    guard_rails::GuardRails,
    max_age::MaxAge,
    pressure::{HostMemory, Hosts, Pressure, VictimOrder},
    renewal::{DailyRhythm, Pooling, Renewal},
    t_interval::{Adapt, IntervalKind, PopulationKind, TInterval},
    verdict::Verdict,
};
use crate::{
    estimate::{Estimate, cost::PopulationCost, rhythm::ModuleRhythm},
    history::{End, Growth, Lifetime, MedianSample, Slot},
};

/// When an instance is restarted. Serialized as `{renewal: {restart_price: …}}`.
#[derive(
    Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema, EnumIter, IntoStaticStr, VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Policy {
    /// When it holds more than the upper end of an interval of the medians of all lifetimes.
    TInterval(TInterval),
    /// When it holds more than its slot costs on average, restarts included.
    Renewal(Renewal),
    /// When its host is short of memory and it is the largest. Needs `available_below`.
    LargestFirst(Pressure),
    /// When its host is short of memory and it has run longest. Needs `available_below`.
    OldestFirst(Pressure),
    /// When it holds more than `max_bytes`. Needs `max_bytes`.
    Static,
    /// When it has run for `max_age`. Needs `max_age`.
    MaxAge(MaxAge),
    /// Never, except above `max_bytes`.
    None,
}

impl Default for Policy {
    fn default() -> Self {
        Self::Renewal(Renewal::default())
    }
}

impl Policy {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The setting, of its own or of the guard rails, that it cannot do without, and what that is.
    #[must_use]
    pub const fn needs(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::LargestFirst(_) | Self::OldestFirst(_) => Some(Pressure::NEEDS),
            Self::Static => Some(("max_bytes", "the size above which to restart, such as 64MiB")),
            Self::MaxAge(_) => Some(MaxAge::NEEDS),
            Self::TInterval(_) | Self::Renewal(_) | Self::None => None,
        }
    }

    /// The confidence level, if it has one.
    #[must_use]
    pub const fn confidence_level(&self) -> Option<f64> {
        match self {
            Self::TInterval(policy) => Some(policy.confidence_level.get()),
            Self::Renewal(_)
            | Self::LargestFirst(_)
            | Self::OldestFirst(_)
            | Self::Static
            | Self::MaxAge(_)
            | Self::None => None,
        }
    }

    /// After how long what it goes by is learned for good, if it is.
    pub(crate) fn baseline(&self) -> Option<Span> {
        match self {
            Self::TInterval(policy) => policy.baseline(),
            Self::Renewal(_)
            | Self::LargestFirst(_)
            | Self::OldestFirst(_)
            | Self::Static
            | Self::MaxAge(_)
            | Self::None => None,
        }
    }

    /// Whether it counts lifetimes that a restart has ended.
    const fn counts_replaced(&self) -> bool {
        match self {
            Self::TInterval(policy) => policy.counts_replaced(),
            Self::Renewal(_)
            | Self::LargestFirst(_)
            | Self::OldestFirst(_)
            | Self::Static
            | Self::MaxAge(_)
            | Self::None => true,
        }
    }

    /// Which instances of a host that is short of memory are restarted first, and when it is, if that is what the policy
    /// is about.
    #[must_use]
    pub const fn pressure(&self) -> Option<(VictimOrder, Pressure)> {
        match self {
            Self::LargestFirst(pressure) => Some((VictimOrder::Largest, *pressure)),
            Self::OldestFirst(pressure) => Some((VictimOrder::Oldest, *pressure)),
            Self::TInterval(_) | Self::Renewal(_) | Self::Static | Self::MaxAge(_) | Self::None => None,
        }
    }

    /// What it says of an instance that holds `size` and is `age` old, guard rails aside.
    pub(crate) fn verdict(
        &self,
        learned: Threshold,
        bound: &Bound,
        size: ByteCount,
        age: Elapsed,
    ) -> Verdict {
        if let Some(threshold) = bound.threshold_bytes {
            return if size.as_f64() > threshold { Verdict::AboveThreshold } else { Verdict::Within };
        }
        match self {
            Self::TInterval(_) | Self::Renewal(_) => learned.verdict_without_bound(),
            Self::LargestFirst(_) | Self::OldestFirst(_) | Self::Static => Verdict::Within,
            Self::MaxAge(policy) => policy.verdict(age),
            Self::None => Verdict::NoThreshold,
        }
    }

    /// What it is set to, for tables.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::TInterval(policy) => policy.summary(),
            Self::Renewal(policy) => policy.summary(),
            Self::LargestFirst(pressure) | Self::OldestFirst(pressure) => pressure.summary(),
            Self::Static => "max_bytes alone".to_owned(),
            Self::MaxAge(policy) => policy.summary(),
            Self::None => String::new(),
        }
    }

    /// It in words, for explanations: `upper end of the prediction interval at level 0.99`. `level` is that of the
    /// instance, where it has its own.
    #[must_use]
    pub fn describe(&self, level: Option<f64>) -> String {
        match self {
            Self::TInterval(policy) => policy.describe(level),
            Self::Renewal(policy) => policy.describe(),
            Self::LargestFirst(pressure) | Self::OldestFirst(pressure) => pressure.describe(self.name()),
            Self::MaxAge(policy) => policy.describe(),
            Self::Static | Self::None => format!("policy {}", self.name()),
        }
    }

    /// What an instance's threshold rests on, in words to stand behind [`Policy::describe`].
    pub(crate) fn basis(&self, learned: &Learned, bound: &Bound) -> String {
        match self {
            Self::TInterval(_) => learned
                .estimate
                .as_ref()
                .map_or_else(String::new, |estimate| TInterval::basis(estimate, learned.mean_slope, bound)),
            Self::Renewal(_) => Renewal::basis(bound),
            Self::LargestFirst(_) | Self::OldestFirst(_) | Self::Static | Self::MaxAge(_) | Self::None => {
                String::new()
            }
        }
    }
}

/// All that decides about the instances of one module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rule {
    /// When.
    pub policy: Policy,
    /// And what holds in any case.
    #[serde(flatten)]
    pub guard_rails: GuardRails,
}

/// What was learned of one population.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
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
    pub(crate) step_bounds: Option<StepBounds>,
    /// What the slots cost, where the policy asks for it.
    #[serde(skip)]
    pub(crate) cost: Option<PopulationCost>,
    /// How they follow the time of day, where they do and the policy asks for it.
    #[serde(skip)]
    pub(crate) rhythm: Option<ModuleRhythm>,
}

/// The lifetimes of one population that count, as their sums.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampled {
    /// Of all lifetimes, the least size that a start was seen with.
    fresh_bytes: Option<u64>,
    medians: MedianSample,
    growth: Growth,
}

impl Sampled {
    fn push(&mut self, lifetime: &Lifetime) {
        self.medians.push(lifetime.doubled_median());
        self.growth.add(lifetime.growth());
    }

    /// The same lifetimes, with what starts were seen since.
    pub(crate) const fn with_fresh_bytes_of(self, newer: &Self) -> Self {
        Self { fresh_bytes: newer.fresh_bytes, ..self }
    }
}

impl Rule {
    /// Learns from the slots of one population, from lifetimes that are over and living alike.
    pub fn learn<'a>(&self, slots: impl Iterator<Item = &'a Slot> + Clone) -> Learned {
        self.learn_from(self.sample(slots.clone()), slots)
    }

    /// The lifetimes of one population.
    pub(crate) fn sample<'a>(&self, slots: impl Iterator<Item = &'a Slot>) -> Sampled {
        let min_age = self.guard_rails.min_age.as_elapsed();
        let counts_replaced = self.policy.counts_replaced();
        let counts = |lifetime: &&Lifetime| {
            lifetime.age() >= min_age && (counts_replaced || lifetime.end() != Some(End::Replaced))
        };
        let mut sampled = Sampled::default();
        for slot in slots {
            sampled.fresh_bytes = sampled.fresh_bytes.into_iter().chain(slot.fresh_bytes()).min();
            let ended = slot.ended();
            if ended.youngest.is_none_or(|youngest| youngest >= min_age) && counts_replaced {
                sampled.medians.add(ended.medians);
                sampled.growth.add(ended.growth);
                slot.newest().into_iter().filter(counts).for_each(|newest| sampled.push(newest));
            } else {
                slot.lifetimes().filter(counts).for_each(|lifetime| sampled.push(lifetime));
            }
        }
        sampled
    }

    /// Learns from the slots of one population, of whose lifetimes `sampled` count.
    pub(crate) fn learn_from<'a>(&self, sampled: Sampled, slots: impl Iterator<Item = &'a Slot>) -> Learned {
        let estimate = sampled.medians.estimate(self.guard_rails.min_lifetimes);
        let mut learned = Learned {
            sample_size: sampled.medians.lifetimes,
            estimate: estimate.ok(),
            mean_slope: sampled.growth.slope(),
            fresh_bytes: sampled.fresh_bytes,
            ..Learned::default()
        };
        match self.policy {
            Policy::TInterval(policy) => (learned.threshold, learned.step_bounds) = policy.learn(estimate),
            Policy::Renewal(policy) => {
                (learned.threshold, learned.cost, learned.rhythm) = policy.learn(slots);
            }
            Policy::LargestFirst(_)
            | Policy::OldestFirst(_)
            | Policy::Static
            | Policy::MaxAge(_)
            | Policy::None => {}
        }
        learned
    }

    /// What the instance `lifetime` that lives in `slot` is compared with at `now`.
    #[must_use]
    pub fn bound(&self, learned: &Learned, slot: &Slot, lifetime: &Lifetime, now: Millis) -> Bound {
        match self.policy {
            Policy::TInterval(policy) => {
                policy.bound(learned.threshold, learned.step_bounds.as_ref(), learned.mean_slope, lifetime)
            }
            Policy::Renewal(policy) => policy.bound(learned.cost.as_ref(), learned.rhythm, slot, now),
            Policy::LargestFirst(_)
            | Policy::OldestFirst(_)
            | Policy::Static
            | Policy::MaxAge(_)
            | Policy::None => Bound::default(),
        }
    }
}
