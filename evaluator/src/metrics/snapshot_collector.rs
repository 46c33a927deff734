//! The newest snapshot → gauges per population and instance. What is gone takes its series with it.

use std::{fmt, sync::Arc};

use ebb_core::{decide::exhaustion::Exhaustion, estimate::growth::GrowthKind};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use crate::snapshot::{PopulationSnapshot, Snapshot, SnapshotCell};

#[derive(Debug)]
pub(super) struct SnapshotCollector {
    board: Arc<SnapshotCell>,
}

impl SnapshotCollector {
    pub(super) const fn new(board: Arc<SnapshotCell>) -> Self {
        Self { board }
    }
}

/// Name, help, unit and value of one gauge per population.
type PopulationGauge = (&'static str, &'static str, Option<Unit>, fn(&PopulationSnapshot) -> Option<f64>);

const POPULATION_GAUGES: [PopulationGauge; 12] = [
    (
        "ebb_evaluator_threshold",
        "Size above which an instance is restarted; where each has its own, the typical one",
        Some(Unit::Bytes),
        |snapshot| snapshot.learned.threshold.bytes(),
    ),
    ("ebb_evaluator_sample_mean", "Mean of the medians of all lifetimes", Some(Unit::Bytes), |snapshot| {
        snapshot.learned.estimate.map(|estimate| estimate.mean_bytes)
    }),
    (
        "ebb_evaluator_sample_stddev",
        "Unbiased deviation of the medians of all lifetimes",
        Some(Unit::Bytes),
        |snapshot| snapshot.learned.estimate.map(|estimate| estimate.stddev_bytes),
    ),
    ("ebb_evaluator_sample_size", "Lifetimes that count", None, |snapshot| {
        Some(snapshot.learned.sample_size as f64)
    }),
    ("ebb_evaluator_confidence_level", "Confidence level of the policy", None, |snapshot| {
        snapshot.rule.policy.confidence_level()
    }),
    (
        "ebb_evaluator_reclaimable",
        "Memory that the requested restarts would reclaim",
        Some(Unit::Bytes),
        |snapshot| Some(snapshot.reclaimable_bytes as f64),
    ),
    ("ebb_evaluator_instances", "Live instances", None, |snapshot| Some(snapshot.instances as f64)),
    ("ebb_evaluator_memory", "Total linear memory of the live instances", Some(Unit::Bytes), |snapshot| {
        Some(snapshot.memory_bytes as f64)
    }),
    (
        "ebb_evaluator_growth_bytes_per_hour",
        "By how much an instance's memory grows at ages above half of those that were seen",
        None,
        |snapshot| snapshot.growth?.bytes_per_hour.map(|rate| rate.mean),
    ),
    (
        "ebb_evaluator_growth_regression",
        "Whether a binary starts larger or grows faster than the one before it",
        None,
        |snapshot| snapshot.comparison.as_ref().map(|found| f64::from(u8::from(found.is_regression))),
    ),
    (
        "ebb_evaluator_module_suspended",
        "Whether restarts are suspended because they did not help",
        None,
        |snapshot| Some(f64::from(u8::from(snapshot.suspended_until.is_some()))),
    ),
    (
        "ebb_evaluator_module_held",
        "Whether restarts of the module are held because its series contradict each other",
        None,
        |snapshot| Some(f64::from(u8::from(snapshot.hold.is_some()))),
    ),
];

