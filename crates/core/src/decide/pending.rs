//! PURE: the restarts done whose effect is not seen yet, and since when others are asked for.

use std::{borrow::Borrow, collections::HashMap};

use ebb_units::{Elapsed, Generation, Millis, SlotId};
use serde::Serialize;

use crate::{
    decide::{
        budget::{Budget, BudgetConfig},
        judgement::Judgement,
    },
    history::{History, Lifetime},
    policy::Verdict,
};

/// What was seen of a restart's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// The new instance holds less than the old one did.
    MemoryFell {
        /// What it holds, in bytes.
        memory_bytes_after: u64,
    },
    /// It does not.
    MemoryDidNotFall {
        /// What it holds, in bytes.
        memory_bytes_after: u64,
    },
    /// No sample of a newer instance came in time.
    NotSeen,
}

impl Effect {
    /// Every effect's name, for metrics that exist from the start.
    pub const NAMES: [&'static str; 3] = ["memory_fell", "memory_did_not_fall", "not_seen"];

    /// The effect's name, as metrics tell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MemoryFell { .. } => "memory_fell",
            Self::MemoryDidNotFall { .. } => "memory_did_not_fall",
            Self::NotSeen => "not_seen",
        }
    }
}

/// A restart that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Where.
    pub slot: SlotId,
    /// What was dropped.
    pub old_generation: Generation,
    /// What was started.
    pub new_generation: Generation,
    /// Why.
    pub verdict: Verdict,
    /// What the old one held, in bytes.
    pub bytes_before: u64,
    /// When it was ordered.
    pub ordered_at: Millis,
}

/// Whether a restart of an instance can be ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// It can, as far as the rate allows.
    Eligible,
    /// It was restarted, and the store does not show it yet.
    AwaitingEffect,
    /// It cannot for now: its slot cools down, its module is suspended, or orders may not go to its runner.
    Blocked,
}

/// Restarts whose effect is not seen yet, and instances that ask for one.
#[derive(Clone, Debug, Default)]
pub(crate) struct PendingRestarts {
    awaiting: Vec<Restart>,
    /// Since when each instance has asked for a restart.
    asking: HashMap<SlotId, (Generation, Millis)>,
}

/// After so long, whoever asks for a restart goes before those that would give back more.
const PATIENCE: Elapsed = Elapsed::secs(600);

impl PendingRestarts {
    /// Remembers a restart until its effect is seen.
    pub(crate) fn insert(&mut self, restart: Restart) {
        self.awaiting.push(restart);
    }

    /// The order in which `wishes` are admitted: as they come, those that give back most first, but behind those that have
    /// asked for a while, the longest first. Otherwise small ones would wait for ever while the budget is used up.
    pub(crate) fn queue<W: Borrow<Judgement>>(&mut self, mut wishes: Vec<W>, now: Millis) -> Vec<W> {
        let mut before = std::mem::take(&mut self.asking);
        for wish in &wishes {
            let Judgement { slot, generation, .. } = wish.borrow();
            let (slot, (known, since)) =
                before.remove_entry(slot).unwrap_or_else(|| (slot.clone(), (*generation, now)));
            let since = if known == *generation { since } else { now };
            self.asking.insert(slot, (*generation, since));
        }
        wishes.sort_by_cached_key(|wish| {
            let (_, since) = self.asking[&wish.borrow().slot];
            if now.since(since) >= PATIENCE { since } else { Millis(i64::MAX) }
        });
        wishes
    }

    /// An order for what lives in `slot` was attempted. If it has not helped, others have waited for longer now: what cannot
    /// be restarted must not stay in front.
    pub(crate) fn attempted(&mut self, slot: &SlotId, now: Millis) {
        if let Some((_, since)) = self.asking.get_mut(slot) {
            *since = now;
        }
    }

    /// Whether a restart of this instance was done whose effect is not seen yet: it need not be ordered again.
    pub(crate) fn contains(&self, slot: &SlotId, generation: Generation) -> bool {
        self.awaiting.iter().any(|restart| restart.old_generation == generation && restart.slot == *slot)
    }

