//! One lifetime of one instance: prepared, running, ended.
//!
//! | module | subject |
//! | --- | --- |
//! | [`meter`] | how much memory it holds, exactly; and that it stays within its limit |
//! | [`handles`] | how many files, sockets and other things of the host it holds |
//! | [`view`] | what it may see of the host: arguments, environment, folders, output |
//! | [`output`] | what it prints → log lines |
//! | [`turns`] | on which threads it takes its turns |
//! | [`host_calls`] | where its host calls wait that may block |
//! | `bodiless` | responses that announce a body and have none |
//! | `serve` | a guest that serves HTTP: its requests, one after another or several at once |
//! | `outgoing` | the HTTP requests that it sends itself |

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};
use tokio_util::{context::TokioContext, sync::CancellationToken};
use wasmtime::{
    Engine, Store, WasmBacktrace,
    component::{ResourceTable, ResourceTableError},
};
use wasmtime_wasi::{
    I32Exit, WasiCtxView, WasiView,
    p1::WasiP1Ctx,
    p2::bindings::{Command, CommandPre},
};
use wasmtime_wasi_http::{
    WasiHttpCtx, WasiHttpCtxView, WasiHttpView,
    handler::{Proxy, ProxyPre},
};

pub(crate) mod bodiless;
pub mod handles;
pub mod host_calls;
pub mod meter;
mod outgoing;
pub mod output;
mod serve;
pub mod turns;
pub mod view;

use handles::{HandleCounter, Handles};
use meter::{Limiter, Meter};
use outgoing::Outgoing;
use turns::{Life, Places, Turn, poll_life};

use crate::{
    config::Destination,
    descriptors::HANDLES_PER_CONNECTION,
    exchange::{queue::Queue, state::Server, worker::Worker},
};

/// Frames of a trap's backtrace that are worth a log line.
const BACKTRACE_FRAMES_MAX: usize = 8;

/// How often at least a guest's requests are looked after, for those that have begun since.
const LOOK_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The longest header fields that a guest can make, in bytes of the runner's memory: four times what servers take.
const FIELDS_BYTES_MAX: usize = 32 * 1024;

/// Handles of a component's own, which its instances pass to each other. They are small, in the runner's memory, and
/// stand for nothing of the host's.
const COMPONENT_HANDLES_MAX: usize = 10_000;

/// What a [`Store`] holds: the guest's view of the host, and its limits.
pub struct GuestState {
    wasi: WasiP1Ctx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    limiter: Limiter,
    handles: HandleCounter,
    /// The request that it works on is a HEAD. Only WASI 0.2 has one at a time.
    answers_head: bool,
}

impl fmt::Debug for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestState").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl GuestState {
    /// A view `wasi` with the limits `limiter` and `handles`, and HTTP requests to `outgoing`.
    #[must_use]
    pub fn new(mut wasi: WasiP1Ctx, limiter: Limiter, outgoing: Arc<[Destination]>, handles: u32) -> Self {
        wasi.ctx().table.set_max_capacity(handles as usize);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        Self {
            wasi,
            http,
            outgoing: Outgoing::new(outgoing, handles / HANDLES_PER_CONNECTION),
            limiter,
            handles: HandleCounter::default(),
            answers_head: false,
        }
    }

    /// The preview1 view, for a core module's linker.
    pub fn preview1(&mut self) -> &mut WasiP1Ctx {
        self.handles.count(self.wasi.ctx().table);
        &mut self.wasi
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.handles.count(self.wasi.ctx().table);
        self.wasi.ctx()
    }
}

impl WasiHttpView for GuestState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.handles.count(self.wasi.ctx().table);
        WasiHttpCtxView { hooks: &mut self.outgoing, table: self.wasi.ctx().table, ctx: &mut self.http }
    }
}

/// A program, linked and ready to be instantiated again and again.
pub enum Linked {
    /// A preview1 core module with a `_start` function.
    Core(wasmtime::InstancePre<GuestState>),
    /// A `wasi:cli/command` component.
    Component(CommandPre<GuestState>),
    /// A `wasi:http` component.
    Http {
        /// The component.
        pre: ProxyPre<GuestState>,
        /// How many requests an instance works on at once.
        concurrency: NonZeroU32,
    },
}

