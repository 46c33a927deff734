//! All modules and their slots. The fleet decides who may be restarted; the supervisors do it.
//!
//! | module | subject |
//! | --- | --- |
//! | [`slot`] | one replica's slot, as everybody may see it |
//! | [`permits`] | how many restarts of a module may be under way at once |
//! | `supervisor` | the task that owns a slot |
//! | `generations` | lifetimes' names, increasing across processes |
//! | `drain` | a replaced instance finishes what it has begun |
//! | [`rollout`] | a new config → what starts, stops and restarts |

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use ebb_units::ByteCount;
use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

mod drain;
mod generations;
pub mod permits;
pub mod rollout;
pub mod slot;
mod supervisor;

use ebb_units::{Generation, ModuleName, Replica};
use generations::Generations;
use permits::Permits;
use slot::{Command, Reason, Refusal, RestartOrder, Restarted, Slot};
use supervisor::Supervisor;

use crate::{
    config::{Config, Kind, ServeConfig},
    descriptors::Descriptors,
    engine::Engines,
    exchange::{queue::Queue, routes::Routes, traffic::Traffic},
    lifecycle::BackoffPolicy,
    program::Program,
    threads::Handles,
};

/// Buckets of restart durations, in seconds: from a small component (0.3 ms) to a large one on a busy host.
const DURATION_BUCKETS: [f64; 14] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// From this on, a restart whose memory did not leave the process is worth a warning. The kernel counts the
/// resident memory of a process to some hundred KiB only.
const RELEASE_EXPECTED_FROM: ByteCount = ByteCount::mib(16);

/// All modules and their slots.
pub struct Fleet {
    modules: ArcSwap<Vec<Arc<Module>>>,
    routes: ArcSwap<Routes<Arc<Module>>>,
    engines: Engines,
    threads: Handles,
    descriptors: Descriptors,
    generations: Arc<Generations>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// One rollout at a time.
    rollout: tokio::sync::Mutex<()>,
}

/// A module and its slots.
pub struct Module {
    /// The module's name.
    pub name: ModuleName,
    /// What kind of program it is.
    pub kind: Kind,
    /// How long restarts took, in seconds.
    pub restart_durations: Histogram,
    /// Bytes that restarts gave back.
    pub reclaimed_bytes: Counter,
    /// Resident memory that left the process meanwhile.
    pub released_bytes: Counter,
    /// Requests of its instances for linear memory that were denied or failed.
    pub grow_failures: Arc<AtomicU64>,
    restarts: [AtomicU64; Reason::ALL.len()],
    /// Requests on their way to its instances.
    pub queue: Arc<Queue>,
    /// What its clients were answered.
    pub traffic: Traffic,
    settings: Mutex<Settings>,
    permits: Arc<Permits>,
    slots: ArcSwap<Vec<Arc<Slot>>>,
    /// One per slot, in step with `slots`; only a rollout touches them.
    handles: Mutex<Vec<SlotHandle>>,
}

struct SlotHandle {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What the next start in a module's slots uses.
#[derive(Clone)]
pub struct Settings {
    /// What to instantiate.
    pub program: Arc<Program>,
    /// How long that may take.
    pub start_timeout: Duration,
    /// When to start again what ended by itself.
    pub backoff: BackoffPolicy,
    /// How it serves.
    pub serve: Arc<ServeConfig>,
}

impl Fleet {
    /// A fleet without modules. They come with [`Fleet::roll_out`].
    #[must_use]
    pub fn new(engines: Engines, threads: Handles, descriptors: Descriptors, config: &Config) -> Self {
        Self {
            generations: Arc::new(Generations::open(&config.state_dir, config.control.listen)),
            modules: ArcSwap::default(),
            routes: ArcSwap::default(),
            engines,
            threads,
            descriptors,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            rollout: tokio::sync::Mutex::new(()),
        }
    }

    /// The modules, in the config file's order.
    #[must_use]
    pub fn modules(&self) -> Arc<Vec<Arc<Module>>> {
        self.modules.load_full()
    }

    /// Which requests are whose.
    #[must_use]
    pub fn routes(&self) -> arc_swap::Guard<Arc<Routes<Arc<Module>>>> {
        self.routes.load()
    }

