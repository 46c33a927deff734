//! HTTP/1.1 on the port on which a program is operated. What clients do there is limited in time and number, so that
//! none of them can keep it from the others: forgotten connections, half heads, answers that nobody takes.
//!
//! When all connections are in use, the one that has waited longest for a request makes room for a new one. To
//! refuse the new one instead would let a few hundred idle connections keep scrapes and orders out for
//! [`HEAD_TIMEOUT`]. A body is part of the request: it is short, and nothing is begun before all of it has come. A client that sends its request at once is never the one that has waited longest. Connections
//! with a request under way are never closed for another; if there are only such, a new one waits until one is over.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::pending,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, http::StatusCode, response::IntoResponse as _};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{problem::Problem, secret::BearerToken, web_config::WebConfig};

/// How long a connection may take to send a request's head, from its opening or from the last answer on:
/// forgotten connections do not hold descriptors for ever.
///
/// Longer than clients keep idle connections (reqwest 90 s): who closes first never meets a request that is
/// on its way.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a client may take to accept an answer, once it has stopped to take it as fast as it comes. A minute
/// suffices for the exposition of 10,000 instances at 1 Mbit/s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The longest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// More connections than this are of no use to those who operate a program: scrapers, evaluators, browsers.
const CONNECTIONS_MAX: usize = 256;

/// How long to rest when the process has no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What clients may do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a request's head may take, from the opening of the connection or the last answer on.
    pub head_timeout: Duration,
    /// How long a client may take to accept an answer, from the first time that it did not take more.
    pub answer_timeout: Duration,
    /// How many connections there may be.
    pub connections_max: usize,
}

impl Limits {
    /// The usual, for a process that may have so many `descriptors` open: a quarter of them for connections, as the rest is
    /// for what it does itself.
    #[must_use]
    pub fn for_descriptors(descriptors: u64) -> Self {
        let quarter = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
        Self {
            head_timeout: HEAD_TIMEOUT,
            answer_timeout: ANSWER_TIMEOUT,
            connections_max: quarter.clamp(4, CONNECTIONS_MAX),
        }
    }
}

/// Who may speak to a listener, and how.
#[derive(Clone)]
pub struct Guard {
    /// Its TLS and users.
    pub web: Arc<WebConfig>,
    /// The token with which nobody needs to be a user, as it is now.
    pub token: Arc<dyn Fn() -> Option<Arc<BearerToken>> + Send + Sync>,
}

/// Serves `router` on `listener` until `stop`, by TLS and to users if the `guard` says so. Then connections that wait for a request are
/// closed, and what is being answered is finished: whoever does not want to wait for that drops the future.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    guard: Option<Guard>,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head_timeout).max_buf_size(HEAD_BYTES_MAX);
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Connections::new(limits.connections_max));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        let Some(stream) = accepted else { continue };
        let place = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            place = Connections::place(&connections) => Arc::new(place),
        };
        let service = TowerToHyperService::new(router.clone());
        let (asked, users) = (Arc::clone(&place), guard.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (place, service, users) = (Arc::clone(&asked), service.clone(), users.clone());
            async move {
                // Until then the connection is one that waits, and may be closed for another.
                let whole = whole(request, limits.head_timeout).await;
                // Nothing is begun for a connection that is being closed.
                if !place.begins_request() {
                    return pending().await;
                }
                let response = match whole {
                    Ok(request) => match authenticate(users.as_ref(), &request).await {
                        Ok(()) => service.call(request).await?,
                        Err(problem) => problem.into_response(),
                    },
                    Err(refusal) => refusal.into_response(),
                };
                Ok::<Response<Answer>, Infallible>(response.map(|body| Answer { body, place }))
            }
        });
        let (http, watcher, close) = (http.clone(), graceful.watcher(), Arc::clone(&place.close));
        let acceptor = guard.as_ref().and_then(|guard| guard.web.acceptor());
        let served = async move {
            let stream = match timeout(limits.head_timeout, Transport::of(stream, acceptor)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => return debug!(%error, "TLS handshake"),
                Err(_) => return debug!("TLS handshake: the client was too slow"),
            };
            let answer_timeout = limits.answer_timeout;
            let stream = Stream { stream, place: Arc::clone(&place), answer_timeout, overdue: None };
            let served = watcher.watch(http.serve_connection(TokioIo::new(stream), service));
            drop(place);
            if let Err(error) = served.await {
                debug!(error = %crate::logging::Chain(&error), "connection");
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = close.notified() => debug!("idle connection closed to make room for new ones"),
                () = served => {}
            }
        });
    }
    drop(listener);
    while connections.close_longest_waiting() {}
    graceful.shutdown().await;
}

/// Whether the request is from a user, if there are any. Whether a program is alive and ready is told to all: health checks have no
/// password.
async fn authenticate(guard: Option<&Guard>, request: &Request<Full<Bytes>>) -> Result<(), Problem> {
    match guard {
        Some(Guard { web, token }) if !["/-/healthy", "/-/ready"].contains(&request.uri().path()) => {
            web.authenticate(request.headers(), token().as_deref()).await
        }
        _ => Ok(()),
    }
}

