//! PURE: one instance against its population's rule → a verdict with its reason.

use ebb_units::{ByteCount, Elapsed, Generation, Millis, SlotId};
use serde::Serialize;

use crate::{
    history::{Lifetime, Slot},
    policy::{Bound, Learned, Rule, Verdict},
};

/// Everything a verdict on one instance rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Where the instance lives.
    #[serde(flatten)]
    pub slot: SlotId,
    /// Which start of it.
    pub generation: Generation,
    /// Time since its start.
    #[serde(rename = "age_millis")]
    pub age: Elapsed,
    /// How far its start lies in the future: the clock of its runner was ahead.
    #[serde(rename = "starts_ahead_millis", skip_serializing_if = "is_zero")]
    pub starts_ahead: Elapsed,
    /// Its linear memory, in bytes.
    pub memory_bytes: u64,
    /// What a restart would give back, in bytes: down to the least that a start was seen with in this slot; where none was
    /// seen throughout the window, to the least that the slot held in it. Of a slot that was seen for less, down to the
    /// least that a start in its population was seen with, else to the least that the slot was seen with at all.
    pub reclaimable_bytes: u64,
    /// What it was compared with.
    #[serde(flatten)]
    pub bound: Bound,
    /// Lifetimes in the sample.
    pub sample_size: u64,
    /// Mean of their medians, in bytes.
    pub mean_bytes: Option<f64>,
    /// Their unbiased standard deviation, in bytes.
    pub stddev_bytes: Option<f64>,
    /// What is said of it.
    pub verdict: Verdict,
}

fn is_zero(time: &Elapsed) -> bool {
    *time == Elapsed::ZERO
}

/// Judges the living instance `lifetime` of the slot `seen` by what was `learned` of its population. `spans_window`
/// tells whether the slot was there throughout the window. The host's memory is not looked at: it concerns more than
/// one instance.
pub(crate) fn judge(
    rule: &Rule,
    learned: &Learned,
    slot: &SlotId,
    seen: &Slot,
    lifetime: &Lifetime,
    spans_window: impl Fn() -> bool,
    now: Millis,
) -> Judgement {
    let bound = rule.bound(learned, seen, lifetime, now);
    // What a slot was seen with throughout the window tells more of it than what its siblings started with.
    let throughout = || seen.least_bytes().filter(|_| spans_window());
    let fresh_bytes = seen.fresh_bytes().or_else(throughout).or(learned.fresh_bytes);
    let goes_back_to = fresh_bytes.or_else(|| seen.least_bytes()).unwrap_or(0);
    let mut judgement = Judgement {
        slot: slot.clone(),
        generation: lifetime.generation(),
        age: lifetime.age_at(now),
        starts_ahead: lifetime.started_at().since(now).max(Elapsed::ZERO),
        memory_bytes: lifetime.bytes(),
        reclaimable_bytes: lifetime.bytes().saturating_sub(goes_back_to),
        bound,
        sample_size: learned.sample_size,
        mean_bytes: learned.estimate.map(|estimate| estimate.mean_bytes),
        stddev_bytes: learned.estimate.map(|estimate| estimate.stddev_bytes),
        verdict: Verdict::Within,
    };
    judgement.verdict = verdict(rule, learned, &judgement, fresh_bytes.is_some());
    judgement
}

