//! An instance's place in its module's queue: what it is given, what it works on, and whether that moves.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    job::Job,
    queue::{Queue, Wakers, WorkerId},
    state::{Exchange, Fault, Server},
};

/// Between two looks at what an instance with a stuck request still works on: it is ended soon after the last
/// of it is done.
const GRACE_PAUSE_MAX: Duration = Duration::from_millis(100);

/// An instance's place in its module's queue.
#[derive(Debug)]
pub(crate) struct Worker {
    queue: Arc<Queue>,
    id: WorkerId,
    server: Server,
    wakers: Arc<Wakers>,
    had_requests: AtomicBool,
    /// What the instance works on.
    active: Mutex<Vec<Arc<Exchange>>>,
}

impl Worker {
    /// A place in `queue` for an instance that works on up to `capacity` requests at once. Requests come from now
    /// on.
    pub(crate) fn register(queue: &Arc<Queue>, server: Server, capacity: NonZeroU32) -> Arc<Self> {
        let (id, wakers) = queue.register(capacity);
        Arc::new(Self {
            queue: Arc::clone(queue),
            id,
            server,
            wakers,
            had_requests: AtomicBool::new(false),
            active: Mutex::default(),
        })
    }

    /// The next request to work on. Only one task may wait for it.
    pub(crate) async fn next(&self) -> Job {
        loop {
            let job = self.queue.take(self.id);
            match job {
                Some(job) if job.exchange.begin(self.server) => {
                    self.had_requests.store(true, Ordering::Relaxed);
                    self.active().push(Arc::clone(&job.exchange));
                    return job;
                }
                // Nobody waits for it any more.
                Some(_) => self.queue.finish(self.id),
                None => self.wakers.work.notified().await,
            }
        }
    }

    /// Whether the instance has begun a request.
    pub(crate) fn had_requests(&self) -> bool {
        self.had_requests.load(Ordering::Relaxed)
    }

    /// The work on `exchange` is over.
    pub(crate) fn done(&self, exchange: &Arc<Exchange>) {
        self.active().retain(|active| !Arc::ptr_eq(active, exchange));
        self.queue.finish(self.id);
    }

    /// No more requests shall come. What was given and not begun goes to others.
    pub(crate) fn close(&self) {
        self.queue.close(self.id);
    }

    /// Waits until the last request that was begun is done. For a closed worker.
    pub(crate) async fn drained(&self) {
        loop {
            if self.queue.is_idle(self.id) {
                return;
            }
            self.wakers.idle.notified().await;
        }
    }

    /// Looks after the exchanges that the instance works on, and returns when one of them is stuck: no
    /// more requests come then, and the others have had up to `grace` to finish.
    ///
    /// To be polled beside the instance, not by it: a guest that never rests would keep it from looking.
    pub(crate) async fn until_stuck(&self, pause: Duration, grace: Duration) {
        let mut given_up = None;
        loop {
            let now = Instant::now();
            let mut next = now + given_up.map_or(pause, |_| pause.min(GRACE_PAUSE_MAX));
            let mut going_on = false;
            for exchange in self.active().clone() {
                if exchange.fault().is_some() {
                    continue;
                }
                match exchange.poll_deadline() {
                    Some(at) => {
                        going_on = true;
                        next = next.min(at);
                    }
                    None => {
                        self.close();
                        given_up.get_or_insert(now + grace);
                    }
                }
            }
            if let Some(given_up) = given_up {
                if !going_on || now >= given_up {
                    return;
                }
                next = next.min(given_up);
            }
            tokio::time::sleep_until(next.into()).await;
        }
    }

    /// What the instance works on has failed.
    pub(crate) fn fail_active(&self) {
        let active = std::mem::take(&mut *self.active());
        for exchange in active {
            exchange.fail(Fault::Gone);
            self.queue.finish(self.id);
        }
    }

    fn active(&self) -> MutexGuard<'_, Vec<Arc<Exchange>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.remove(self.id);
    }
}

#[cfg(test)]
mod tests {
    use ebb_units::{Generation, Replica};
    use http_body_util::{BodyExt as _, Empty};
    use tokio::sync::oneshot;

    use super::{
        super::{job::ResponseHead, queue::Full},
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
        Worker::register(queue, server, NonZeroU32::new(capacity).unwrap())
    }

    /// Pushes a request that somebody waits for as long as the receiver lives.
    fn push(queue: &Queue, path: &str) -> Result<(Arc<Exchange>, oneshot::Receiver<ResponseHead>), Full> {
        let exchange = Arc::new(Exchange::new(TIMEOUT, None));
        let (reply, response) = oneshot::channel();
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = http::Request::builder().uri(path).body(body).unwrap();
        queue.push(Job { request, exchange: Arc::clone(&exchange), reply }).map(|()| (exchange, response))
    }

