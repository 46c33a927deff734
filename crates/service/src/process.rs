//! The standard `process_*` metrics, read from `/proc/self` at each scrape.
//!
//! Names: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use procfs::{WithCurrentSystemInfo as _, process::Process};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Collects the metrics of the process it lives in.
#[derive(Debug)]
pub struct ProcessCollector;

struct Reading {
    cpu_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    start_seconds: f64,
    threads: i64,
    open_files: Option<u64>,
    open_files_max: Option<u64>,
}

fn read() -> procfs::ProcResult<Reading> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks_per_second = procfs::ticks_per_second() as f64;
    let boot_seconds = procfs::boot_time_secs()? as f64;
    let limit = process.limits().ok().map(|limits| limits.max_open_files.soft_limit);
    Ok(Reading {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks_per_second,
        resident_bytes: stat.rss_bytes().get(),
        virtual_bytes: stat.vsize,
        start_seconds: boot_seconds + stat.starttime as f64 / ticks_per_second,
        threads: stat.num_threads,
        open_files: process.fd_count().ok().map(|count| count as u64),
        open_files_max: limit.and_then(|limit| match limit {
            procfs::process::LimitValue::Value(value) => Some(value),
            procfs::process::LimitValue::Unlimited => None,
        }),
    })
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        // Without /proc (a hardened container, say) the family is absent, as in other client libraries.
        let Ok(reading) = read() else { return Ok(()) };
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
        };
        gauge(
            "process_resident_memory",
            "Resident memory",
            Some(&Unit::Bytes),
            to_f64(reading.resident_bytes),
        )?;
        gauge("process_virtual_memory", "Virtual memory", Some(&Unit::Bytes), to_f64(reading.virtual_bytes))?;
        gauge(
            "process_start_time",
            "Start of the process, Unix time",
            Some(&Unit::Seconds),
            reading.start_seconds,
        )?;
        gauge("process_threads", "Operating system threads", None, to_f64(reading.threads.unsigned_abs()))?;
        if let Some(open) = reading.open_files {
            gauge("process_open_fds", "Open file descriptors", None, to_f64(open))?;
        }
        if let Some(max) = reading.open_files_max {
            gauge("process_max_fds", "Limit of open file descriptors", None, to_f64(max))?;
        }
        let cpu = ConstCounter::new(reading.cpu_seconds);
        cpu.encode(encoder.encode_descriptor(
            "process_cpu",
            "User and system CPU time spent",
            Some(&Unit::Seconds),
            cpu.metric_type(),
        )?)
    }
}

const fn to_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::exposition::{Format, render};

    #[test]
    fn the_process_tells_its_memory_and_cpu_time() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector));
        let text = render(&registry, Format::Text, 0).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_start_time_seconds") > 1.6e9);
        assert!(value("process_open_fds") >= 3.0);
    }
}
