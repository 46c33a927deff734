//! One replica's slot, as everybody may see it: who lives there, what it holds, what was ordered.
//!
//! The supervisor of the slot writes; scrapes and the control API read, and take no lock that a guest
//! could hold.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use ebb_units::{ByteCount, Generation, Replica};
use tokio::sync::{Notify, oneshot};

use super::permits::Permit;
use crate::{
    guest::{handles::Handles, meter::Meter},
    lifecycle::State,
    program::Program,
};

/// Why a slot got a new lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// Ordered: above the module's threshold.
    Threshold,
    /// Ordered: the host is short of memory.
    Pressure,
    /// Ordered by a person.
    Operator,
    /// It trapped, left with a non-zero exit code, or could not start.
    Crash,
    /// It left with exit code 0.
    Exit,
    /// The module or its settings changed.
    Reload,
}

impl Reason {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 6] =
        [Self::Threshold, Self::Pressure, Self::Operator, Self::Crash, Self::Exit, Self::Reload];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Pressure => "pressure",
            Self::Operator => "operator",
            Self::Crash => "crash",
            Self::Exit => "exit",
            Self::Reload => "reload",
        }
    }
}

/// The lifetime that is live in a slot.
pub struct Live {
    /// Which one.
    pub generation: Generation,
    /// What it is an instance of.
    pub program: Arc<Program>,
    /// What it holds.
    pub meter: Arc<Meter>,
    /// How much it has open.
    pub handles: Arc<Handles>,
}

/// One replica's slot.
pub struct Slot {
    /// Which one.
    pub replica: Replica,
    live: ArcSwapOption<Live>,
    restarts: AtomicU64,
    own_ends: AtomicU64,
    started_once: AtomicBool,
    progress: Mutex<Progress>,
    mailbox: Mutex<Mailbox>,
    waker: Notify,
}

/// What the supervisor says about the slot.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What the slot is doing.
    pub state: State,
    /// How the last lifetime ended, or why the last start failed.
    pub last_end: Option<String>,
}

/// A restart was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The lifetime that ended.
    pub old: Generation,
    /// The lifetime that began.
    pub new: Generation,
    /// Linear memory of the old one at its end, less that of the new one at its start.
    pub reclaimed: ByteCount,
    /// Resident memory that left the process while the old one was dropped; nothing yet while it is draining.
    /// Others come and go meanwhile, and a page that a guest never touched was not resident.
    pub released: ByteCount,
    /// From the order's arrival to the new one running and the old one's memory given back.
    pub duration: Duration,
    /// The old one has requests to finish; only then is its memory given back.
    pub draining: bool,
}

/// Why a restart was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lifetime named in the order is not the live one.
    #[error("generation {expected} is not current: {current} is")]
    NotCurrent {
        /// The one that was named.
        expected: Generation,
        /// The live one.
        current: Generation,
    },
    /// No lifetime is live.
    #[error("no instance is running in this slot: it is waiting to be started again")]
    NothingRunning,
    /// Another restart of the slot is under way.
    #[error("a restart of this instance is already under way")]
    Busy,
    /// The module's limit is reached.
    #[error("{limit} restarts of this module are already under way, its max_restarting")]
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// The successor could not be started.
    #[error("could not start the new instance, so the old one stays: {0}")]
    CouldNotStart(String),
    /// The slot is being closed.
    #[error("the slot is being closed")]
    Closing,
}

/// What a slot's supervisor can be asked.
pub enum Command {
    /// Replace the live lifetime.
    Restart(RestartOrder),
    /// If waiting to start again, start now.
    StartNow(oneshot::Sender<()>),
}

/// An order to replace the live lifetime.
pub struct RestartOrder {
    /// The lifetime that is meant; any, if `None`.
    pub expected: Option<Generation>,
    /// Why.
    pub reason: Reason,
    /// When the order arrived.
    pub received: Instant,
    /// Who waits for the outcome, if still there.
    pub reply: oneshot::Sender<Result<Restarted, Refusal>>,
    /// Held until the restart is done.
    pub permit: Permit,
}

/// A slot takes one order at a time.
enum Mailbox {
    Free,
    Placed(Command),
    Working,
    Closed,
}