    /// Whether a restart of this instance can be ordered at `now`.
    pub(crate) fn eligibility(
        &self,
        budget: &Budget,
        config: &BudgetConfig,
        slot: &SlotId,
        generation: Generation,
        now: Millis,
    ) -> Eligibility {
        if self.contains(slot, generation) {
            Eligibility::AwaitingEffect
        } else if budget.bars(config, slot, now) {
            Eligibility::Blocked
        } else {
            Eligibility::Eligible
        }
    }

    /// Takes out the restarts whose effect is seen by now, or was not within `verify_within`. Whether they
    /// brought memory down decides whether their module may be restarted further.
    pub(crate) fn verify(
        &mut self,
        budget: &mut Budget,
        config: &BudgetConfig,
        verify_within: Elapsed,
        history: &History,
        now: Millis,
    ) -> Vec<(Restart, Effect)> {
        let mut seen = Vec::new();
        for restart in std::mem::take(&mut self.awaiting) {
            let newer = history
                .slot(&restart.slot)
                .and_then(|slot| slot.newest())
                .filter(|lifetime| lifetime.generation() >= restart.new_generation);
            let effect = match newer.map(Lifetime::bytes) {
                Some(bytes) if bytes < restart.bytes_before => {
                    Effect::MemoryFell { memory_bytes_after: bytes }
                }
                Some(bytes) => Effect::MemoryDidNotFall { memory_bytes_after: bytes },
                None if now.since(restart.ordered_at) > verify_within => Effect::NotSeen,
                None => {
                    self.awaiting.push(restart);
                    continue;
                }
            };
            // Who is restarted for its age need not give anything back.
            if effect != Effect::NotSeen && restart.verdict != Verdict::AboveMaxAge {
                let memory_fell = matches!(effect, Effect::MemoryFell { .. });
                budget.verified(config, &restart.slot.population.module, memory_fell, now);
            }
            seen.push((restart, effect));
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_units::Population;

    use super::*;
    use crate::{
        history::{Sample, Window},
        policy::Bound,
    };

    fn slot() -> SlotId {
        let population = Population { module: Arc::from("leaky"), digest: Arc::from("d") };
        SlotId { population, runner: "r:1".into(), replica: 0 }
    }

    fn restart() -> Restart {
        Restart {
            slot: slot(),
            old_generation: Generation(1000),
            new_generation: Generation(5000),
            verdict: Verdict::AboveThreshold,
            bytes_before: 300,
            ordered_at: Millis(5000),
        }
    }

    #[test]
    fn whoever_has_asked_for_a_while_goes_before_those_that_give_back_more() {
        let wish = |replica, generation, reclaimable_bytes| Judgement {
            slot: SlotId { replica, ..slot() },
            generation: Generation(generation),
            age: Elapsed::ZERO,
            starts_ahead: Elapsed::ZERO,
            memory_bytes: 0,
            reclaimable_bytes,
            bound: Bound::default(),
            sample_size: 0,
            mean_bytes: None,
            stddev_bytes: None,
            verdict: Verdict::AboveMaxAge,
        };
        let mut pending = PendingRestarts::default();
        let mut queue = |minute: i64, wishes: &[(u32, u64)]| -> Vec<u32> {
            let wishes = wishes.iter().map(|(replica, generation)| wish(*replica, *generation, 0)).collect();
            let queued = pending.queue(wishes, Millis(minute * 60_000));
            queued.iter().map(|wish: &Judgement| wish.slot.replica).collect()
        };
        // The largest first, until 2 has asked for ten minutes, and then 3.
        assert_eq!(queue(0, &[(0, 1), (1, 1), (2, 1)]), [0, 1, 2]);
        assert_eq!(queue(1, &[(0, 2), (1, 2), (3, 1), (2, 1)]), [0, 1, 3, 2]);
        assert_eq!(queue(10, &[(0, 3), (1, 2), (3, 1), (2, 1)]), [2, 0, 1, 3]);
        assert_eq!(queue(11, &[(0, 4), (1, 3), (3, 1), (2, 1)]), [2, 3, 0, 1]);
        // A new instance has not asked yet, nor one that did not ask for a tick.
        assert_eq!(queue(12, &[(0, 4), (2, 2)]), [0, 2]);
        assert_eq!(queue(13, &[(0, 5), (3, 1)]), [0, 3]);
        assert_eq!(queue(23, &[(0, 6), (3, 1)]), [3, 0]);
        // Its order was refused: it waits anew.
        pending.attempted(&SlotId { replica: 3, ..slot() }, Millis(23 * 60_000));
        let wishes = vec![wish(0, 7, 0), wish(3, 1, 0)];
        let queued = pending.queue(wishes, Millis(24 * 60_000));
        assert_eq!(queued.iter().map(|wish| wish.slot.replica).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn restarts_for_age_suspend_nobody_though_they_give_nothing_back() {
        let config = BudgetConfig { max_ineffective: 1, ..BudgetConfig::default() };
        let mut history = History::default();
        let sample = Sample { at: Millis(6000), generation: Generation(5000), bytes: 300 };
        history.observe(&slot().into(), Window::ending_at(Millis(0), Elapsed(i64::MAX / 4)), [sample]);
        let suspended = |verdict| {
            let (mut pending, mut budget) = (PendingRestarts::default(), Budget::default());
            pending.insert(Restart { verdict, ..restart() });
            pending.verify(&mut budget, &config, Elapsed(60_000), &history, Millis(7000));
            budget.suspended_until("leaky", Millis(7000)).is_some()
        };
        assert!(!suspended(Verdict::AboveMaxAge));
        assert!(suspended(Verdict::AboveThreshold));
    }

    #[test]
    fn what_was_restarted_or_cannot_be_does_not_stand_free() {
        let config = BudgetConfig::default();
        let (mut pending, mut budget) = (PendingRestarts::default(), Budget::default());
        let eligibility = |pending: &PendingRestarts, budget: &Budget, generation, now| {
            pending.eligibility(budget, &config, &slot(), Generation(generation), Millis(now))
        };
        assert_eq!(eligibility(&pending, &budget, 1000, 5000), Eligibility::Eligible);
        let admissions = budget.admit(&config, [&slot()], Millis(5000));
        assert_eq!(admissions.len(), 1);
        pending.insert(restart());
        assert_eq!(eligibility(&pending, &budget, 1000, 6000), Eligibility::AwaitingEffect);
        // The new instance, until the slot has cooled down.
        assert_eq!(eligibility(&pending, &budget, 5000, 64_999), Eligibility::Blocked);
        assert_eq!(eligibility(&pending, &budget, 5000, 65_000), Eligibility::Eligible);
        for _ in 0..config.max_ineffective {
            budget.verified(&config, "leaky", false, Millis(65_000));
        }
        assert_eq!(eligibility(&pending, &budget, 5000, 66_000), Eligibility::Blocked);
    }

    #[test]
    fn a_restarts_effect_is_the_first_that_is_seen_of_the_new_instance() {
        let check = |samples: &[(i64, u64, u64)], now, expected: Option<Effect>| {
            let mut history = History::default();
            let samples = samples.iter().map(|(at, generation, bytes)| Sample {
                at: Millis(*at),
                generation: Generation(*generation),
                bytes: *bytes,
            });
            history.observe(&slot().into(), Window::ending_at(Millis(0), Elapsed(i64::MAX / 4)), samples);
            let mut pending = PendingRestarts::default();
            pending.insert(restart());
            let seen = pending.verify(
                &mut Budget::default(),
                &BudgetConfig::default(),
                Elapsed(60_000),
                &history,
                Millis(now),
            );
            assert_eq!(seen, expected.map(|effect| (restart(), effect)).into_iter().collect::<Vec<_>>());
            assert_eq!(pending.contains(&slot(), Generation(1000)), expected.is_none());
        };
        let old = (4000, 1000, 300);
        check(&[old], 10_000, None);
        check(&[old], 65_001, Some(Effect::NotSeen));
        check(&[old, (6000, 5000, 100)], 7000, Some(Effect::MemoryFell { memory_bytes_after: 100 }));
        check(&[old, (6000, 5000, 300)], 7000, Some(Effect::MemoryDidNotFall { memory_bytes_after: 300 }));
    }
}
