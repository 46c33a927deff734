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

use super::{
    call::{Job, Server},
    worker::Worker,
};

/// A module's requests, and the instances that take them.
#[derive(Debug, Default)]
pub struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many may wait.
    limit: usize,
    waiting: VecDeque<Job>,
    workers: HashMap<WorkerId, SeatState>,
    /// Seats with room: the least loaded first, and of these the one that had something to do last. It is the
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
struct SeatState {
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
        if let Some(worker) = state.least_loaded() {
            state.give(worker, job);
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

    /// A worker for an instance that works on up to `capacity` requests at once. Requests come from now on.
    #[must_use]
    pub fn register(self: &Arc<Self>, server: Server, capacity: NonZeroU32) -> Arc<Worker> {
        let wakers: Arc<Wakers> = Arc::default();
        let mut state = self.state();
        state.clock += 1;
        let id = state.clock;
        let worker = SeatState {
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
        drop(state);
        Arc::new(Worker::new(Arc::clone(self), id, server, wakers))
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
    pub fn clear(&self) {
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
            if job.call.is_queued() {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ebb_units::{Generation, Replica};
    use http_body_util::{BodyExt as _, Empty};
    use tokio::sync::oneshot;

    use super::{
        super::call::{Call, Fault},
        *,
    };

    const TIMEOUT: Duration = Duration::from_secs(3600);

    fn queue(limit: u32) -> Arc<Queue> {
        let queue: Arc<Queue> = Arc::default();
        queue.set_limit(limit);
        queue
    }

    fn worker(queue: &Arc<Queue>, replica: u32, capacity: u32) -> Arc<Worker> {
        let server = Server { replica: Replica(replica), generation: Generation(1) };
        queue.register(server, NonZeroU32::new(capacity).unwrap())
    }

    /// Pushes a request that somebody waits for as long as the receiver lives.
    fn push(
        queue: &Queue,
        path: &str,
    ) -> Result<(Arc<Call>, oneshot::Receiver<super::super::ResponseHead>), Full> {
        let call = Arc::new(Call::new(TIMEOUT, None));
        let (reply, response) = oneshot::channel();
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = ::http::Request::builder().uri(path).body(body).unwrap();
        queue.push(Job { request, call: Arc::clone(&call), reply }).map(|()| (call, response))
    }

    /// The path of the request that the worker gives now, if it gives one.
    fn take(worker: &Worker) -> Option<(String, Arc<Call>)> {
        use futures::FutureExt as _;
        let job = worker.next().now_or_never()?;
        Some((job.request.uri().path().to_owned(), job.call))
    }

    fn path(worker: &Worker) -> Option<String> {
        take(worker).map(|(path, _)| path)
    }

    #[test]
    fn a_request_goes_to_the_least_loaded_and_then_to_the_one_that_was_busy_last() {
        let queue = queue(0);
        let workers = [worker(&queue, 0, 2), worker(&queue, 1, 2)];
        let _waiting: Vec<_> = ["/a", "/b", "/c", "/d"].map(|path| push(&queue, path).unwrap()).into();
        let (a, call) = take(&workers[1]).unwrap();
        assert_eq!((a.as_str(), path(&workers[1]).as_deref()), ("/a", Some("/d")));
        assert_eq!([path(&workers[0]), path(&workers[0])], [Some("/b".to_owned()), Some("/c".to_owned())]);
        assert_eq!(push(&queue, "/e").err(), Some(Full));
        workers[1].done(&call);
        let _waiting = push(&queue, "/e").unwrap();
        assert_eq!((path(&workers[0]), path(&workers[1]).as_deref()), (None, Some("/e")));
    }

    #[test]
    fn what_waits_is_taken_in_order_and_no_more_waits_than_may() {
        let queue = queue(2);
        let _waiting: Vec<_> = ["/a", "/b"].map(|path| push(&queue, path).unwrap()).into();
        assert_eq!(push(&queue, "/c").err(), Some(Full));
        assert_eq!(queue.waiting(), 2);
        let worker = worker(&queue, 0, 1);
        let (a, call) = take(&worker).unwrap();
        assert_eq!((a.as_str(), path(&worker)), ("/a", None));
        worker.done(&call);
        assert_eq!((path(&worker).as_deref(), queue.waiting()), (Some("/b"), 0));
    }

    #[test]
    fn what_nobody_waits_for_makes_room_and_is_never_begun() {
        let queue = queue(1);
        let (call, _response) = push(&queue, "/a").unwrap();
        assert!(call.abandon());
        let _waiting = push(&queue, "/b").unwrap();
        assert_eq!(queue.waiting(), 1);
        let worker = worker(&queue, 0, 1);
        assert_eq!(path(&worker).as_deref(), Some("/b"));
        // Abandoned after it was handed over, before it was begun.
        let idle = self::worker(&queue, 1, 1);
        let (call, _response) = push(&queue, "/c").unwrap();
        assert!(call.abandon());
        assert_eq!(path(&idle), None);
        let _waiting = push(&queue, "/d").unwrap();
        assert_eq!(path(&idle).as_deref(), Some("/d"));
        assert!(!call.begin(idle.server), "an abandoned request is not begun");
    }

    #[test]
    fn a_closed_seat_gives_back_what_it_has_not_begun_and_finishes_the_rest() {
        use futures::FutureExt as _;
        let queue = queue(9);
        let old = worker(&queue, 0, 3);
        let _waiting: Vec<_> = ["/a", "/b", "/c", "/d"].map(|path| push(&queue, path).unwrap()).into();
        let (_, call) = take(&old).unwrap();
        old.close();
        assert_eq!((path(&old), queue.waiting()), (None, 3));
        let new = worker(&queue, 0, 3);
        assert_eq!(["/b", "/c", "/d"].map(str::to_owned), [(); 3].map(|()| path(&new).unwrap()));
        assert!(old.drained().now_or_never().is_none());
        old.done(&call);
        assert!(old.drained().now_or_never().is_some());
    }

    #[test]
    fn an_instance_that_went_away_has_failed_what_it_had_begun_and_counts_as_drained() {
        use futures::FutureExt as _;
        let queue = queue(9);
        let worker = worker(&queue, 0, 1);
        let (call, _response) = push(&queue, "/a").unwrap();
        take(&worker).unwrap();
        worker.close();
        worker.fail_active();
        assert_eq!(call.fault(), Some(&Fault::Gone));
        assert!(worker.drained().now_or_never().is_some());
    }

    #[test]
    fn a_seat_that_is_dropped_takes_no_request_along() {
        let queue = queue(9);
        let worker = worker(&queue, 0, 2);
        let (_call, mut response) = push(&queue, "/a").unwrap();
        drop(worker);
        assert_eq!(queue.waiting(), 1);
        queue.clear();
        assert!(response.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_request_that_is_stuck_is_seen_and_no_more_come() {
        let queue = queue(9);
        let worker = worker(&queue, 0, 2);
        let call = Arc::new(Call::new(Duration::from_millis(10), None));
        let (reply, _response) = oneshot::channel();
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = ::http::Request::new(body);
        queue.push(Job { request, call: Arc::clone(&call), reply }).unwrap();
        take(&worker).unwrap();
        tokio::time::timeout(Duration::from_secs(30), worker.until_stuck(TIMEOUT, TIMEOUT)).await.unwrap();
        assert_eq!(call.fault(), Some(&Fault::Stuck(Duration::from_millis(10))));
        let _waiting = push(&queue, "/b").unwrap();
        assert_eq!((path(&worker), queue.waiting()), (None, 1));
    }
}
