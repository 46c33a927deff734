//! A module's file → a program that can be instantiated: read, compiled, linked, given a pool.
//!
//! `binary` reads the file, `world` its imports and exports; `link` judges these before the module is compiled, and
//! links it then. Everything that can be wrong with a module is found here, before an instance is touched.

mod binary;
mod error;
mod link;
mod world;

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ebb_host::{growth::Profile, limiter::Limiter};
use ebb_units::{Digest, Generation, ModuleName, Replica};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::{context::TokioContext, task::AbortOnDropHandle};
use wasmtime::{Module, ResourcesRequired, component::Component};

use self::error::ProgramErrorCause;
pub(crate) use self::{binary::Binary, error::ProgramError};
use crate::{
    config::{Destination, GuestConfig, KindConfig, ModuleConfig},
    descriptors::Claim,
    engine::{Engines, Gc, PoolSize},
    guest::{GuestState, Linked, Prepared, StartError, host_calls::HostCalls, view},
    host::{self, Fit},
    kind::Kind,
};

/// Handles that an instance may hold, unless configured: what a program has open, and some.
const HANDLES_USUAL: u32 = 512;

/// Handles that a request takes: header fields, bodies, streams, what they wait for, and what the guest itself asks for.
const HANDLES_PER_REQUEST: u32 = 32;

/// A module, ready to be instantiated.
pub(crate) struct Program {
    /// The module's name.
    pub name: ModuleName,
    /// Which binary this is.
    pub digest: Digest,
    /// What its instances may see and use.
    pub guest: GuestConfig,
    kind: KindConfig,
    /// What its pool holds.
    pub size: PoolSize,
    /// Where its instances' host calls wait, if they can make any that block.
    pub host_calls: Option<Arc<HostCalls>>,
    /// Handles that each instance may hold, as far as descriptors reach.
    handles: AtomicU32,
    outgoing: Arc<[Destination]>,
    linked: Linked,
    epoch_tick: Duration,
}

impl Program {
    /// Compiles and links `binary` with room for the module's instances. Takes as long as compiling
    /// does, on all processors. `kind`: the module's. `host_calls`: its threads, if it has some already.
    ///
    /// # Errors
    /// [`ProgramError`] names the module, its file, what was tried and what was expected.
    pub(crate) fn new(
        engines: &Engines,
        config: &ModuleConfig,
        kind: &Kind,
        binary: &Binary,
        host_calls: Option<Arc<HostCalls>>,
    ) -> Result<Self, ProgramError> {
        let built = build(engines, config, kind, binary, host_calls);
        engines.seal_cache();
        built.map_err(|cause| cause.of(config))
    }

    /// Whether instances of both are alike: the same binary, which may see and use the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.digest == other.digest && self.guest == other.guest && self.kind.is_like(&other.kind)
    }

    /// Whether it is what `config` and `binary` would become, with room for as many instances.
    pub(crate) fn fits(&self, config: &ModuleConfig, binary: &Binary) -> bool {
        self.digest == binary.digest
            && self.guest == config.guest
            && self.kind.is_like(&config.kind)
            && self.size.instances >= instances(config)
    }

    /// Instantiates a new lifetime, which then waits to be run.
    ///
    /// # Errors
    /// [`StartError`].
    pub(crate) async fn prepare(
        self: Arc<Self>,
        replica: Replica,
        generation: Generation,
        grow_failures: Arc<AtomicU64>,
        growth: Option<Arc<Profile>>,
        start_timeout: Duration,
    ) -> Result<Prepared, StartError> {
        let started = Instant::now();
        let too_late = |_| StartError::Timeout(start_timeout);
        let handle = self.host_calls_or(&Handle::current());
        let wasi = if self.guest.dirs.is_empty() {
            view::view(&self.guest, &self.name, replica, generation)?
        } else {
            // A folder on a dead mount blocks whoever opens it.
            let program = Arc::clone(&self);
            let open = move || view::view(&program.guest, &program.name, replica, generation);
            // Given up with this: one that has not begun yet does not begin.
            let opened = timeout(start_timeout, AbortOnDropHandle::new(handle.spawn_blocking(open))).await;
            let opened = opened.map_err(|_| StartError::Folders(start_timeout))?;
            opened.map_err(|error| StartError::Host(error.to_string()))??
        };
        let ready = Arc::new(AtomicBool::new(false));
        let mut limiter = Limiter::new(self.guest.memory_limit).counting(grow_failures);
        if let Some(growth) = growth {
            limiter = limiter.profiling(self.linked.engine(), growth, Arc::clone(&ready));
        }
        if let Some(initial_bytes) = self.size.gc.heap_initial_bytes() {
            limiter = limiter.with_gc_heap(initial_bytes);
        }
        let state = GuestState::new(wasi, limiter, Arc::clone(&self.outgoing), self.handles());
        let left = start_timeout.saturating_sub(started.elapsed());
        let prepared = TokioContext::new(Prepared::new(&self.linked, state, self.epoch_tick), handle);
        let prepared = timeout(left, prepared).await.map_err(too_late)??;
        ready.store(true, Ordering::Relaxed);
        Ok(prepared)
    }

    /// What its instances may hold of the process's descriptors.
    pub(crate) fn claim(&self) -> Claim {
        let GuestConfig { dirs, inherit_network, max_handles, .. } = &self.guest;
        let usual = self.linked.concurrency().get().saturating_mul(HANDLES_PER_REQUEST).max(HANDLES_USUAL);
        Claim {
            module: self.name.clone(),
            instances: self.size.instances,
            handles: max_handles.map_or(usual, NonZeroU32::get),
            folders: dirs.len().try_into().unwrap_or(u32::MAX),
            opens_files: *inherit_network || !dirs.is_empty(),
            sends_requests: !self.outgoing.is_empty(),
        }
    }

    /// Sets how many handles each lifetime that begins from now on may hold.
    pub(crate) fn grant(&self, handles: u32) {
        self.handles.store(handles, Ordering::Relaxed);
    }

    /// How many handles each instance may hold.
    pub(crate) fn handles(&self) -> u32 {
        self.handles.load(Ordering::Relaxed)
    }

    /// Where its instances' host calls wait: `home`, if none of them blocks.
    pub(crate) fn host_calls_or(&self, home: &Handle) -> Handle {
        self.host_calls.as_ref().map_or(home, |calls| calls.handle()).clone()
    }
}

