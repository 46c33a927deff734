//! What instances hold and what restarts came to, through OpenTelemetry meters.
//!
//! Read when a reader asks. Names and units are chosen so that Prometheus, given these over OTLP, stores what a scrape of
//! [`exposition`](crate::exposition) would have: `wasm.linear_memory` in `By` becomes `wasm_linear_memory_bytes`.

use std::sync::{Arc, atomic::Ordering};

use opentelemetry::{
    KeyValue,
    metrics::{Meter, ObservableCounter, ObservableGauge},
};

use crate::{
    instances::{Instances, Module},
    restart::Reason,
};

/// The instruments, for as long as they are to be read.
#[derive(Debug)]
pub struct Instruments {
    _counters: [ObservableCounter<u64>; 3],
    _gauges: [ObservableGauge<u64>; 3],
    _start: ObservableGauge<f64>,
}

/// Registers instruments with `meter` that read `instances`.
pub fn register<L: Send + Sync + 'static>(instances: &Arc<Instances<L>>, meter: &Meter) -> Instruments {
    let gauge = |name, unit, about, read: fn(&crate::slot::Live<L>) -> u64| {
        let instances = Arc::clone(instances);
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(about)
            .with_callback(move |observer| {
                each_live(&instances, |labels, live| observer.observe(read(live), labels));
            })
            .build()
    };
    let counter = |name, unit, about, read: fn(&Module<L>) -> u64| {
        let instances = Arc::clone(instances);
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(about)
            .with_callback(move |observer| {
                for module in instances.modules().iter() {
                    observer.observe(read(module), &[KeyValue::new("module", module.name.to_string())]);
                }
            })
            .build()
    };
    let start = {
        let instances = Arc::clone(instances);
        meter
            .f64_observable_gauge("wasm.instance.start_time")
            .with_unit("s")
            .with_description("When the live instance started, in Unix time. It identifies the lifetime.")
            .with_callback(move |observer| {
                each_live(&instances, |labels, live| observer.observe(live.generation.as_seconds(), labels));
            })
            .build()
    };
    let restarts = {
        let instances = Arc::clone(instances);
        meter
            .u64_observable_counter("wasm.instance.restarts")
            .with_description("Restarts of the module's instances, by reason.")
            .with_callback(move |observer| {
                for module in instances.modules().iter() {
                    for (reason, count) in Reason::ALL.iter().zip(module.restarts()) {
                        let labels = [
                            KeyValue::new("module", module.name.to_string()),
                            KeyValue::new("reason", reason.as_str()),
                        ];
                        observer.observe(count, &labels);
                    }
                }
            })
            .build()
    };
    Instruments {
        _counters: [
            restarts,
            counter(
                "wasm.restart.reclaimed",
                "By",
                "Linear memory reclaimed by ordered restarts.",
                |module| module.reclaimed_bytes.get(),
            ),
            counter(
                "wasm.linear_memory.grow_failures",
                "",
                "Requests for memory, initial ones included, that were denied or failed.",
                |module| module.grow_failures.load(Ordering::Relaxed),
            ),
        ],
        _gauges: [
            gauge(
                "wasm.linear_memory",
                "By",
                "Linear memory that the live instance holds: the sum of its memories.",
                |live| live.meter.bytes().0,
            ),
            gauge("wasm.gc_heap", "By", "Heap of garbage-collected objects of the live instance.", |live| {
                live.meter.gc_heap_bytes().0
            }),
            gauge("wasm.linear_memory.limit", "By", "Memory that the live instance may hold.", |live| {
                live.version.memory_limit.0
            }),
        ],
        _start: start,
    }
}

fn each_live<L>(instances: &Instances<L>, mut observe: impl FnMut(&[KeyValue], &crate::slot::Live<L>)) {
    for module in instances.modules().iter() {
        for slot in module.slots().iter() {
            slot.with_live(|live| {
                let labels = [
                    KeyValue::new("module", module.name.to_string()),
                    KeyValue::new("digest", live.version.digest.to_string()),
                    KeyValue::new("replica", i64::from(slot.replica.0)),
                ];
                observe(&labels, live);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use ebb_units::{ByteCount, Digest, Generation};
    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

    use super::*;
    use crate::{
        meter,
        slot::{Live, Version},
    };

    #[test]
    fn a_reader_is_told_what_a_scrape_would_be() {
        let exporter = InMemoryMetricExporter::default();
        let reader = PeriodicReader::builder(exporter.clone()).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        let instances = Arc::new(<Instances>::default());
        let version = Version { digest: Digest::of(b"leaky"), memory_limit: ByteCount::mib(64) };
        let module = instances.add(Module::new("leaky".parse().unwrap(), "command", version.clone()));
        let meter = Arc::new(meter::Meter::default());
        meter.set_bytes(ByteCount(131_072));
        let live = Live { generation: Generation(1_763_848_000_123), version, meter, own: () };
        module.add_slot().set_live(Some(Arc::new(live)));
        let _instruments = register(&instances, &provider.meter("ebb"));
        provider.force_flush().unwrap();
        let told = format!("{:?}", exporter.get_finished_metrics().unwrap());
        for expected in ["wasm.linear_memory", "value: 131072", "value: 1763848000.123", "value: 67108864"] {
            assert!(told.contains(expected), "{expected}: {told}");
        }
    }
}
