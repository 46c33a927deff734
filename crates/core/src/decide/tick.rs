//! One evaluation of a fleet, and what the outcome of each order costs.
//!
//! The evaluator, `replay` and the lab all go through this: [`Tick::decide`], then an order to the runner for each that was
//! admitted, then [`Tick::conclude`].

use std::{collections::BTreeMap, sync::Arc};

use ebb_units::{Elapsed, Generation, Millis, Population, SlotId};

use super::{
    assessment::Assessment,
    baselines::Baselines,
    budget::{Admission, Budget, BudgetConfig},
    clock::Now,
    hold::{HealthGate, Hold, Limits, Seen},
    judgement::Judgement,
    order::{Action, Outcome},
    pending::{Effect, Eligibility, PendingRestarts, Restart},
    savings::Savings,
};
use crate::{
    history::{History, Slot},
    policy::{Hosts, Rule},
};

/// What is known besides the history: how many instances lived, what was ordered, what may still be, what was learned once.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    gate: HealthGate,
    pending: PendingRestarts,
    budget: Budget,
    baselines: Baselines,
    savings: Savings,
}

/// What a tick goes by, as the config says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// How many restarts there may be.
    pub budget: BudgetConfig,
    /// When nothing is ordered, whatever instances hold.
    pub limits: Limits,
    /// Age from which an instance whose samples' own spacing is known counts as gone.
    pub stale_after: Elapsed,
    /// How long after a restart its effect must be seen.
    pub verify_within: Elapsed,
    /// Whether orders are only told, and given to nobody.
    pub dry_run: bool,
}

/// The fleet, as it was seen.
#[derive(Debug)]
pub struct Fleet<'a, R, O> {
    /// All lifetimes.
    pub history: &'a History,
    /// The memory of hosts.
    pub hosts: &'a Hosts,
    /// The rule of each module.
    pub rule_of: R,
    /// Whether orders may go to the runner of a slot.
    pub may_order: O,
    /// Time between two samples of a series.
    pub spacing: Option<Elapsed>,
    /// The most that a sample came late.
    pub late: Elapsed,
    /// What was wrong with the answer.
    pub fault: Option<Hold>,
    /// Modules of which nothing is ordered.
    pub holds: &'a BTreeMap<Arc<str>, Hold>,
}

/// What a tick came to.
#[derive(Debug)]
pub struct Plan {
    /// What was seen of restarts that were ordered before.
    pub effects: Vec<(Restart, Effect)>,
    /// What was learned, and a judgement on each living instance.
    pub assessment: Assessment,
    /// Why nothing is ordered.
    pub hold: Option<Hold>,
    /// Instances that ask for a restart and are not restarted now.
    pub declined: Vec<(Judgement, Action)>,
    /// Orders to give, the most urgent first. Each is to be concluded.
    pub orders: Vec<Judgement>,
}

