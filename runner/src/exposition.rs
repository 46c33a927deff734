//! The fleet → metrics. Read at each scrape; nothing is kept up to date in between.

use std::{fmt, sync::Arc};

use ebb_host::exposition::InstancesCollector;
use ebb_service::exposition::encode_counter;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::{
    engine::WASMTIME_MAJOR,
    exchange::service::Service,
    fleet::{Fleet, Module},
    host,
    reload::ReloadStatus,
};

/// A registry with all of the runner's metrics.
pub(crate) fn registry(fleet: Arc<Fleet>, reloads: Arc<ReloadStatus>) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(InstancesCollector(Arc::clone(fleet.instances()))));
    registry.register_collector(Box::new(FleetCollector(fleet)));
    registry.register_collector(Box::new(RunnerCollector(reloads)));
    registry.register_collector(Box::new(ebb_service::process::ProcessCollector));
    registry
}

/// Collects what modules hold of the host, and what they answer.
struct FleetCollector(Arc<Fleet>);

impl fmt::Debug for FleetCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetCollector")
    }
}

impl Collector for FleetCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let modules = self.0.modules();
        encode_held(&modules, &mut encoder)?;
        encode_traffic(&modules, &mut encoder)
    }
}

/// What modules hold of the host.
fn encode_held(modules: &[Arc<Module>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let label = |module: &Module| [("module", module.host.name.as_str().to_owned())];
    let mut handles = encoder.encode_descriptor(
        "wasm_handles",
        "Files, folders, sockets, bodies, header fields and the like that the module's live instances hold.",
        None,
        MetricType::Gauge,
    )?;
    for module in modules {
        let slots = module.host.slots();
        let held = slots.iter().filter_map(|slot| slot.with_live(|live| live.own.handles.count()));
        let held: u64 = held.map(u64::from).sum();
        handles.encode_family(&label(module))?.encode_gauge(&held)?;
    }
    let mut limit = encoder.encode_descriptor(
        "wasm_handles_limit",
        "Handles that one instance may hold: max_handles, or less if file descriptors are short.",
        None,
        MetricType::Gauge,
    )?;
    for module in modules {
        limit.encode_family(&label(module))?.encode_gauge(&u64::from(module.settings().program.handles()))?;
    }
    let host_calls: Vec<_> = modules
        .iter()
        .filter_map(|module| {
            let host_calls = module.settings().program.host_calls.clone()?;
            Some((label(module), host_calls.under_way()))
        })
        .collect();
    if host_calls.is_empty() {
        return Ok(());
    }
    let mut calls = encoder.encode_descriptor(
        "wasm_host_calls",
        "File operations and name lookups in progress, including those of ended instances that never return.",
        None,
        MetricType::Gauge,
    )?;
    for (label, under_way) in host_calls {
        calls.encode_family(&label)?.encode_gauge(&(under_way as u64))?;
    }
    Ok(())
}

/// What the clients of HTTP modules were answered.
fn encode_traffic(modules: &[Arc<Module>], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let services: Vec<_> = modules.iter().filter_map(|module| module.kind.service()).collect();
    // A runner without such modules has no such families.
    if services.is_empty() {
        return Ok(());
    }
    let label = |service: &Service| [("module", service.module.as_str().to_owned())];
    let mut requests = encoder.encode_descriptor(
        "wasm_requests",
        "Finished requests by response status; 499: the client left first.",
        None,
        MetricType::Counter,
    )?;
    for service in &services {
        for (code, count) in service.traffic.codes() {
            let labels = [("module", service.module.as_str().to_owned()), ("code", code.to_string())];
            encode_counter(requests.encode_family(&labels)?, count)?;
        }
    }
    let mut durations = encoder.encode_descriptor(
        "wasm_request_duration",
        "Time from a request's head to the end of its response.",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for service in &services {
        service.traffic.durations.encode(durations.encode_family(&label(service))?)?;
    }
    let mut in_flight = encoder.encode_descriptor(
        "wasm_requests_in_flight",
        "Requests in progress, including those that wait for an instance.",
        None,
        MetricType::Gauge,
    )?;
    for service in &services {
        in_flight.encode_family(&label(service))?.encode_gauge(&service.traffic.in_flight())?;
    }
    let mut waiting = encoder.encode_descriptor(
        "wasm_requests_waiting",
        "Requests that wait for an instance.",
        None,
        MetricType::Gauge,
    )?;
    for service in &services {
        waiting.encode_family(&label(service))?.encode_gauge(&(service.queue.waiting() as u64))?;
    }
    let mut truncated = encoder.encode_descriptor(
        "wasm_responses_truncated",
        "Responses cut short because their instance failed or was stopped.",
        None,
        MetricType::Counter,
    )?;
    for service in &services {
        encode_counter(truncated.encode_family(&label(service))?, service.traffic.truncated())?;
    }
    Ok(())
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
            "When the config was last read successfully, in Unix time.",
            Some(&Unit::Seconds),
            self.0.last_success_seconds(),
        )?;
        encode_counter(
            encoder.encode_descriptor(
                "ebb_runner_log_lines_dropped",
                "Log lines dropped because standard error was not read fast enough or could not be written to.",
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
