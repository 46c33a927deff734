//! Workers of [`ProxyHandler`] that live until they are replaced: by order, or by what was learned, in place of a count of
//! requests.
//!
//! Each replica has an instance. It serves as soon as a worker takes it; a replacement is made first, waits for a worker, and the
//! worker of the old one takes no more requests and ends with its last.

use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroU32,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, Semaphore, futures::OwnedNotified},
    task::JoinSet,
    time::Sleep,
};
use wasmtime::{Store, StoreContextMut, component::GuestTaskId};
use wasmtime_wasi_http::{
    WasiHttpCtxView,
    handler::{
        HandlerState, Instance, InstantiationError, Proxy, ProxyHandler, Request, Response, ShouldAccept,
        WorkerExpiration, WorkerState, WorkerStatus,
    },
};

use crate::{
    instances::Module,
    keeper::{self, Ending},
    lifecycle::BackoffPolicy,
    limiter::Limiter,
};

/// How long a request that found no worker waits for one, before it asks again.
const RETRY_AFTER: Duration = Duration::from_millis(5);

/// How long requests may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long one may wait for an instance.
    pub queue: Duration,
    /// How long an instance may take over one: with `wasi:http` 0.2 until it has returned, its whole body included; with 0.3 until
    /// its response begins, and again until it has returned. Then the instance is followed by another one.
    pub request: Duration,
}

/// No instance was free in time: all are busy, or cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no instance was free within {0:?}")]
pub struct QueueTimeout(Duration);

/// All replicas of a module, behind one [`ProxyHandler`].
pub struct Pool<T: Send + 'static> {
    handler: ProxyHandler<Waiting<T>>,
    waiting: Waiting<T>,
    permits: Semaphore,
    /// The keepers of all slots: they end with the pool.
    _keepers: JoinSet<()>,
}

/// Instances that wait for a worker.
struct Waiting<T: 'static>(Arc<Inner<T>>);

struct Inner<T: 'static> {
    ready: Mutex<VecDeque<Ready<T>>>,
    /// An instance waits, or a worker takes another request.
    changed: Notify,
    view: fn(&mut T) -> WasiHttpCtxView<'_>,
    timeouts: Timeouts,
}

struct Ready<T: 'static> {
    store: Store<T>,
    proxy: Proxy,
    retirement: Arc<RetireSignal>,
    ending: Ending,
}

/// Whether an instance is replaced.
#[derive(Debug, Default)]
struct RetireSignal {
    is_retired: AtomicBool,
    told: Arc<Notify>,
}

/// Retires its instance when it is dropped.
struct RetireOnDrop<T: 'static> {
    retirement: Arc<RetireSignal>,
    waiting: Waiting<T>,
}

impl<T> Drop for RetireOnDrop<T> {
    fn drop(&mut self) {
        self.retirement.is_retired.store(true, Ordering::Release);
        self.retirement.told.notify_one();
        // Where no worker has taken it, nobody else drops it: not under the lock, which instances are waited for with.
        let waiting = {
            let mut ready = self.waiting.ready();
            let place = ready.iter().position(|ready| Arc::ptr_eq(&ready.retirement, &self.retirement));
            place.and_then(|place| ready.remove(place))
        };
        drop(waiting);
    }
}

