//! One exchange of a request for a response: the state machine that the connection and the instance share.
//!
//! The two sides live in different tasks. Whatever one of them does or looks at is one step under one lock, which
//! also registers its waker: no side sees half of what the other did, or sleeps through it. `tests/loom.rs` tries
//! all orders in which the steps of both can come.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ebb_units::{Generation, Replica};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{
    progress::{ProgressTimeout, Verdict},
    sync::{Mutex, MutexGuard},
    tail::Tail,
};

/// Why an instance did not do its part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It trapped, left, or was stopped.
    #[error("the instance ended while handling the request")]
    Gone,
    /// It did nothing for the module's `request_timeout`.
    #[error("the instance did nothing for {} ms", .0.as_millis())]
    Stuck(Duration),
    /// It returned without setting a response.
    #[error("the instance returned without a response; does it serve one request only?")]
    NoResponse,
    /// It returned and left its response unfinished.
    #[error("the instance returned without finishing its response")]
    Unfinished,
    /// It answered with an error code instead of a response.
    #[error("the instance answered with the error {0}")]
    Code(String),
}

/// Why a client does not get the instance's response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The request's body is longer than the module allows.
    TooLarge,
    /// The client sent the request's body too slowly.
    TooSlow,
    /// The instance did not do its part.
    Fault(Fault),
}

/// The lifetime that works on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its slot.
    pub replica: Replica,
    /// Which one it is.
    pub generation: Generation,
}

/// One exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    timeout: Duration,
    /// Closes the client's connection, if that may be done for one request's sake.
    close: Option<Arc<Notify>>,
    shared: Mutex<Shared>,
    /// The response's body, from its head on. Taken out, the guest learns that nobody reads it.
    ///
    /// Under a lock of its own, because to poll it may lead back here: a guest may answer with the request's own
    /// body. Whoever holds this lock may take the other one, never the other way round.
    body: Mutex<Option<WasiBody>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: State,
    /// Of the guest that waits for the request's body.
    upload_waker: Option<Waker>,
    /// Of the connection that waits for the response: its head, or more of its body.
    download_waker: Option<Waker>,
    /// Of the guest that waits for the connection to be done with the response.
    done_waker: Option<Waker>,
}

#[derive(Debug, Default)]
enum State {
    /// It waits for an instance.
    #[default]
    Queued,
    /// Nobody waits for it any more.
    Abandoned,
    /// An instance has it.
    Begun(Begun),
}

#[derive(Debug)]
struct Begun {
    server: Server,
    since: Instant,
    progress: ProgressTimeout,
    /// The request's body is longer than the module allows.
    too_large: bool,
    /// The first one counts.
    fault: Option<Fault>,
    /// The connection has no more use for the response.
    client_done: bool,
}

impl Exchange {
    /// An exchange whose guest may go without progress for `timeout`. `close` closes the connection, if that may
    /// be done for one request's sake.
    pub(crate) fn new(timeout: Duration, close: Option<Arc<Notify>>) -> Self {
        Self { timeout, close, shared: Mutex::new(Shared::default()), body: Mutex::new(None) }
    }

    /// An instance takes the request. `false`: nobody waits for it any more.
    #[must_use]
    pub(crate) fn begin(&self, server: Server) -> bool {
        self.leave_queue(State::Begun(Begun {
            server,
            since: Instant::now(),
            progress: ProgressTimeout::new(self.timeout),
            too_large: false,
            fault: None,
            client_done: false,
        }))
    }

    /// Nobody waits for the request any more. `false`: an instance has it already.
    pub(crate) fn abandon(&self) -> bool {
        self.leave_queue(State::Abandoned)
    }

    fn leave_queue(&self, to: State) -> bool {
        let mut shared = self.shared();
        let is_queued = matches!(shared.state, State::Queued);
        if is_queued {
            shared.state = to;
        }
        is_queued
    }

