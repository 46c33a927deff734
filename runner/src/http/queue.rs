//! A module's requests: waiting, or handed to an instance.
//!
//! There is one queue per module, not one per instance, so a request that waits is nobody's yet: it goes to
//! whichever instance has room first, and an instance that leaves takes along only what it has begun.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::call::{Call, Fault, Job, Server};

/// A module's requests, and the instances that take them.
#[derive(Debug, Default)]
pub struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many may wait.
    limit: usize,
    waiting: VecDeque<Job>,
    seats: HashMap<SeatId, SeatState>,
    /// Seats with room: the least loaded first, and of these the one that has waited longest.
    free: BTreeSet<Rank>,
    /// Counts up with every entry into `free`, and names seats.
    clock: u64,
}

type SeatId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    load: u32,
    since: u64,
    seat: SeatId,
}

#[derive(Debug)]
struct SeatState {
    /// Given to the instance, not yet begun.
    inbox: VecDeque<Job>,
    /// Requests given to the instance and not yet done.
    load: u32,
    capacity: u32,
    /// The seat's entry in `free`.
    rank: Option<Rank>,
    open: bool,
    bell: Arc<Bells>,
}

#[derive(Debug, Default)]
struct Bells {
    /// Something is in the inbox.
    work: Notify,
    /// The last request is done.
    idle: Notify,
}

/// As many requests wait as may.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Queue {
    /// Sets how many requests may wait. Those that wait already are kept.
    pub fn set_limit(&self, limit: u32) {
        self.state().limit = limit as usize;
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().waiting.iter().filter(|job| job.call.is_queued()).count()
    }

    /// Hands `job` to the least loaded instance, or lets it wait.
    ///
    /// # Errors
    /// [`Full`]; the job is dropped.
    pub fn push(&self, job: Job) -> Result<(), Full> {
        let mut state = self.state();
        if let Some(seat) = state.least_loaded() {
            state.give(seat, job);
            return Ok(());
        }
        if state.waiting.len() >= state.limit {
            state.waiting.retain(|job| job.call.is_queued());
        }
        if state.waiting.len() >= state.limit {
            return Err(Full);
        }
        state.waiting.push_back(job);
        Ok(())
    }

    /// A seat for an instance that works on up to `capacity` requests at once. Requests come from now on.
    #[must_use]
    pub fn open_seat(self: &Arc<Self>, server: Server, capacity: NonZeroU32) -> Arc<Seat> {
        let bell: Arc<Bells> = Arc::default();
        let mut state = self.state();
        state.clock += 1;
        let id = state.clock;
        let seat = SeatState {
            inbox: VecDeque::new(),
            load: 0,
            capacity: capacity.get(),
            rank: None,
            open: true,
            bell: Arc::clone(&bell),
        };
        state.seats.insert(id, seat);
        state.rank(id);
        state.distribute();
        drop(state);
        Arc::new(Seat {
            queue: Arc::clone(self),
            id,
            server,
            bell,
            had_requests: AtomicBool::new(false),
            active: Mutex::default(),
        })
    }

    /// Gives up all that waits: no instance will come any more.
    pub fn clear(&self) {
        let waiting = std::mem::take(&mut self.state().waiting);
        drop(waiting);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn least_loaded(&self) -> Option<SeatId> {
        self.free.first().map(|rank| rank.seat)
    }

    fn give(&mut self, id: SeatId, job: Job) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.inbox.push_back(job);
            seat.load += 1;
            seat.bell.work.notify_one();
            self.rank(id);
        }
    }

    /// Puts a seat where its load belongs.
    fn rank(&mut self, id: SeatId) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if let Some(rank) = seat.rank.take() {
            self.free.remove(&rank);
        }
        if seat.open && seat.load < seat.capacity {
            self.clock += 1;
            let rank = Rank { load: seat.load, since: self.clock, seat: id };
            seat.rank = Some(rank);
            self.free.insert(rank);
        }
    }

    fn next_waiting(&mut self) -> Option<Job> {
        loop {
            let job = self.waiting.pop_front()?;
            if job.call.is_queued() {
                return Some(job);
            }
        }
    }

    /// Gives what waits to those that have room.
    fn distribute(&mut self) {
        while let Some(seat) = self.least_loaded() {
            let Some(job) = self.next_waiting() else { return };
            self.give(seat, job);
        }
    }

    fn finish(&mut self, id: SeatId) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.load -= 1;
        if seat.load == 0 {
            seat.bell.idle.notify_one();
        }
        self.rank(id);
        self.distribute();
    }

    /// Closes a seat. What it has not begun goes back to the head of the queue.
    fn close(&mut self, id: SeatId) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.open = false;
        let unbegun = std::mem::take(&mut seat.inbox);
        seat.load -= u32::try_from(unbegun.len()).unwrap_or(seat.load);
        if seat.load == 0 {
            seat.bell.idle.notify_one();
        }
        self.rank(id);
        for job in unbegun.into_iter().rev() {
            self.waiting.push_front(job);
        }
        self.distribute();
    }
}

