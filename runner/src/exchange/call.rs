//! One exchange, as the connection and the instance both see it.
//!
//! The two sides live in different tasks. What they tell each other, besides the request and the head of
//! the response, stands here: has it begun, is it moving, did the instance fail it.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use ebb_units::{Generation, Replica};
use futures::task::AtomicWaker;
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use wasmtime_wasi_http::WasiBody;

use super::{
    progress::{ProgressTimeout, Verdict},
    tail::Tail,
};

/// Why an instance did not do its part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It trapped, left, or was stopped.
    #[error("the instance ended while it worked on the request")]
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

/// Which side has the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// It waits for an instance.
    Queued,
    /// Nobody waits for it any more.
    Abandoned,
    /// An instance has it.
    Begun,
}

/// The lifetime that works on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its slot.
    pub replica: Replica,
    /// Which one it is.
    pub generation: Generation,
}

/// One exchange.
#[derive(Debug)]
pub struct Call {
    stage: AtomicU8,
    timeout: Duration,
    server: OnceLock<Server>,
    /// When it began, and its progress since.
    progress: Mutex<Option<(Instant, ProgressTimeout)>>,
    fault: OnceLock<Fault>,
    /// The request's body is longer than the module allows.
    too_large: AtomicBool,
    /// Wakes the guest that waits for the request's body.
    upload_waker: AtomicWaker,
    /// Wakes the connection that waits for the response: its head, or more of its body.
    download_waker: AtomicWaker,
    /// The response's body, from its head on. Taken out, the guest learns that nobody reads it.
    response: Mutex<Option<WasiBody>>,
    /// The connection has no more use for the response.
    settled: AtomicBool,
    settled_waker: AtomicWaker,
    /// Closes the client's connection, if that may be done for one request's sake.
    hang_up: Option<Arc<Notify>>,
}

impl Call {
    /// An exchange whose guest may go without progress for `timeout`. `hang_up` closes the connection,
    /// if that may be done for one request's sake.
    #[must_use]
    pub fn new(timeout: Duration, hang_up: Option<Arc<Notify>>) -> Self {
        Self {
            stage: AtomicU8::new(Stage::Queued as u8),
            timeout,
            server: OnceLock::new(),
            progress: Mutex::new(None),
            fault: OnceLock::new(),
            too_large: AtomicBool::new(false),
            upload_waker: AtomicWaker::new(),
            download_waker: AtomicWaker::new(),
            response: Mutex::new(None),
            settled: AtomicBool::new(false),
            settled_waker: AtomicWaker::new(),
            hang_up,
        }
    }

    /// An instance takes the request. `false`: nobody waits for it any more.
    #[must_use]
    pub fn begin(&self, server: Server) -> bool {
        if !self.leave_queue(Stage::Begun) {
            return false;
        }
        let _ = self.server.set(server);
        *lock(&self.progress) = Some((Instant::now(), ProgressTimeout::new(self.timeout)));
        true
    }

    /// Nobody waits for the request any more. `false`: an instance has it already.
    pub fn abandon(&self) -> bool {
        self.leave_queue(Stage::Abandoned)
    }