    /// Whether it still waits for an instance that somebody wants it to reach.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self.shared().state, State::Queued)
    }

    /// Who works on it, once it has begun.
    pub(crate) fn server(&self) -> Option<Server> {
        self.begun(|begun| begun.server)
    }

    /// The instance did not do its part. The first fault counts.
    pub(crate) fn fail(&self, fault: Fault) {
        let waker = self.shared().fail(fault);
        wake(waker);
    }

    /// What the instance failed at.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.begun(|begun| begun.fault.clone()).flatten()
    }

    /// Waits until the instance has failed. Only for who waits for the head.
    pub(crate) async fn failed(&self) {
        poll_fn(|context| {
            let mut shared = self.shared();
            if shared.begun().is_some_and(|begun| begun.fault.is_some()) {
                return Poll::Ready(());
            }
            register(&mut shared.download_waker, context)
        })
        .await;
    }

    /// Why the client shall not get the instance's response, even if its head is there.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.begun(|begun| {
            if begun.too_large {
                Some(Failure::TooLarge)
            } else if begun.progress.upload_is_cut() {
                Some(Failure::TooSlow)
            } else {
                begun.fault.clone().map(Failure::Fault)
            }
        })
        .flatten()
    }

    /// Judges the exchange's progress, and does what follows. Returns when to look again; `None`: never, the guest
    /// is stuck.
    pub(crate) fn poll_deadline(&self) -> Option<Instant> {
        let mut shared = self.shared();
        let verdict = shared.begun().map(|begun| (begun.since, begun.progress.check(begun.since.elapsed())));
        match verdict {
            Some((since, Verdict::Fine(until))) => return Some(since + until),
            Some((_, Verdict::GuestStuck)) => {
                let waker = shared.fail(Fault::Stuck(self.timeout));
                drop(shared);
                wake(waker);
                return None;
            }
            Some((_, Verdict::CutUpload)) => {
                let waker = shared.upload_waker.take();
                drop(shared);
                wake(waker);
            }
            Some((_, Verdict::CutDownload)) => {
                drop(shared);
                if let Some(close) = &self.close {
                    close.notify_one();
                }
                // Over HTTP/2 the connection may have no reason to look at the stream again.
                self.client_done(false);
            }
            None => {}
        }
        Some(Instant::now() + self.timeout)
    }

    /// Ready when the client has sent too slowly, and the guest shall learn that nothing more comes.
    pub(crate) fn poll_upload_cut(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared();
        if shared.begun().is_some_and(|begun| begun.progress.upload_is_cut()) {
            return Poll::Ready(());
        }
        register(&mut shared.upload_waker, context)
    }

    /// The guest waits for more of the request's body.
    pub(crate) fn upload_awaited(&self) {
        self.begun(|begun| begun.progress.upload_awaited(begun.since.elapsed()));
    }

    /// `bytes` of the request's body reached the guest; none: its end.
    pub(crate) fn uploaded(&self, bytes: u64) {
        self.begun(|begun| begun.progress.uploaded(bytes, begun.since.elapsed()));
    }

    /// The request's body is longer than the module allows.
    pub(crate) fn set_too_large(&self) {
        self.begun(|begun| begun.too_large = true);
    }

    /// The guest has set its response, of which this is the body. It is dropped if nobody is there to take it.
    pub(crate) fn set_body(&self, body: WasiBody) {
        let mut kept = self.body();
        let mut shared = self.shared();
        if let Some(begun) = shared.begun().filter(|begun| !begun.client_done) {
            begun.progress.offered(0, begun.since.elapsed());
            *kept = Some(body);
        }
    }

    /// The guest has returned: what is left of its response no longer depends on it, and what it has not
    /// finished by now it never will.
    pub(crate) fn detach_body(&self) {
        let mut kept = self.body();
        let Some(body) = kept.as_mut() else { return };
        let tail = Tail::of(body);
        let is_complete = tail.is_complete();
        let detached = mem::replace(body, tail.boxed_unsync());
        let waker = {
            let mut shared = self.shared();
            // Whoever waited for the body that was replaced looks again in either case.
            if is_complete { shared.download_waker.take() } else { shared.fail(Fault::Unfinished) }
        };
        // Only now may an unfinished body come to its end.
        drop(kept);
        drop(detached);
        wake(waker);
    }

    /// What the response's body says of itself; `None` before its head and after it was taken out.
    pub(crate) fn ask_body<T>(&self, ask: impl FnOnce(&WasiBody) -> T) -> Option<T> {
        self.body().as_ref().map(ask)
    }

    /// The next piece of the response's body. The client has taken those before it.
    pub(crate) fn poll_body(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut kept = self.body();
        // Taken out: the client was too slow.
        let Some(body) = kept.as_mut() else { return Poll::Ready(Some(Err(Error::ConnectionWriteTimeout))) };
        let polled = Pin::new(body).poll_frame(context);
        let mut shared = self.shared();
        let Some(begun) = shared.begun() else { return polled };
        let now = begun.since.elapsed();
        begun.progress.taken(now);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                begun.progress.offered(frame.data_ref().map_or(0, |data| data.len() as u64), now);
            }
            // Looked at after the body. That of an instance that went away looks like one that came to its end;
            // told as such, a client would take half an answer for all of it.
            Poll::Pending | Poll::Ready(None) if begun.fault.is_some() => {
                return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
            }
            Poll::Pending => return register(&mut shared.download_waker, context),
            Poll::Ready(None | Some(Err(_))) => {}
        }
        polled
    }

    /// The connection has no more use for the response: it was sent, or nobody is there to take it. If no instance
    /// has the request yet, none shall.
    ///
    /// A response that was sent in full is kept for as long as the guest works: hyper lets go of a body as
    /// soon as it has all bytes that the head announced, and a guest that then closes its stream in good
    /// order would be told that nobody listened.
    pub(crate) fn client_done(&self, complete: bool) {
        let waker = {
            let mut shared = self.shared();
            match &mut shared.state {
                State::Queued => shared.state = State::Abandoned,
                State::Abandoned => {}
                State::Begun(begun) => {
                    begun.client_done = true;
                    // hyper does not ask for more than the head announced, so nothing else tells that it has all.
                    if complete {
                        begun.progress.taken(begun.since.elapsed());
                    }
                }
            }
            shared.done_waker.take()
        };
        if !complete {
            // One that comes later is not kept.
            let body = self.body().take();
            drop(body);
        }
        wake(waker);
    }

    /// Waits until the connection has no more use for the response.
    pub(crate) async fn until_client_done(&self) {
        poll_fn(|context| {
            let mut shared = self.shared();
            if shared.begun().is_some_and(|begun| begun.client_done) {
                return Poll::Ready(());
            }
            register(&mut shared.done_waker, context)
        })
        .await;
    }

    fn begun<T>(&self, change: impl FnOnce(&mut Begun) -> T) -> Option<T> {
        self.shared().begun().map(change)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn body(&self) -> MutexGuard<'_, Option<WasiBody>> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn begun(&mut self) -> Option<&mut Begun> {
        match &mut self.state {
            State::Begun(begun) => Some(begun),
            State::Queued | State::Abandoned => None,
        }
    }

    /// Returns whom to wake once the lock is free.
    fn fail(&mut self, fault: Fault) -> Option<Waker> {
        self.begun()?.fault.get_or_insert(fault);
        self.download_waker.take()
    }
}

/// Has the task of `context` woken at the next change.
fn register<T>(waker: &mut Option<Waker>, context: &Context<'_>) -> Poll<T> {
    match waker {
        Some(waker) => waker.clone_from(context.waker()),
        None => *waker = Some(context.waker().clone()),
    }
    Poll::Pending
}

/// Whoever is woken may look at once: not under the lock.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
