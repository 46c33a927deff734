//! PURE: one instance against its population's rule → a verdict with its reason.

use ebb_service::units::ByteCount;
use serde::Serialize;

use super::policy::{Learned, Rule, Threshold};
use crate::{history::Lifetime, units::Millis};

/// What is said of a living instance. Only the first two ask for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds more than the threshold.
    AboveThreshold,
    /// It holds more than `max_bytes`.
    AboveMaxBytes,
    /// It holds no more than the threshold.
    Within,
    /// It is younger than `min_age`.
    TooYoung,
    /// Its population has too few lifetimes for a threshold.
    TooFewLifetimes,
    /// It holds more than allowed, but a restart would give back less than `min_reclaim`.
    TooLittleToReclaim,
    /// The policy has no threshold.
    NoThreshold,
}

impl Verdict {
    /// Every verdict, for metrics that exist from the start.
    pub const ALL: [Self; 7] = [
        Self::AboveThreshold,
        Self::AboveMaxBytes,
        Self::Within,
        Self::TooYoung,
        Self::TooFewLifetimes,
        Self::TooLittleToReclaim,
        Self::NoThreshold,
    ];

    /// Whether the instance should be restarted.
    #[must_use]
    pub const fn asks_for_restart(self) -> bool {
        matches!(self, Self::AboveThreshold | Self::AboveMaxBytes)
    }

    /// The verdict's name, as metrics and the API tell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AboveThreshold => "above_threshold",
            Self::AboveMaxBytes => "above_max_bytes",
            Self::Within => "within",
            Self::TooYoung => "too_young",
            Self::TooFewLifetimes => "too_few_lifetimes",
            Self::TooLittleToReclaim => "too_little_to_reclaim",
            Self::NoThreshold => "no_threshold",
        }
    }
}

/// Bytes that a restart of an instance of this size would give back; all of them, at most, while nobody knows
/// what a new one starts with.
#[must_use]
pub const fn reclaimable_bytes(bytes: u64, learned: &Learned) -> u64 {
    match learned.fresh_bytes {
        Some(fresh) => bytes.saturating_sub(fresh),
        None => bytes,
    }
}

