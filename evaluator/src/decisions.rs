//! What was decided about instances that asked for a restart: each with its inputs, kept for the API.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ebb_core::{
    decide::{
        judgement::Judgement,
        order::{Action, Outcome},
        pending::Effect,
    },
    policy::Verdict,
};
use ebb_units::{Elapsed, Generation, Millis, SlotId};
use serde::Serialize;

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Decision {
    /// Counts up from 1 since the evaluator's start.
    pub id: u64,
    /// When it was first made.
    pub at: Millis,
    /// When it was last made again, unchanged.
    pub last_at: Millis,
    /// How many ticks in a row made it.
    pub repeated: u32,
    /// What it rests on; of the first time.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// The same in a sentence.
    pub explanation: String,
    /// What was done.
    #[serde(flatten)]
    pub action: Action,
    /// What was seen of it afterwards.
    #[serde(flatten)]
    pub effect: Option<Effect>,
    /// Where instances of the binary have grown, of a restart that was ordered.
    pub growth: Option<String>,
}

/// The newest decisions.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    decisions: VecDeque<Decision>,
    newest_of: HashMap<SlotId, Newest>,
    next_id: u64,
}

/// A slot's newest decision. It outlives the decision itself, so that thousands of decisions that repeat
/// themselves at every tick do not take each other for new.
#[derive(Debug)]
struct Newest {
    id: u64,
    generation: Generation,
    verdict: Verdict,
    action: Action,
    last_at: Millis,
}

/// How many decisions are kept.
const DECISIONS_MAX: usize = 1000;

/// A decision that was not made again for this long is made anew the next time.
const FORGOTTEN_AFTER: Elapsed = Elapsed::secs(600);

impl Journal {
    /// Records a decision, and returns its number. One that repeats the slot's newest is counted there
    /// instead, so that a dry run or a hold of hours does not push everything else out; then there is none.
    pub(crate) fn record(
        &self,
        judgement: Judgement,
        explanation: String,
        action: Action,
        now: Millis,
    ) -> Option<u64> {
        let mut inner = self.lock();
        if let Some(newest) = inner.newest_of.get_mut(&judgement.slot)
            && (newest.generation, newest.verdict) == (judgement.generation, judgement.verdict)
            && newest.action == action
        {
            newest.last_at = now;
            let id = newest.id;
            if let Some(decision) = inner.get_mut(id) {
                decision.last_at = now;
                decision.repeated += 1;
            }
            return None;
        }
        inner.next_id += 1;
        let id = inner.next_id;
        let newest = Newest {
            id,
            generation: judgement.generation,
            verdict: judgement.verdict,
            action: action.clone(),
            last_at: now,
        };
        inner.newest_of.insert(judgement.slot.clone(), newest);
        inner.decisions.push_back(Decision {
            id,
            at: now,
            last_at: now,
            repeated: 1,
            judgement,
            explanation,
            action,
            effect: None,
            growth: None,
        });
        if inner.decisions.len() > DECISIONS_MAX {
            inner.decisions.pop_front();
        }
        if inner.newest_of.len() > 2 * DECISIONS_MAX {
            inner.newest_of.retain(|_, newest| now.since(newest.last_at) < FORGOTTEN_AFTER);
        }
        Some(id)
    }

    /// Adds to the decision by which `generation` of `slot` was restarted what was seen of its effect.
    pub(crate) fn observe_effect(&self, slot: &SlotId, generation: Generation, effect: Effect) {
        let mut inner = self.lock();
        let led_to_it = |decision: &&mut Decision| {
            let Judgement { slot: of, generation: restarted, .. } = &decision.judgement;
            of == slot
                && *restarted == generation
                && matches!(decision.action, Action::Ordered(Outcome::Restarted(_)))
        };
        if let Some(decision) = inner.decisions.iter_mut().rev().find(led_to_it) {
            decision.effect = Some(effect);
        }
    }

    /// Adds to these decisions where their instances have grown.
    pub(crate) fn tell_growth(&self, decisions: &[u64], growth: &str) {
        let mut inner = self.lock();
        for id in decisions {
            if let Some(decision) = inner.get_mut(*id) {
                decision.growth = Some(growth.to_owned());
            }
        }
    }