/// Instances of a module that may be live at once: its replicas, and the replacements of those that are
/// being restarted.
pub(crate) fn instances(config: &ModuleConfig) -> u32 {
    config.replicas.saturating_add(config.max_restarting.get().min(config.replicas.max(1)))
}

fn build(
    engines: &Engines,
    config: &ModuleConfig,
    kind: &Kind,
    binary: &Binary,
    host_calls: Option<Arc<HostCalls>>,
) -> Result<Program, ProgramErrorCause> {
    view::check_folders(&config.guest).map_err(ProgramErrorCause::Folder)?;
    let bare = engines.bare().map_err(ProgramErrorCause::Compile)?;
    link::judge(&bare, kind, binary)?;
    // What fails without garbage-collected objects may need them; if not, the second error is the better one.
    let (gc, required) = match required(engines, Gc::Off, binary) {
        Ok(required) => (Gc::Off, required),
        Err(_) => (Gc::On, required(engines, Gc::On, binary).map_err(ProgramErrorCause::Compile)?),
    };
    // The next one to compile finds it in the cache.
    engines.seal_cache();
    let required = required.ok_or(ProgramErrorCause::ImportsModules)?;
    let size = PoolSize::new(instances(config), &required, gc, config.guest.memory_limit.0);
    // Before the pool takes them; all modules together are judged later.
    if let Fit::No(error) = host::judge_memory_maps(size.memory_maps()) {
        return Err(ProgramErrorCause::MemoryMaps(error));
    }
    let engine = engines.pooled(size).map_err(|error| ProgramErrorCause::Pool(size, error))?;
    let serves = config.kind.serve_config();
    let concurrency = serves.and_then(|serve| serve.concurrency);
    let outgoing: Arc<[Destination]> =
        serves.map_or_else(Arc::default, |serve| serve.outgoing.as_slice().into());
    let linked = link::linked(&engine, kind, binary, concurrency)?;
    let host_calls = match host_calls {
        None if HostCalls::are_possible(&config.guest, &outgoing) => {
            Some(Arc::new(HostCalls::start(&config.name).map_err(ProgramErrorCause::Threads)?))
        }
        running => running,
    };
    Ok(Program {
        name: config.name.clone(),
        digest: binary.digest.clone(),
        guest: config.guest.clone(),
        kind: config.kind.clone(),
        size,
        host_calls,
        handles: AtomicU32::new(HANDLES_USUAL),
        epoch_tick: engines.epoch_tick(),
        outgoing,
        linked,
    })
}

/// Compiles, and tells what an instance needs; `None` if it imports whole modules.
fn required(engines: &Engines, gc: Gc, binary: &Binary) -> wasmtime::Result<Option<ResourcesRequired>> {
    let probe = engines.probe(gc)?;
    if binary.is_component() {
        Component::from_binary(&probe, &binary.bytes).map(|component| component.resources_required())
    } else {
        Module::from_binary(&probe, &binary.bytes).map(|module| Some(module.resources_required()))
    }
}

#[cfg(test)]
mod tests;
