//! The fleet → metrics. Read at each scrape; nothing is kept up to date in between.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use ebb_units::{Digest, Generation};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, LabelSetEncoder, MetricEncoder, NoLabelSet,
    },
    metrics::{MetricType, exemplar::Exemplar, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{
    config::Kind,
    engine::WASMTIME_MAJOR,
    fleet::{
        Fleet, Module,
        slot::{Reason, Slot},
    },
    host,
    reload::ReloadStatus,
};

/// A registry with all of the runner's metrics.
#[must_use]
pub fn registry(fleet: Arc<Fleet>, reloads: Arc<ReloadStatus>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(FleetCollector(fleet)));
    registry.register_collector(Box::new(RunnerCollector(reloads)));
    registry.register_collector(Box::new(ebb_service::process::ProcessCollector));
    registry
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
    handles: u32,
    gc_heap: u64,
}

struct ModuleReading {
    module: Arc<Module>,
    digest: Digest,
    memory_limit: u64,
    /// What an instance that begins now may hold.
    handles_limit: u32,
    /// Of modules whose instances can make such calls.
    host_calls: Option<usize>,
    slots: Vec<Reading>,
}

fn read(fleet: &Fleet) -> Vec<ModuleReading> {
    let modules = fleet.modules();
    modules.iter().map(read_module).collect()
}

fn read_module(module: &Arc<Module>) -> ModuleReading {
    let program = module.settings().program;
    ModuleReading {
        module: Arc::clone(module),
        digest: program.digest.clone(),
        memory_limit: program.guest.memory_limit.0,
        handles_limit: program.handles(),
        host_calls: program.host_calls.as_ref().map(|calls| calls.under_way()),
        slots: module.slots().iter().map(|slot| read_slot(slot)).collect(),
    }
}

fn read_slot(slot: &Slot) -> Reading {
    let live = slot.with_live(|live| LiveReading {
        digest: live.program.digest.clone(),
        generation: live.generation,
        memory: live.meter.bytes().0,
        handles: live.handles.count(),
        gc_heap: live.meter.gc_heap_bytes().0,
    });
    Reading { replica: slot.replica.0, live, own_ends: slot.own_ends() }
}

/// Collects what the fleet's instances hold and do.
struct FleetCollector(Arc<Fleet>);

impl fmt::Debug for FleetCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetCollector")
    }
}

impl Collector for FleetCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let readings = read(&self.0);
        encode_lifetimes(&readings, &mut encoder)?;
        encode_slots(&readings, &mut encoder)?;
        encode_modules(&readings, &mut encoder)?;
        encode_traffic(&readings, &mut encoder)
    }
}

fn encode_lifetimes(readings: &[ModuleReading], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
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

fn encode_slots(readings: &[ModuleReading], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
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
        "Times that the slot's instance ended by itself or could not start: it trapped, or left.",
        None,
        MetricType::Counter,
    )?;
    for (labels, slot) in slots() {
        encode_counter(ends.encode_family(&labels)?, slot.own_ends)?;
    }
    Ok(())
}

