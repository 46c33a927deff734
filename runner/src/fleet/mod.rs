//! All modules and their slots: what runs, what a new config makes of it, and who ends it.
//!
//! | module | subject |
//! | --- | --- |
//! | `module` | a module: its instances, what they are started from |
//! | `supervisor` | the task that owns a slot |
//! | `preparation` | a lifetime that is being prepared |
//! | `generations` | lifetimes' names, increasing across processes |
//! | `drain` | a replaced instance finishes what it has begun |
//! | [`rollout`] | a new config → what starts, stops and restarts |

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use ebb_host::instances::Instances;
use ebb_units::Replica;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod drain;
mod generations;
mod module;
mod preparation;
pub(crate) mod rollout;
mod supervisor;

use generations::Generations;
pub(crate) use module::Module;
use module::{Occupant, Slot, SupervisorHandle};
use supervisor::Supervisor;

use crate::{
    config::Config,
    descriptors::Descriptors,
    engine::Engines,
    exchange::{routes::Routes, service::Service},
    threads::Handles,
};

/// All modules and their slots.
pub(crate) struct Fleet {
    modules: ArcSwap<Vec<Arc<Module>>>,
    /// The same modules, as the world sees them.
    instances: Arc<Instances<Occupant>>,
    routes: ArcSwap<Routes<Arc<Service>>>,
    engines: Engines,
    threads: Handles,
    descriptors: Descriptors,
    generations: Arc<Generations>,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// One rollout at a time.
    rollout: tokio::sync::Mutex<()>,
}

impl Fleet {
    /// A fleet without modules. They come with [`Fleet::roll_out`].
    pub(crate) fn new(engines: Engines, threads: Handles, descriptors: Descriptors, config: &Config) -> Self {
        Self {
            generations: Arc::new(Generations::open(&config.state_dir, config.control.listen)),
            modules: ArcSwap::default(),
            instances: Arc::default(),
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
    pub(crate) fn modules(&self) -> Arc<Vec<Arc<Module>>> {
        self.modules.load_full()
    }

    /// Which requests are whose.
    pub(crate) fn routes(&self) -> arc_swap::Guard<Arc<Routes<Arc<Service>>>> {
        self.routes.load()
    }

    /// Their instances.
    pub(crate) const fn instances(&self) -> &Arc<Instances<Occupant>> {
        &self.instances
    }

    /// Stops every instance, and waits until all are gone.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn spawn_slot(&self, module: &Arc<Module>, replica: Replica) -> (Arc<Slot>, SupervisorHandle) {
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
        (slot, SupervisorHandle { stop, task })
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}