impl Tick {
    /// Judges the fleet as it is at `now`, and admits restarts.
    pub fn decide<'r>(
        &mut self,
        settings: &Settings,
        fleet: Fleet<'_, impl Fn(&str) -> &'r Rule, impl Fn(&SlotId) -> bool>,
        now: Now,
    ) -> Plan {
        let Fleet { history, hosts, rule_of, may_order, spacing, late, fault, holds } = fleet;
        let Settings { budget: budget_config, limits, stale_after, verify_within, dry_run } = settings;
        // In a dry run, no order goes anywhere.
        let may_order = |slot: &SlotId| *dry_run || may_order(slot);
        // First, since restarts without effect suspend their module.
        let effects =
            self.pending.verify(&mut self.budget, budget_config, *verify_within, history, now.steady);
        let eligibility = |slot: &SlotId, generation: Generation| {
            if may_order(slot) {
                self.pending.eligibility(&self.budget, budget_config, slot, generation, now.steady)
            } else {
                Eligibility::Blocked
            }
        };
        let learn = |population: &Population, rule: &Rule, slots: &BTreeMap<SlotId, Slot>| {
            self.baselines.learn(population, rule, slots.values(), now.steady)
        };
        let assessment =
            Assessment::learning(history, rule_of, learn, hosts, eligibility, now.wall, *stale_after);
        self.baselines.keep(history);
        self.savings.add(&assessment.instances, now.steady);
        let living = assessment.instances.len();
        let seen = Seen { newest_sample: history.newest_sample(), spacing, late, living };
        let doubt = self.gate.check(limits, seen, now);
        let hold = fault.or(doubt);

        let mut declined = Vec::new();
        let mut wishes: Vec<Judgement> = Vec::new();
        for wish in assessment.candidates().into_iter().cloned() {
            // Series of others must not use up the budget of those that orders may go to.
            if self.pending.contains(&wish.slot, wish.generation) {
                declined.push((wish, Action::AwaitingEffect));
            } else if may_order(&wish.slot) {
                wishes.push(wish);
            } else {
                declined.push((wish, Action::Ordered(Outcome::NotAllowed)));
            }
        }
        let wishes = self.pending.queue(wishes, now.steady);
        let held = |slot: &SlotId| hold.as_ref().or_else(|| holds.get(&slot.population.module));
        let (wishes, unreliable): (Vec<_>, Vec<_>) =
            wishes.into_iter().partition(|wish| held(&wish.slot).is_none());
        declined.extend(unreliable.into_iter().filter_map(|wish| {
            let hold = held(&wish.slot)?.name();
            Some((wish, Action::Held { hold }))
        }));
        let orders = self.admit(settings, wishes, &mut declined, now);
        Plan { effects, assessment, hold, declined, orders }
    }

    /// Those of `wishes` that the budget has room for; the others are declined.
    fn admit(
        &mut self,
        settings: &Settings,
        wishes: Vec<Judgement>,
        declined: &mut Vec<(Judgement, Action)>,
        now: Now,
    ) -> Vec<Judgement> {
        let slots = wishes.iter().map(|wish| &wish.slot);
        let admissions = self.budget.admit(&settings.budget, slots, now.steady);
        let mut orders = Vec::new();
        for (wish, admission) in wishes.into_iter().zip(admissions) {
            match admission {
                Admission::Admitted if settings.dry_run => {
                    self.budget.forget(&wish.slot);
                    declined.push((wish, Action::DryRun));
                }
                Admission::Admitted => orders.push(wish),
                Admission::Postponed(limit) => declined.push((wish, Action::Postponed { limit })),
            }
        }
        orders
    }

    /// Notes what became of an order. Only a restart costs budget, and an order without an answer, which may have restarted
    /// something.
    pub fn conclude(&mut self, order: &Judgement, action: &Action, now: Now) {
        self.pending.attempted(&order.slot, now.steady);
        match action {
            Action::Ordered(Outcome::Restarted(restarted)) => {
                self.savings.restarted(order, restarted.new_generation);
                self.pending.insert(Restart {
                    slot: order.slot.clone(),
                    old_generation: order.generation,
                    new_generation: restarted.new_generation,
                    verdict: order.verdict,
                    bytes_before: order.memory_bytes,
                    ordered_at: now.steady,
                });
            }
            Action::Ordered(Outcome::NoAnswer { .. }) => {}
            Action::Ordered(outcome) if outcome.is_postponed() => self.budget.forget(&order.slot),
            Action::Ordered(_) => self.budget.refund(),
            // It was not given at all.
            Action::Postponed { .. } | Action::Held { .. } | Action::DryRun | Action::AwaitingEffect => {
                self.budget.forget(&order.slot);
            }
        }
    }

    /// Forgets how many instances lived, and what was learned once: another fleet is looked at. What was ordered stays known.
    pub fn forget_fleet(&mut self) {
        self.gate = HealthGate::default();
        self.baselines = Baselines::default();
    }

    /// What may still be ordered.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What restarts have saved at least, in byte-seconds, of each module of which something was restarted.
    #[must_use]
    pub const fn saved_byte_seconds(&self) -> &BTreeMap<Arc<str>, f64> {
        self.savings.byte_seconds()
    }

    /// Until when restarts of `module` are suspended, by the wall clock.
    #[must_use]
    pub fn suspended_until(&self, module: &str, now: Now) -> Option<Millis> {
        self.budget.suspended_until(module, now.steady).map(|until| now.wall_of(until))
    }
}

#[cfg(test)]
mod tests;