fn encode_modules(readings: &[ModuleReading], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let module = |reading: &ModuleReading| [("module", reading.module.name.as_str().to_owned())];
    let mut limit = encoder.encode_descriptor(
        "wasm_linear_memory_limit",
        "Memory that an instance may hold: linear memory, and a heap of garbage-collected objects if it has one.",
        Some(&Unit::Bytes),
        MetricType::Gauge,
    )?;
    for reading in readings {
        limit.encode_family(&module(reading))?.encode_gauge(&reading.memory_limit)?;
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
        "Time from a restart's order to the new instance running and the old one's memory given back.",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for reading in readings {
        reading.module.restart_durations.encode(durations.encode_family(&module(reading))?)?;
    }
    let mut reclaimed = encoder.encode_descriptor(
        "wasm_restart_reclaimed",
        "Linear memory given back by ordered restarts.",
        Some(&Unit::Bytes),
        MetricType::Counter,
    )?;
    for reading in readings {
        reading.module.reclaimed_bytes.encode(reclaimed.encode_family(&module(reading))?)?;
    }
    let mut released = encoder.encode_descriptor(
        "wasm_restart_resident_released",
        "Resident memory that left the process while ordered restarts dropped instances.",
        Some(&Unit::Bytes),
        MetricType::Counter,
    )?;
    for reading in readings {
        reading.module.released_bytes.encode(released.encode_family(&module(reading))?)?;
    }
    encode_held(readings, encoder)?;
    let mut info =
        encoder.encode_descriptor("wasm_module", "The module as configured now.", None, MetricType::Info)?;
    for reading in readings {
        info.encode_info(&[
            ("module", reading.module.name.as_str()),
            ("digest", reading.digest.as_str()),
            ("kind", reading.module.kind.as_str()),
        ])?;
    }
    Ok(())
}

/// What modules hold of the host.
fn encode_held(readings: &[ModuleReading], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let module = |reading: &ModuleReading| [("module", reading.module.name.as_str().to_owned())];
    let mut handles = encoder.encode_descriptor(
        "wasm_handles",
        "Files, folders, sockets, bodies, header fields and the like that the module's live instances hold.",
        None,
        MetricType::Gauge,
    )?;
    for reading in readings {
        let held = reading.slots.iter().filter_map(|slot| slot.live.as_ref());
        let held: u64 = held.map(|live| u64::from(live.handles)).sum();
        handles.encode_family(&module(reading))?.encode_gauge(&held)?;
    }
    let mut limit = encoder.encode_descriptor(
        "wasm_handles_limit",
        "Handles that one instance may hold: max_handles, or less if file descriptors are short.",
        None,
        MetricType::Gauge,
    )?;
    for reading in readings {
        limit.encode_family(&module(reading))?.encode_gauge(&u64::from(reading.handles_limit))?;
    }
    if readings.iter().all(|reading| reading.host_calls.is_none()) {
        return Ok(());
    }
    let mut calls = encoder.encode_descriptor(
        "wasm_host_calls",
        "Calls of files and name lookups under way, those of ended instances that never return included.",
        None,
        MetricType::Gauge,
    )?;
    for reading in readings {
        if let Some(under_way) = reading.host_calls {
            calls.encode_family(&module(reading))?.encode_gauge(&(under_way as u64))?;
        }
    }
    Ok(())
}

/// What the clients of HTTP modules were answered.
fn encode_traffic(readings: &[ModuleReading], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let modules: Vec<_> =
        readings.iter().map(|reading| &*reading.module).filter(|module| module.kind == Kind::Http).collect();
    // A runner without such modules has no such families.
    if modules.is_empty() {
        return Ok(());
    }
    let label = |module: &Module| [("module", module.name.as_str().to_owned())];
    let mut requests = encoder.encode_descriptor(
        "wasm_requests",
        "Requests that are over, by the status that the client was answered; 499: it left before.",
        None,
        MetricType::Counter,
    )?;
    for module in &modules {
        for (code, count) in module.traffic.codes() {
            let labels = [("module", module.name.as_str().to_owned()), ("code", code.to_string())];
            encode_counter(requests.encode_family(&labels)?, count)?;
        }
    }
    let mut durations = encoder.encode_descriptor(
        "wasm_request_duration",
        "Time from a request's head to the end of its response.",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for module in &modules {
        module.traffic.durations.encode(durations.encode_family(&label(module))?)?;
    }
    let mut in_flight = encoder.encode_descriptor(
        "wasm_requests_in_flight",
        "Requests under way, those that wait for an instance included.",
        None,
        MetricType::Gauge,
    )?;
    for module in &modules {
        in_flight.encode_family(&label(module))?.encode_gauge(&module.traffic.in_flight())?;
    }
    let mut waiting = encoder.encode_descriptor(
        "wasm_requests_waiting",
        "Requests that wait for an instance.",
        None,
        MetricType::Gauge,
    )?;
    for module in &modules {
        waiting.encode_family(&label(module))?.encode_gauge(&(module.queue.waiting() as u64))?;
    }
    let mut truncated = encoder.encode_descriptor(
        "wasm_responses_truncated",
        "Responses that broke off because their instance failed or was cut off.",
        None,
        MetricType::Counter,
    )?;
    for module in &modules {
        encode_counter(truncated.encode_family(&label(module))?, module.traffic.truncated())?;
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

/// Collects what concerns the runner and its host as a whole.
struct RunnerCollector(Arc<ReloadStatus>);

impl fmt::Debug for RunnerCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RunnerCollector")
    }
}

impl Collector for RunnerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        encoder
            .encode_descriptor(
                "ebb_runner_build",
                "What this runner was built from.",
                None,
                MetricType::Info,
            )?
            .encode_info(&[("version", env!("CARGO_PKG_VERSION")), ("wasmtime", WASMTIME_MAJOR)])?;
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
        };
        gauge(
            "ebb_runner_config_last_reload_successful",
            "Whether the last attempt to read the config, the first included, succeeded.",
            None,
            f64::from(u8::from(self.0.was_successful())),
        )?;
        gauge(
            "ebb_runner_config_last_reload_success_timestamp",
            "When the config was last read with success, in Unix time.",
            Some(&Unit::Seconds),
            self.0.last_success_seconds(),
        )?;
        encode_counter(
            encoder.encode_descriptor(
                "ebb_runner_log_lines_dropped",
                "Log lines that were dropped because standard error was read too slowly, or could not be written.",
                None,
                MetricType::Counter,
            )?,
            ebb_service::logging::dropped_lines(),
        )?;
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
        };
        // Without /proc (a hardened container, say) these are absent.
        if let Some(memory) = host::memory() {
            gauge(
                "ebb_runner_host_memory_total",
                "Memory of the host, or of the tightest control group around the runner.",
                Some(&Unit::Bytes),
                memory.total.as_f64(),
            )?;
            gauge(
                "ebb_runner_host_memory_available",
                "Memory of the host that could be used without swapping.",
                Some(&Unit::Bytes),
                memory.available.as_f64(),
            )?;
        }
        Ok(())
    }
}
