//! PURE: samples that are learned once and then stay.

use std::collections::BTreeMap;

use ebb_units::{Elapsed, Millis, Population};

use crate::{
    estimate::NoEstimate,
    history::{History, Slot},
    policy::{Learned, Rule, Sampled, Threshold},
};

/// The baseline of each population whose policy asks for one.
#[derive(Clone, Debug, Default)]
pub(super) struct Baselines(BTreeMap<Population, Baseline>);

#[derive(Clone, Copy, Debug)]
struct Baseline {
    /// When the population was first seen, by the steady clock.
    since: Millis,
    /// What was learned. None before its time is over.
    sampled: Option<Sampled>,
}

impl Baselines {
    /// What `rule` learns of `population`. `now` is the steady clock's.
    pub(super) fn learn<'a>(
        &mut self,
        population: &Population,
        rule: &Rule,
        slots: impl Iterator<Item = &'a Slot> + Clone,
        now: Millis,
    ) -> Learned {
        let Some(lasts) = rule.policy.baseline() else {
            self.0.remove(population);
            return rule.learn(slots);
        };
        let begun = || Baseline { since: now, sampled: None };
        let baseline = self.0.entry(population.clone()).or_insert_with(begun);
        let now_sampled = rule.sample(slots.clone());
        let sampled = baseline.sampled.map_or(now_sampled, |then| then.with_fresh_bytes_of(&now_sampled));
        let left = lasts.as_elapsed() - now.since(baseline.since);
        let learned = rule.learn_from(sampled, slots);
        if left > Elapsed::ZERO {
            let threshold = Threshold::Unavailable(NoEstimate::Baseline { left });
            return Learned { threshold, step_bounds: None, ..learned };
        }
        // What is too small to learn from grows on.
        baseline.sampled = learned.threshold.bytes().map(|_| sampled);
        learned
    }

    /// Forgets what is not in `history` any more.
    pub(super) fn keep(&mut self, history: &History) {
        if !self.0.is_empty() {
            self.0.retain(|population, _| history.populations().any(|(known, _)| known == population));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_units::{Generation, SlotId, Span};

    use super::*;
    use crate::{
        estimate::NoEstimate,
        history::{Sample, Window},
        policy::{Adapt, GuardRails, Policy, PopulationKind, TInterval},
    };

    const MINUTE: i64 = 60_000;

    fn rule(population: PopulationKind, adapt: Adapt) -> Rule {
        let policy = TInterval { population, adapt, baseline: Span::secs(1800), ..TInterval::default() };
        let guard_rails = GuardRails { min_age: Span::secs(0), min_lifetimes: 4, ..GuardRails::default() };
        Rule { policy: Policy::TInterval(policy), guard_rails }
    }

    fn population() -> Population {
        Population { module: Arc::from("m"), digest: Arc::from("d") }
    }

    /// Five replicas that grow by 100 a minute from 1000 on, up to `minutes`; those below `restarted` were restarted at minute
    /// 20.
    fn after(minutes: i64, restarted: u32) -> History {
        let window = Window::ending_at(Millis(minutes * MINUTE), Elapsed(i64::MAX / 4));
        let mut history = History::default();
        for replica in 0..5 {
            let slot = SlotId { population: population(), runner: "r:1".into(), replica };
            let samples = (0..=minutes).map(|minute| {
                let start = if replica < restarted && minute >= 20 { 20 } else { 0 };
                let bytes = 1000 + 10 * u64::from(replica) + 100 * (minute - start).unsigned_abs();
                Sample { at: Millis(minute * MINUTE), generation: Generation(start.unsigned_abs()), bytes }
            });
            history.observe(&slot.into(), window, samples.collect::<Vec<_>>());
        }
        history
    }

    fn learn(baselines: &mut Baselines, rule: &Rule, history: &History, minute: i64) -> Learned {
        let (population, slots) = history.populations().next().unwrap();
        baselines.learn(population, rule, slots.values(), Millis(minute * MINUTE))
    }

    #[test]
    fn what_is_frozen_is_learned_once_the_baseline_is_over_and_stays() {
        for adapt in [Adapt::Off, Adapt::Intent] {
            let rule = rule(PopulationKind::Frozen, adapt);
            let mut baselines = Baselines::default();
            let before = learn(&mut baselines, &rule, &after(1, 0), 1);
            let left = Elapsed::secs(1800);
            assert_eq!(before.threshold, Threshold::Unavailable(NoEstimate::Baseline { left }));
            assert_eq!((before.sample_size, before.step_bounds), (5, None));
            let learned = learn(&mut baselines, &rule, &after(31, 0), 31);
            let threshold = learned.threshold.bytes().unwrap();
            assert!((2500.0..2700.0).contains(&threshold), "{threshold}");
            assert_eq!(learn(&mut baselines, &rule, &after(600, 5), 600), learned);
            // What is not in the history any more is forgotten, and another policy forgets as well.
            baselines.keep(&History::default());
            let anew = learn(&mut baselines, &rule, &after(600, 0), 600).threshold;
            assert_eq!(anew, Threshold::Unavailable(NoEstimate::Baseline { left }));
        }
    }

    #[test]
    fn what_is_too_small_when_the_baseline_ends_is_waited_for() {
        let mut rule = rule(PopulationKind::Frozen, Adapt::Off);
        rule.guard_rails.min_age = Span::secs(2400);
        let mut baselines = Baselines::default();
        learn(&mut baselines, &rule, &after(1, 0), 1);
        let small = learn(&mut baselines, &rule, &after(35, 0), 35).threshold;
        assert_eq!(small, Threshold::Unavailable(NoEstimate::TooFewLifetimes { have: 0, need: 4 }));
        assert!(learn(&mut baselines, &rule, &after(45, 0), 45).threshold.bytes().is_some());
    }

    #[test]
    fn lifetimes_that_a_restart_has_ended_count_only_among_all() {
        let history = after(60, 3);
        let of = |population| {
            learn(&mut Baselines::default(), &rule(population, Adapt::Off), &history, 60).sample_size
        };
        assert_eq!([of(PopulationKind::All), of(PopulationKind::Unforced)], [8, 5]);
    }
}