impl Slot {
    /// An empty slot.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        Self {
            replica,
            live: ArcSwapOption::empty(),
            restarts: AtomicU64::new(0),
            own_ends: AtomicU64::new(0),
            started_once: AtomicBool::new(false),
            progress: Mutex::new(Progress { state: State::NEW, last_end: None }),
            mailbox: Mutex::new(Mailbox::Free),
            waker: Notify::new(),
        }
    }

    /// The live lifetime, if any.
    #[must_use]
    pub fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// Applies `read` to the live lifetime, if any, without counting a reference.
    pub fn with_live<T>(&self, read: impl FnOnce(&Live) -> T) -> Option<T> {
        self.live.load().as_deref().map(read)
    }

    /// Restarts of this slot, for whatever reason.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Those that nobody ordered: the instance trapped, left, or could not start.
    #[must_use]
    pub fn own_ends(&self) -> u64 {
        self.own_ends.load(Ordering::Relaxed)
    }

    /// What the slot is doing.
    #[must_use]
    pub fn progress(&self) -> Progress {
        lock(&self.progress).clone()
    }

    /// Whether its first start is over, well or ill.
    #[must_use]
    pub fn was_started(&self) -> bool {
        self.started_once.load(Ordering::Acquire)
    }

    /// Whether `expected` (any, if `None`) is live.
    ///
    /// # Errors
    /// [`Refusal::NotCurrent`], [`Refusal::NothingRunning`].
    pub fn check_current(&self, expected: Option<Generation>) -> Result<(), Refusal> {
        let current = self.with_live(|live| live.generation).ok_or(Refusal::NothingRunning)?;
        match expected {
            Some(expected) if expected != current => Err(Refusal::NotCurrent { expected, current }),
            _ => Ok(()),
        }
    }

    /// Places an order, unless another is being worked on. Never waits.
    ///
    /// `order` is called only if the slot is free, so that a permit is asked for last.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Closing`], and what `order` refuses.
    pub fn place(&self, order: impl FnOnce() -> Result<Command, Refusal>) -> Result<(), Refusal> {
        let mut mailbox = lock(&self.mailbox);
        match *mailbox {
            Mailbox::Free => *mailbox = Mailbox::Placed(order()?),
            Mailbox::Placed(_) | Mailbox::Working => return Err(Refusal::Busy),
            Mailbox::Closed => return Err(Refusal::Closing),
        }
        self.waker.notify_one();
        Ok(())
    }

    pub(super) async fn next_order(&self) -> Command {
        loop {
            {
                let mut mailbox = lock(&self.mailbox);
                match mem::replace(&mut *mailbox, Mailbox::Working) {
                    Mailbox::Placed(order) => return order,
                    other => *mailbox = other,
                }
            }
            self.waker.notified().await;
        }
    }

    pub(super) fn order_done(&self) {
        let mut mailbox = lock(&self.mailbox);
        if !matches!(*mailbox, Mailbox::Closed) {
            *mailbox = Mailbox::Free;
        }
    }

    /// Refuses all further orders. One that was placed is dropped, which tells its sender.
    pub(super) fn close(&self) {
        *lock(&self.mailbox) = Mailbox::Closed;
    }

    pub(super) fn set_live(&self, live: Option<Arc<Live>>) {
        self.live.store(live);
    }

    pub(super) fn set_state(&self, state: State) {
        lock(&self.progress).state = state;
    }

    pub(super) fn set_last_end(&self, end: String) {
        lock(&self.progress).last_end = Some(end);
    }

    pub(super) fn set_started(&self) {
        self.started_once.store(true, Ordering::Release);
    }

    pub(super) fn count_restart(&self, reason: Reason) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        if matches!(reason, Reason::Crash | Reason::Exit) {
            self.own_ends.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// What these locks guard is whole between any two statements, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hurry() -> Result<Command, Refusal> {
        Ok(Command::StartNow(oneshot::channel().0))
    }

    #[tokio::test]
    async fn a_slot_takes_one_order_at_a_time() {
        let slot = Slot::new(Replica(0));
        slot.place(hurry).unwrap();
        assert_eq!(slot.place(hurry), Err(Refusal::Busy));
        let _order = slot.next_order().await;
        assert_eq!(slot.place(hurry), Err(Refusal::Busy));
        slot.order_done();
        slot.place(hurry).unwrap();
    }

    #[test]
    fn an_order_that_is_refused_leaves_the_slot_free() {
        let slot = Slot::new(Replica(0));
        assert_eq!(slot.place(|| Err(Refusal::TooMany { limit: 1 })), Err(Refusal::TooMany { limit: 1 }));
        slot.place(hurry).unwrap();
    }

    #[test]
    fn a_closed_slot_tells_whoever_still_waits() {
        let slot = Slot::new(Replica(0));
        let (reply, mut answer) = oneshot::channel();
        slot.place(|| Ok(Command::StartNow(reply))).unwrap();
        slot.close();
        assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert_eq!(slot.place(hurry), Err(Refusal::Closing));
    }

    #[test]
    fn an_order_for_an_empty_slot_is_not_current() {
        let slot = Slot::new(Replica(0));
        assert_eq!(slot.check_current(None), Err(Refusal::NothingRunning));
        assert_eq!(slot.check_current(Some(Generation(1))), Err(Refusal::NothingRunning));
    }
}
