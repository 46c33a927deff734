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
    seat::Seat,
};

/// A module's requests, and the instances that take them.
#[derive(Debug, Default)]
pub struct Queue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many may wait.
    limit: usize,
    waiting: VecDeque<Job>,
    seats: HashMap<SeatId, SeatState>,
    /// Seats with room: the least loaded first, and of these the one that had something to do last. It is the
    /// one whose memory is in the processor's caches; and what swells are as few instances as the load needs.
    free: BTreeSet<Rank>,
    /// Counts up with every entry into `free`, and names seats.
    clock: u64,
}

pub(super) type SeatId = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    load: u32,
    since: Reverse<u64>,
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
pub(super) struct Bells {
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
        Arc::new(Seat::new(Arc::clone(self), id, server, bell))
    }

    /// What a seat was given next.
    pub(super) fn take(&self, id: SeatId) -> Option<Job> {
        self.state().seats.get_mut(&id).and_then(|seat| seat.inbox.pop_front())
    }

    /// The work on one of a seat's requests is over.
    pub(super) fn finish(&self, id: SeatId) {
        self.state().finish(id);
    }

    /// Closes a seat. What it has not begun goes back to the head of the queue.
    pub(super) fn close(&self, id: SeatId) {
        self.state().close(id);
    }

    /// Whether a seat has nothing to do.
    pub(super) fn is_idle(&self, id: SeatId) -> bool {
        self.state().seats.get(&id).is_none_or(|seat| seat.load == 0)
    }

    /// Closes a seat for ever.
    pub(super) fn remove(&self, id: SeatId) {
        let mut state = self.state();
        state.close(id);
        state.seats.remove(&id);
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
            let rank = Rank { load: seat.load, since: Reverse(self.clock), seat: id };
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

    fn seat(queue: &Arc<Queue>, replica: u32, capacity: u32) -> Arc<Seat> {
        let server = Server { replica: Replica(replica), generation: Generation(1) };
        queue.open_seat(server, NonZeroU32::new(capacity).unwrap())
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

    /// The path of the request that the seat gives now, if it gives one.
    fn take(seat: &Seat) -> Option<(String, Arc<Call>)> {
        use futures::FutureExt as _;
        let job = seat.next().now_or_never()?;
        Some((job.request.uri().path().to_owned(), job.call))
    }

    fn path(seat: &Seat) -> Option<String> {
        take(seat).map(|(path, _)| path)
    }

    #[test]
    fn a_request_goes_to_the_least_loaded_and_then_to_the_one_that_was_busy_last() {
        let queue = queue(0);
        let seats = [seat(&queue, 0, 2), seat(&queue, 1, 2)];
        let _waiting: Vec<_> = ["/a", "/b", "/c", "/d"].map(|path| push(&queue, path).unwrap()).into();
        let (a, call) = take(&seats[1]).unwrap();
        assert_eq!((a.as_str(), path(&seats[1]).as_deref()), ("/a", Some("/d")));
        assert_eq!([path(&seats[0]), path(&seats[0])], [Some("/b".to_owned()), Some("/c".to_owned())]);
        assert_eq!(push(&queue, "/e").err(), Some(Full));
        seats[1].done(&call);
        let _waiting = push(&queue, "/e").unwrap();
        assert_eq!((path(&seats[0]), path(&seats[1]).as_deref()), (None, Some("/e")));
    }

    #[test]
    fn what_waits_is_taken_in_order_and_no_more_waits_than_may() {
        let queue = queue(2);
        let _waiting: Vec<_> = ["/a", "/b"].map(|path| push(&queue, path).unwrap()).into();
        assert_eq!(push(&queue, "/c").err(), Some(Full));
        assert_eq!(queue.waiting(), 2);
        let seat = seat(&queue, 0, 1);
        let (a, call) = take(&seat).unwrap();
        assert_eq!((a.as_str(), path(&seat)), ("/a", None));
        seat.done(&call);
        assert_eq!((path(&seat).as_deref(), queue.waiting()), (Some("/b"), 0));
    }

    #[test]
    fn what_nobody_waits_for_makes_room_and_is_never_begun() {
        let queue = queue(1);
        let (call, _response) = push(&queue, "/a").unwrap();
        assert!(call.abandon());
        let _waiting = push(&queue, "/b").unwrap();
        assert_eq!(queue.waiting(), 1);
        let seat = seat(&queue, 0, 1);
        assert_eq!(path(&seat).as_deref(), Some("/b"));
        // Abandoned after it was handed over, before it was begun.
        let idle = self::seat(&queue, 1, 1);
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
        let old = seat(&queue, 0, 3);
        let _waiting: Vec<_> = ["/a", "/b", "/c", "/d"].map(|path| push(&queue, path).unwrap()).into();
        let (_, call) = take(&old).unwrap();
        old.close();
        assert_eq!((path(&old), queue.waiting()), (None, 3));
        let new = seat(&queue, 0, 3);
        assert_eq!(["/b", "/c", "/d"].map(str::to_owned), [(); 3].map(|()| path(&new).unwrap()));
        assert!(old.drained().now_or_never().is_none());
        old.done(&call);
        assert!(old.drained().now_or_never().is_some());
    }

    #[test]
    fn an_instance_that_went_away_has_failed_what_it_had_begun_and_counts_as_drained() {
        use futures::FutureExt as _;
        let queue = queue(9);
        let seat = seat(&queue, 0, 1);
        let (call, _response) = push(&queue, "/a").unwrap();
        take(&seat).unwrap();
        seat.close();
        seat.fail_active();
        assert_eq!(call.fault(), Some(&Fault::Gone));
        assert!(seat.drained().now_or_never().is_some());
    }

    #[test]
    fn a_seat_that_is_dropped_takes_no_request_along() {
        let queue = queue(9);
        let seat = seat(&queue, 0, 2);
        let (_call, mut response) = push(&queue, "/a").unwrap();
        drop(seat);
        assert_eq!(queue.waiting(), 1);
        queue.clear();
        assert!(response.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_request_that_is_stuck_is_seen_and_no_more_come() {
        let queue = queue(9);
        let seat = seat(&queue, 0, 2);
        let call = Arc::new(Call::new(Duration::from_millis(10), None));
        let (reply, _response) = oneshot::channel();
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = ::http::Request::new(body);
        queue.push(Job { request, call: Arc::clone(&call), reply }).unwrap();
        take(&seat).unwrap();
        tokio::time::timeout(Duration::from_secs(30), seat.until_stuck(TIMEOUT, TIMEOUT)).await.unwrap();
        assert_eq!(call.fault(), Some(&Fault::Stuck(Duration::from_millis(10))));
        let _waiting = push(&queue, "/b").unwrap();
        assert_eq!((path(&seat), queue.waiting()), (None, 1));
    }
}