/// A series for each kind of growth of each population: 1 for the one that it has.
fn encode_kinds(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(
        "ebb_evaluator_growth_kind",
        "How memory grows with the age of instances: 1 for the kind that is seen",
        None,
        MetricType::Gauge,
    )?;
    for PopulationSnapshot { population, growth, .. } in &snapshot.populations {
        let Some(growth) = growth else { continue };
        for kind in GrowthKind::ALL {
            let labels =
                [("module", &*population.module), ("digest", &*population.digest), ("kind", kind.name())];
            ConstGauge::new(f64::from(u8::from(growth.kind == kind)))
                .encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// When the first instance of each population reaches its limit, and when hosts have no memory left: from now, in seconds, if nothing
/// is restarted, and if restarts go on and do not help.
fn encode_outlook(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let series = |found: &Exhaustion| {
        let cases = [("off", Some(found.without_restarts)), ("on", found.with_restarts)];
        cases.into_iter().filter_map(|(restarts, left)| Some((restarts, left?))).flat_map(
            |(restarts, left)| {
                let bounds = [("low", Some(left.low)), ("median", Some(left.median)), ("high", left.high)];
                bounds
                    .into_iter()
                    .filter_map(move |(bound, left)| Some((restarts, bound, left?.as_seconds())))
            },
        )
    };
    let mut family = encoder.encode_descriptor(
        "ebb_evaluator_limit_reached",
        "Time until an instance reaches its memory limit, the first that restarts do not keep from it, else the first of all",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    for (population, (_, found)) in &snapshot.outlook.first {
        for (restarts, bound, seconds) in series(found) {
            let labels = [
                ("module", &*population.module),
                ("digest", &*population.digest),
                ("restarts", restarts),
                ("bound", bound),
            ];
            ConstGauge::new(seconds).encode(family.encode_family(&labels)?)?;
        }
    }
    let mut family = encoder.encode_descriptor(
        "ebb_evaluator_host_exhausted",
        "Time until a runner's host has no memory left, with restarts or without; absent where it always has some",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    // As many as there may be series for.
    for (runner, found) in snapshot.outlook.hosts.iter().take(snapshot.instance_series) {
        for (restarts, bound, seconds) in series(found) {
            let mut labels = vec![("runner", &*runner.address), ("restarts", restarts), ("bound", bound)];
            if !runner.identity.is_empty() {
                labels.push(("identity", &*runner.identity));
            }
            ConstGauge::new(seconds).encode(family.encode_family(&&labels[..])?)?;
        }
    }
    Ok(())
}

/// A series for each living instance.
fn encode_thresholds(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(
        "ebb_evaluator_instance_threshold",
        "Size above which this instance is restarted",
        Some(&Unit::Bytes),
        MetricType::Gauge,
    )?;
    for instance in &snapshot.instances {
        if let Some(bytes) = instance.bound.threshold_bytes {
            let slot = &instance.slot;
            // `instance` would be taken by the scrape of the evaluator itself.
            let replica = slot.replica.to_string();
            let mut labels = vec![
                ("module", &*slot.population.module),
                ("digest", &*slot.population.digest),
                ("runner", &*slot.runner.address),
                ("replica", &*replica),
            ];
            if !slot.runner.identity.is_empty() {
                labels.push(("identity", &*slot.runner.identity));
            }
            ConstGauge::new(bytes).encode(family.encode_family(&&labels[..])?)?;
        }
    }
    Ok(())
}

impl Collector for SnapshotCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.board.newest();
        for (name, help, unit, value) in &POPULATION_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for population in &snapshot.populations {
                if let Some(value) = value(population) {
                    let labels = [
                        ("module", &*population.population.module),
                        ("digest", &*population.population.digest),
                    ];
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        encode_kinds(&snapshot, &mut encoder)?;
        encode_outlook(&snapshot, &mut encoder)?;
        let mut family = encoder.encode_descriptor(
            "ebb_evaluator_saved_byte_seconds",
            "Memory times time that restarts have saved at least",
            None,
            MetricType::Counter,
        )?;
        for (module, saved) in &snapshot.saved_byte_seconds {
            ConstCounter::new(*saved).encode(family.encode_family(&[("module", &**module)])?)?;
        }
        if snapshot.instances.len() <= snapshot.instance_series {
            encode_thresholds(&snapshot, &mut encoder)?;
        }
        ConstCounter::new(ebb_service::logging::dropped_lines()).encode(encoder.encode_descriptor(
            "ebb_evaluator_log_lines_dropped",
            "Log lines dropped because standard error was not read fast enough or could not be written to",
            None,
            MetricType::Counter,
        )?)?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(family)
        };
        gauge("ebb_evaluator_lifetimes", "Lifetimes in the history", snapshot.lifetimes as f64)?;
        gauge(
            "ebb_evaluator_dry_run",
            "Whether restarts are decided but not carried out",
            f64::from(u8::from(snapshot.dry_run)),
        )?;
        gauge(
            "ebb_evaluator_holding",
            "Whether the last tick held all restarts",
            f64::from(u8::from(snapshot.hold.is_some())),
        )?;
        gauge(
            "ebb_evaluator_restarts_available",
            "Restarts that the budget would allow immediately",
            snapshot.restarts_available as f64,
        )
    }
}
