//! One lifetime of one instance: prepared, running, ended.
//!
//! | module | subject |
//! | --- | --- |
//! | [`meter`] | how much linear memory it holds, exactly; and that it stays within its limit |
//! | [`view`] | what it may see of the host: arguments, environment, folders, output |
//! | [`output`] | what it prints → log lines |

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;
use wasmtime::{Store, WasmBacktrace};
use wasmtime_wasi::{
    I32Exit, WasiCtxView, WasiView,
    p1::WasiP1Ctx,
    p2::bindings::{Command, CommandPre},
};

pub mod meter;
pub mod output;
pub mod view;

use meter::{Limiter, Meter};

/// Frames of a trap's backtrace that are worth a log line.
const BACKTRACE_FRAMES_MAX: usize = 8;

/// What a [`Store`] holds: the guest's view of the host, and its limits.
pub struct GuestState {
    wasi: WasiP1Ctx,
    limiter: Limiter,
}

impl fmt::Debug for GuestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestState").field("limiter", &self.limiter).finish_non_exhaustive()
    }
}

impl GuestState {
    /// The preview1 view, for a core module's linker.
    pub fn preview1(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// A program, linked and ready to be instantiated again and again.
pub enum Linked {
    /// A preview1 core module with a `_start` function.
    Core(wasmtime::InstancePre<GuestState>),
    /// A `wasi:cli/command` component.
    Component(CommandPre<GuestState>),
}

enum Entry {
    Core(wasmtime::TypedFunc<(), ()>),
    Component(Command),
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
    /// Instantiates `linked` with the view `wasi` and the limits `limiter`.
    ///
    /// # Errors
    /// [`StartError::Instantiate`]. What was allocated is freed, and the meter reads zero again.
    pub async fn new(linked: &Linked, wasi: WasiP1Ctx, limiter: Limiter) -> Result<Self, StartError> {
        let meter = limiter.meter();
        let engine = match linked {
            Linked::Core(pre) => pre.module().engine(),
            Linked::Component(pre) => pre.engine(),
        };
        let mut store = Store::new(engine, GuestState { wasi, limiter });
        store.limiter(|state| &mut state.limiter);
        // A busy guest gives way at the next tick, and again at each tick after that. It is stopped by
        // dropping the future that runs it, which is possible whenever it gives way.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let entry = match linked {
            Linked::Core(pre) => match pre.instantiate_async(&mut store).await {
                Ok(instance) => instance.get_typed_func(&mut store, "_start").map(Entry::Core),
                Err(error) => Err(error),
            },
            Linked::Component(pre) => pre.instantiate_async(&mut store).await.map(Entry::Component),
        };
        match entry {
            Ok(entry) => Ok(Self { store, entry, meter }),
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

    /// Runs the program on `threads`.
    #[must_use]
    pub fn launch(self, threads: &Handle) -> Running {
        let stop = CancellationToken::new();
        let meter = Arc::clone(&self.meter);
        let life: Arc<Mutex<Life>> = Arc::new(Mutex::new(Some(Box::pin(self.run(stop.clone())))));
        let polled = Arc::clone(&life);
        let task = threads.spawn(poll_fn(move |context| {
            // Another thread's panic while polling ends the lifetime here as well.
            let mut life = polled.lock().expect("a lifetime is not polled again after a panic");
            poll_life(&mut life, context)
        }));
        Running { meter, life, stop, task }
    }

    /// Runs the program to its end, or until `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> Remains {
        let end = tokio::select! {
            // First, so that a guest that never rests is stopped the next time it gives way.
            biased;
            () = stop.cancelled() => End::Stopped,
            end = call(&mut self.store, &self.entry) => end,
        };
        Remains { end, store: self.store }
    }
}

/// A lifetime that is running. Whoever holds the lock may poll it; nothing is left once it ended.
type Life = Option<Pin<Box<dyn Future<Output = Remains> + Send>>>;

/// A lifetime that is running on the guests' threads.
pub struct Running {
    meter: Arc<Meter>,
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

/// Polls a lifetime, on whichever thread asks. `None`: somebody else has seen its end.
fn poll_life(life: &mut Life, context: &mut Context<'_>) -> Poll<Option<Remains>> {
    let Some(running) = life.as_mut() else { return Poll::Ready(None) };
    let remains = std::task::ready!(running.as_mut().poll(context));
    *life = None;
    Poll::Ready(Some(remains))
}

/// In one line: what went wrong, and in which functions, innermost first.
fn trap(error: &wasmtime::Error) -> String {
    let cause = error.root_cause();
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return format!("{error:#}") };
    let frames = backtrace.frames().iter().take(BACKTRACE_FRAMES_MAX).map(|frame| {
        frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), str::to_owned)
    });
    let frames: Vec<_> = frames.collect();
    if frames.is_empty() { format!("{cause}") } else { format!("{cause}, in {}", frames.join(" < ")) }
}

async fn call(store: &mut Store<GuestState>, entry: &Entry) -> End {
    let result = match entry {
        Entry::Core(start) => start.call_async(store, ()).await,
        Entry::Component(command) => match command.wasi_cli_run().call_run(store).await {
            Ok(Ok(())) => Ok(()),
            // `wasi:cli/run` tells success from failure, and nothing more.
            Ok(Err(())) => Err(I32Exit(1).into()),
            Err(error) => Err(error),
        },
    };
    match result {
        Ok(()) => End::Exit,
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(0)) => End::Exit,
            Some(I32Exit(code)) => End::Crash(format!("exit code {code}")),
            None => End::Crash(trap(&error)),
        },
    }
}
