//! What instances hold and what restarts came to, through OpenTelemetry meters.
//!
//! Read when a reader asks. Names and units are chosen so that Prometheus, given these over OTLP, stores them under the names
//! that a scrape of [`exposition`](crate::exposition) has: `wasm.linear_memory` in `By` becomes `wasm_linear_memory_bytes`. Left out
//! are `wasm_restart_duration_seconds`, `wasm_restart_resident_released_bytes_total` and `wasm_module_info`.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use ebb_units::Generation;
use opentelemetry::{KeyValue, metrics::Meter};

use crate::{
    instances::{Instances, Module},
    restart::Reason,
    slot::Slot,
};

/// Has `meter` read `instances`, for as long as its provider lives.
pub fn register<L: Send + Sync + 'static>(instances: &Arc<Instances<L>>, meter: &Meter) {
    let readings = Arc::new(Readings { instances: Arc::clone(instances), newest: Mutex::new(None) });
    let gauge = |name, unit, about, read: fn(&Reading) -> Option<u64>| {
        let readings = Arc::clone(&readings);
        let gauge = meter.u64_observable_gauge(name).with_unit(unit).with_description(about);
        gauge
            .with_callback(move |observer| {
                for reading in readings.read().iter() {
                    if let Some(value) = read(reading) {
                        observer.observe(value, &reading.labels);
                    }
                }
            })
            .build();
    };
    gauge("wasm.linear_memory", "By", "Linear memory that the live instance holds.", |reading| {
        Some(reading.memory)
    });
    gauge("wasm.gc_heap", "By", "Heap of garbage-collected objects of the live instance.", |reading| {
        Some(reading.gc_heap).filter(|bytes| *bytes > 0)
    });
    let of_lifetimes = Arc::clone(&readings);
    meter
        .f64_observable_gauge("wasm.instance.start_time")
        .with_unit("s")
        .with_description("When the live instance started, in Unix time. It identifies the lifetime.")
        .with_callback(move |observer| {
            for reading in of_lifetimes.read().iter() {
                observer.observe(reading.generation.as_seconds(), &reading.labels);
            }
        })
        .build();
    register_slots(instances, meter);
    register_modules(instances, meter);
}

fn register_slots<L: Send + Sync + 'static>(instances: &Arc<Instances<L>>, meter: &Meter) {
    let each = |instances: &Instances<L>, observe: &dyn Fn(&Slot<L>, &[KeyValue])| {
        for module in instances.modules().iter() {
            for slot in module.slots().iter() {
                let replica = KeyValue::new("replica", i64::from(slot.replica.0));
                observe(slot, &[of_module(module), replica]);
            }
        }
    };
    let of_slots = Arc::clone(instances);
    meter
        .u64_observable_gauge("wasm.instance.up")
        .with_description("Whether an instance is live in the slot.")
        .with_callback(move |observer| {
            each(&of_slots, &|slot, labels| observer.observe(u64::from(slot.live().is_some()), labels));
        })
        .build();
    let of_slots = Arc::clone(instances);
    meter
        .u64_observable_counter("wasm.instance.ends")
        .with_description("How often the slot's instance ended by itself or could not start.")
        .with_callback(move |observer| {
            each(&of_slots, &|slot, labels| observer.observe(slot.own_ends(), labels));
        })
        .build();
}

fn register_modules<L: Send + Sync + 'static>(instances: &Arc<Instances<L>>, meter: &Meter) {
    let counter = |name, unit, about, read: fn(&Module<L>) -> u64| {
        let instances = Arc::clone(instances);
        let counter = meter.u64_observable_counter(name).with_unit(unit).with_description(about);
        counter
            .with_callback(move |observer| {
                for module in instances.modules().iter() {
                    observer.observe(read(module), &[of_module(module)]);
                }
            })
            .build();
    };
    counter("wasm.restart.reclaimed", "By", "Linear memory reclaimed by ordered restarts.", |module| {
        module.reclaimed_bytes.get()
    });
    let about = "Requests for memory, initial ones included, that were denied or failed.";
    counter("wasm.linear_memory.grow_failures", "", about, |module| {
        module.grow_failures.load(Ordering::Relaxed)
    });
    let of_modules = Arc::clone(instances);
    meter
        .u64_observable_gauge("wasm.linear_memory.limit")
        .with_unit("By")
        .with_description("Memory that an instance may hold.")
        .with_callback(move |observer| {
            for module in of_modules.modules().iter() {
                observer.observe(module.version().memory_limit.0, &[of_module(module)]);
            }
        })
        .build();
    let of_modules = Arc::clone(instances);
    meter
        .u64_observable_counter("wasm.instance.restarts")
        .with_description("Restarts of the module's instances, by reason.")
        .with_callback(move |observer| {
            for module in of_modules.modules().iter() {
                for (reason, count) in Reason::ALL.iter().zip(module.restarts()) {
                    observer.observe(count, &[of_module(module), KeyValue::new("reason", reason.as_str())]);
                }
            }
        })
        .build();
}

fn of_module<L>(module: &Module<L>) -> KeyValue {
    KeyValue::new("module", module.name.to_string())
}

/// What the live instances hold. All gauges of a collection are read from the same: were memory and start time read apart, a restart
/// in between would give the new lifetime the old one's memory.
struct Readings<L> {
    instances: Arc<Instances<L>>,
    newest: Mutex<Option<(Instant, Arc<[Reading]>)>>,
}

/// What one lifetime says at one moment.
struct Reading {
    labels: [KeyValue; 3],
    generation: Generation,
    memory: u64,
    gc_heap: u64,
}

impl<L> Readings<L> {
    fn read(&self) -> Arc<[Reading]> {
        /// A collection takes less, and is not repeated so soon.
        const FRESH: Duration = Duration::from_millis(100);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, readings)) = newest.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return Arc::clone(readings);
        }
        let mut readings = Vec::new();
        for module in self.instances.modules().iter() {
            for slot in module.slots().iter() {
                readings.extend(slot.with_live(|live| Reading {
                    labels: [
                        of_module(module),
                        KeyValue::new("digest", live.version.digest.to_string()),
                        KeyValue::new("replica", i64::from(slot.replica.0)),
                    ],
                    generation: live.generation,
                    memory: live.meter.bytes().0,
                    gc_heap: live.meter.gc_heap_bytes().0,
                }));
            }
        }
        let readings: Arc<[Reading]> = readings.into();
        *newest = Some((Instant::now(), Arc::clone(&readings)));
        readings
    }
}
