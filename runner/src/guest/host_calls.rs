//! Where a module's host calls wait: on threads of its own, so that calls that never return (a FIFO, a dead network
//! mount) take nobody else's.
//!
//! Wasmtime makes calls that may block, of files and of name lookups, on the blocking threads of whichever Tokio
//! runtime polls the guest. A call that never returns keeps its thread for ever, whatever becomes of the instance
//! that made it. A module whose guests can make such calls therefore has a runtime of its own, which its guests are
//! polled in the context of, wherever they take their turns; it lives as long as the module, across restarts and
//! reloads, so that the bound holds for all of them together.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ebb_units::ModuleName;
use tokio::runtime::{Builder, Handle, Runtime};
use tracing::warn;

use crate::config::{Destination, GuestConfig};

/// How many host calls of a module may be under way at once. More wait for one of them.
pub(crate) const HOST_CALLS_MAX: usize = 32;

/// Threads that drive a module's sockets and timers.
const DRIVERS: usize = 1;

/// How long a thread waits for the next call: the gauge counts threads, so not for long.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A module's threads for host calls. Dropped, it leaves those behind that never return.
#[derive(Debug)]
pub(crate) struct HostCalls {
    runtime: Option<Runtime>,
    threads: Arc<AtomicUsize>,
}

impl HostCalls {
    /// Threads for the calls of `module`'s instances.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub(crate) fn start(module: &ModuleName) -> io::Result<Self> {
        let threads = Arc::new(AtomicUsize::new(0));
        let (started, stopped) = (Arc::clone(&threads), Arc::clone(&threads));
        let module = module.clone();
        let runtime = Builder::new_multi_thread()
            .thread_name("ebb-io")
            .worker_threads(DRIVERS)
            .max_blocking_threads(HOST_CALLS_MAX)
            .thread_keep_alive(KEEP_ALIVE)
            .on_thread_start(move || {
                if started.fetch_add(1, Ordering::Relaxed) + 1 == DRIVERS + HOST_CALLS_MAX {
                    warn!(%module, host_calls = HOST_CALLS_MAX,
                        "all threads for host calls of this module are busy, further calls wait; is a folder on a \
                         dead mount, or does a guest read a pipe that nobody writes to?");
                }
            })
            .on_thread_stop(move || {
                stopped.fetch_sub(1, Ordering::Relaxed);
            })
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime), threads })
    }

    /// Whether guests that may see what `guest` says, and send requests to `outgoing`, can make calls that block.
    pub(crate) fn are_possible(guest: &GuestConfig, outgoing: &[Destination]) -> bool {
        !guest.dirs.is_empty() || guest.inherit_network || !outgoing.is_empty()
    }

    /// How to reach them.
    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("taken by `drop` only").handle()
    }

    /// Calls under way, and those that ended within the last second.
    pub(crate) fn under_way(&self) -> usize {
        self.threads.load(Ordering::Relaxed).saturating_sub(DRIVERS)
    }
}

impl Drop for HostCalls {
    fn drop(&mut self) {
        // What blocks there is not waited for, and a runtime may not be waited for inside another.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
