//! Modules and their slots: who may be restarted, and what restarts came to.

#[cfg(feature = "wasmtime")]
use std::sync::{Mutex, PoisonError};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
#[cfg(feature = "wasmtime")]
use ebb_units::Digest;
use ebb_units::{Generation, ModuleName, Replica};
use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use tokio::sync::oneshot;

#[cfg(feature = "wasmtime")]
use crate::growth::Profile;
use crate::{
    permits::Permits,
    restart::{Outcome, Reason, Refusal, RestartOrder, Restarted},
    slot::{Command, Slot, Version},
};

/// Buckets of restart durations, in seconds: from a small component (0.3 ms) to a large one on a busy host.
const DURATION_BUCKETS: [f64; 14] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Binaries of a module whose growth is told apart: the newest one, and the one before to compare it with.
#[cfg(feature = "wasmtime")]
const BINARIES_MAX: usize = 2;

/// A slot, and the module that it is of.
pub type ModuleSlot<L> = (Arc<Module<L>>, Arc<Slot<L>>);

/// All modules of a host. `L`: what it keeps with each lifetime.
#[derive(Debug)]
pub struct Instances<L = ()>(ArcSwap<Vec<Arc<Module<L>>>>);

impl<L> Default for Instances<L> {
    fn default() -> Self {
        Self(ArcSwap::default())
    }
}

impl<L> Instances<L> {
    /// The modules.
    #[must_use]
    pub fn modules(&self) -> Arc<Vec<Arc<Module<L>>>> {
        self.0.load_full()
    }

    /// Adds a module.
    ///
    /// # Panics
    /// When there is one of that name: orders could not tell them apart.
    pub fn add(&self, module: Module<L>) -> Arc<Module<L>> {
        let module = Arc::new(module);
        self.0.rcu(|modules| {
            assert!(
                modules.iter().all(|known| known.name != module.name),
                "two modules named {}",
                module.name
            );
            let mut modules = Vec::clone(modules);
            modules.push(Arc::clone(&module));
            modules
        });
        module
    }

    /// Puts `modules` in the place of those before.
    pub fn set_modules(&self, modules: Vec<Arc<Module<L>>>) {
        self.0.store(Arc::new(modules));
    }

    /// The slot `name`/`replica` and its module, if there is one.
    #[must_use]
    pub fn find(&self, name: &str, replica: Replica) -> Option<ModuleSlot<L>> {
        let modules = self.0.load();
        let module = modules.iter().find(|module| module.name.as_str() == name)?;
        let slot = module.slots.load().get(replica.0 as usize).cloned()?;
        Some((Arc::clone(module), slot))
    }

    /// Whether every slot's first start is over.
    #[must_use]
    pub fn were_started(&self) -> bool {
        let modules = self.0.load();
        modules.iter().all(|module| module.slots.load().iter().all(|slot| slot.was_started()))
    }
}

/// A module and its slots.
#[derive(Debug)]
pub struct Module<L = ()> {
    /// The module's name.
    pub name: ModuleName,
    /// What kind of program it is, in one word.
    pub kind: &'static str,
    /// How many restarts may be under way at once.
    pub permits: Arc<Permits>,
    /// Requests of its instances for linear memory that were denied or failed.
    pub grow_failures: Arc<AtomicU64>,
    /// That of the binary that was started last comes last.
    #[cfg(feature = "wasmtime")]
    growth: Mutex<Vec<(Digest, Arc<Profile>)>>,
    version: ArcSwap<Version>,
    slots: ArcSwap<Vec<Arc<Slot<L>>>>,
    pub(crate) restart_durations: Histogram,
    pub(crate) reclaimed_bytes: Counter,
    pub(crate) released_bytes: Counter,
    restarts: [AtomicU64; Reason::ALL.len()],
}