fn verdict(rule: &Rule, learned: &Learned, judgement: &Judgement, reclaim_is_known: bool) -> Verdict {
    let rails = &rule.guard_rails;
    let size = ByteCount(judgement.memory_bytes);
    if judgement.age < rails.min_age.as_elapsed() {
        return Verdict::TooYoung;
    }
    let wish = if rails.max_bytes.is_some_and(|max| size > max) {
        // Who was large when first seen gets a chance. Who never moved in all of the window does not: it would get one in
        // every window.
        if !reclaim_is_known {
            return Verdict::AboveMaxBytes;
        }
        Verdict::AboveMaxBytes
    } else {
        let verdict = rule.policy.verdict(learned.threshold, &judgement.bound, size, judgement.age);
        if verdict != Verdict::AboveThreshold {
            return verdict;
        }
        verdict
    };
    if judgement.reclaimable_bytes < rails.min_reclaim.0.max(1) { Verdict::TooLittleToReclaim } else { wish }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_units::{Population, Span};

    use super::*;
    use crate::{
        history::{History, Sample, Window},
        policy::{GuardRails, IntervalKind, MaxAge, Policy, Pooling, Renewal, TInterval},
    };

    fn confidence_interval(level: f64) -> Policy {
        Policy::TInterval(TInterval {
            interval: IntervalKind::Confidence,
            confidence_level: level.try_into().unwrap(),
            ..TInterval::default()
        })
    }

    fn rule() -> Rule {
        Rule {
            policy: confidence_interval(0.95),
            guard_rails: GuardRails {
                min_age: Span::secs(60),
                min_lifetimes: 2,
                max_bytes: None,
                min_reclaim: ByteCount(0),
            },
        }
    }

    fn slot(replica: u32) -> SlotId {
        let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
        SlotId { population, runner: "r".into(), replica }
    }

    /// Instances that started at 0 with 1000 bytes, grew to `bytes` after a second and are 100 s old.
    fn history(bytes: &[u64]) -> History {
        let window = Window::ending_at(Millis(100_000), Elapsed(1_000_000_000));
        let mut history = History::default();
        for (replica, bytes) in (0..).zip(bytes) {
            let sample = |at, bytes| Sample { at: Millis(at), generation: Generation(1), bytes };
            let samples = [sample(1, 1000), sample(1000, *bytes), sample(100_000, *bytes)];
            history.observe(&slot(replica).into(), window, samples);
        }
        history
    }

    fn judgements(rule: &Rule, history: &History, now_seconds: i64) -> Vec<Judgement> {
        let (_, slots) = history.populations().next().unwrap();
        let learned = rule.learn(slots.values());
        let mut judgements: Vec<_> = slots
            .iter()
            .map(|(id, slot)| {
                let now = Millis(now_seconds * 1000);
                judge(rule, &learned, id, slot, slot.newest().unwrap(), || history.spans_window(slot), now)
            })
            .collect();
        judgements.sort_by_key(|judgement| judgement.slot.replica);
        judgements
    }

    fn verdicts(rule: &Rule, bytes: &[u64], now_seconds: i64) -> Vec<Verdict> {
        judgements(rule, &history(bytes), now_seconds).iter().map(|judgement| judgement.verdict).collect()
    }

    use Verdict::{
        AboveMaxAge, AboveMaxBytes, AboveThreshold, NoThreshold, TooFewLifetimes, TooLittleToReclaim,
        TooYoung, Within,
    };

    #[test]
    fn exactly_the_instances_above_the_threshold_ask_for_a_restart() {
        // Medians 10, 10, 10, 50 thousand: mean 20,000, u = 20,000, t(0.95, 3) = 3.1824,
        // upper end 20,000 + 3.1824 · 20,000 / 2 = 51,824: nobody. At level 0.5, t = 0.7649: 27,649.
        assert_eq!(verdicts(&rule(), &[10_000, 10_000, 10_000, 50_000], 100), [Within; 4]);
        let mut lower = rule();
        lower.policy = confidence_interval(0.5);
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
        assert_eq!(judgements(&rule, &history(&[10_000, 90_000]), 100)[0].sample_size, 0);
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
        let window = Window::ending_at(Millis(7_200_000), Elapsed(1_000_000_000));
        let sample = |at| Sample { at: Millis(at), generation: Generation(1), bytes: 90_000 };
        let mut history = History::default();
        history.observe(&slot(0).into(), window, [sample(3_600_000), sample(7_200_000)]);
        let mut rule = rule();
        rule.guard_rails.max_bytes = Some(ByteCount(80_000));
        rule.guard_rails.min_reclaim = ByteCount(50_000);
        assert_eq!(judgements(&rule, &history, 7200)[0].verdict, AboveMaxBytes);
        // One that was there throughout the window and never smaller gets no chance.
        history.forget_before(Window::ending_at(Millis(7_200_000), Elapsed(3_600_000)));
        assert_eq!(judgements(&rule, &history, 7200)[0].verdict, TooLittleToReclaim);
        // Not so by a threshold: it was never seen smaller, so nothing says that a restart would help.
        rule.guard_rails.max_bytes = None;
        rule.policy = Policy::Renewal(Renewal {
            restart_price: "1B*1s".parse().unwrap(),
            pooling: Pooling::Off,
            ..Renewal::default()
        });
        let found = &judgements(&rule, &history, 7200)[0];
        assert_eq!((found.verdict, found.reclaimable_bytes), (Within, 0));
    }

    #[test]
    fn what_a_restart_gives_back_is_told_by_the_slots_own_starts() {
        // One slot starts with 90,000 bytes and stays there, the other grows to that.
        let window = Window::ending_at(Millis(100_000), Elapsed(1_000_000_000));
        let sample = |at, bytes| Sample { at: Millis(at), generation: Generation(1), bytes };
        let mut history = history(&[90_000]);
        history.observe(&slot(1).into(), window, [sample(1, 90_000), sample(100_000, 90_000)]);
        let mut rule = rule();
        rule.guard_rails.max_bytes = Some(ByteCount(80_000));
        let found: Vec<_> = judgements(&rule, &history, 100)
            .iter()
            .map(|found| (found.verdict, found.reclaimable_bytes))
            .collect();
        assert_eq!(found, [(AboveMaxBytes, 89_000), (TooLittleToReclaim, 0)]);
    }

    #[test]
    fn who_never_moved_gives_nothing_back_whatever_its_siblings_started_with() {
        // Its own start lies before the window; a sibling was seen to start with 1000 bytes.
        let window = Window::ending_at(Millis(7_200_000), Elapsed(3_600_000));
        let sample = |at| Sample { at: Millis(at), generation: Generation(1), bytes: 90_000 };
        let mut history = History::default();
        history.observe(&slot(0).into(), window, [sample(3_600_000), sample(7_200_000)]);
        let start = |at, bytes| Sample { at: Millis(at), generation: Generation(7_000_000), bytes };
        history.observe(&slot(1).into(), window, [start(7_000_001, 1000), start(7_200_000, 1000)]);
        history.forget_before(window);
        let mut rule = rule();
        rule.guard_rails.max_bytes = Some(ByteCount(80_000));
        let found = &judgements(&rule, &history, 7200)[0];
        assert_eq!((found.verdict, found.reclaimable_bytes), (TooLittleToReclaim, 0));
    }

    #[test]
    fn max_age_restarts_even_what_gives_nothing_back() {
        let mut rule = rule();
        rule.policy = Policy::MaxAge(MaxAge { max_age: Span::secs(100) });
        assert_eq!(verdicts(&rule, &[1000], 99), [Within]);
        assert_eq!(verdicts(&rule, &[1000], 101), [AboveMaxAge]);
    }

    #[test]
    fn static_is_max_bytes_alone() {
        let mut rule = rule();
        rule.policy = Policy::Static;
        rule.guard_rails.max_bytes = Some(ByteCount(80_000));
        assert_eq!(verdicts(&rule, &[80_000, 80_001], 100), [Within, AboveMaxBytes]);
    }

    #[test]
    fn renewal_restarts_what_costs_more_than_its_average() {
        // 1000 bytes for 1 s, 100,000 since: at 100 s, 1000 + 99 · 100,000 = 9,901,000 byte-seconds. The next
        // restart pays once the average falls to the size: 9,901,000 + price = 100 · 100,000, price = 99,000.
        let policy = |bytes: u64| {
            let restart_price = format!("{bytes}B*1s").parse().unwrap();
            Policy::Renewal(Renewal { restart_price, pooling: Pooling::Off, ..Renewal::default() })
        };
        let mut rule = rule();
        rule.policy = policy(98_900);
        let found = judgements(&rule, &history(&[100_000]), 100).remove(0);
        let cost = found.bound.cost.unwrap();
        assert_eq!(found.verdict, AboveThreshold, "{found:?}");
        assert_eq!((cost.restarts, cost.observed_seconds), (0, 99.999));
        rule.policy = policy(99_200);
        assert_eq!(verdicts(&rule, &[100_000], 100), [Within]);
    }

    #[test]
    fn renewal_with_pooling_takes_slots_for_equal_while_little_was_seen() {
        let policy = |pooling| {
            Policy::Renewal(Renewal {
                restart_price: "1MiB*1s".parse().unwrap(),
                pooling,
                ..Renewal::default()
            })
        };
        let thresholds = |pooling| -> Vec<f64> {
            let rule = Rule { policy: policy(pooling), ..rule() };
            let found = judgements(&rule, &history(&[10_000, 10_000, 10_000, 90_000]), 100);
            found.iter().map(|found| found.bound.threshold_bytes.unwrap()).collect()
        };
        let (alone, pooled) = (thresholds(Pooling::Off), thresholds(Pooling::Adaptive));
        assert!(alone[0] < alone[3], "{alone:?}");
        for threshold in &pooled {
            assert!((threshold - pooled[0]).abs() < 1e-6 && alone[0] < *threshold && *threshold < alone[3]);
        }
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
