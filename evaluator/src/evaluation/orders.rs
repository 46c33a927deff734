//! Wishes → orders: admitted by the budget, given to the runners, verified by what the store then shows.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use ebb_core::{
    decide::{
        budget::{Admission, Limit},
        clock::Now,
        hold::Hold,
        ledger::{Effect, Ledger, Restart, Standing},
        verdict::{Judgement, Verdict},
    },
    explain::explain,
    history::History,
};
use ebb_units::{Generation, Millis, RunnerId, SlotId};
use futures::{StreamExt as _, future::join_all, stream};
use tracing::{info, warn};

use super::Outputs;
use crate::{
    config::{Config, RunnersConfig},
    decisions::{Action, Recorded},
    restart::{Outcome, Reason, Restarter},
    view::PopulationView,
};

/// Why no restarts are ordered: of all modules, of some.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holds<'a> {
    pub(super) all: Option<&'a Hold>,
    pub(super) modules: &'a BTreeMap<Arc<str>, Hold>,
}

impl Holds<'_> {
    fn of(&self, slot: &SlotId) -> Option<&Hold> {
        self.all.or_else(|| self.modules.get(&slot.population.module))
    }
}

/// The orders given, and what may still be given.
#[derive(Debug)]
pub(super) struct Orders {
    restarter: Restarter,
    ledger: Ledger,
}

impl Orders {
    pub(super) fn new(config: &RunnersConfig) -> Self {
        Self { restarter: Restarter::new(config), ledger: Ledger::default() }
    }

    pub(super) fn reconfigure(&mut self, config: &RunnersConfig) {
        self.restarter = Restarter::new(config);
    }

    /// Until when restarts of `module` are suspended, by the wall clock.
    pub(super) fn suspended_until(&self, module: &str, now: Now) -> Option<Millis> {
        self.ledger.budget.suspended_until(module, now.steady).map(|until| now.wall_of(until))
    }

    pub(super) fn standing(
        &self,
        config: &Config,
        slot: &SlotId,
        generation: Generation,
        now: Millis,
    ) -> Standing {
        // In a dry run, no order goes anywhere.
        if config.dry_run || self.restarter.may_order(slot) {
            self.ledger.standing(&config.budget, slot, generation, now)
        } else {
            Standing::Barred
        }
    }

    pub(super) const fn available(&self) -> i64 {
        self.ledger.budget.available()
    }

    /// Looks whether memory fell where restarts were done. `called_for_millis`: how long it may take until a sample is seen.
    pub(super) fn verify(
        &mut self,
        config: &Config,
        called_for_millis: i64,
        history: &History,
        outputs: &Outputs,
        now: Now,
    ) {
        let verify_within = config.runners.verify_within.as_millis().max(called_for_millis);
        for (restart, effect) in self.ledger.verify(&config.budget, verify_within, history, now.steady) {
            outputs.journal.observe_effect(restart.decision, effect);
            outputs.metrics.verified(&restart.slot.population.module, effect, restart.bytes_before);
            if effect == Effect::NotSeen {
                warn!(instance = %restart.slot, generation = %restart.new_generation, "no sample of the restarted instance came");
            } else {
                info!(instance = %restart.slot, effect = effect.name(), bytes_before = restart.bytes_before, "restart verified");
            }
        }
    }

    /// Decides about `wishes`, worst first, and gives the orders that are admitted.
    pub(super) async fn decide(
        &mut self,
        config: &Config,
        populations: &[PopulationView],
        wishes: Vec<Judgement>,
        holds: &Holds<'_>,
        outputs: &Outputs,
        now: Now,
    ) {
        self.ledger.budget.refill(&config.budget, now.steady);
        let (waiting, wishes): (Vec<_>, Vec<_>) =
            wishes.into_iter().partition(|wish| self.ledger.awaits(&wish.slot, wish.generation));
        let mut decided: Vec<(Judgement, Action)> =
            waiting.into_iter().map(|wish| (wish, Action::AwaitingEffect)).collect();
        let mut wishes = wishes;
        // Series of others must not use up the budget of those that orders may go to. In a dry run, no order goes anywhere.
        if !config.dry_run {
            let (ours, foreign): (Vec<_>, Vec<_>) =
                wishes.into_iter().partition(|wish| self.restarter.may_order(&wish.slot));
            decided.extend(foreign.into_iter().map(|wish| (wish, Action::Ordered(Outcome::NotAllowed))));
            wishes = ours;
        }
        let wishes = self.ledger.queue(wishes, now.steady);
        let (wishes, held): (Vec<_>, Vec<_>) =
            wishes.into_iter().partition(|wish| holds.of(&wish.slot).is_none());
        decided.extend(held.into_iter().filter_map(|wish| {
            let hold = holds.of(&wish.slot)?.name();
            Some((wish, Action::Held { hold }))
        }));
        let admissions =
            self.ledger.budget.admit(&config.budget, wishes.iter().map(|wish| &wish.slot), now.steady);
        let mut admitted = Vec::new();
        for (wish, admission) in wishes.into_iter().zip(admissions) {
            match admission {
                Admission::Admitted if config.dry_run => decided.push((wish, Action::DryRun)),
                Admission::Admitted => admitted.push(wish),
                Admission::Postponed(limit) => decided.push((wish, Action::Postponed { limit })),
            }
        }
        decided.extend(self.order(config.budget.max_unavailable, admitted).await);
        for (wish, action) in decided {
            self.record(populations, wish, &action, outputs, now);
        }
    }

