//! Wasmtime engines: what all have in common, a pool cut to each module, the clock that makes busy guests
//! give way.
//!
//! Every module has an engine of its own. Its pool can then be exactly as large as the module needs, one
//! module that exhausts its pool does not touch another, and a reload replaces one engine only.

use std::{
    io,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use wasmtime::{
    Config, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, ResourcesRequired,
};

use crate::{
    code_cache::CodeCache,
    config::{EngineConfig, PAGE_BYTES},
    host::MemoryMaps,
};

/// Wasmtime's major version, as the workspace's Cargo.toml pins it: the crate does not tell its own.
pub(crate) const WASMTIME_MAJOR: &str = "48";

/// Elements that a table may grow to when it does not start larger: Wasmtime's own default.
const TABLE_ELEMENTS_MIN: u64 = 20_000;

/// Bounds of a core instance's and a component instance's bookkeeping. They reserve nothing; large
/// modules (an interpreter of 15 MB) exceed Wasmtime's default of 1 MiB.
const CORE_INSTANCE_BYTES_MAX: usize = 16 << 20;
const COMPONENT_INSTANCE_BYTES_MAX: usize = 64 << 20;

/// What a heap of garbage-collected objects begins with. Three pages, since few linear memories do.
const GC_HEAP_INITIAL_BYTES: usize = 3 * PAGE_BYTES as usize;

/// Whether a module's engine knows garbage-collected objects, which exceptions are as well.
///
/// Its instances then have a heap each, which takes as much of the pool as a linear memory does. So an engine
/// knows them only if its module does not compile without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gc {
    /// No exceptions, no typed function references, no references to objects of the host.
    Off,
    /// A heap for each instance.
    On,
}

impl Gc {
    /// What the heap of an instance begins with, if it has one.
    pub(crate) const fn heap_initial_bytes(self) -> Option<usize> {
        match self {
            Self::Off => None,
            Self::On => Some(GC_HEAP_INITIAL_BYTES),
        }
    }
}

/// What one module's pool must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolSize {
    /// Instances at once: replicas, and replacements during restarts.
    pub instances: u32,
    /// Linear memories per instance.
    pub memories: u32,
    /// Tables per instance.
    pub tables: u32,
    /// The largest initial table, in elements.
    pub table_elements: u64,
    /// What a memory can grow to, in bytes.
    pub memory_bytes: u64,
    /// Whether an instance has a heap of garbage-collected objects besides.
    pub gc: Gc,
}

impl PoolSize {
    /// The pool for `instances` of a program that needs `required` each and may hold `limit_bytes`.
    pub(crate) fn new(instances: u32, required: &ResourcesRequired, gc: Gc, limit_bytes: u64) -> Self {
        // A memory that starts larger than its limit still gets a slot it fits in: the limiter denies it
        // instance by instance, with a message that says so, and the module as a whole stays valid.
        let initial_bytes = required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
        Self {
            instances,
            memories: required.num_memories,
            tables: required.num_tables,
            table_elements: required.max_initial_table_size.unwrap_or(0),
            memory_bytes: limit_bytes.max(initial_bytes).next_multiple_of(PAGE_BYTES),
            gc,
        }
    }

    /// Heaps of garbage-collected objects per instance.
    const fn gc_heaps(self) -> u32 {
        match self.gc {
            Gc::Off => 0,
            Gc::On => 1,
        }
    }

    /// What takes a memory's place in the pool, per instance.
    const fn memory_slots(self) -> u32 {
        self.memories.saturating_add(self.gc_heaps())
    }

    fn pooling(self) -> PoolingAllocationConfig {
        let all = |per_instance: u32| self.instances.saturating_mul(per_instance);
        let elements = self.table_elements.max(TABLE_ELEMENTS_MIN);
        let mut pool = PoolingAllocationConfig::new();
        // These three allocate: a slot more costs address space, and a stack two memory maps.
        pool.total_memories(all(self.memory_slots()))
            .total_gc_heaps(all(self.gc_heaps()))
            .total_tables(all(self.tables))
            .total_stacks(self.instances);
        // These only count.
        pool.total_core_instances(u32::MAX)
            .total_component_instances(u32::MAX)
            .max_core_instances_per_component(u32::MAX)
            .max_memories_per_component(u32::MAX)
            .max_tables_per_component(u32::MAX)
            .max_memories_per_module(self.memories.max(1))
            .max_tables_per_module(self.tables.max(1))
            .max_core_instance_size(CORE_INSTANCE_BYTES_MAX)
            .max_component_instance_size(COMPONENT_INSTANCE_BYTES_MAX);
        pool.table_elements(usize::try_from(elements).unwrap_or(usize::MAX))
            .max_memory_size(usize::try_from(self.memory_bytes).unwrap_or(usize::MAX));
        // A restart is worth nothing unless the memory goes back to the host, and at once. A batch of
        // decommits keeps slots waiting for company; memory kept resident is not given back at all.
        // These are Wasmtime's defaults, written down because everything here rests on them.
        pool.decommit_batch_size(1).linear_memory_keep_resident(0).table_keep_resident(0);
        // Every slot is of the same module: reuse the warm ones before touching cold ones.
        pool.max_unused_warm_slots(0);
        pool
    }