    /// The path of the request that the worker gives now, if it gives one.
    fn take(worker: &Worker) -> Option<(String, Arc<Exchange>)> {
        use futures::FutureExt as _;
        let job = worker.next().now_or_never()?;
        Some((job.request.uri().path().to_owned(), job.exchange))
    }

    fn path(worker: &Worker) -> Option<String> {
        take(worker).map(|(path, _)| path)
    }

    #[test]
    fn a_request_goes_to_the_least_loaded_and_then_to_the_one_that_was_busy_last() {
        let queue = queue(0);
        let workers = [worker(&queue, 0, 2), worker(&queue, 1, 2)];
        let _waiting: Vec<_> = ["/a", "/b", "/c", "/d"].map(|path| push(&queue, path).unwrap()).into();
        let (a, exchange) = take(&workers[1]).unwrap();
        assert_eq!((a.as_str(), path(&workers[1]).as_deref()), ("/a", Some("/d")));
        assert_eq!([path(&workers[0]), path(&workers[0])], [Some("/b".to_owned()), Some("/c".to_owned())]);
        assert_eq!(push(&queue, "/e").err(), Some(Full));
        workers[1].done(&exchange);
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
        let (a, exchange) = take(&worker).unwrap();
        assert_eq!((a.as_str(), path(&worker)), ("/a", None));
        worker.done(&exchange);
        assert_eq!((path(&worker).as_deref(), queue.waiting()), (Some("/b"), 0));
    }

    #[test]
    fn what_nobody_waits_for_makes_room_and_is_never_begun() {
        let queue = queue(1);
        let (exchange, _response) = push(&queue, "/a").unwrap();
        assert!(exchange.abandon());
        let _waiting = push(&queue, "/b").unwrap();
        assert_eq!(queue.waiting(), 1);
        let worker = worker(&queue, 0, 1);
        assert_eq!(path(&worker).as_deref(), Some("/b"));
        // Abandoned after it was handed over, before it was begun.
        let idle = self::worker(&queue, 1, 1);
        let (exchange, _response) = push(&queue, "/c").unwrap();
        assert!(exchange.abandon());
        assert_eq!(path(&idle), None);
        let _waiting = push(&queue, "/d").unwrap();
        assert_eq!(path(&idle).as_deref(), Some("/d"));
        assert!(!exchange.begin(idle.server), "an abandoned request is not begun");
    }

    #[test]
    fn a_closed_worker_gives_back_what_it_has_not_begun_and_finishes_the_rest() {
        use futures::FutureExt as _;
        let queue = queue(9);
        let old = worker(&queue, 0, 3);
        let _waiting: Vec<_> = ["/a", "/b", "/c", "/d"].map(|path| push(&queue, path).unwrap()).into();
        let (_, exchange) = take(&old).unwrap();
        old.close();
        assert_eq!((path(&old), queue.waiting()), (None, 3));
        let new = worker(&queue, 0, 3);
        assert_eq!(["/b", "/c", "/d"].map(str::to_owned), [(); 3].map(|()| path(&new).unwrap()));
        assert!(old.drained().now_or_never().is_none());
        old.done(&exchange);
        assert!(old.drained().now_or_never().is_some());
    }

    #[test]
    fn an_instance_that_went_away_has_failed_what_it_had_begun_and_counts_as_drained() {
        use futures::FutureExt as _;
        let queue = queue(9);
        let worker = worker(&queue, 0, 1);
        let (exchange, _response) = push(&queue, "/a").unwrap();
        take(&worker).unwrap();
        worker.close();
        worker.fail_active();
        assert_eq!(exchange.fault(), Some(Fault::Gone));
        assert!(worker.drained().now_or_never().is_some());
    }

    #[test]
    fn a_worker_that_is_dropped_takes_no_request_along() {
        let queue = queue(9);
        let worker = worker(&queue, 0, 2);
        let (_exchange, mut response) = push(&queue, "/a").unwrap();
        drop(worker);
        assert_eq!(queue.waiting(), 1);
        queue.clear();
        assert!(response.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_request_that_is_stuck_is_seen_and_no_more_come() {
        let queue = queue(9);
        let worker = worker(&queue, 0, 2);
        let exchange = Arc::new(Exchange::new(Duration::from_millis(10), None));
        let (reply, _response) = oneshot::channel();
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = http::Request::new(body);
        queue.push(Job { request, exchange: Arc::clone(&exchange), reply }).unwrap();
        take(&worker).unwrap();
        tokio::time::timeout(Duration::from_secs(30), worker.until_stuck(TIMEOUT, TIMEOUT)).await.unwrap();
        assert_eq!(exchange.fault(), Some(Fault::Stuck(Duration::from_millis(10))));
        let _waiting = push(&queue, "/b").unwrap();
        assert_eq!((path(&worker), queue.waiting()), (None, 1));
    }
}
