//! What instances hold and what restarts came to, as metrics. Read at each scrape; nothing is kept up to date in between.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

#[cfg(feature = "http")]
use ebb_service::exposition::{Format, render};
use ebb_units::{Digest, Generation};
#[cfg(feature = "http")]
use prometheus_client::registry::Registry;
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, LabelSetEncoder, MetricEncoder, NoLabelSet,
    },
    metrics::{MetricType, exemplar::Exemplar},
    registry::Unit,
};

use crate::{
    instances::{Instances, Module},
    restart::Reason,
    slot::{Slot, Version},
};

/// Collects the metrics of all instances.
#[derive(Debug)]
pub struct InstancesCollector<L>(pub Arc<Instances<L>>);

impl<L: fmt::Debug + Send + Sync + 'static> Collector for InstancesCollector<L> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let modules = self.0.modules();
        let readings: Vec<_> = modules.iter().map(|module| read_module(module)).collect();
        encode_lifetimes(&readings, &mut encoder)?;
        encode_slots(&readings, &mut encoder)?;
        encode_modules(&readings, &mut encoder)
    }
}

/// The answer to a scrape: its `Content-Type`, and what [`InstancesCollector`] collects. `accept`: the request's `Accept` header,
/// empty where there is none.
///
/// # Errors
/// When a metric cannot be written.
#[cfg(feature = "http")]
pub fn answer<L: fmt::Debug + Send + Sync + 'static>(
    instances: &Arc<Instances<L>>,
    accept: &str,
) -> Result<(&'static str, String), fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(InstancesCollector(Arc::clone(instances))));
    let format = Format::accepted(accept.split(','));
    Ok((format.content_type(), render(&registry, format, 0)?))
}

/// What one slot says at one moment. All families of a scrape are written from the same reading: were
/// memory and start time read apart, a restart in between would give the new lifetime the old one's memory.
struct Reading {
    replica: u32,
    live: Option<LiveReading>,
    own_ends: u64,
}

struct LiveReading {
    digest: Digest,
    generation: Generation,
    memory: u64,
    gc_heap: u64,
}

struct ModuleReading<'a, L> {
    module: &'a Module<L>,
    version: Arc<Version>,
    slots: Vec<Reading>,
}

fn read_module<L>(module: &Module<L>) -> ModuleReading<'_, L> {
    let slots = module.slots().iter().map(|slot| read_slot(slot)).collect();
    ModuleReading { module, version: module.version(), slots }
}

fn read_slot<L>(slot: &Slot<L>) -> Reading {
    let live = slot.with_live(|live| LiveReading {
        digest: live.version.digest.clone(),
        generation: live.generation,
        memory: live.meter.bytes().0,
        gc_heap: live.meter.gc_heap_bytes().0,
    });
    Reading { replica: slot.replica.0, live, own_ends: slot.own_ends() }
}

