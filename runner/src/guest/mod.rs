//! One lifetime of one instance: prepared, running, ended.
//!
//! | module | subject |
//! | --- | --- |
//! | [`handles`] | how many files, sockets and other things of the host it holds |
//! | [`view`] | what it may see of the host: arguments, environment, folders, output |
//! | [`output`] | what it prints → log lines |
//! | [`turns`] | on which threads it takes its turns |
//! | [`host_calls`] | where its host calls wait that may block |
//! | `entry` | where a program begins, for each kind of it |
//! | `state` | what a store holds |
//! | `end` | how a lifetime ended |
//! | `bodiless` | responses that announce a body and have none |
//! | `serve` | a guest that serves HTTP: its requests, one after another or several at once |
//! | `outgoing` | the HTTP requests that it sends itself |

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use ebb_host::meter::Meter;
use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};
use tokio_util::{context::TokioContext, sync::CancellationToken};
use wasmtime::{Store, component::ResourceTable};
use wasmtime_wasi::WasiView as _;

pub(crate) mod bodiless;
mod end;
mod entry;
pub(crate) mod handles;
pub(crate) mod host_calls;
mod outgoing;
pub(crate) mod output;
mod serve;
mod state;
pub(crate) mod turns;
pub(crate) mod view;

use end::trap;
pub(crate) use end::{End, Ended};
pub(crate) use entry::Linked;
use entry::{Entry, Work};
use handles::Handles;
pub(crate) use state::GuestState;
use turns::{Life, Places, Turn, poll_life};

use crate::exchange::{state::Server, worker::Worker};

/// Handles of a component's own, which its instances pass to each other. They are small, in the runner's memory, and
/// stand for nothing of the host's.
const COMPONENT_HANDLES_MAX: usize = 10_000;

/// Why a lifetime could not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Wasmtime refused, or the guest's `start` section trapped.
    #[error("instantiating: {0}")]
    Instantiate(String),
    /// A preopened folder cannot be opened.
    #[error("opening the directories that the guest may access")]
    View(#[source] wasmtime::Error),
    /// A preopened folder did not open in time.
    #[error(
        "opening the directories that the guest may access took longer than start_timeout ({} ms); is one of them on a \
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

/// An instance before its program's first instruction.
///
/// Instantiation runs no code of a WASI command, with one exception: a core module's `start` section,
/// which the WASI toolchains do not emit for commands. Everything else runs from `_start` (core module) or
/// `wasi:cli/run` (component), so that a replacement can be prepared while its predecessor still works.
pub(crate) struct Prepared {
    store: Store<GuestState>,
    entry: Entry,
    meter: Arc<Meter>,
    handles: Arc<Handles>,
    turn: Arc<Turn>,
}

impl Prepared {
    /// Instantiates `linked` with `state`. `tick`: how often the engine's epoch advances.
    ///
    /// # Errors
    /// [`StartError::Instantiate`]. What was allocated is freed, and the meter reads zero again.
    pub(crate) async fn new(linked: &Linked, state: GuestState, tick: Duration) -> Result<Self, StartError> {
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
        store.epoch_deadline_callback(move |store| {
            state::take_stack(store);
            Ok(taken.at_tick())
        });
        let entry = linked.instantiate(&mut store).await;
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
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// How many handles it holds, now and for as long as it lives.
    pub(crate) fn handles(&self) -> &Arc<Handles> {
        &self.handles
    }

    /// Runs the program as `server`. One that serves takes requests from now on.
    pub(crate) fn launch(self, places: &Places<'_>, server: Server) -> Running {
        let stop = CancellationToken::new();
        let Self { store, entry, meter, handles: _, turn } = self;
        let work = entry.begin(server);
        let worker = work.worker().cloned();
        let live = TokioContext::new(live(store, work, stop.clone()), places.host_calls.clone());
        let life: Arc<Mutex<Life>> = Arc::new(Mutex::new(Some(Box::pin(live))));
        let task = places.home.spawn(turns::run(Arc::clone(&life), turn, places.busy.clone()));
        Running { meter, worker, life, stop, task }
    }
}

/// Does `work` to its end, or until `stop`.
async fn live(mut store: Store<GuestState>, work: Work, stop: CancellationToken) -> Ended {
    // Dropped before the store, also when the host's own code panics.
    let _close_on_drop = work.worker().map(|worker| CloseOnDrop(worker));
    let end = tokio::select! {
        // First, so that a guest that never rests is stopped the next time it gives way.
        biased;
        () = stop.cancelled() => End::Stopped,
        end = work.run(&mut store) => end,
    };
    // What it held alone, a port or a lock, is free before its replacement runs; its memory takes longer.
    *store.data_mut().wasi.ctx().table = ResourceTable::new();
    Ended { end, store }
}

/// An instance that may leave at any moment.
struct CloseOnDrop<'a>(&'a Worker);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
        // Before the store goes, and the guest's bodies come to an end that looks like a good one.
        self.0.fail_active();
    }
}

/// A lifetime that is running on the guests' threads.
pub(crate) struct Running {
    meter: Arc<Meter>,
    worker: Option<Arc<Worker>>,
    life: Arc<Mutex<Life>>,
    stop: CancellationToken,
    task: JoinHandle<Option<Ended>>,
}

impl Running {
    /// What the instance's linear memories hold.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Whether it has begun a request.
    pub(crate) fn had_requests(&self) -> bool {
        self.worker.as_ref().is_some_and(|worker| worker.had_requests())
    }

    /// Takes no more requests; what was given and not begun goes to other instances. A command takes none.
    pub(crate) fn stop_accepting(&self) {
        if let Some(worker) = &self.worker {
            worker.close();
        }
    }

    /// Waits until the last request of an instance that takes no more is done. A command has none.
    pub(crate) async fn drained(&self) {
        if let Some(worker) = &self.worker {
            worker.drained().await;
        }
    }

    /// Waits for the program to end by itself. May be asked again if not waited for to the end.
    ///
    /// # Errors
    /// When the host's own code panicked.
    pub(crate) async fn ended(&mut self) -> Result<Ended, JoinError> {
        let ended = (&mut self.task).await?;
        Ok(ended.expect("only `stop` takes what is left, and consumes this value"))
    }

    /// Stops the program. What is left is the caller's to drop.
    ///
    /// The stop does not wait for a turn on the guests' threads, where others may be busy: a guest that
    /// rests is stopped here and now (no code of it runs), a busy one as soon as it gives way, which it
    /// does at each epoch tick. For that a thread of `threads` may block.
    ///
    /// # Errors
    /// When the host's own code panicked.
    pub(crate) async fn stop(self, threads: &Handle) -> Result<Ended, JoinError> {
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
        if let Some(ended) = taken {
            // It has nothing to poll any more, and nothing will wake it.
            task.abort();
            return Ok(ended);
        }
        // It ended by itself, or took its turn first.
        let ended = task.await?;
        Ok(ended.expect("what is left of a lifetime is either taken above or in its task"))
    }
}