    /// The slot `name`/`replica` and its module, if there is one.
    #[must_use]
    pub fn find(&self, name: &str, replica: Replica) -> Option<(Arc<Module>, Arc<Slot>)> {
        let modules = self.modules.load();
        let module = modules.iter().find(|module| module.name.as_str() == name)?;
        let slot = module.slots.load().get(replica.0 as usize).cloned()?;
        Some((Arc::clone(module), slot))
    }

    /// Whether every slot's first start is over.
    #[must_use]
    pub fn was_started(&self) -> bool {
        self.modules.load().iter().all(|module| {
            let slots = module.slots.load();
            slots.iter().all(|slot| slot.was_started())
        })
    }

    /// Stops every instance, and waits until all are gone.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn_slot(&self, module: &Arc<Module>, replica: Replica) -> (Arc<Slot>, SlotHandle) {
        let slot = Arc::new(Slot::new(replica));
        let stop = self.stop.child_token();
        let supervisor = Supervisor {
            slot: Arc::clone(&slot),
            module: Arc::clone(module),
            threads: self.threads.clone(),
            generations: Arc::clone(&self.generations),
            stop: stop.clone(),
            halt: self.stop.clone(),
        };
        let task = self.tasks.spawn(supervisor.run());
        (slot, SlotHandle { stop, task })
    }
}

impl Module {
    fn new(name: ModuleName, kind: Kind, settings: Settings) -> Self {
        Self {
            name,
            kind,
            restart_durations: Histogram::new(DURATION_BUCKETS),
            reclaimed_bytes: Counter::default(),
            released_bytes: Counter::default(),
            grow_failures: Arc::default(),
            restarts: Default::default(),
            queue: Arc::default(),
            traffic: Traffic::default(),
            settings: Mutex::new(settings),
            permits: Arc::default(),
            slots: ArcSwap::default(),
            handles: Mutex::default(),
        }
    }

    /// What the next start uses.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How the next request is served.
    #[must_use]
    pub fn serve(&self) -> Arc<ServeConfig> {
        Arc::clone(&self.settings.lock().unwrap_or_else(PoisonError::into_inner).serve)
    }

    /// The slots, by replica.
    #[must_use]
    pub fn slots(&self) -> Arc<Vec<Arc<Slot>>> {
        self.slots.load_full()
    }

    /// Orders a restart of `slot`. The order is placed when this returns, and carried out whether or not
    /// somebody waits for the outcome.
    ///
    /// `expected`: the lifetime that is meant; any, if `None`.
    ///
    /// # Errors
    /// [`Refusal`]: not the live lifetime, busy, too many under way; in this order.
    pub fn order_restart(
        &self,
        slot: &Slot,
        expected: Option<Generation>,
        reason: Reason,
        received: Instant,
    ) -> Result<oneshot::Receiver<Result<Restarted, Refusal>>, Refusal> {
        slot.check_current(expected)?;
        let (reply, outcome) = oneshot::channel();
        slot.place(|| {
            let permit =
                self.permits.try_acquire().ok_or_else(|| Refusal::TooMany { limit: self.permits.limit() })?;
            // Again, now that no other order can come between.
            slot.check_current(expected)?;
            Ok(Command::Restart(RestartOrder { expected, reason, received, reply, permit }))
        })?;
        Ok(outcome)
    }

    /// Restarts of its instances, in the order of [`Reason::ALL`].
    #[must_use]
    pub fn restarts(&self) -> [u64; Reason::ALL.len()] {
        self.restarts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    fn count_restart(&self, slot: &Slot, reason: Reason) {
        slot.count_restart(reason);
        self.restarts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of a restart that is done.
    fn restarted(&self, replica: Replica, reason: Reason, done: &Restarted) {
        let Restarted { old, new, reclaimed, released, duration, .. } = done;
        self.restart_durations.observe(duration.as_secs_f64());
        self.reclaimed_bytes.inc_by(reclaimed.0);
        self.released_bytes.inc_by(released.0);
        info!(module = %self.name, replica = replica.0, reason = reason.as_str(), old_generation = old.0,
            new_generation = new.0, reclaimed_bytes = reclaimed.0, resident_released_bytes = released.0,
            duration_us = duration.as_micros(), "instance restarted");
        if *reclaimed >= RELEASE_EXPECTED_FROM && released.0 < reclaimed.0 / 2 {
            warn!(module = %self.name, replica = replica.0, generation = old.0, reclaimed_bytes = reclaimed.0,
                resident_released_bytes = released.0,
                "a restart gave less than half of the instance's memory back to the host: others grew meanwhile, \
                 or the instance had not touched what it held");
        }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}
