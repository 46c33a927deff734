//! Orders that a tick admitted → given to the runners; what became of them → the journal, metrics and the log.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use ebb_core::{
    decide::{
        judgement::Judgement,
        order::{Action, Outcome, Reason},
        pending::{Effect, Restart},
    },
    explain::explain,
};
use ebb_units::{Millis, Population, RunnerId};
use futures::{StreamExt as _, future::join_all, stream};
use tracing::{info, warn};

use super::sinks::Sinks;
use crate::{
    config::Config,
    decisions::Journal,
    growth::{GrowthReader, Profile},
    runners::Restarter,
    snapshot::PopulationSnapshot,
};

/// Gives orders: the modules side by side, `max_unavailable` at a time in each.
pub(super) async fn give(
    restarter: &Restarter,
    max_unavailable: u32,
    orders: Vec<Judgement>,
) -> Vec<(Judgement, Action)> {
    let mut by_module: BTreeMap<Arc<str>, Vec<Judgement>> = BTreeMap::new();
    for order in orders {
        by_module.entry(Arc::clone(&order.slot.population.module)).or_default().push(order);
    }
    // A runner that did not answer is not asked again in this tick: one time-out must not become many.
    let silent: &Mutex<HashSet<RunnerId>> = &Mutex::default();
    let modules = by_module.into_values().map(|orders| {
        stream::iter(orders)
            .map(|order| async move {
                if silent.lock().unwrap_or_else(PoisonError::into_inner).contains(&order.slot.runner) {
                    return (order, Action::RUNNER_SILENT);
                }
                let reason = Reason::of(order.verdict);
                let outcome = restarter.restart(&order.slot, order.generation, reason).await;
                if matches!(outcome, Outcome::NoAnswer { .. }) {
                    let mut silent = silent.lock().unwrap_or_else(PoisonError::into_inner);
                    silent.insert(order.slot.runner.clone());
                }
                (order, Action::Ordered(outcome))
            })
            .buffer_unordered(max_unavailable.max(1) as usize)
            .collect::<Vec<_>>()
    });
    join_all(modules).await.into_iter().flatten().collect()
}

/// Records whether memory fell where a restart was done.
pub(super) fn record_effect(restart: &Restart, effect: Effect, sinks: &Sinks) {
    sinks.journal.observe_effect(&restart.slot, restart.old_generation, effect);
    sinks.metrics.verified(&restart.slot.population.module, effect, restart.bytes_before);
    if effect == Effect::NotSeen {
        warn!(instance = %restart.slot, generation = %restart.new_generation, "no sample of the restarted instance came");
    } else {
        info!(instance = %restart.slot, effect = effect.name(), bytes_before = restart.bytes_before, "restart verified");
    }
}

/// Records what was done about an instance that asks for a restart. The number of the decision, if it is a new one.
pub(super) fn record(
    populations: &[PopulationSnapshot],
    wish: &Judgement,
    action: &Action,
    sinks: &Sinks,
    now: Millis,
) -> Option<u64> {
    let population = populations.iter().find(|snapshot| snapshot.population == wish.slot.population);
    let explanation =
        population.map_or_else(String::new, |snapshot| explain(&snapshot.rule, &snapshot.learned, wish));
    sinks.metrics.acted(&wish.slot.population.module, action);
    let recorded = sinks.journal.record(wish.clone(), explanation.clone(), action.clone(), now);
    let id = recorded?;
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
    Some(id)
}

/// The numbers of decisions by which instances were restarted.
pub(super) type Restarts = BTreeMap<Population, Vec<u64>>;

/// Notes at `restarts` where their instances have grown, as soon as the runners have told. No tick waits for that.
pub(super) fn note_growth(
    growth: &GrowthReader,
    config: &Arc<Config>,
    instances: &[Judgement],
    restarts: Restarts,
    journal: &Arc<Journal>,
) {
    for (population, decisions) in restarts {
        let of_module = |judgement: &&Judgement| judgement.slot.population.module == population.module;
        let runners = instances.iter().filter(of_module).map(|judgement| &judgement.slot.runner.address);
        let runners: BTreeSet<_> = runners.cloned().collect();
        let (growth, config, journal) = (growth.clone(), Arc::clone(config), Arc::clone(journal));
        tokio::spawn(async move {
            let runners = runners.into_iter().collect();
            let growth = growth.growth(&population.module, runners, &config.runners).await;
            let sentence = growth.of(&population.digest).and_then(Profile::sentence);
            if let Some(sentence) = sentence {
                journal.tell_growth(&decisions, &sentence);
            }
        });
    }
}