fn encode_lifetimes<L>(
    readings: &[ModuleReading<'_, L>],
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    let lives = || {
        readings.iter().flat_map(|reading| {
            reading.slots.iter().filter_map(|slot| {
                let live = slot.live.as_ref()?;
                let labels = LifetimeLabels {
                    module: reading.module.name.as_str(),
                    digest: live.digest.as_str(),
                    replica: slot.replica,
                };
                Some((labels, live))
            })
        })
    };
    let mut memory = encoder.encode_descriptor(
        "wasm_linear_memory",
        "Linear memory that the live instance holds: the sum of its memories.",
        Some(&Unit::Bytes),
        MetricType::Gauge,
    )?;
    for (labels, live) in lives() {
        memory.encode_family(&labels)?.encode_gauge(&live.memory)?;
    }
    // Only for those that have such a heap; a runner without any has no such family.
    let mut heaps = lives().filter(|(_, live)| live.gc_heap > 0).peekable();
    if heaps.peek().is_some() {
        let mut heap = encoder.encode_descriptor(
            "wasm_gc_heap",
            "Heap of garbage-collected objects of the live instance, counted against its limit like linear memory.",
            Some(&Unit::Bytes),
            MetricType::Gauge,
        )?;
        for (labels, live) in heaps {
            heap.encode_family(&labels)?.encode_gauge(&live.gc_heap)?;
        }
    }
    let mut started = encoder.encode_descriptor(
        "wasm_instance_start_time",
        "When the live instance started, in Unix time. It identifies the lifetime.",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    for (labels, live) in lives() {
        started.encode_family(&labels)?.encode_gauge(&live.generation.as_seconds())?;
    }
    Ok(())
}

fn encode_slots<L>(readings: &[ModuleReading<'_, L>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let slots = || {
        readings.iter().flat_map(|reading| {
            reading.slots.iter().map(|slot| {
                let labels = SlotLabels { module: reading.module.name.as_str(), replica: slot.replica };
                (labels, slot)
            })
        })
    };
    let mut up = encoder.encode_descriptor(
        "wasm_instance_up",
        "Whether an instance is live in the slot.",
        None,
        MetricType::Gauge,
    )?;
    for (labels, slot) in slots() {
        up.encode_family(&labels)?.encode_gauge(&u64::from(slot.live.is_some()))?;
    }
    let mut ends = encoder.encode_descriptor(
        "wasm_instance_ends",
        "How often the slot's instance ended by itself or could not start.",
        None,
        MetricType::Counter,
    )?;
    for (labels, slot) in slots() {
        encode_counter(ends.encode_family(&labels)?, slot.own_ends)?;
    }
    Ok(())
}

fn encode_modules<L>(readings: &[ModuleReading<'_, L>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let module = |reading: &ModuleReading<'_, L>| [("module", reading.module.name.as_str().to_owned())];
    let mut limit = encoder.encode_descriptor(
        "wasm_linear_memory_limit",
        "Memory that an instance may hold: linear memory, and a heap of garbage-collected objects if it has one.",
        Some(&Unit::Bytes),
        MetricType::Gauge,
    )?;
    for reading in readings {
        limit.encode_family(&module(reading))?.encode_gauge(&reading.version.memory_limit.0)?;
    }
    let mut failures = encoder.encode_descriptor(
        "wasm_linear_memory_grow_failures",
        "Requests for memory, initial ones included, that were denied or failed.",
        None,
        MetricType::Counter,
    )?;
    for reading in readings {
        let count = reading.module.grow_failures.load(Ordering::Relaxed);
        encode_counter(failures.encode_family(&module(reading))?, count)?;
    }
    let mut restarts = encoder.encode_descriptor(
        "wasm_instance_restarts",
        "Restarts of the module's instances, by reason.",
        None,
        MetricType::Counter,
    )?;
    for reading in readings {
        for (reason, count) in Reason::ALL.iter().zip(reading.module.restarts()) {
            let labels = [("module", reading.module.name.as_str()), ("reason", reason.as_str())];
            encode_counter(restarts.encode_family(&labels)?, count)?;
        }
    }
    let mut durations = encoder.encode_descriptor(
        "wasm_restart_duration",
        "Time from a restart order until the new instance runs and the old one's memory is freed.",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for reading in readings {
        reading.module.restart_durations.encode(durations.encode_family(&module(reading))?)?;
    }
    let mut reclaimed = encoder.encode_descriptor(
        "wasm_restart_reclaimed",
        "Linear memory reclaimed by ordered restarts.",
        Some(&Unit::Bytes),
        MetricType::Counter,
    )?;
    for reading in readings {
        reading.module.reclaimed_bytes.encode(reclaimed.encode_family(&module(reading))?)?;
    }
    let mut released = encoder.encode_descriptor(
        "wasm_restart_resident_released",
        "Resident memory that the process released while ordered restarts dropped instances.",
        Some(&Unit::Bytes),
        MetricType::Counter,
    )?;
    for reading in readings {
        reading.module.released_bytes.encode(released.encode_family(&module(reading))?)?;
    }
    let mut info =
        encoder.encode_descriptor("wasm_module", "The module as configured now.", None, MetricType::Info)?;
    for reading in readings {
        info.encode_info(&[
            ("module", reading.module.name.as_str()),
            ("digest", reading.version.digest.as_str()),
            ("kind", reading.module.kind),
        ])?;
    }
    Ok(())
}

fn encode_counter(mut encoder: MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
}

/// Written label by label from borrowed text, so that ten thousand series allocate nothing.
struct SlotLabels<'a> {
    module: &'a str,
    replica: u32,
}

struct LifetimeLabels<'a> {
    module: &'a str,
    digest: &'a str,
    replica: u32,
}

impl EncodeLabelSet for &SlotLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        (*self).encode(encoder)
    }
}

impl EncodeLabelSet for SlotLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeLabel as _;
        ("module", self.module).encode(encoder.encode_label())?;
        ("replica", self.replica).encode(encoder.encode_label())
    }
}

impl EncodeLabelSet for LifetimeLabels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        use prometheus_client::encoding::EncodeLabel as _;
        ("module", self.module).encode(encoder.encode_label())?;
        ("digest", self.digest).encode(encoder.encode_label())?;
        ("replica", self.replica).encode(encoder.encode_label())
    }
}