impl Linked {
    /// Requests that an instance works on at once; a command works on one thing.
    #[must_use]
    pub const fn concurrency(&self) -> NonZeroU32 {
        match self {
            Self::Core(_) | Self::Component(_) => NonZeroU32::MIN,
            Self::Http { concurrency, .. } => *concurrency,
        }
    }

    fn engine(&self) -> &Engine {
        match self {
            Self::Core(pre) => pre.module().engine(),
            Self::Component(pre) => pre.engine(),
            Self::Http { pre: ProxyPre::P2(pre), .. } => pre.engine(),
            Self::Http { pre: ProxyPre::P3(pre), .. } => pre.engine(),
        }
    }
}

enum Entry {
    Core(wasmtime::TypedFunc<(), ()>),
    Component(Command),
    Http { proxy: Proxy, concurrency: NonZeroU32 },
}

/// How an instance that serves is fed and watched.
pub struct Serving<'a> {
    /// Where its requests come from.
    pub queue: &'a Arc<Queue>,
    /// Who it is.
    pub server: Server,
    /// How long an exchange may make no progress.
    pub request_timeout: Duration,
    /// How long the others may go on when one is stuck.
    pub drain_timeout: Duration,
}

/// What an instance that serves keeps for as long as it runs.
struct Service {
    worker: Arc<Worker>,
    pause: Duration,
    grace: Duration,
}

/// Why a lifetime could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Wasmtime refused, or the guest's `start` section trapped.
    #[error("instantiating: {0}")]
    Instantiate(String),
    /// A preopened folder cannot be opened.
    #[error("opening the folders that the guest may see")]
    View(#[source] wasmtime::Error),
    /// A preopened folder did not open in time.
    #[error(
        "opening the folders that the guest may see took longer than start_timeout ({} ms); is one of them on a \
         network mount that does not answer?", .0.as_millis()
    )]
    Folders(Duration),
    /// The guest's `start` section ran for too long.
    #[error("instantiating took longer than start_timeout ({} ms)", .0.as_millis())]
    Timeout(Duration),
    /// The host's own code panicked.
    #[error("the host failed while instantiating: {0}")]
    Host(String),
}

/// How a lifetime ended.
#[derive(Debug)]
pub enum End {
    /// Its program was done: exit code 0.
    Exit,
    /// It trapped, or left with another exit code.
    Crash(String),
    /// It was asked to stop.
    Stopped,
}

/// An instance before its program's first instruction.
///
/// Instantiation runs no code of a WASI command, with one exception: a core module's `start` section,
/// which the WASI toolchains do not emit for commands. Everything else runs from `_start` (core module) or
/// `wasi:cli/run` (component), so that a successor can be prepared while its predecessor still works.
pub struct Prepared {
    store: Store<GuestState>,
    entry: Entry,
    meter: Arc<Meter>,
    handles: Arc<Handles>,
    turn: Arc<Turn>,
}

/// What is left of a lifetime. Dropping it gives its memory back to the host, which takes milliseconds
/// when there is much of it: not for a thread that others wait on.
pub struct Remains {
    /// How it ended.
    pub end: End,
    #[allow(dead_code, reason = "held for what dropping it does")]
    store: Store<GuestState>,
}

