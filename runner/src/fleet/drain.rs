//! An instance that was replaced: it finishes what it has begun, then its memory goes back to the host.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ebb_units::{ByteCount, Generation};
use tokio::{sync::oneshot, task::JoinError};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Module,
    permits::Permit,
    slot::{Reason, Refusal, Restarted, Slot},
};
use crate::{
    guest::{End, Remains, Running},
    host,
    threads::Handles,
};

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
pub(super) async fn dispose(threads: &Handles, remains: Remains) {
    // An error means that the host's own code panicked while dropping, and was printed.
    let _ = threads.starts.spawn_blocking(move || drop(remains)).await;
}

/// The same for a lifetime that an order ended: returns the resident memory that left the process meanwhile.
pub(super) async fn release(threads: &Handles, remains: Remains) -> ByteCount {
    let drop_remains = move || {
        let before = host::resident();
        drop(remains);
        before.saturating_sub(host::resident())
    };
    // As in `dispose`: a panic was printed.
    threads.starts.spawn_blocking(drop_remains).await.unwrap_or_default()
}

/// A lifetime whose successor has taken over, and the restart that it is part of.
pub(super) struct Retired {
    pub(super) slot: Arc<Slot>,
    pub(super) module: Arc<Module>,
    pub(super) threads: Handles,
    pub(super) running: Running,
    pub(super) old: Generation,
    pub(super) new: Generation,
    /// What the successor held at its start.
    pub(super) new_bytes: ByteCount,
    pub(super) reason: Reason,
    pub(super) received: Instant,
    pub(super) reply: oneshot::Sender<Result<Restarted, Refusal>>,
    /// Held until the memory is back: the pool has no more room than that.
    pub(super) permit: Permit,
}

impl Retired {
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
            warn!(module = %module.name, replica = slot.replica.0, generation = old.0,
                drain_timeout_ms = drain_timeout.as_millis(),
                "requests were cut off: the replaced instance had not finished them within drain_timeout");
        }
        let stopped = running.stop(&threads.starts).await;
        let old_bytes = meter.bytes();
        let released = release_retired(&module, &slot, &threads, old, stopped).await;
        let done = Restarted { reclaimed: old_bytes.saturating_sub(new_bytes), released, ..restarted(false) };
        module.restarted(slot.replica, reason, &done);
        drop(permit);
        // The next order may come as soon as this one is answered, and must find the mailbox empty.
        slot.order_done();
        if let Some(reply) = reply {
            // Whoever gave the order may have gone; it was carried out all the same.
            let _ = reply.send(Ok(done));
        }
    }
}

/// Drops what is left, and tells if it ended by itself meanwhile. Its successor runs, so nothing follows.
async fn release_retired(
    module: &Module,
    slot: &Slot,
    threads: &Handles,
    generation: Generation,
    stopped: Result<Remains, JoinError>,
) -> ByteCount {
    match stopped {
        Ok(remains) => {
            if let End::Crash(how) = &remains.end {
                warn!(module = %module.name, replica = slot.replica.0, generation = generation.0, error = how,
                    "instance crashed while it finished its last requests");
            }
            release(threads, remains).await
        }
        Err(error) => {
            warn!(module = %module.name, replica = slot.replica.0, generation = generation.0, error = %error,
                "the host failed in a replaced instance");
            ByteCount(0)
        }
    }
}
