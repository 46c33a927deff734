//! A new config → what starts, what stops, what is restarted. The first start is a rollout onto nothing.
//!
//! First everything that can fail is done beside the running fleet: reading, compiling, linking, counting
//! memory maps. Only then does the fleet change, and that cannot fail.

use std::{collections::HashMap, num::TryFromIntError, sync::Arc, time::Duration, time::Instant};

use ebb_host::{
    restart::{Reason, Refusal, RestartOrder},
    slot::{Command, Live},
};
use ebb_units::{ModuleName, Replica};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::{
    Fleet,
    module::{Module, Occupant, Settings, Slot},
};
use crate::{
    config::ModuleConfig,
    descriptors::{Descriptors, TooFew},
    engine::Engines,
    exchange::{routes::Routes, service::Service},
    host::{self, Fit},
    kind::Kind,
    program::{Binary, Program, ProgramError},
};

/// How long to let another restart of the same slot finish before looking again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Why a config cannot be run. The fleet is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// A module cannot be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The host would run out of memory maps.
    #[error(transparent)]
    MemoryMaps(#[from] host::MemoryMapsError),
    /// The process may not open enough files.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The host's own code failed.
    #[error("the host failed while compiling: {0}")]
    Host(String),
}

/// What a rollout did, by module name.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Rollout {
    /// Modules that were not there before.
    pub added: Vec<ModuleName>,
    /// Modules that are gone.
    pub removed: Vec<ModuleName>,
    /// Modules whose instances are now being restarted one after another.
    pub changed: Vec<ModuleName>,
    /// Modules with more or fewer replicas.
    pub scaled: Vec<ModuleName>,
    /// Modules whose instances were left alone.
    pub unchanged: Vec<ModuleName>,
}

impl Fleet {
    /// Makes the fleet run `modules`. Returns when the slots of what is new are open and what is gone has
    /// ended. What goes on: the first starts in those slots ([`Instances::were_started`](ebb_host::instances::Instances::were_started)), and the restarts of
    /// changed modules, each module within its `max_restarting`.
    ///
    /// # Errors
    /// [`RolloutError`]; nothing has changed then.
    pub(crate) async fn roll_out(
        self: &Arc<Self>,
        modules: &[ModuleConfig],
    ) -> Result<Rollout, RolloutError> {
        let _one_at_a_time = self.rollout.lock().await;
        let before: HashMap<_, _> =
            self.modules().iter().map(|module| (module.name().clone(), Arc::clone(module))).collect();
        let kinds: Vec<_> = modules
            .iter()
            .map(|config| {
                let before = before.get(&config.name).map(|module| &module.kind);
                Kind::new(&config.name, &config.kind, before)
            })
            .collect();
        let programs = self.programs(modules, &kinds, &before).await?;
        // Instances of a changed module's old program live on until their restart.
        let retiring = before
            .values()
            .map(|module| module.settings().program)
            .filter(|old| !programs.iter().any(|new| Arc::ptr_eq(old, new)));
        check_memory_maps(programs.iter().cloned().chain(retiring))?;
        share_out_descriptors(self.descriptors, &programs)?;

        let mut rollout = Rollout::default();
        let mut after = Vec::with_capacity(modules.len());
        for ((config, kind), program) in modules.iter().zip(kinds).zip(programs) {
            kind.configure(&config.kind);
            let settings = Settings { program, start_timeout: config.start_timeout, backoff: config.backoff };
            let module = match before.get(&config.name).filter(|module| module.kind.is_same(&kind)) {
                Some(module) => {
                    self.update(module, settings, config, &mut rollout);
                    Arc::clone(module)
                }
                None => {
                    rollout.added.push(config.name.clone());
                    Arc::new(Module::new(config.name.clone(), kind, settings))
                }
            };
            module.host.permits.set_limit(config.max_restarting.get());
            after.push((module, config.replicas));
        }
        let removed: Vec<_> =
            before.values().filter(|old| !after.iter().any(|(new, _)| Arc::ptr_eq(old, new))).collect();
        rollout.removed.extend(removed.iter().map(|module| module.name().clone()));
        // Published before the slots start, so that a scrape never misses an instance that runs; and before
        // slots close, so that requests find the way to those that stay.
        self.instances.set_modules(after.iter().map(|(module, _)| Arc::clone(&module.host)).collect());
        self.modules.store(Arc::new(after.iter().map(|(module, _)| Arc::clone(module)).collect()));
        self.routes.store(Arc::new(routes(after.iter().filter_map(|(module, _)| module.kind.service()))));
        let mut leaving: Vec<_> = removed.iter().flat_map(|module| self.scale(module, 0)).collect();
        for (module, replicas) in &after {
            leaving.extend(self.scale(module, *replicas));
        }
        for task in leaving {
            // A supervisor that panicked has said so, and is gone as well.
            let _ = task.await;
        }
        for module in removed {
            if let Some(service) = module.kind.service() {
                service.queue.clear();
            }
        }
        Ok(rollout)
    }