    /// Gives orders: the modules side by side, `max_unavailable` at a time in each.
    async fn order(&self, max_unavailable: u32, wishes: Vec<Judgement>) -> Vec<(Judgement, Action)> {
        let mut by_module: BTreeMap<Arc<str>, Vec<Judgement>> = BTreeMap::new();
        for wish in wishes {
            by_module.entry(Arc::clone(&wish.slot.population.module)).or_default().push(wish);
        }
        let restarter = &self.restarter;
        // A runner that did not answer is not asked again in this tick: one time-out must not become many.
        let silent: &Mutex<HashSet<RunnerId>> = &Mutex::default();
        let modules = by_module.into_values().map(|wishes| {
            stream::iter(wishes)
                .map(|wish| async move {
                    if silent.lock().unwrap_or_else(PoisonError::into_inner).contains(&wish.slot.runner) {
                        return (wish, Action::Postponed { limit: Limit::RunnerSilent });
                    }
                    let outcome = restarter.restart(&wish.slot, wish.generation, reason(wish.verdict)).await;
                    if matches!(outcome, Outcome::NoAnswer { .. }) {
                        let mut silent = silent.lock().unwrap_or_else(PoisonError::into_inner);
                        silent.insert(wish.slot.runner.clone());
                    }
                    (wish, Action::Ordered(outcome))
                })
                .buffer_unordered(max_unavailable.max(1) as usize)
                .collect::<Vec<_>>()
        });
        join_all(modules).await.into_iter().flatten().collect()
    }

    fn record(
        &mut self,
        populations: &[PopulationView],
        wish: Judgement,
        action: &Action,
        outputs: &Outputs,
        now: Now,
    ) {
        let module = Arc::clone(&wish.slot.population.module);
        let population = populations.iter().find(|view| view.population == wish.slot.population);
        let explanation =
            population.map_or_else(String::new, |view| explain(&view.rule, &view.learned, &wish));
        outputs.metrics.acted(&module, action);
        let recorded = outputs.journal.record(wish.clone(), explanation.clone(), action.clone(), now.wall);
        if let Recorded::New(id) = recorded {
            info!(
                decision = id,
                instance = %wish.slot,
                generation = %wish.generation,
                memory_bytes = wish.memory_bytes,
                threshold_bytes = wish.bound.threshold_bytes,
                sample_size = wish.sample_size,
                mean_bytes = wish.mean_bytes,
                stddev_bytes = wish.stddev_bytes,
                level = wish.bound.confidence_level,
                verdict = wish.verdict.name(),
                action = action.name(),
                "{explanation}"
            );
            if let Action::Ordered(outcome) = action
                && outcome.has_failed()
            {
                let message = outcome.message();
                warn!(decision = id, instance = %wish.slot, outcome = outcome.name(), message, "a restart could not be done");
            }
        }
        if matches!(action, Action::Ordered(_) | Action::Postponed { limit: Limit::RunnerSilent }) {
            self.ledger.attempted(&wish.slot, now.steady);
        }
        match (action, recorded) {
            (
                Action::Ordered(Outcome::Restarted(restarted)),
                Recorded::New(decision) | Recorded::Again(decision),
            ) => {
                self.ledger.enter(Restart {
                    decision,
                    slot: wish.slot,
                    old_generation: wish.generation,
                    new_generation: restarted.new_generation,
                    verdict: wish.verdict,
                    bytes_before: wish.memory_bytes,
                    ordered_at: now.steady,
                });
            }
            // A time-out may have restarted something; an address that is not allowed took nothing.
            (Action::Ordered(Outcome::NoAnswer { .. } | Outcome::NotAllowed), _) => {}
            (Action::Ordered(outcome), _) if outcome.is_postponed() => self.ledger.budget.forget(&wish.slot),
            (Action::Ordered(_), _) => self.ledger.budget.refund(),
            (Action::DryRun | Action::Postponed { limit: Limit::RunnerSilent }, _) => {
                self.ledger.budget.forget(&wish.slot);
            }
            _ => {}
        }
    }
}

/// What the runner is told, and counts in `wasm_instance_restarts_total`.
const fn reason(verdict: Verdict) -> Reason {
    match verdict {
        Verdict::HostShortOfMemory => Reason::Pressure,
        _ => Reason::Threshold,
    }
}