    /// The newest `limit` decisions that `wanted` keeps, newest first.
    pub(crate) fn newest(&self, limit: usize, wanted: impl Fn(&Decision) -> bool) -> Vec<Decision> {
        self.lock().decisions.iter().rev().filter(|decision| wanted(decision)).take(limit).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that holds the lock can leave the journal half-written.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn get_mut(&mut self, id: u64) -> Option<&mut Decision> {
        let at = self.decisions.binary_search_by_key(&id, |decision| decision.id).ok()?;
        self.decisions.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use ebb_core::{
        decide::{budget::Limit, order::Restarted},
        policy::Bound,
    };
    use ebb_units::Population;

    use super::*;

    fn judgement(replica: u32, generation: u64) -> Judgement {
        let population = Population { module: "leaky".into(), digest: "d".into() };
        Judgement {
            slot: SlotId { population, runner: "r:1".into(), replica },
            generation: Generation(generation),
            age: Elapsed::ZERO,
            starts_ahead: Elapsed::ZERO,
            memory_bytes: 1,
            reclaimable_bytes: 1,
            bound: Bound::default(),
            sample_size: 0,
            mean_bytes: None,
            stddev_bytes: None,
            verdict: Verdict::AboveThreshold,
        }
    }

    #[test]
    fn metrics_and_filters_know_the_name_of_every_action() {
        let names: Vec<_> = Action::names().collect();
        let postponed = Limit::ALL.map(|limit| Action::Postponed { limit });
        let others = [
            Action::Ordered(Outcome::NotAllowed),
            Action::DryRun,
            Action::Held { hold: "timeout" },
            Action::AwaitingEffect,
        ];
        for action in postponed.into_iter().chain(others) {
            assert!(names.contains(&action.name()), "{}", action.name());
            assert!(Action::KINDS.contains(&action.kind()), "{}", action.kind());
        }
    }

    #[test]
    fn a_decision_that_repeats_itself_is_counted_not_kept_again() {
        let journal = Journal::default();
        for tick in 0..3 {
            journal.record(judgement(0, 1), String::new(), Action::DryRun, Millis(tick));
        }
        journal.record(judgement(0, 2), String::new(), Action::DryRun, Millis(3));
        let found: Vec<_> =
            journal.newest(9, |_| true).iter().map(|d| (d.id, d.repeated, d.at.0, d.last_at.0)).collect();
        assert_eq!(found, [(2, 1, 3, 3), (1, 3, 0, 2)]);
    }

    #[test]
    fn decisions_that_are_no_longer_kept_still_repeat_themselves() {
        let journal = Journal::default();
        for tick in 0..3 {
            let new = (0..1500)
                .map(|replica| {
                    journal.record(judgement(replica, 1), String::new(), Action::DryRun, Millis(tick))
                })
                .filter(Option::is_some);
            assert_eq!(new.count(), if tick == 0 { 1500 } else { 0 });
        }
    }

    #[test]
    fn the_oldest_decisions_are_forgotten_first() {
        let journal = Journal::default();
        for replica in 0..1500 {
            journal.record(judgement(replica, 1), String::new(), Action::DryRun, Millis(0));
        }
        let kept = journal.newest(usize::MAX, |_| true);
        assert_eq!((kept.len(), kept[0].id, kept[999].id), (1000, 1500, 501));
    }

    #[test]
    fn an_effect_is_noted_at_the_order_that_had_it() {
        let journal = Journal::default();
        let restarted =
            Restarted { new_generation: Generation(2), reclaimed_bytes: 1, duration_seconds: 0.1 };
        let restarted = Action::Ordered(Outcome::Restarted(restarted));
        let actions = [Action::DryRun, restarted.clone(), Action::AwaitingEffect];
        for (at, action) in (0..).zip(actions) {
            journal.record(judgement(0, 1), String::new(), action, Millis(at));
        }
        journal.record(judgement(1, 1), String::new(), restarted, Millis(3));
        journal.observe_effect(&judgement(0, 1).slot, Generation(1), Effect::NotSeen);
        journal.observe_effect(&judgement(0, 9).slot, Generation(9), Effect::NotSeen);
        let with_effect: Vec<_> = journal.newest(9, |decision| decision.effect.is_some());
        assert_eq!(with_effect.iter().map(|decision| decision.id).collect::<Vec<_>>(), [2]);
    }
}