    /// The program of each module: the running one where it still fits, else a new one.
    async fn programs(
        &self,
        modules: &[ModuleConfig],
        kinds: &[Kind],
        before: &HashMap<ModuleName, Arc<Module>>,
    ) -> Result<Vec<Arc<Program>>, RolloutError> {
        let jobs: Vec<_> = modules
            .iter()
            .zip(kinds)
            .map(|(config, kind)| {
                let running = before.get(&config.name).map(|module| module.settings().program);
                (config.clone(), kind.clone(), running)
            })
            .collect();
        let engines = self.engines.clone();
        let load = move || {
            jobs.iter()
                .map(|(config, kind, running)| load(&engines, config, kind, running.as_ref()))
                .collect()
        };
        match tokio::task::spawn_blocking(load).await {
            Ok(programs) => programs,
            Err(error) => Err(RolloutError::Host(error.to_string())),
        }
    }

    fn update(
        self: &Arc<Self>,
        module: &Arc<Module>,
        settings: Settings,
        config: &ModuleConfig,
        rollout: &mut Rollout,
    ) {
        let same = module.settings().program.is_like(&settings.program);
        let scaled = module.host.slots().len() != config.replicas as usize;
        module.set_settings(settings);
        if !same {
            rollout.changed.push(config.name.clone());
            self.tasks.spawn(restart_outdated(Arc::clone(self), Arc::clone(module)));
        }
        if scaled {
            rollout.scaled.push(config.name.clone());
        }
        if same && !scaled {
            rollout.unchanged.push(config.name.clone());
        }
    }

    /// Opens or closes slots, the highest replicas first to go. Returns the supervisors that are leaving.
    fn scale(&self, module: &Arc<Module>, replicas: u32) -> Vec<tokio::task::JoinHandle<()>> {
        let mut supervisors = module.supervisors();
        let mut slots = module.host.slots().to_vec();
        let wanted = replicas as usize;
        let leaving: Vec<_> = supervisors.drain(wanted.min(slots.len())..).collect();
        slots.truncate(wanted);
        for replica in slots.len()..wanted {
            let replica: Result<u32, TryFromIntError> = replica.try_into();
            let replica = Replica(replica.expect("fewer than `replicas`, which is a u32"));
            let (slot, supervisor) = self.spawn_slot(module, replica);
            slots.push(slot);
            supervisors.push(supervisor);
        }
        module.host.set_slots(slots);
        leaving
            .into_iter()
            .map(|supervisor| {
                supervisor.stop.cancel();
                supervisor.task
            })
            .collect()
    }
}

fn routes<'a>(services: impl Iterator<Item = &'a Arc<Service>>) -> Routes<Arc<Service>> {
    let routes = services.flat_map(|service| {
        let settings = service.settings();
        settings.routes.iter().map(|route| (route.clone(), Arc::clone(service))).collect::<Vec<_>>()
    });
    Routes::new(routes)
}

fn load(
    engines: &Engines,
    config: &ModuleConfig,
    kind: &Kind,
    running: Option<&Arc<Program>>,
) -> Result<Arc<Program>, RolloutError> {
    let binary = Binary::read(config)?;
    if let Some(running) = running.filter(|running| running.fits(config, &binary)) {
        return Ok(Arc::clone(running));
    }
    let started = Instant::now();
    let host_calls = running.and_then(|running| running.host_calls.clone());
    let program = Program::new(engines, config, kind, &binary, host_calls)?;
    info!(module = %config.name, digest = %program.digest, path = %config.path.display(),
        duration_ms = started.elapsed().as_millis(), "module ready");
    Ok(Arc::new(program))
}

