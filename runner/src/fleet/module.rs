//! A module: its instances, what they are started from, and what only its kind has.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ebb_host::{instances, lifecycle::BackoffPolicy, slot::Version};
use ebb_units::ModuleName;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{guest::handles::Handles, kind::Kind, program::Program};

/// What the runner keeps with a lifetime.
pub(crate) struct Occupant {
    /// What it was started from.
    pub program: Arc<Program>,
    /// How much it has open.
    pub handles: Arc<Handles>,
}

impl fmt::Debug for Occupant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Occupant").field("digest", &self.program.digest).finish_non_exhaustive()
    }
}

/// One replica's slot.
pub(super) type Slot = ebb_host::slot::Slot<Occupant>;

/// A module.
pub(crate) struct Module {
    /// Its name, slots, and what became of its restarts.
    pub host: Arc<instances::Module<Occupant>>,
    /// What kind of program it is.
    pub kind: Kind,
    settings: Mutex<Settings>,
    /// One per slot, in step with them; only a rollout touches them.
    supervisors: Mutex<Vec<SupervisorHandle>>,
}

/// How to end a slot's supervisor.
pub(super) struct SupervisorHandle {
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

/// What the next start in a module's slots uses.
#[derive(Clone)]
pub(crate) struct Settings {
    /// What to instantiate.
    pub program: Arc<Program>,
    /// How long that may take.
    pub start_timeout: Duration,
    /// When to start again what ended by itself.
    pub backoff: BackoffPolicy,
}

impl Module {
    pub(super) fn new(name: ModuleName, kind: Kind, settings: Settings) -> Self {
        Self {
            host: Arc::new(instances::Module::new(name, kind.name(), version(&settings.program))),
            kind,
            settings: Mutex::new(settings),
            supervisors: Mutex::default(),
        }
    }

    /// The module's name.
    pub(crate) fn name(&self) -> &ModuleName {
        &self.host.name
    }

    /// What the next start uses.
    pub(crate) fn settings(&self) -> Settings {
        lock(&self.settings).clone()
    }

    /// Makes the next start use `settings`.
    pub(super) fn set_settings(&self, settings: Settings) {
        self.host.set_version(version(&settings.program));
        *lock(&self.settings) = settings;
    }

    pub(super) fn supervisors(&self) -> MutexGuard<'_, Vec<SupervisorHandle>> {
        lock(&self.supervisors)
    }
}

/// What instances of `program` are of.
pub(super) fn version(program: &Program) -> Version {
    Version { digest: program.digest.clone(), memory_limit: program.guest.memory_limit }
}

/// What these locks guard is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