impl Prepared {
    /// Instantiates `linked` with `state`. `tick`: how often the engine's epoch advances.
    ///
    /// # Errors
    /// [`StartError::Instantiate`]. What was allocated is freed, and the meter reads zero again.
    pub async fn new(linked: &Linked, state: GuestState, tick: Duration) -> Result<Self, StartError> {
        let meter = state.limiter.meter();
        let handles = state.handles.shared();
        let mut store = Store::new(linked.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_max_component_handles(COMPONENT_HANDLES_MAX);
        // A busy guest gives way at the next tick, and again at each tick after that. It is stopped by
        // dropping the future that runs it, which is possible whenever it gives way.
        store.set_epoch_deadline(1);
        let turn = Arc::new(Turn::new(tick));
        let taken = Arc::clone(&turn);
        store.epoch_deadline_callback(move |_| Ok(taken.at_tick()));
        let entry = match linked {
            Linked::Core(pre) => match pre.instantiate_async(&mut store).await {
                Ok(instance) => instance.get_typed_func(&mut store, "_start").map(Entry::Core),
                Err(error) => Err(error),
            },
            Linked::Component(pre) => pre.instantiate_async(&mut store).await.map(Entry::Component),
            Linked::Http { pre, concurrency } => {
                let proxy = pre.instantiate_async(&mut store).await;
                proxy.map(|proxy| Entry::Http { proxy, concurrency: *concurrency })
            }
        };
        match entry {
            Ok(entry) => {
                store.data().limiter.correct_gc_heap(store.gc_heap_capacity());
                Ok(Self { store, entry, meter, handles, turn })
            }
            Err(error) => {
                drop(store);
                // Wasmtime does not report memories that go away with a failed instantiation.
                meter.reset();
                Err(StartError::Instantiate(trap(&error)))
            }
        }
    }

    /// What the instance's linear memories hold, now and for as long as it lives.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// How many handles it holds, now and for as long as it lives.
    #[must_use]
    pub fn handles(&self) -> &Arc<Handles> {
        &self.handles
    }

    /// Runs the program. One that serves takes requests from now on.
    #[must_use]
    pub fn launch(self, places: &Places<'_>, serving: &Serving<'_>) -> Running {
        let stop = CancellationToken::new();
        let meter = Arc::clone(&self.meter);
        let service = match &self.entry {
            Entry::Core(_) | Entry::Component(_) => None,
            Entry::Http { concurrency, .. } => Some(Service {
                worker: Worker::register(serving.queue, serving.server, *concurrency),
                pause: serving.request_timeout.min(LOOK_PAUSE_MAX),
                grace: serving.drain_timeout,
            }),
        };
        let worker = service.as_ref().map(|service| Arc::clone(&service.worker));
        let turn = Arc::clone(&self.turn);
        let live = TokioContext::new(self.live(stop.clone(), service), places.host_calls.clone());
        let life: Arc<Mutex<Life>> = Arc::new(Mutex::new(Some(Box::pin(live))));
        let task = places.home.spawn(turns::run(Arc::clone(&life), turn, places.busy.clone()));
        Running { meter, worker, life, stop, task }
    }

    /// Runs a command to its end, or until `stop`.
    pub async fn run(self, stop: CancellationToken) -> Remains {
        self.live(stop, None).await
    }

    async fn live(mut self, stop: CancellationToken, service: Option<Service>) -> Remains {
        // Dropped before the store, also when the host's own code panics.
        let _leaving = service.as_ref().map(|service| Leaving(&service.worker));
        let end = tokio::select! {
            // First, so that a guest that never rests is stopped the next time it gives way.
            biased;
            () = stop.cancelled() => End::Stopped,
            end = stuck(service.as_ref()) => end,
            end = call(&mut self.store, &self.entry, service.as_ref()) => end,
        };
        // What it held alone, a port or a lock, is free before its successor runs; its memory takes longer.
        *self.store.data_mut().wasi.ctx().table = ResourceTable::new();
        Remains { end, store: self.store }
    }
}

/// An instance that may leave at any moment.
struct Leaving<'a>(&'a Worker);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.close();
        // Before the store goes, and the guest's bodies come to an end that looks like a good one.
        self.0.fail_active();
    }
}

/// Returns when one of the guest's requests is stuck.
async fn stuck(service: Option<&Service>) -> End {
    let Some(Service { worker, pause, grace }) = service else { return std::future::pending().await };
    worker.until_stuck(*pause, *grace).await;
    End::Crash("a request made no progress for request_timeout".to_owned())
}

/// A lifetime that is running on the guests' threads.
pub struct Running {
    meter: Arc<Meter>,
    worker: Option<Arc<Worker>>,
    life: Arc<Mutex<Life>>,
    stop: CancellationToken,
    task: JoinHandle<Option<Remains>>,
}