    fn leave_queue(&self, to: Stage) -> bool {
        let (queued, to) = (Stage::Queued as u8, to as u8);
        self.stage.compare_exchange(queued, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether it still waits for an instance that somebody wants it to reach.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.stage.load(Ordering::Acquire) == Stage::Queued as u8
    }

    /// Who works on it, once it has begun.
    #[must_use]
    pub fn server(&self) -> Option<Server> {
        self.server.get().copied()
    }

    /// The instance did not do its part. The first fault counts.
    pub fn fail(&self, fault: Fault) {
        let _ = self.fault.set(fault);
        self.download_waker.wake();
    }

    /// Waits until the instance has failed. Only for who waits for the head.
    pub async fn failed(&self) {
        poll_fn(|context| {
            self.download_waker.register(context.waker());
            if self.fault().is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// What the instance failed at.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    /// Applies `change` to the exchange's progress, at the time since it began; if it has.
    pub fn progress<T>(&self, change: impl FnOnce(&mut ProgressTimeout, Duration) -> T) -> Option<T> {
        lock(&self.progress).as_mut().map(|(begun, progress)| change(progress, begun.elapsed()))
    }

    /// Judges the exchange's progress, and does what follows. Returns when to look again; `None`: never,
    /// the guest is stuck.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let judged =
            lock(&self.progress).as_mut().map(|(begun, progress)| (*begun, progress.check(begun.elapsed())));
        match judged {
            Some((begun, Verdict::Fine(until))) => return Some(begun + until),
            Some((_, Verdict::GuestStuck)) => {
                self.fail(Fault::Stuck(self.timeout));
                return None;
            }
            Some((_, Verdict::CutUpload)) => self.upload_waker.wake(),
            Some((_, Verdict::CutDownload)) => {
                if let Some(hang_up) = &self.hang_up {
                    hang_up.notify_one();
                }
                // Over HTTP/2 the connection may have no reason to look at the stream again.
                self.client_done(false);
            }
            None => {}
        }
        Some(Instant::now() + self.timeout)
    }

    /// Whether the client sent too slowly.
    #[must_use]
    pub fn upload_is_cut(&self) -> bool {
        self.progress(|progress, _| progress.upload_is_cut()).unwrap_or(false)
    }

    /// The request's body is longer than the module allows.
    pub fn set_too_large(&self) {
        self.too_large.store(true, Ordering::Release);
    }

    /// Whether the request's body is longer than the module allows.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Acquire)
    }

    /// Woken when the guest shall learn that the client sends too slowly.
    #[must_use]
    pub const fn upload_waker(&self) -> &AtomicWaker {
        &self.upload_waker
    }

    /// Woken when there is more to say about the response's body than the body itself says.
    #[must_use]
    pub const fn download_waker(&self) -> &AtomicWaker {
        &self.download_waker
    }

    /// Keeps the response's body where both sides reach it, or drops it if nobody is there to take it.
    pub fn keep_response(&self, body: WasiBody) {
        let mut response = lock(&self.response);
        if !self.settled.load(Ordering::Acquire) {
            *response = Some(body);
            self.progress(|progress, now| progress.offered(0, now));
        }
    }

    /// The guest has returned: what is left of its response no longer depends on it, and what it has not
    /// finished by now it never will.
    pub fn detach_body(&self) {
        let is_complete = {
            let mut response = lock(&self.response);
            let Some(body) = response.as_mut() else { return };
            let tail = Tail::of(body);
            let is_complete = tail.is_complete();
            *response = Some(tail.boxed_unsync());
            is_complete
        };
        if !is_complete {
            self.fail(Fault::Unfinished);
        }
        // Whoever waited for the body that was replaced.
        self.download_waker.wake();
    }

    /// The response's body; `None` before its head and after it was taken out.
    pub fn response(&self) -> MutexGuard<'_, Option<WasiBody>> {
        lock(&self.response)
    }

    fn take_response(&self) -> Option<WasiBody> {
        lock(&self.response).take()
    }

    /// The connection has no more use for the response: it was sent, or nobody is there to take it.
    ///
    /// A response that was sent in full is kept for as long as the guest works: hyper lets go of a body as
    /// soon as it has all bytes that the head announced, and a guest that then closes its stream in good
    /// order would be told that nobody listened.
    pub fn client_done(&self, complete: bool) {
        // Before looking for the body: one that comes later is not kept.
        self.settled.store(true, Ordering::Release);
        if complete {
            // hyper does not ask for more than the head announced, so nothing else tells that it has all.
            self.progress(ProgressTimeout::taken);
        } else {
            drop(self.take_response());
        }
        self.settled_waker.wake();
    }

    /// Waits until the connection has no more use for the response.
    pub async fn settled(&self) {
        poll_fn(|context| {
            self.settled_waker.register(context.waker());
            if self.settled.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A request on its way to an instance.
#[derive(Debug)]
pub struct Job {
    /// The request.
    pub request: super::Request,
    /// The exchange it belongs to.
    pub call: Arc<Call>,
    /// Where the response's head goes. Dropped without one, the exchange has failed.
    pub reply: tokio::sync::oneshot::Sender<super::ResponseHead>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
