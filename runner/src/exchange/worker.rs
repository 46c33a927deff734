//! An instance's place in its module's queue: what it is given, what it works on, and whether that moves.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    call::{Call, Fault, Job, Server},
    queue::{Queue, Wakers, WorkerId},
};

/// Between two looks at what an instance with a stuck request still works on: it is ended soon after the last
/// of it is done.
const GRACE_PAUSE_MAX: Duration = Duration::from_millis(100);

/// An instance's place in its module's queue.
#[derive(Debug)]
pub struct Worker {
    queue: Arc<Queue>,
    id: WorkerId,
    pub(super) server: Server,
    wakers: Arc<Wakers>,
    had_requests: AtomicBool,
    /// What the instance works on.
    active: Mutex<Vec<Arc<Call>>>,
}

impl Worker {
    pub(super) fn new(queue: Arc<Queue>, id: WorkerId, server: Server, wakers: Arc<Wakers>) -> Self {
        Self { queue, id, server, wakers, had_requests: AtomicBool::new(false), active: Mutex::default() }
    }

    /// The next request to work on. Only one task may wait for it.
    pub async fn next(&self) -> Job {
        loop {
            let job = self.queue.take(self.id);
            match job {
                Some(job) if job.call.begin(self.server) => {
                    self.had_requests.store(true, Ordering::Relaxed);
                    self.active().push(Arc::clone(&job.call));
                    return job;
                }
                // Nobody waits for it any more.
                Some(_) => self.queue.finish(self.id),
                None => self.wakers.work.notified().await,
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
        self.queue.finish(self.id);
    }

    /// No more requests shall come. What was given and not begun goes to others.
    pub fn close(&self) {
        self.queue.close(self.id);
    }

    /// Waits until the last request that was begun is done. For a closed worker.
    pub async fn drained(&self) {
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
    pub async fn until_stuck(&self, pause: Duration, grace: Duration) {
        let mut given_up = None;
        loop {
            let now = Instant::now();
            let mut next = now + given_up.map_or(pause, |_| pause.min(GRACE_PAUSE_MAX));
            let mut going_on = false;
            for call in self.active().clone() {
                if call.fault().is_some() {
                    continue;
                }
                match call.poll_deadline() {
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
    pub fn fail_active(&self) {
        let active = std::mem::take(&mut *self.active());
        for call in active {
            call.fail(Fault::Gone);
            self.queue.finish(self.id);
        }
    }

    fn active(&self) -> MutexGuard<'_, Vec<Arc<Call>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue.remove(self.id);
    }
}
