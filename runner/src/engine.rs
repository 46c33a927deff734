//! Wasmtime engines: what all have in common, a pool cut to each module, the clock that makes busy guests
//! give way, and compiled code on disk.
//!
//! Every module has an engine of its own. Its pool can then be exactly as large as the module needs, one
//! module that exhausts its pool does not touch another, and a reload replaces one engine only.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::warn;
use wasmtime::{
    Cache, CacheConfig, Config, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig,
    ResourcesRequired,
};

use crate::{
    config::{EngineConfig, OwnFolder, PAGE_BYTES},
    host::MemoryMaps,
};

/// Elements that a table may grow to when it does not start larger: Wasmtime's own default.
const TABLE_ELEMENTS_MIN: u64 = 20_000;

/// Bounds of a core instance's and a component instance's bookkeeping. They reserve nothing; large
/// modules (an interpreter of 15 MB) exceed Wasmtime's default of 1 MiB.
const CORE_INSTANCE_BYTES_MAX: usize = 16 << 20;
const COMPONENT_INSTANCE_BYTES_MAX: usize = 64 << 20;

/// What one module's pool must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize {
    /// Instances at once: replicas, and successors during restarts.
    pub instances: u32,
    /// Linear memories per instance.
    pub memories: u32,
    /// Tables per instance.
    pub tables: u32,
    /// The largest initial table, in elements.
    pub table_elements: u64,
    /// What a memory can grow to, in bytes.
    pub memory_bytes: u64,
}

impl PoolSize {
    /// The pool for `instances` of a program that needs `required` each and may hold `limit_bytes`.
    #[must_use]
    pub fn new(instances: u32, required: &ResourcesRequired, limit_bytes: u64) -> Self {
        // A memory that starts larger than its limit still gets a slot it fits in: the limiter denies it
        // instance by instance, with a message that says so, and the module as a whole stays valid.
        let initial_bytes = required.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
        Self {
            instances,
            memories: required.num_memories,
            tables: required.num_tables,
            table_elements: required.max_initial_table_size.unwrap_or(0),
            memory_bytes: limit_bytes.max(initial_bytes).next_multiple_of(PAGE_BYTES),
        }
    }

    fn pooling(self) -> PoolingAllocationConfig {
        let all = |per_instance: u32| self.instances.saturating_mul(per_instance);
        let elements = self.table_elements.max(TABLE_ELEMENTS_MIN);
        let mut pool = PoolingAllocationConfig::new();
        // These three allocate: a slot more costs address space, and a stack two memory maps.
        pool.total_memories(all(self.memories)).total_tables(all(self.tables)).total_stacks(self.instances);
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
    #[must_use]
    pub fn memory_maps(self) -> MemoryMaps {
        let (instances, memories) = (u64::from(self.instances), u64::from(self.memories));
        MemoryMaps { least: instances * (2 + 2 * memories), most: instances * (3 + 3 * memories) }
    }
}

/// Makes engines that agree in everything that compiled code depends on.
#[derive(Clone)]
pub struct Engines {
    cache: Option<Cache>,
    ticker: Ticker,
    epoch_tick: Duration,
}

impl Engines {
    /// Starts the epoch clock and opens the compile cache. A cache that cannot be opened is done without.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn new(config: &EngineConfig) -> io::Result<Self> {
        let cache = cache_folder(&config.compile_cache).and_then(|folder| match open_cache(&folder) {
            Ok(cache) => Some(cache),
            Err(error) => {
                warn!(folder = %folder.display(), "no compile cache: {error:#}");
                None
            }
        });
        let epoch_tick = config.epoch_tick.0;
        Ok(Self { cache, ticker: Ticker::start(epoch_tick)?, epoch_tick })
    }

    /// How often the epoch advances.
    #[must_use]
    pub const fn epoch_tick(&self) -> Duration {
        self.epoch_tick
    }

    /// An engine to compile with and learn what a module needs.
    ///
    /// # Errors
    /// What Wasmtime says.
    pub fn probe(&self) -> wasmtime::Result<Engine> {
        Engine::new(&self.config())
    }

    /// An engine to run `size` with. Code that the probe compiled comes from the cache: how instances
    /// are allocated is no part of its key.
    ///
    /// # Errors
    /// What Wasmtime says: the pool does not fit into the address space, say.
    pub fn pooled(&self, size: PoolSize) -> wasmtime::Result<Engine> {
        let mut config = self.config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(size.pooling()));
        let engine = Engine::new(&config)?;
        self.ticker.watch(&engine);
        Ok(engine)
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .epoch_interruption(true)
            .memory_init_cow(true)
            .wasm_multi_memory(true)
            // WASI 0.3.
            .wasm_component_model_async(true)
            // The meter rests on these two: shared memories grow without asking the limiter, and custom
            // page sizes report failures of grows that were never announced.
            .shared_memory(false)
            .wasm_custom_page_sizes(false)
            .cache(self.cache.clone());
        config
    }
}

fn cache_folder(choice: &OwnFolder) -> Option<PathBuf> {
    let folder = match choice {
        OwnFolder::Off => return None,
        OwnFolder::Folder(folder) => folder.clone(),
        // No fallback to a shared temporary folder: code found in the cache is run as it is, so nobody
        // else may be able to put some there.
        OwnFolder::Default => {
            let of = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let Some(base) = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")))
            else {
                warn!(
                    "no compile cache: neither XDG_CACHE_HOME nor HOME is set; name a folder in engine.compile_cache"
                );
                return None;
            };
            base.join("ebb").join("compiled")
        }
    };
    Some(folder)
}

fn open_cache(folder: &Path) -> wasmtime::Result<Cache> {
    fs::create_dir_all(folder)?;
    let mut config = CacheConfig::new();
    config.with_directory(folder.canonicalize()?);
    Cache::new(config)
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
