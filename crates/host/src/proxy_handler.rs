//! Workers of [`ProxyHandler`] that live until they are replaced: by order, or by what was learned, in place of a count of
//! requests.
//!
//! Each replica has an instance. It serves as soon as a worker takes it; a replacement is made first, waits for a worker, and the
//! worker of the old one takes no more requests and ends with its last.

use std::{
    collections::VecDeque,
    error::Error,
    fmt,
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

/// What a worker may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that an instance serves at the same time: 1 for `wasi:http` 0.2.
    pub concurrency: usize,
    /// How long a request may take until its response begins.
    pub request_timeout: Duration,
}

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
    limits: Limits,
}

struct Ready<T: 'static> {
    store: Store<T>,
    proxy: Proxy,
    retirement: Arc<Retirement>,
    ending: Ending,
}

/// Whether an instance is replaced.
#[derive(Debug, Default)]
struct Retirement {
    is_retired: AtomicBool,
    told: Arc<Notify>,
}

/// Retires its instance when it is dropped.
struct Kept<T: 'static> {
    retirement: Arc<Retirement>,
    waiting: Waiting<T>,
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        self.retirement.is_retired.store(true, Ordering::Release);
        self.retirement.told.notify_one();
        // Where no worker has taken it, nobody else drops it.
        self.waiting.ready().retain(|ready| !Arc::ptr_eq(&ready.retirement, &self.retirement));
    }
}

impl<T: Send + 'static> Pool<T> {
    /// Starts `replicas` instances of `module` on tokio's current runtime. `make` makes one, whose store is limited by the limiter
    /// that it is given; `view` finds the HTTP context in the store's data.
    pub fn new<F>(
        module: &Arc<Module>,
        replicas: u32,
        limits: Limits,
        view: fn(&mut T) -> WasiHttpCtxView<'_>,
        make: impl Fn(Limiter) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = wasmtime::Result<(Store<T>, Proxy)>> + Send + 'static,
    {
        let inner = Inner { ready: Mutex::default(), changed: Notify::new(), view, limits };
        let waiting = Waiting(Arc::new(inner));
        let mut keepers = JoinSet::new();
        for _ in 0..replicas {
            let (make, waiting) = (make.clone(), waiting.clone());
            let start = move |next: keeper::Next| {
                let (made, waiting) = (make(next.limiter()), waiting.clone());
                async move {
                    // The alternate form has the causes, too.
                    let (store, proxy) = made.await.map_err(|error| format!("{error:#}"))?;
                    let retirement = Arc::new(Retirement::default());
                    let kept = Kept { retirement: Arc::clone(&retirement), waiting: waiting.clone() };
                    waiting.ready().push_back(Ready { store, proxy, retirement, ending: next.ending });
                    waiting.0.changed.notify_waiters();
                    Ok::<_, String>(kept)
                }
            };
            let slot = module.add_slot();
            keepers.spawn(keeper::keep(Arc::clone(module), slot, BackoffPolicy::default(), start));
        }
        let permits = (replicas as usize).saturating_mul(limits.concurrency).min(Semaphore::MAX_PERMITS);
        Self {
            handler: ProxyHandler::new(waiting.clone()),
            waiting,
            permits: Semaphore::new(permits),
            _keepers: keepers,
        }
    }

    /// Has an instance serve a request; waits while all are busy.
    ///
    /// # Errors
    /// As [`ProxyHandler::handle`], except for [`InstantiationError`]: it waits instead.
    pub async fn handle(&self, mut request: Request) -> wasmtime::Result<Response> {
        let _permit = self.permits.acquire().await?;
        loop {
            let mut changed = pin!(self.waiting.0.changed.notified());
            changed.as_mut().enable();
            let error = match self.handler.handle((), request).await {
                Ok(response) => return Ok(response),
                Err(error) => error.downcast::<InstantiationError<()>>()?,
            };
            request = error.request.into_inner().unwrap_or_else(PoisonError::into_inner);
            // A worker is told that it may take requests a moment before it can; one that just missed it asks again.
            let _ = tokio::time::timeout(RETRY_AFTER, changed).await;
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("limits", &self.waiting.0.limits).finish_non_exhaustive()
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

/// No instance waits for a worker: all have one.
#[derive(Debug)]
struct AllServe;

impl fmt::Display for AllServe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all instances have a worker")
    }
}

impl Error for AllServe {}

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
            request_timeout: self.0.limits.request_timeout,
        };
        let state = Worker { retirement, ending: Mutex::new(Some(ending)), waiting: self.clone() };
        Ok(Instance { store, proxy, view: self.0.view, expiration, state })
    }
}

/// One instance at work.
struct Worker<T: 'static> {
    retirement: Arc<Retirement>,
    ending: Mutex<Option<Ending>>,
    waiting: Waiting<T>,
}

impl<T: Send + 'static> WorkerState for Worker<T> {
    type StoreData = T;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, _: usize) -> ShouldAccept {
        if self.retirement.is_retired.load(Ordering::Acquire) {
            ShouldAccept::Never
        } else if concurrent < self.waiting.0.limits.concurrency {
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
        Box::pin(tokio::time::sleep(self.waiting.0.limits.request_timeout))
    }

    fn drop(&self, store: Store<T>, result: wasmtime::Result<()>) {
        // Its memory first: what follows may need the room.
        std::mem::drop(store);
        let ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (ending, result) {
            (Some(ending), Err(error)) => ending.failed(format_args!("{error:#}")),
            (Some(ending), Ok(())) => ending.exited(),
            (None, _) => {}
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
                let until = (since + self.request_timeout + Duration::from_secs(1)).into();
                if self.asleep.deadline() != until {
                    self.asleep.as_mut().reset(until);
                }
                self.asleep.as_mut().poll(context)
            }
        }
    }
}
