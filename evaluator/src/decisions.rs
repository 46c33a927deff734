//! What was decided about instances that asked for a restart: each with its inputs, kept for the API.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ebb_core::decide::{
    budget::Limit,
    ledger::Effect,
    verdict::{Judgement, Verdict},
};
use ebb_units::{Generation, Millis, SlotId};
use serde::Serialize;

use crate::restart::Outcome;

/// What was done about an instance that asked for a restart.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Its restart was ordered.
    Ordered(Outcome),
    /// Its restart would have been ordered, were it not for `dry_run`.
    DryRun,
    /// The data cannot be relied on.
    Held {
        /// Why not.
        hold: &'static str,
    },
    /// The budget put it off.
    Postponed {
        /// By which limit.
        limit: Limit,
    },
    /// A restart of it was ordered; its effect is not seen yet.
    AwaitingEffect,
}

impl Action {
    /// Every kind of [`Action::kind`].
    pub const KINDS: [&'static str; 5] = ["ordered", "dry_run", "held", "postponed", "awaiting_effect"];

    /// Every name that [`Action::name`] may return, for metrics that exist from the start.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let limits = Limit::ALL.into_iter().map(Limit::name);
        Outcome::NAMES.into_iter().chain(limits).chain(["dry_run", "held", "awaiting_effect"])
    }

    /// What it is, without what became of it: the API's `action`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ordered(_) => "ordered",
            Self::DryRun => "dry_run",
            Self::Held { .. } => "held",
            Self::Postponed { .. } => "postponed",
            Self::AwaitingEffect => "awaiting_effect",
        }
    }

    /// The action's name, as logs and metrics tell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ordered(outcome) => outcome.name(),
            Self::DryRun => "dry_run",
            Self::Held { .. } => "held",
            Self::Postponed { limit } => limit.name(),
            Self::AwaitingEffect => "awaiting_effect",
        }
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
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
}

/// A decision's number, and whether it was made for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It was.
    New(u64),
    /// It repeats the one before.
    Again(u64),
}

/// The newest decisions.
#[derive(Debug, Default)]
pub struct Journal {
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
const FORGOTTEN_AFTER_MILLIS: i64 = 600_000;

impl Journal {
    /// Records a decision. One that repeats the slot's newest is counted there
    /// instead, so that a dry run or a hold of hours does not push everything else out.
    pub fn record(&self, judgement: Judgement, explanation: String, action: Action, now: Millis) -> Recorded {
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
            return Recorded::Again(id);
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
        });
        if inner.decisions.len() > DECISIONS_MAX {
            inner.decisions.pop_front();
        }
        if inner.newest_of.len() > 2 * DECISIONS_MAX {
            inner.newest_of.retain(|_, newest| now.since(newest.last_at) < FORGOTTEN_AFTER_MILLIS);
        }
        Recorded::New(id)
    }

    /// Adds to decision `id` what was seen of its effect.
    pub fn observe_effect(&self, id: u64, effect: Effect) {
        if let Some(decision) = self.lock().get_mut(id) {
            decision.effect = Some(effect);
        }
    }

    /// The newest `limit` decisions that `wanted` keeps, newest first.
    pub fn newest(&self, limit: usize, wanted: impl Fn(&Decision) -> bool) -> Vec<Decision> {
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
    use ebb_core::policy::Bound;
    use ebb_units::Population;

    use super::*;

    fn judgement(replica: u32, generation: u64) -> Judgement {
        let population = Population { module: "leaky".into(), digest: "d".into() };
        Judgement {
            slot: SlotId { population, runner: "r:1".into(), replica },
            generation: Generation(generation),
            age_millis: 0,
            starts_ahead_millis: 0,
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
                .filter(|recorded| matches!(recorded, Recorded::New(_)));
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
        journal.observe_effect(1500, Effect::NotSeen);
        journal.observe_effect(1, Effect::NotSeen);
        assert_eq!(journal.newest(9, |d| d.effect.is_some()).len(), 1);
    }
}