/// An instance's place in its module's queue.
#[derive(Debug)]
pub struct Seat {
    queue: Arc<Queue>,
    id: SeatId,
    server: Server,
    bell: Arc<Bells>,
    had_requests: AtomicBool,
    /// What the instance works on.
    active: Mutex<Vec<Arc<Call>>>,
}

impl Seat {
    /// The next request to work on. Only one task may wait for it.
    pub async fn next(&self) -> Job {
        loop {
            let job = {
                let mut state = self.queue.state();
                state.seats.get_mut(&self.id).and_then(|seat| seat.inbox.pop_front())
            };
            match job {
                Some(job) if job.call.begin(self.server) => {
                    self.had_requests.store(true, Ordering::Relaxed);
                    self.active().push(Arc::clone(&job.call));
                    return job;
                }
                // Nobody waits for it any more.
                Some(_) => self.queue.state().finish(self.id),
                None => self.bell.work.notified().await,
            }
        }
    }

    /// Whether the instance has begun a request.
    #[must_use]
    pub fn had_requests(&self) -> bool {
        self.had_requests.load(Ordering::Relaxed)
    }

    /// The work on `call` is over.
    pub fn done(&self, call: &Arc<Call>) {
        self.active().retain(|active| !Arc::ptr_eq(active, call));
        self.queue.state().finish(self.id);
    }

    /// No more requests shall come. What was given and not begun goes to others.
    pub fn close(&self) {
        self.queue.state().close(self.id);
    }

    /// Waits until the last request that was begun is done. For a closed seat.
    pub async fn drained(&self) {
        loop {
            if self.queue.state().seats.get(&self.id).is_none_or(|seat| seat.load == 0) {
                return;
            }
            self.bell.idle.notified().await;
        }
    }

    /// Looks after the exchanges that the instance works on, and returns when one of them is stuck: no
    /// more requests come then, and the others have had up to `grace` to finish.
    ///
    /// To be polled beside the instance, not by it: a guest that never rests would keep it from looking.
    pub async fn until_stuck(&self, pause: Duration, grace: Duration) {
        loop {
            let calls = self.active().clone();
            let mut next = Instant::now() + pause;
            let mut stuck = false;
            for call in calls {
                match call.look_after() {
                    Some(at) => next = next.min(at),
                    None => stuck = true,
                }
            }
            if stuck {
                break;
            }
            tokio::time::sleep_until(next.into()).await;
        }
        self.close();
        let given_up = Instant::now() + grace;
        while self.active().iter().any(|call| call.fault().is_none()) && Instant::now() < given_up {
            let next = (Instant::now() + pause.min(Duration::from_millis(100))).min(given_up);
            tokio::time::sleep_until(next.into()).await;
        }
    }

    /// What the instance works on has failed.
    pub fn fail_active(&self) {
        for call in self.active().drain(..) {
            call.fail(Fault::Gone);
        }
    }

    fn active(&self) -> MutexGuard<'_, Vec<Arc<Call>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.close(self.id);
        state.seats.remove(&self.id);
    }
}
