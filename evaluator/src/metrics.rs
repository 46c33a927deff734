//! The evaluator's own metrics: counters and durations kept here, everything else read off the snapshot.

mod snapshot_collector;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use ebb_core::{
    decide::{
        hold::Hold,
        judgement::Judgement,
        order::{Action, Outcome},
        pending::Effect,
    },
    policy::Verdict,
};
use ebb_service::process::ProcessCollector;
use ebb_units::Millis;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

use self::snapshot_collector::SnapshotCollector;
use crate::{snapshot::SnapshotCell, store::Fetched};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByModule {
    module: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    module: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByVerdict {
    module: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAction {
    module: String,
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEffect {
    module: String,
    effect: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStep {
    step: &'static str,
}

/// What the evaluator counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    restarts: Family<ByOutcome, Counter>,
    reclaimed_bytes: Family<ByModule, Counter>,
    verdicts: Family<ByVerdict, Counter>,
    actions: Family<ByAction, Counter>,
    effects: Family<ByEffect, Counter>,
    held: Family<ByReason, Counter>,
    refused_samples: Family<ByReason, Counter>,
    nameless_series: Gauge,
    late_samples: Counter,
    samples: Counter,
    tick_duration: Histogram,
    step_duration: Family<ByStep, Histogram>,
    ticks: Counter,
    missed_ticks: Counter,
    last_success: Gauge<f64, AtomicU64>,
    config_reload_successful: Gauge,
}

/// From 1 ms to 32 s: a tick's usual few milliseconds, and one that waits for a time-out.
const TICK_SECONDS: [f64; 16] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

impl Metrics {
    /// Metrics at zero, and the registry that exposes them together with what `board` shows.
    pub(crate) fn new(board: Arc<SnapshotCell>) -> (Arc<Self>, Registry) {
        let metrics = Self {
            restarts: Family::default(),
            reclaimed_bytes: Family::default(),
            verdicts: Family::default(),
            actions: Family::default(),
            effects: Family::default(),
            held: Family::default(),
            refused_samples: Family::default(),
            nameless_series: Gauge::default(),
            late_samples: Counter::default(),
            samples: Counter::default(),
            tick_duration: Histogram::new(TICK_SECONDS),
            step_duration: Family::new_with_constructor(|| Histogram::new(TICK_SECONDS)),
            ticks: Counter::default(),
            missed_ticks: Counter::default(),
            last_success: Gauge::default(),
            config_reload_successful: Gauge::default(),
        };
        metrics.config_reload_successful.set(1);
        for reason in Hold::NAMES {
            drop(metrics.held.get_or_create(&ByReason { reason }));
        }
        for reason in ["not_a_size", "not_a_time"] {
            drop(metrics.refused_samples.get_or_create(&ByReason { reason }));
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        registry.register_collector(Box::new(SnapshotCollector::new(board)));
        metrics.register(registry.sub_registry_with_prefix("ebb_evaluator"));
        (Arc::new(metrics), registry)
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("restarts", "Restart orders by outcome", self.restarts.clone());
        registry.register_with_unit(
            "reclaimed",
            "Linear memory that restarts were seen to reclaim",
            Unit::Bytes,
            self.reclaimed_bytes.clone(),
        );
        registry.register(
            "decisions",
            "Verdicts on living instances, one per instance and tick",
            self.verdicts.clone(),
        );
        registry.register(
            "actions",
            "What was done about instances that asked for a restart",
            self.actions.clone(),
        );
        registry.register("effects", "Effects of restarts", self.effects.clone());
        registry.register(
            "held",
            "Ticks that ordered no restarts because the data was not reliable",
            self.held.clone(),
        );
        registry.register(
            "refused_samples",
            "Samples whose value is not a size or not a time",
            self.refused_samples.clone(),
        );
        registry.register(
            "nameless_series",
            "Series in the latest response whose labels do not identify an instance",
            self.nameless_series.clone(),
        );
        registry.register(
            "late_samples",
            "Samples that arrived too late for the fetch that should have returned them",
            self.late_samples.clone(),
        );
        registry.register("samples", "Samples taken into the history", self.samples.clone());
        registry.register_with_unit(
            "evaluation_duration",
            "Duration of a tick",
            Unit::Seconds,
            self.tick_duration.clone(),
        );
        registry.register_with_unit(
            "step_duration",
            "Duration of a tick's steps",
            Unit::Seconds,
            self.step_duration.clone(),
        );
        registry.register("ticks", "Ticks done", self.ticks.clone());
        registry.register(
            "missed_ticks",
            "Ticks skipped because the previous one took too long",
            self.missed_ticks.clone(),
        );
        registry.register_with_unit(
            "last_success_timestamp",
            "Time of the last tick with reliable data, Unix time",
            Unit::Seconds,
            self.last_success.clone(),
        );
        registry.register(
            "config_last_reload_successful",
            "Whether the last reload of the config worked",
            self.config_reload_successful.clone(),
        );
        registry.register(
            "build",
            "Version of the evaluator",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
    }

    /// Starts to measure a tick.
    pub(crate) fn start_tick(self: &Arc<Self>) -> TickTimer {
        let now = Instant::now();
        TickTimer { metrics: Arc::clone(self), started: now, step_started: std::cell::Cell::new(now) }
    }

    /// Ticks that were left out.
    pub(crate) fn missed_ticks(&self, ticks: u64) {
        self.missed_ticks.inc_by(ticks);
    }

    /// Whether a reload worked.
    pub(crate) fn reloaded(&self, successful: bool) {
        self.config_reload_successful.set(successful.into());
    }

    pub(crate) fn fetched(&self, samples_new: usize, samples_late: u64, fetched: &Fetched) {
        self.samples.inc_by(samples_new as u64);
        self.late_samples.inc_by(samples_late);
        self.nameless_series.set(i64::try_from(fetched.nameless_series).unwrap_or(i64::MAX));
        for (reason, count) in &fetched.refused_samples {
            self.refused_samples.get_or_create(&ByReason { reason }).inc_by(*count);
        }
    }

    pub(crate) fn held(&self, reason: &'static str) {
        self.held.get_or_create(&ByReason { reason }).inc();
    }

    pub(crate) fn succeeded(&self, now: Millis) {
        self.last_success.set(now.as_seconds());
    }

    pub(crate) fn judged(&self, instances: &[Judgement]) {
        let mut counts: HashMap<(&str, Verdict), u64> = HashMap::new();
        for instance in instances {
            *counts.entry((&instance.slot.population.module, instance.verdict)).or_default() += 1;
        }
        for ((module, verdict), count) in counts {
            self.know(module);
            let labels = ByVerdict { module: module.to_owned(), verdict: verdict.name() };
            self.verdicts.get_or_create(&labels).inc_by(count);
        }
    }

    /// Makes a module's series exist at zero, so that rates see their first increase.
    fn know(&self, module: &str) {
        let by_module = ByModule { module: module.to_owned() };
        if self.reclaimed_bytes.get(&by_module).is_some() {
            return;
        }
        drop(self.reclaimed_bytes.get_or_create(&by_module));
        for outcome in Outcome::NAMES {
            drop(self.restarts.get_or_create(&ByOutcome { module: module.to_owned(), outcome }));
        }
        for action in Action::names() {
            drop(self.actions.get_or_create(&ByAction { module: module.to_owned(), action }));
        }
        for verdict in Verdict::ALL {
            drop(
                self.verdicts
                    .get_or_create(&ByVerdict { module: module.to_owned(), verdict: verdict.name() }),
            );
        }
        for effect in Effect::NAMES {
            drop(self.effects.get_or_create(&ByEffect { module: module.to_owned(), effect }));
        }
    }

    pub(crate) fn acted(&self, module: &str, action: &Action) {
        self.actions.get_or_create(&ByAction { module: module.to_owned(), action: action.name() }).inc();
        if let Action::Ordered(outcome) = action {
            self.restarts
                .get_or_create(&ByOutcome { module: module.to_owned(), outcome: outcome.name() })
                .inc();
        }
    }

    pub(crate) fn verified(&self, module: &str, effect: Effect, bytes_before: u64) {
        self.effects.get_or_create(&ByEffect { module: module.to_owned(), effect: effect.name() }).inc();
        if let Effect::MemoryFell { memory_bytes_after } = effect {
            let labels = ByModule { module: module.to_owned() };
            self.reclaimed_bytes
                .get_or_create(&labels)
                .inc_by(bytes_before.saturating_sub(memory_bytes_after));
        }
    }
}

/// Measures a tick and its steps.
#[derive(Debug)]
pub(crate) struct TickTimer {
    metrics: Arc<Metrics>,
    started: Instant,
    step_started: std::cell::Cell<Instant>,
}

impl TickTimer {
    /// A step ends here, and the next one begins.
    pub(crate) fn step(&self, step: &'static str) {
        let duration = self.step_started.replace(Instant::now()).elapsed();
        self.metrics.step_duration.get_or_create(&ByStep { step }).observe(duration.as_secs_f64());
    }
}

impl Drop for TickTimer {
    fn drop(&mut self) {
        self.metrics.ticks.inc();
        self.metrics.tick_duration.observe(self.started.elapsed().as_secs_f64());
    }
}
