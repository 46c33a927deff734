//! One replica's slot, as everybody may see it: who lives there, what it holds, what was ordered.
//!
//! The slot's owner writes; scrapes and the control API read, and take no lock that a guest
//! could hold.

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use ebb_units::{ByteCount, Digest, Generation, Replica};
use tokio::sync::{Notify, oneshot};

use crate::{
    lifecycle::State,
    meter::Meter,
    restart::{Reason, Refusal, RestartOrder, Restarted},
};

/// The lifetime that is live in a slot.
pub struct Live<L = ()> {
    /// Which one.
    pub generation: Generation,
    /// What it is an instance of.
    pub version: Version,
    /// What it holds.
    pub meter: Arc<Meter>,
    /// What the host itself keeps with a lifetime.
    pub own: L,
}

/// What instances are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The module's binary.
    pub digest: Digest,
    /// What an instance may hold.
    pub memory_limit: ByteCount,
}

/// One replica's slot.
pub struct Slot<L = ()> {
    /// Which one.
    pub replica: Replica,
    live: ArcSwapOption<Live<L>>,
    restarts: AtomicU64,
    own_ends: AtomicU64,
    started_once: AtomicBool,
    progress: Mutex<Progress>,
    mailbox: Mutex<Mailbox>,
    waker: Notify,
    /// The newest generation that [`Slot::next_generation`] gave.
    last: Mutex<Option<Generation>>,
}

/// What the slot's owner says about it.
#[derive(Clone, Debug)]
pub struct Progress {
    /// What the slot is doing.
    pub state: State,
    /// How the last lifetime ended, or why the last start failed.
    pub last_end: Option<String>,
}

/// What a slot's owner can be asked.
pub enum Command {
    /// Replace the live lifetime.
    Restart(RestartOrder),
    /// If waiting to start again, start now.
    StartNow(oneshot::Sender<()>),
}

/// A slot takes one order at a time.
enum Mailbox {
    Free,
    Placed(Command),
    Working,
    Closed,
}

impl<L> Slot<L> {
    /// An empty slot.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        Self::new_after(replica, None)
    }

    /// An empty slot whose generations come after `last`.
    #[must_use]
    pub fn new_after(replica: Replica, last: Option<Generation>) -> Self {
        Self {
            replica,
            live: ArcSwapOption::empty(),
            restarts: AtomicU64::new(0),
            own_ends: AtomicU64::new(0),
            started_once: AtomicBool::new(false),
            progress: Mutex::new(Progress { state: State::NEW, last_end: None }),
            mailbox: Mutex::new(Mailbox::Free),
            waker: Notify::new(),
            last: Mutex::new(last),
        }
    }

    /// The live lifetime, if any.
    #[must_use]
    pub fn live(&self) -> Option<Arc<Live<L>>> {
        self.live.load_full()
    }

    /// Applies `read` to the live lifetime, if any, without counting a reference.
    pub fn with_live<T>(&self, read: impl FnOnce(&Live<L>) -> T) -> Option<T> {
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
    pub(crate) fn was_started(&self) -> bool {
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

    /// Waits for an order. The slot takes no other until [`Slot::order_done`].
    pub async fn next_order(&self) -> Command {
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

    /// Tells whoever gave `order` what came of it. The slot takes another one.
    pub fn answer(&self, order: RestartOrder, outcome: Result<Restarted, Refusal>) {
        let RestartOrder { reply, permit, .. } = order;
        // The next order may come as soon as this one is answered, and must find the mailbox free.
        drop(permit);
        self.order_done();
        // Whoever gave the order may have gone; it was carried out all the same.
        let _ = reply.send(outcome);
    }

    /// The order is carried out or refused; the slot takes another one.
    pub fn order_done(&self) {
        let mut mailbox = lock(&self.mailbox);
        if !matches!(*mailbox, Mailbox::Closed) {
            *mailbox = Mailbox::Free;
        }
    }

    /// Refuses all further orders. One that was placed is dropped, which tells its sender.
    pub fn close(&self) {
        *lock(&self.mailbox) = Mailbox::Closed;
    }

    /// The generation of a lifetime that starts at `now_unix_ms`.
    pub(crate) fn next_generation(&self, now_unix_ms: u64) -> Generation {
        let mut last = lock(&self.last);
        let next = Generation::next(*last, now_unix_ms);
        *last = Some(next);
        next
    }

    /// Says which lifetime is live from now on.
    pub fn set_live(&self, live: Option<Arc<Live<L>>>) {
        self.live.store(live);
    }

    /// Says what the slot is doing.
    pub fn set_state(&self, state: State) {
        lock(&self.progress).state = state;
    }

    /// Says how the last lifetime ended, or why the last start failed.
    pub fn set_last_end(&self, end: String) {
        lock(&self.progress).last_end = Some(end);
    }

    /// Says that the first start is over, well or ill.
    pub fn set_started(&self) {
        self.started_once.store(true, Ordering::Release);
    }

    pub(crate) fn count_restart(&self, reason: Reason) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        if matches!(reason, Reason::Crash | Reason::Exit) {
            self.own_ends.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<L> fmt::Debug for Slot<L> {
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
        let slot: Slot = Slot::new(Replica(0));
        slot.place(hurry).unwrap();
        assert_eq!(slot.place(hurry), Err(Refusal::Busy));
        let _order = slot.next_order().await;
        assert_eq!(slot.place(hurry), Err(Refusal::Busy));
        slot.order_done();
        slot.place(hurry).unwrap();
    }

    #[test]
    fn an_order_that_is_refused_leaves_the_slot_free() {
        let slot: Slot = Slot::new(Replica(0));
        assert_eq!(slot.place(|| Err(Refusal::TooMany { limit: 1 })), Err(Refusal::TooMany { limit: 1 }));
        slot.place(hurry).unwrap();
    }

    #[test]
    fn a_closed_slot_tells_whoever_still_waits() {
        let slot: Slot = Slot::new(Replica(0));
        let (reply, mut answer) = oneshot::channel();
        slot.place(|| Ok(Command::StartNow(reply))).unwrap();
        slot.close();
        assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert_eq!(slot.place(hurry), Err(Refusal::Closing));
    }

    #[test]
    fn an_order_for_an_empty_slot_is_not_current() {
        let slot: Slot = Slot::new(Replica(0));
        assert_eq!(slot.check_current(None), Err(Refusal::NothingRunning));
        assert_eq!(slot.check_current(Some(Generation(1))), Err(Refusal::NothingRunning));
    }
}
