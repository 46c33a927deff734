//! A module's requests: waiting, or handed to an instance.
//!
//! There is one queue per module, not one per instance, so a request that waits is nobody's yet: it goes to
//! whichever instance has room first, and an instance that leaves takes along only what it has begun.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::job::Job;

/// A module's requests, and the instances that take them.
#[derive(Debug, Default)]
pub(crate) struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many may wait.
    limit: usize,
    waiting: VecDeque<Job>,
    workers: HashMap<WorkerId, WorkerState>,
    /// Workers with room: the least loaded first, and of these the one that had something to do last. It is the
    /// one whose memory is in the processor's caches; and what swells are as few instances as the load needs.
    free: BTreeSet<Rank>,
    /// Counts up with every entry into `free`, and names workers.
    clock: u64,
}

pub(super) type WorkerId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    load: u32,
    since: Reverse<u64>,
    worker: WorkerId,
}

#[derive(Debug)]
struct WorkerState {
    /// Given to the instance, not yet begun.
    inbox: VecDeque<Job>,
    /// Requests given to the instance and not yet done.
    load: u32,
    capacity: u32,
    /// The worker's entry in `free`.
    rank: Option<Rank>,
    open: bool,
    wakers: Arc<Wakers>,
}

#[derive(Debug, Default)]
pub(super) struct Wakers {
    /// Something is in the inbox.
    pub(super) work: Notify,
    /// The last request is done.
    pub(super) idle: Notify,
}

/// As many requests wait as may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Queue {
    /// Sets how many requests may wait. Those that wait already are kept.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.state().limit = limit as usize;
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.iter().filter(|job| job.exchange.is_queued()).count()
    }

    /// Hands `job` to the least loaded instance, or lets it wait.
    ///
    /// # Errors
    /// [`Full`]; the job is dropped.
    pub(crate) fn push(&self, job: Job) -> Result<(), Full> {
        let mut state = self.state();
        if let Some(worker) = state.least_loaded() {
            state.give(worker, job);
            return Ok(());
        }
        if state.waiting.len() >= state.limit {
            state.waiting.retain(|job| job.exchange.is_queued());
        }
        if state.waiting.len() >= state.limit {
            return Err(Full);
        }
        state.waiting.push_back(job);
        Ok(())
    }

    /// Lets in a worker that works on up to `capacity` requests at once. Requests come from now on.
    pub(super) fn register(&self, capacity: NonZeroU32) -> (WorkerId, Arc<Wakers>) {
        let wakers: Arc<Wakers> = Arc::default();
        let mut state = self.state();
        state.clock += 1;
        let id = state.clock;
        let worker = WorkerState {
            inbox: VecDeque::new(),
            load: 0,
            capacity: capacity.get(),
            rank: None,
            open: true,
            wakers: Arc::clone(&wakers),
        };
        state.workers.insert(id, worker);
        state.rank(id);
        state.distribute();
        (id, wakers)
    }

    /// What a worker was given next.
    pub(super) fn take(&self, id: WorkerId) -> Option<Job> {
        self.state().workers.get_mut(&id).and_then(|worker| worker.inbox.pop_front())
    }

    /// The work on one of a worker's requests is over.
    pub(super) fn finish(&self, id: WorkerId) {
        self.state().finish(id);
    }

    /// Closes a worker. What it has not begun goes back to the head of the queue.
    pub(super) fn close(&self, id: WorkerId) {
        self.state().close(id);
    }

    /// Whether a worker has nothing to do.
    pub(super) fn is_idle(&self, id: WorkerId) -> bool {
        self.state().workers.get(&id).is_none_or(|worker| worker.load == 0)
    }

    /// Closes a worker for ever.
    pub(super) fn remove(&self, id: WorkerId) {
        let mut state = self.state();
        state.close(id);
        state.workers.remove(&id);
    }

    /// Gives up all that waits: no instance will come any more.
    pub(crate) fn clear(&self) {
        let waiting = std::mem::take(&mut self.state().waiting);
        drop(waiting);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn least_loaded(&self) -> Option<WorkerId> {
        self.free.first().map(|rank| rank.worker)
    }

    fn give(&mut self, id: WorkerId, job: Job) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.inbox.push_back(job);
            worker.load += 1;
            worker.wakers.work.notify_one();
            self.rank(id);
        }
    }

    /// Puts a worker where its load belongs.
    fn rank(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some(rank) = worker.rank.take() {
            self.free.remove(&rank);
        }
        if worker.open && worker.load < worker.capacity {
            self.clock += 1;
            let rank = Rank { load: worker.load, since: Reverse(self.clock), worker: id };
            worker.rank = Some(rank);
            self.free.insert(rank);
        }
    }

    fn next_waiting(&mut self) -> Option<Job> {
        loop {
            let job = self.waiting.pop_front()?;
            if job.exchange.is_queued() {
                return Some(job);
            }
        }
    }

    /// Gives what waits to those that have room.
    fn distribute(&mut self) {
        while let Some(worker) = self.least_loaded() {
            let Some(job) = self.next_waiting() else { return };
            self.give(worker, job);
        }
    }

    fn finish(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.load -= 1;
        if worker.load == 0 {
            worker.wakers.idle.notify_one();
        }
        self.rank(id);
        self.distribute();
    }

    /// Closes a worker. What it has not begun goes back to the head of the queue.
    fn close(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.open = false;
        let unbegun = std::mem::take(&mut worker.inbox);
        worker.load -= u32::try_from(unbegun.len()).unwrap_or(worker.load);
        if worker.load == 0 {
            worker.wakers.idle.notify_one();
        }
        self.rank(id);
        for job in unbegun.into_iter().rev() {
            self.waiting.push_front(job);
        }
        self.distribute();
    }
}