impl<L> Module<L> {
    /// A module without slots. `version`: what its next instances are of.
    #[must_use]
    pub fn new(name: ModuleName, kind: &'static str, version: Version) -> Self {
        Self {
            name,
            kind,
            permits: Arc::default(),
            grow_failures: Arc::default(),
            #[cfg(feature = "wasmtime")]
            growth: Mutex::default(),
            version: ArcSwap::from_pointee(version),
            slots: ArcSwap::default(),
            restart_durations: Histogram::new(DURATION_BUCKETS),
            reclaimed_bytes: Counter::default(),
            released_bytes: Counter::default(),
            restarts: Default::default(),
        }
    }

    /// What the next instances are of.
    pub(crate) fn version(&self) -> Arc<Version> {
        self.version.load_full()
    }

    /// Makes the next instances ones of `version`.
    pub fn set_version(&self, version: Version) {
        self.version.store(Arc::new(version));
    }

    /// The growth of its instances that are of the binary with this digest, of which one is about to be started.
    #[cfg(feature = "wasmtime")]
    pub fn growth_of(&self, digest: &Digest) -> Arc<Profile> {
        let mut growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        let known = growth.iter().position(|(known, _)| known == digest);
        let of_digest = known.map_or_else(Arc::default, |place| growth.remove(place).1);
        if growth.len() >= BINARIES_MAX {
            growth.remove(0);
        }
        growth.push((digest.clone(), Arc::clone(&of_digest)));
        of_digest
    }

    /// The growth of its instances, by the digests of the last two binaries; that of which one was started last comes first.
    #[cfg(feature = "wasmtime")]
    #[must_use]
    pub fn growth(&self) -> Vec<(Digest, Arc<Profile>)> {
        let growth = self.growth.lock().unwrap_or_else(PoisonError::into_inner);
        growth.iter().rev().cloned().collect()
    }

    /// The slots, by replica.
    #[must_use]
    pub fn slots(&self) -> Arc<Vec<Arc<Slot<L>>>> {
        self.slots.load_full()
    }

    /// Adds a slot, for the next replica.
    pub fn add_slot(&self) -> Arc<Slot<L>> {
        let mut added = None;
        self.slots.rcu(|slots| {
            let slot = Arc::new(Slot::new(Replica(u32::try_from(slots.len()).unwrap_or(u32::MAX))));
            added = Some(Arc::clone(&slot));
            let mut slots = Vec::clone(slots);
            slots.push(slot);
            slots
        });
        added.expect("it was added")
    }

    /// Puts `slots`, by replica, in the place of those before.
    pub fn set_slots(&self, slots: Vec<Arc<Slot<L>>>) {
        self.slots.store(Arc::new(slots));
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
        slot: &Slot<L>,
        expected: Option<Generation>,
        reason: Reason,
        received: Instant,
    ) -> Result<oneshot::Receiver<Outcome>, Refusal> {
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
    pub(crate) fn restarts(&self) -> [u64; Reason::ALL.len()] {
        self.restarts.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Counts a new lifetime in `slot`.
    pub fn count_restart(&self, slot: &Slot<L>, reason: Reason) {
        slot.count_restart(reason);
        self.restarts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what an ordered restart took and gave back.
    pub fn observe_restart(&self, done: &Restarted) {
        self.restart_durations.observe(done.duration.as_secs_f64());
        self.reclaimed_bytes.inc_by(done.reclaimed.0);
        self.released_bytes.inc_by(done.released.0);
    }
}

#[cfg(all(test, feature = "wasmtime"))]
mod tests {
    use ebb_units::ByteCount;

    use super::*;

    #[test]
    fn growth_of_the_last_two_binaries_is_known_the_one_started_last_first() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
        let version = Version { digest: a.clone(), memory_limit: ByteCount::mib(1) };
        let module = <Module>::new("m".parse().unwrap(), "command", version);
        module.growth_of(&a).begin();
        module.growth_of(&b);
        // Back to what ran before: it goes on.
        module.growth_of(&a).begin();
        let known =
            || module.growth().into_iter().map(|(digest, growth)| (digest, growth.report().lifetimes));
        assert_eq!(known().collect::<Vec<_>>(), [(a.clone(), 2), (b, 0)]);
        module.growth_of(&c);
        assert_eq!(known().collect::<Vec<_>>(), [(c, 0), (a, 2)]);
    }
}