/// Judges the living instance `lifetime` by what was `learned` of its population.
#[must_use]
pub fn judge(rule: &Rule, learned: &Learned, lifetime: &Lifetime, now: Millis) -> Verdict {
    let rails = &rule.guard_rails;
    let size = ByteCount(lifetime.bytes());
    if now.since(lifetime.generation().started_at()) < rails.min_age.as_millis() {
        return Verdict::TooYoung;
    }
    let wish = if rails.max_bytes.is_some_and(|max| size > max) {
        Verdict::AboveMaxBytes
    } else {
        match learned.threshold {
            Threshold::Bytes(threshold) if size.as_f64() > threshold => Verdict::AboveThreshold,
            Threshold::Bytes(_) => return Verdict::Within,
            Threshold::Unavailable(_) => return Verdict::TooFewLifetimes,
            Threshold::NotSought => return Verdict::NoThreshold,
        }
    };
    if reclaimable_bytes(size.0, learned) < rails.min_reclaim.0.max(1) {
        return Verdict::TooLittleToReclaim;
    }
    wish
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_service::units::Span;

    use super::*;
    use crate::{
        history::{History, Sample, Window},
        rule::policy::{GuardRails, IntervalKind, Policy, TInterval},
        units::{Generation, Population, SlotId},
    };

    fn rule() -> Rule {
        let confidence_level = 0.95.try_into().unwrap();
        Rule {
            policy: Policy::TInterval(TInterval { interval: IntervalKind::Confidence, confidence_level }),
            guard_rails: GuardRails {
                min_age: Span::secs(60),
                min_lifetimes: 2,
                max_bytes: None,
                min_reclaim: ByteCount(0),
            },
        }
    }

    /// Instances that started at 0 with 1000 bytes, grew to `bytes` after a second and are 100 s old.
    fn lifetimes(bytes: &[u64]) -> Vec<Lifetime> {
        let window = Window::ending_at(Millis(100_000), 1_000_000_000);
        let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
        bytes
            .iter()
            .map(|bytes| {
                let slot = SlotId { population: population.clone(), runner: Arc::from("r"), replica: 0 };
                let sample = |at, bytes| Sample { at: Millis(at), generation: Generation(1), bytes };
                let mut history = History::default();
                history.observe(
                    &slot,
                    window,
                    [sample(1, 1000), sample(1000, *bytes), sample(100_000, *bytes)],
                );
                history.slot(&slot).unwrap().newest().unwrap().clone()
            })
            .collect()
    }

    fn verdicts(rule: &Rule, bytes: &[u64], now_seconds: i64) -> Vec<Verdict> {
        let lifetimes = lifetimes(bytes);
        let learned = rule.learn(lifetimes.iter());
        lifetimes.iter().map(|lifetime| judge(rule, &learned, lifetime, Millis(now_seconds * 1000))).collect()
    }

    use Verdict::{
        AboveMaxBytes, AboveThreshold, NoThreshold, TooFewLifetimes, TooLittleToReclaim, TooYoung, Within,
    };

    #[test]
    fn exactly_the_instances_above_the_threshold_ask_for_a_restart() {
        // Medians 10, 10, 10, 50 thousand: mean 20,000, u = 20,000, t(0.95, 3) = 3.1824,
        // upper end 20,000 + 3.1824 · 20,000 / 2 = 51,824: nobody. At level 0.5, t = 0.7649: 27,649.
        assert_eq!(verdicts(&rule(), &[10_000, 10_000, 10_000, 50_000], 100), [Within; 4]);
        let mut lower = rule();
        let confidence_level = 0.5.try_into().unwrap();
        lower.policy = Policy::TInterval(TInterval { interval: IntervalKind::Confidence, confidence_level });
        let expected = [Within, Within, Within, AboveThreshold];
        assert_eq!(verdicts(&lower, &[10_000, 10_000, 10_000, 50_000], 100), expected);
    }

    #[test]
    fn equal_instances_are_never_restarted() {
        assert_eq!(verdicts(&rule(), &[10_000; 5], 100), [Within; 5]);
    }

    #[test]
    fn a_module_with_one_lifetime_is_never_restarted() {
        assert_eq!(verdicts(&rule(), &[10_000], 100), [TooFewLifetimes]);
    }

    #[test]
    fn a_young_instance_is_neither_restarted_nor_counted() {
        let mut rule = rule();
        assert_eq!(verdicts(&rule, &[10_000, 90_000], 59), [TooYoung; 2]);
        rule.guard_rails.min_age = Span::secs(1000);
        assert_eq!(rule.learn(lifetimes(&[10_000, 90_000]).iter()).sample_size, 0);
    }

    #[test]
    fn above_max_bytes_an_instance_is_restarted_even_without_a_threshold() {
        let mut rule = rule();
        rule.guard_rails.max_bytes = Some(ByteCount(80_000));
        assert_eq!(verdicts(&rule, &[90_000], 100), [AboveMaxBytes]);
        assert_eq!(verdicts(&rule, &[80_000], 100), [TooFewLifetimes]);
        rule.policy = Policy::None;
        assert_eq!(verdicts(&rule, &[80_000, 90_000], 100), [NoThreshold, AboveMaxBytes]);
    }

    #[test]
    fn instances_that_were_large_when_first_seen_can_be_restarted() {
        // Started an hour before the first sample, and never smaller since.
        let window = Window::ending_at(Millis(7_200_000), 1_000_000_000);
        let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
        let slot = SlotId { population, runner: Arc::from("r"), replica: 0 };
        let sample = |at| Sample { at: Millis(at), generation: Generation(1), bytes: 90_000 };
        let mut history = History::default();
        history.observe(&slot, window, [sample(3_600_000), sample(7_200_000)]);
        let lifetime = history.slot(&slot).unwrap().newest().unwrap();
        let mut rule = rule();
        rule.guard_rails.max_bytes = Some(ByteCount(80_000));
        rule.guard_rails.min_reclaim = ByteCount(50_000);
        let learned = rule.learn([lifetime].into_iter());
        assert_eq!(learned.fresh_bytes, None);
        assert_eq!(judge(&rule, &learned, lifetime, Millis(7_200_000)), AboveMaxBytes);
    }

    #[test]
    fn a_restart_that_gives_nothing_back_is_not_asked_for() {
        let mut rule = rule();
        rule.guard_rails.max_bytes = Some(ByteCount(500));
        assert_eq!(verdicts(&rule, &[1000, 2000], 100), [TooLittleToReclaim, AboveMaxBytes]);
        rule.guard_rails.min_reclaim = ByteCount(1001);
        assert_eq!(verdicts(&rule, &[2000, 3000], 100), [TooLittleToReclaim, AboveMaxBytes]);
    }
}