/// The request with all of its body, or why there is none. Orders are short.
async fn whole(
    request: Request<Incoming>,
    within: Duration,
) -> Result<Request<Full<Bytes>>, (StatusCode, String)> {
    let (head, body) = request.into_parts();
    let read = timeout(within, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    match read {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Full::new(body.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the body is too long: expected at most {BODY_BYTES_MAX} bytes\n");
            Err((StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("reading the body: {error}\n"))),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body arrived too slowly\n".to_owned())),
    }
}

async fn accept(listener: &TcpListener, connections: &Connections) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and single: waiting to fill a packet would only delay them.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "setting TCP_NODELAY");
            }
            Some(stream)
        }
        Err(error) => {
            let of_the_client = matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
            );
            if of_the_client {
                return None;
            }
            // The process is out of descriptors, most likely. A connection that waits has one to give, once it is closed.
            if connections.close_longest_waiting() {
                let _ = timeout(ACCEPT_PAUSE, connections.changed.notified()).await;
            } else {
                warn!(%error, "accepting a connection failed; if file descriptors are exhausted, raise the hard limit (LimitNOFILE=)");
                sleep(ACCEPT_PAUSE).await;
            }
            None
        }
    }
}

/// The connections that are open, and which of them wait for a request's head.
struct Connections {
    max: usize,
    state: Mutex<State>,
    /// One is over, or waits for a request.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Those whose descriptors are not closed yet.
    open: usize,
    /// Those of them that were told to close.
    closing: usize,
    turns: u64,
    /// By the turn at which they began to wait: how to close them.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

impl Connections {
    fn new(max: usize) -> Self {
        Self { max, state: Mutex::default(), changed: Notify::new() }
    }

    /// The place of a new connection, as soon as there is one: whoever makes room for it has closed its descriptor then.
    async fn place(connections: &Arc<Self>) -> Place {
        while !connections.take_place() {
            connections.changed.notified().await;
        }
        let place = Place {
            connections: Arc::clone(connections),
            close: Arc::default(),
            turn: Mutex::default(),
            answered: AtomicBool::new(false),
        };
        place.waits();
        place
    }

    /// Counts one more connection; false if there are too many, of which one is then asked to close.
    fn take_place(&self) -> bool {
        let mut state = self.lock();
        let is_room = state.open < self.max;
        if is_room {
            state.open += 1;
        } else if state.closing == 0 {
            state.close_longest_waiting();
        }
        is_room
    }

    /// Asks the connection to close that has waited longest for a request's head; false if none waits.
    fn close_longest_waiting(&self) -> bool {
        self.lock().close_longest_waiting()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can leave the counts half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close_longest_waiting(&mut self) -> bool {
        let Some((_, close)) = self.waiting.pop_first() else { return false };
        self.closing += 1;
        close.notify_one();
        true
    }
}

/// One connection's place among all of them.
struct Place {
    connections: Arc<Connections>,
    close: Arc<Notify>,
    /// Since when it waits for a request's head, if it does.
    turn: Mutex<Option<u64>>,
    /// Whether all of an answer was handed over, which may not be sent yet.
    answered: AtomicBool,
}

impl Place {
    /// It waits for a request's head from now on.
    fn waits(&self) {
        let mut turn = self.turn();
        let mut state = self.connections.lock();
        state.turns += 1;
        let now = state.turns;
        state.waiting.insert(now, Arc::clone(&self.close));
        *turn = Some(now);
        self.connections.changed.notify_one();
    }

    /// A request's head has come; false if the connection is being closed.
    fn begins_request(&self) -> bool {
        self.answered.store(false, Ordering::Relaxed);
        let mut turn = self.turn();
        let is_open = turn.is_none_or(|turn| self.connections.lock().waiting.remove(&turn).is_some());
        if is_open {
            *turn = None;
        }
        is_open
    }

    fn turn(&self) -> MutexGuard<'_, Option<u64>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turn = *self.turn();
        let mut state = self.connections.lock();
        state.open -= 1;
        // It waited, but not among the others any more: it was told to close.
        if turn.is_some_and(|turn| state.waiting.remove(&turn).is_none()) {
            state.closing -= 1;
        }
        drop(state);
        self.connections.changed.notify_one();
    }
}

/// An answer's body, which says when all of it was handed over.
struct Answer {
    body: Body,
    place: Arc<Place>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.place.answered.store(true, Ordering::Relaxed);
    }
}

/// A connection's bytes, as they are or by TLS.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    async fn of(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> io::Result<Self> {
        match acceptor {
            Some(acceptor) => Ok(Self::Tls(Box::new(acceptor.accept(stream).await?))),
            None => Ok(Self::Plain(stream)),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A connection's bytes. It sees when an answer has been sent, and when that takes too long.
struct Stream {
    stream: Transport,
    place: Arc<Place>,
    answer_timeout: Duration,
    /// Set when the client first did not take more of an answer.
    overdue: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    /// The outcome of a write; an error if the client has not taken the answer in time.
    fn within_time<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let limit = self.answer_timeout;
        let overdue = self.overdue.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(overdue.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read the response")))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_time(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.within_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written everything that was handed over.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.overdue = None;
        if self.place.answered.swap(false, Ordering::Relaxed) {
            self.place.waits();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