impl Running {
    /// What the instance's linear memories hold.
    #[must_use]
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Whether it has begun a request.
    #[must_use]
    pub fn had_requests(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.had_requests())
    }

    /// Takes no more requests; what was given and not begun goes to other instances. Of no effect on a
    /// command.
    pub fn retire(&self) {
        if let Some(worker) = &self.worker {
            worker.close();
        }
    }

    /// Waits until the last request of a retired instance is done. A command has none.
    pub async fn drained(&self) {
        if let Some(worker) = &self.worker {
            worker.drained().await;
        }
    }

    /// Waits for the program to end by itself. May be asked again if not waited for to the end.
    ///
    /// # Errors
    /// When the host's own code panicked.
    pub async fn ended(&mut self) -> Result<Remains, JoinError> {
        let remains = (&mut self.task).await?;
        Ok(remains.expect("only `stop` takes what is left, and consumes this value"))
    }

    /// Stops the program. What is left is the caller's to drop.
    ///
    /// The stop does not wait for a turn on the guests' threads, where others may be busy: a guest that
    /// rests is stopped here and now (no code of it runs), a busy one as soon as it gives way, which it
    /// does at each epoch tick. For that a thread of `threads` may block.
    ///
    /// # Errors
    /// When the host's own code panicked.
    pub async fn stop(self, threads: &Handle) -> Result<Remains, JoinError> {
        let Self { life, stop, task, .. } = self;
        stop.cancel();
        let at_rest = match life.try_lock() {
            Ok(mut life) => poll_life(&mut life, &mut Context::from_waker(Waker::noop())),
            Err(_) => Poll::Pending,
        };
        let taken = match at_rest {
            Poll::Ready(taken) => taken,
            Poll::Pending => {
                let take = move || match life.lock() {
                    Ok(mut life) => poll_life(&mut life, &mut Context::from_waker(Waker::noop())),
                    Err(_) => Poll::Pending,
                };
                match threads.spawn_blocking(take).await? {
                    Poll::Ready(taken) => taken,
                    Poll::Pending => None,
                }
            }
        };
        if let Some(remains) = taken {
            // It has nothing to poll any more, and nothing will wake it.
            task.abort();
            return Ok(remains);
        }
        // It ended by itself, or took its turn first.
        let remains = task.await?;
        Ok(remains.expect("what is left of a lifetime is either taken above or in its task"))
    }
}

/// In one line: what went wrong, and in which functions, innermost first.
fn trap(error: &wasmtime::Error) -> String {
    if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ResourceTableError::Full))) {
        return "too many handles: it held as many files, sockets, bodies and header fields as max_handles allows; \
                does it close what it opens?"
            .to_owned();
    }
    let cause = error.root_cause();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return format!("{error:#}") };
    let frames = backtrace.frames().iter().take(BACKTRACE_FRAMES_MAX).map(|frame| {
        frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), str::to_owned)
    });
    let frames: Vec<_> = frames.collect();
    if frames.is_empty() { format!("{cause}") } else { format!("{cause}, in {}", frames.join(" < ")) }
}

async fn call(store: &mut Store<GuestState>, entry: &Entry, service: Option<&Service>) -> End {
    end_of(match (entry, service) {
        (Entry::Core(start), _) => start.call_async(store, ()).await,
        (Entry::Component(command), _) => match command.wasi_cli_run().call_run(store).await {
            Ok(Ok(())) => Ok(()),
            // `wasi:cli/run` tells success from failure, and nothing more.
            Ok(Err(())) => Err(I32Exit(1).into()),
            Err(error) => Err(error),
        },
        (Entry::Http { proxy, .. }, Some(service)) => {
            return serve::serve(store, proxy, &service.worker).await;
        }
        (Entry::Http { .. }, None) => unreachable!("`launch` gives a worker to what serves"),
    })
}

fn end_of(result: wasmtime::Result<()>) -> End {
    match result {
        Ok(()) => End::Exit,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => End::Exit,
            Some(I32Exit(code)) => End::Crash(format!("exit code {code}")),
            None => End::Crash(trap(&error)),
        },
    }
}