impl<T: Send + 'static> Pool<T> {
    /// Starts `replicas` instances of `module` on tokio's current runtime. `view` finds the HTTP context in the store's data. `make`
    /// makes an instance: its store must be limited by the limiter that is given, or it is not metered; and its engine must
    /// interrupt guests by epochs, with [`Store::epoch_deadline_async_yield_and_update`], or one that computes without a pause is
    /// neither timed out nor replaced.
    pub fn new<F>(
        module: &Arc<Module>,
        replicas: NonZeroU32,
        timeouts: Timeouts,
        view: fn(&mut T) -> WasiHttpCtxView<'_>,
        make: impl Fn(Limiter) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = wasmtime::Result<(Store<T>, Proxy)>> + Send + 'static,
    {
        let inner = Inner { ready: Mutex::default(), changed: Notify::new(), view, timeouts };
        let waiting = Waiting(Arc::new(inner));
        let mut keepers = JoinSet::new();
        for _ in 0..replicas.get() {
            let (make, waiting) = (make.clone(), waiting.clone());
            let start = move |next: keeper::Next| {
                let (made, waiting) = (make(next.limiter()), waiting.clone());
                async move {
                    // The alternate form has the causes, too.
                    let (store, proxy) = made.await.map_err(|error| format!("{error:#}"))?;
                    let retirement = Arc::new(RetireSignal::default());
                    let kept = RetireOnDrop { retirement: Arc::clone(&retirement), waiting: waiting.clone() };
                    waiting.ready().push_back(Ready { store, proxy, retirement, ending: next.ending });
                    waiting.0.changed.notify_waiters();
                    Ok::<_, String>(kept)
                }
            };
            let slot = module.add_slot();
            keepers.spawn(keeper::keep(Arc::clone(module), slot, BackoffPolicy::default(), start));
        }
        let permits =
            usize::try_from(replicas.get()).map_or(Semaphore::MAX_PERMITS, |n| n.min(Semaphore::MAX_PERMITS));
        Self {
            handler: ProxyHandler::new(waiting.clone()),
            waiting,
            permits: Semaphore::new(permits),
            _keepers: keepers,
        }
    }

    /// Has an instance serve a request, one at a time each; waits while all are busy.
    ///
    /// # Errors
    /// [`QueueTimeout`], and those of [`ProxyHandler::handle`], except for [`InstantiationError`].
    pub async fn handle(&self, mut request: Request) -> wasmtime::Result<Response> {
        let begun = Instant::now();
        let queue = self.waiting.0.timeouts.queue;
        let too_late = || QueueTimeout(queue);
        let permit = tokio::time::timeout(queue, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| too_late())??;
        loop {
            let mut changed = pin!(self.waiting.0.changed.notified());
            changed.as_mut().enable();
            let error = match self.handler.handle((), request).await {
                Ok(response) => return Ok(response),
                Err(error) => error.downcast::<InstantiationError<()>>()?,
            };
            if begun.elapsed() >= queue {
                return Err(too_late().into());
            }
            request = error.request.into_inner().unwrap_or_else(PoisonError::into_inner);
            // A worker is told that it may take requests a moment before it can; one that just missed it asks again.
            let _ = tokio::time::timeout(RETRY_AFTER, changed).await;
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("timeouts", &self.waiting.0.timeouts).finish_non_exhaustive()
    }
}

impl<T> Clone for Waiting<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Waiting<T> {
    fn ready(&self) -> std::sync::MutexGuard<'_, VecDeque<Ready<T>>> {
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No instance waits for a worker.
#[derive(Debug, thiserror::Error)]
#[error("all instances have a worker")]
struct AllServe;

impl<T: Send + 'static> HandlerState for Waiting<T> {
    type StoreData = T;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker<T>;

    async fn instantiate(&self) -> wasmtime::Result<Instance<T, Expiration, Worker<T>>> {
        let Ready { store, proxy, retirement, ending } = self.ready().pop_front().ok_or(AllServe)?;
        let expiration = Expiration {
            retired: Box::pin(Arc::clone(&retirement.told).notified_owned()),
            is_retired: false,
            asleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            request_timeout: self.0.timeouts.request,
        };
        let state = Worker { retirement, ending: OneEnding::new(ending), waiting: self.clone() };
        Ok(Instance { store, proxy, view: self.0.view, expiration, state })
    }
}

/// One instance at work.
struct Worker<T: 'static> {
    retirement: Arc<RetireSignal>,
    ending: OneEnding,
    waiting: Waiting<T>,
}

/// Told once: by a request that takes too long, or by the worker's end.
#[derive(Clone)]
struct OneEnding(Arc<Mutex<Option<Ending>>>);

impl OneEnding {
    fn new(ending: Ending) -> Self {
        Self(Arc::new(Mutex::new(Some(ending))))
    }

    fn failed(&self, why: impl fmt::Display) {
        let ending = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ending) = ending {
            ending.failed(why);
        }
    }
}

impl<T: Send + 'static> WorkerState for Worker<T> {
    type StoreData = T;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, _: usize) -> ShouldAccept {
        if self.retirement.is_retired.load(Ordering::Acquire) {
            ShouldAccept::Never
        } else if concurrent == 0 {
            self.waiting.0.changed.notify_waiters();
            ShouldAccept::Yes
        } else {
            ShouldAccept::No
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, T>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        let (ending, timeout) = (self.ending.clone(), self.waiting.0.timeouts.request);
        Box::pin(async move {
            tokio::time::sleep(timeout).await;
            // Its worker takes no more requests. The next instance begins now, whenever this one ends.
            ending.failed(format_args!("a request took longer than {timeout:?}"));
        })
    }

    fn drop(&self, store: Store<T>, result: wasmtime::Result<()>) {
        // Its memory first: what follows may need the room.
        std::mem::drop(store);
        // A worker that was not retired ends over a request alone.
        match result {
            Err(error) => self.ending.failed(format_args!("{error:#}")),
            Ok(()) => self.ending.failed("its worker has ended"),
        }
    }
}

/// When an instance is dropped: once it is retired and idle; or when a request has taken too long, as Wasmtime cannot always tell
/// the worker of that.
struct Expiration {
    retired: Pin<Box<OwnedNotified>>,
    is_retired: bool,
    asleep: Pin<Box<Sleep>>,
    request_timeout: Duration,
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        since: Instant,
    ) -> Poll<()> {
        self.is_retired = self.is_retired || self.retired.as_mut().poll(context).is_ready();
        match status {
            WorkerStatus::Idle if self.is_retired => Poll::Ready(()),
            WorkerStatus::Idle => Poll::Pending,
            WorkerStatus::Requests | WorkerStatus::PostReturn => {
                // A second more: the request's own timer goes first where it can.
                let Some(until) =
                    since.checked_add(self.request_timeout.saturating_add(Duration::from_secs(1)))
                else {
                    return Poll::Pending;
                };
                let until = until.into();
                if self.asleep.deadline() != until {
                    self.asleep.as_mut().reset(until);
                }
                self.asleep.as_mut().poll(context)
            }
        }
    }
}