/// Judges `modules` as a rollout would, without one.
///
/// # Errors
/// [`RolloutError`].
pub(crate) fn check(
    engines: &Engines,
    descriptors: Descriptors,
    modules: &[ModuleConfig],
) -> Result<(), RolloutError> {
    let load =
        |config: &ModuleConfig| load(engines, config, &Kind::new(&config.name, &config.kind, None), None);
    let programs: Vec<_> = modules.iter().map(load).collect::<Result<_, _>>()?;
    share_out_descriptors(descriptors, &programs)?;
    Ok(check_memory_maps(programs.into_iter())?)
}

/// Grants each program its share: lifetimes that begin from now on have it.
fn share_out_descriptors(descriptors: Descriptors, programs: &[Arc<Program>]) -> Result<(), TooFew> {
    let claims: Vec<_> = programs.iter().map(|program| program.claim()).collect();
    let shares = descriptors.share_out(&claims)?;
    for ((program, claim), handles) in programs.iter().zip(&claims).zip(shares.handles) {
        program.grant(handles);
        if handles < claim.handles {
            warn!(module = %program.name, handles, max_handles = claim.handles,
                "each instance may hold fewer handles than configured: some file descriptors are reserved for the control API");
        }
    }
    if let Some(shortage) = shares.shortage {
        let connections = descriptors.connections();
        warn!(connections, "{shortage}; until then the available descriptors are divided up");
    }
    Ok(())
}

fn check_memory_maps(programs: impl Iterator<Item = Arc<Program>>) -> Result<(), host::MemoryMapsError> {
    match host::judge_memory_maps(programs.map(|program| program.size.memory_maps()).sum()) {
        Fit::Surely => Ok(()),
        Fit::Perhaps(error) => {
            warn!("{error}; otherwise instances that grow may be denied memory");
            Ok(())
        }
        Fit::No(error) => Err(error),
    }
}

/// Restarts, one after another, the instances of `module` that are not of its current program.
async fn restart_outdated(fleet: Arc<Fleet>, module: Arc<Module>) {
    let started = Instant::now();
    for slot in module.host.slots().iter() {
        let restarted = tokio::select! {
            () = fleet.stop.cancelled() => return,
            restarted = restart_if_outdated(&module, slot) => restarted,
        };
        if let Err(refusal) = restarted {
            error!(module = %module.name(), replica = slot.replica.0, error = %refusal,
                "reload: the new version does not start, so this and the following replicas keep the old one; \
                 correct the module and reload again");
            return;
        }
    }
    info!(module = %module.name(), duration_ms = started.elapsed().as_millis(), "reload: all instances are current");
}

async fn restart_if_outdated(module: &Module, slot: &Slot) -> Result<(), Refusal> {
    // An empty slot is hurried at most twice: once out of its wait, once to learn how the start went.
    let mut hurries = 0;
    loop {
        let current = module.settings().program;
        let outcome = match slot.live() {
            Some(live) if live.own.program.is_like(&current) => return Ok(()),
            Some(live) => match order_reload(module, slot, &live).await {
                // Should it crash, the slot waits as after any other crash.
                Ok(()) => return Ok(()),
                refused => refused,
            },
            None if hurries == 2 => return Ok(()),
            None => hurry(slot).await.inspect(|()| hurries += 1),
        };
        match outcome {
            Ok(()) => {}
            Err(Refusal::CouldNotStart(cause)) => return Err(Refusal::CouldNotStart(cause)),
            // Scaled away, or the runner is stopping.
            Err(Refusal::Closing) => return Ok(()),
            // Somebody else's restart, which starts the current program: look again when it is over.
            Err(_) => tokio::time::sleep(BUSY_PAUSE).await,
        }
    }
}

async fn hurry(slot: &Slot) -> Result<(), Refusal> {
    let (reply, seen) = oneshot::channel();
    slot.place(|| Ok(Command::StartNow(reply)))?;
    seen.await.map_err(|_| Refusal::Closing)
}

async fn order_reload(module: &Module, slot: &Slot, live: &Live<Occupant>) -> Result<(), Refusal> {
    let permit = module.host.permits.acquire().await;
    let (reply, outcome) = oneshot::channel();
    let order = RestartOrder {
        expected: Some(live.generation),
        reason: Reason::Reload,
        received: Instant::now(),
        reply,
        permit,
    };
    slot.place(|| Ok(Command::Restart(order)))?;
    outcome.await.unwrap_or(Err(Refusal::Closing)).map(|_| ())
}
