//! An instance that was replaced: it finishes what it has begun, then its memory goes back to the host.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ebb_host::{
    permits::Permit,
    restart::{Reason, Refusal, Restarted},
};
use ebb_units::{ByteCount, Generation, Replica};
use tokio::{sync::oneshot, task::JoinError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::module::{Module, Slot};
use crate::{
    guest::{End, Ended, Running},
    host,
    threads::Handles,
};

/// From this on, a restart whose memory did not leave the process is worth a warning. The kernel counts the
/// resident memory of a process to some hundred KiB only.
const RELEASE_EXPECTED_FROM: ByteCount = ByteCount::mib(16);

/// How long whoever ordered a restart waits for the drain. After that, the answer says that it goes on.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Lets `running`, which takes no more requests, finish what it has begun: until it is done, for
/// `drain_timeout`, or until `halt`.
pub(super) async fn drain(running: &Running, drain_timeout: Duration, halt: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = running.drained() => true,
        () = halt.cancelled() => false,
        () = tokio::time::sleep(drain_timeout) => false,
    }
}

/// Drops what a lifetime left where nobody waits for it but its slot: the pool has room for the next
/// lifetime only once this is done.
pub(super) async fn dispose(threads: &Handles, ended: Ended) {
    // An error means that the host's own code panicked while dropping, and was printed.
    let _ = threads.starts.spawn_blocking(move || drop(ended)).await;
}

/// The same for a lifetime that an order ended: returns the resident memory that left the process meanwhile.
pub(super) async fn release(threads: &Handles, ended: Ended) -> ByteCount {
    let drop_ended = move || {
        let before = host::resident();
        drop(ended);
        before.saturating_sub(host::resident())
    };
    // As in `dispose`: a panic was printed.
    threads.starts.spawn_blocking(drop_ended).await.unwrap_or_default()
}

/// A lifetime whose replacement has taken over, and the restart that it is part of.
pub(super) struct Draining {
    pub(super) slot: Arc<Slot>,
    pub(super) module: Arc<Module>,
    pub(super) threads: Handles,
    pub(super) running: Running,
    pub(super) old: Generation,
    pub(super) new: Generation,
    /// What the replacement held at its start.
    pub(super) new_bytes: ByteCount,
    pub(super) reason: Reason,
    pub(super) received: Instant,
    pub(super) reply: oneshot::Sender<Result<Restarted, Refusal>>,
    /// Held until the memory is back: the pool has no more room than that.
    pub(super) permit: Permit,
}

impl Draining {
    /// Drains the lifetime, drops it, and answers whoever ordered the restart.
    pub(super) async fn finish(self, drain_timeout: Duration, halt: CancellationToken) {
        let Self { slot, module, threads, running, old, new, new_bytes, reason, received, reply, permit } =
            self;
        let mut reply = Some(reply);
        let meter = Arc::clone(running.meter());
        let restarted = |draining| Restarted {
            old,
            new,
            reclaimed: meter.bytes().saturating_sub(new_bytes),
            released: ByteCount(0),
            duration: received.elapsed(),
            draining,
        };
        let drained = {
            let draining = drain(&running, drain_timeout, &halt);
            tokio::pin!(draining);
            tokio::select! {
                biased;
                drained = &mut draining => drained,
                () = tokio::time::sleep(ANSWER_WITHIN) => {
                    if let Some(reply) = reply.take() {
                        let _ = reply.send(Ok(restarted(true)));
                    }
                    draining.await
                }
            }
        };
        if !drained {
            warn!(module = %module.name(), replica = slot.replica.0, generation = old.0,
                drain_timeout_ms = drain_timeout.as_millis(),
                "requests were cut off: the replaced instance had not finished them within drain_timeout");
        }
        let stopped = running.stop(&threads.starts).await;
        let old_bytes = meter.bytes();
        let released = release_drained(&module, &slot, &threads, old, stopped).await;
        let done = Restarted { reclaimed: old_bytes.saturating_sub(new_bytes), released, ..restarted(false) };
        note_restart(&module, slot.replica, reason, &done);
        drop(permit);
        // The next order may come as soon as this one is answered, and must find the mailbox empty.
        slot.order_done();
        if let Some(reply) = reply {
            // Whoever gave the order may have gone; it was carried out all the same.
            let _ = reply.send(Ok(done));
        }
    }
}

/// Drops what is left, and tells if it ended by itself meanwhile. Its replacement runs, so nothing follows.
async fn release_drained(
    module: &Module,
    slot: &Slot,
    threads: &Handles,
    generation: Generation,
    stopped: Result<Ended, JoinError>,
) -> ByteCount {
    match stopped {
        Ok(ended) => {
            if let End::Crash(how) = &ended.end {
                warn!(module = %module.name(), replica = slot.replica.0, generation = generation.0, error = how,
                    "instance crashed while it finished its last requests");
            }
            release(threads, ended).await
        }
        Err(error) => {
            warn!(module = %module.name(), replica = slot.replica.0, generation = generation.0, error = %error,
                "the host failed in a replaced instance");
            ByteCount(0)
        }
    }
}

/// Takes note of a restart that is done.
pub(super) fn note_restart(module: &Module, replica: Replica, reason: Reason, done: &Restarted) {
    module.host.observe_restart(done);
    let Restarted { old, new, reclaimed, released, duration, .. } = done;
    info!(module = %module.name(), replica = replica.0, reason = reason.as_str(), old_generation = old.0,
        new_generation = new.0, reclaimed_bytes = reclaimed.0, resident_released_bytes = released.0,
        duration_us = duration.as_micros(), "instance restarted");
    if *reclaimed >= RELEASE_EXPECTED_FROM && released.0 < reclaimed.0 / 2 {
        warn!(module = %module.name(), replica = replica.0, generation = old.0, reclaimed_bytes = reclaimed.0,
            resident_released_bytes = released.0,
            "a restart gave less than half of the instance's memory back to the host: others grew meanwhile, \
             or the instance had not touched what it held");
    }
}
