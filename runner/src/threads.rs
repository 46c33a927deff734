//! Who runs where. Sets of threads, so that no guest ever delays the control API, nor a busy one the others:
//!
//! | threads | run |
//! | --- | --- |
//! | the caller's runtime | control API, scrapes, supervisors of slots: never guest code |
//! | `ebb-guest` | commands |
//! | `ebb-http` | data connections, and the guests that serve them: a request stays on its processor |
//! | `ebb-busy` | guests of both kinds that lately did not rest within an epoch tick: they wait for each other |
//! | `ebb-start` | instantiation (a core module's `start` section is guest code), and the dropping of what ended |
//! | `ebb-io` | a module's host calls that may block, if it has any: see [`host_calls`](crate::guest::host_calls) |

use std::{io, num::NonZeroU32, thread};

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that instantiate. Two, so that one `start` section that never ends does not hold up the rest.
const START_THREADS: usize = 2;

/// How many turns of tasks the HTTP threads take before they look for new connections and data. Most
/// requests take microseconds.
const HTTP_EVENT_INTERVAL: u32 = 8;

/// Threads that drop what ended. Giving memory back is a system call that serialises in the kernel.
const DROP_THREADS: usize = 4;

/// The threads that guests' lifetimes begin, run and end on. They end, without waiting, with this value.
pub(crate) struct Threads {
    guests: Option<Runtime>,
    http: Option<Runtime>,
    busy: Option<Runtime>,
    starts: Option<Runtime>,
    handles: Handles,
}

/// How to reach the [`Threads`].
#[derive(Clone)]
pub(crate) struct Handles {
    /// Runs commands.
    pub guests: Handle,
    /// Runs data connections and guests that serve.
    pub http: Handle,
    /// Runs guests that do not rest in time.
    pub busy: Handle,
    /// Instantiates and drops.
    pub starts: Handle,
}

impl Threads {
    /// Starts the threads. `guest_threads`: by default one per processor.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub(crate) fn start(guest_threads: Option<NonZeroU32>) -> io::Result<Self> {
        let guest_threads = match guest_threads {
            Some(count) => count.get() as usize,
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let guests = Builder::new_multi_thread()
            .thread_name("ebb-guest")
            .worker_threads(guest_threads)
            // See `busy`: a guest that only now gets busy takes up to an epoch tick here as well.
            .event_interval(1)
            .global_queue_interval(1)
            .enable_all()
            .build()?;
        let busy = Builder::new_multi_thread()
            .thread_name("ebb-busy")
            .worker_threads(guest_threads)
            // A busy guest keeps its thread for up to an epoch tick (10 ms). Tokio looks for timers and
            // for tasks from other threads only every 61 turns by default, which would then be 0.6 s:
            // sleeping guests would oversleep, and stopped ones linger. Look at every turn.
            .event_interval(1)
            .global_queue_interval(1)
            .enable_all()
            .build()?;
        let http = Builder::new_multi_thread()
            .thread_name("ebb-http")
            .worker_threads(guest_threads)
            .event_interval(HTTP_EVENT_INTERVAL)
            .enable_all()
            .build()?;
        let starts = Builder::new_multi_thread()
            .thread_name("ebb-start")
            .worker_threads(START_THREADS)
            .max_blocking_threads(DROP_THREADS)
            .event_interval(1)
            .global_queue_interval(1)
            .enable_all()
            .build()?;
        let handles = Handles {
            guests: guests.handle().clone(),
            http: http.handle().clone(),
            busy: busy.handle().clone(),
            starts: starts.handle().clone(),
        };
        Ok(Self { guests: Some(guests), http: Some(http), busy: Some(busy), starts: Some(starts), handles })
    }

    /// How to reach them.
    pub(crate) const fn handles(&self) -> &Handles {
        &self.handles
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime may not be waited for inside another, and by now nothing is left worth waiting for.
        let runtimes = [self.guests.take(), self.http.take(), self.busy.take(), self.starts.take()];
        for runtime in runtimes.into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}