    /// Memory maps that the pool needs when full. Measured per instance: its stack and the guard below
    /// it; for each memory the heap and the inaccessible rest, an image if it has data, now and then one
    /// more where the kernel could not merge two.
    pub(crate) fn memory_maps(self) -> MemoryMaps {
        let (instances, memories) = (u64::from(self.instances), u64::from(self.memory_slots()));
        MemoryMaps { least: instances * (2 + 2 * memories), most: instances * (3 + 3 * memories) }
    }
}

/// Makes engines that agree in everything that compiled code depends on.
#[derive(Clone)]
pub(crate) struct Engines {
    cache: Option<Arc<CodeCache>>,
    ticker: Ticker,
    epoch_tick: Duration,
}

impl Engines {
    /// Starts the epoch clock and opens the compile cache. A cache that cannot be opened is done without.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub(crate) fn new(config: &EngineConfig) -> io::Result<Self> {
        let cache = CodeCache::open(&config.compile_cache).map(Arc::new);
        let epoch_tick = config.epoch_tick.0;
        Ok(Self { cache, ticker: Ticker::start(epoch_tick)?, epoch_tick })
    }

    /// How often the epoch advances.
    pub(crate) const fn epoch_tick(&self) -> Duration {
        self.epoch_tick
    }

    /// An engine to compile with and learn what a module needs.
    ///
    /// # Errors
    /// What Wasmtime says.
    pub(crate) fn probe(&self, gc: Gc) -> wasmtime::Result<Engine> {
        Engine::new(&self.config(gc))
    }

    /// An engine to look at imports with. What it compiles is kept nowhere.
    ///
    /// # Errors
    /// What Wasmtime says.
    pub(crate) fn bare(&self) -> wasmtime::Result<Engine> {
        Engine::new(self.config(Gc::On).cache(None))
    }

    /// An engine to run `size` with. Code that the probe compiled comes from the cache: how instances
    /// are allocated is no part of its key.
    ///
    /// # Errors
    /// What Wasmtime says: the pool does not fit into the address space, say.
    pub(crate) fn pooled(&self, size: PoolSize) -> wasmtime::Result<Engine> {
        let mut config = self.config(size.gc);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(size.pooling()));
        let engine = Engine::new(&config)?;
        self.ticker.watch(&engine);
        Ok(engine)
    }

    /// Seals what was compiled into the cache. To be called after each compilation.
    pub(crate) fn seal_cache(&self) {
        if let Some(cache) = &self.cache {
            cache.seal();
        }
    }

    fn config(&self, gc: Gc) -> Config {
        let gc = gc == Gc::On;
        let mut config = Config::new();
        config
            .gc_support(gc)
            .wasm_gc(gc)
            .wasm_function_references(gc)
            .wasm_exceptions(gc)
            .gc_heap_initial_size(GC_HEAP_INITIAL_BYTES as u64)
            .epoch_interruption(true)
            // Growth is told by stacks, and those of interpreters are deep.
            .wasm_backtrace_max_frames(NonZeroUsize::new(64))
            .memory_init_cow(true)
            .wasm_multi_memory(true)
            // WASI 0.3.
            .wasm_component_model_async(true)
            // The meter rests on these two: shared memories grow without asking the limiter, and custom
            // page sizes report failures of grows that were never announced.
            .shared_memory(false)
            .wasm_custom_page_sizes(false)
            .cache(self.cache.as_ref().map(|cache| cache.wasmtime()));
        config
    }
}

/// Advances the epoch of every live engine, from a thread of its own. Stops with its last clone.
#[derive(Clone)]
struct Ticker(Arc<TickerInner>);

struct TickerInner {
    shared: Arc<TickerShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct TickerShared {
    engines: Mutex<Vec<EngineWeak>>,
    stopped: AtomicBool,
}

impl Ticker {
    fn start(tick: Duration) -> io::Result<Self> {
        let shared = Arc::new(TickerShared::default());
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("ebb-epoch".to_owned()).spawn(move || {
            while !seen.stopped.load(Ordering::Relaxed) {
                thread::sleep(tick);
                let mut engines = seen.engines.lock().unwrap_or_else(PoisonError::into_inner);
                engines.retain(|weak| weak.upgrade().map(|engine| engine.increment_epoch()).is_some());
            }
        })?;
        Ok(Self(Arc::new(TickerInner { shared, thread: Some(thread) })))
    }

    fn watch(&self, engine: &Engine) {
        let mut engines = self.0.shared.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.push(engine.weak());
    }
}

impl Drop for TickerInner {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within a tick. A panic in there would already have been printed.
            let _ = thread.join();
        }
    }
}
