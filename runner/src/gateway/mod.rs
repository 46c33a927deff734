//! The HTTP data plane: listener, connections, and what each request is answered.
//!
//! | module | subject |
//! | --- | --- |
//! | `protocol` | what connections speak, and which host a request is for |
//! | `upload` | a request's body on its way to the guest |
//! | `answer` | a response on its way to the client, and its record |

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ebb_service::{
    quote::{clipped, clipped_to},
    server::HEAD_TIMEOUT,
};
use http::{Method, StatusCode, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, oneshot},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

mod answer;
pub(crate) mod protocol;
mod upload;

use answer::{AnswerBody, Notice, Record, RequestLine};

use crate::{
    config::HttpConfig,
    exchange::{
        job::{Job, ResponseHead},
        service::Service,
        state::{Exchange, Failure, Fault},
    },
    fleet::Fleet,
};

/// How long to rest when the process has no descriptor left for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much of a path the access log has, in characters.
const PATH_CHARS_MAX: usize = 2000;

const NO_HOST: Notice =
    Notice { status: StatusCode::BAD_REQUEST, text: "expected exactly one Host header with a valid host" };
const NO_ROUTE: Notice =
    Notice { status: StatusCode::NOT_FOUND, text: "no module has a route for this host and path" };
const TOO_LARGE: Notice = Notice {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    text: "the body is longer than this module's body_limit",
};
const TOO_SLOW: Notice = Notice { status: StatusCode::REQUEST_TIMEOUT, text: "the body arrived too slowly" };
const QUEUE_FULL: Notice = Notice {
    status: StatusCode::SERVICE_UNAVAILABLE,
    text: "queue full: all instances are busy and queue_limit requests are waiting",
};
const WAITED_TOO_LONG: Notice =
    Notice { status: StatusCode::SERVICE_UNAVAILABLE, text: "no instance became free within queue_timeout" };
const MODULE_GONE: Notice =
    Notice { status: StatusCode::SERVICE_UNAVAILABLE, text: "the module is being removed" };
const INSTANCE_FAILED: Notice = Notice {
    status: StatusCode::BAD_GATEWAY,
    text: "the instance failed while handling this request; see the runner's log",
};
const INSTANCE_STUCK: Notice =
    Notice { status: StatusCode::GATEWAY_TIMEOUT, text: "the instance did nothing for request_timeout" };

/// The data plane of a fleet.
pub(crate) struct Gateway {
    fleet: Arc<Fleet>,
    access_log: bool,
    /// How long a client may take nothing of what it was sent.
    write_timeout: Duration,
    http: auto::Builder<TokioExecutor>,
    /// One per connection that may be open.
    connections: Arc<Semaphore>,
}

/// What the requests of a connection share.
#[derive(Default)]
struct Connection {
    /// Closes it for a request's sake.
    close: Arc<Notify>,
    got_request: AtomicBool,
}

impl Gateway {
    /// A data plane that serves `fleet` as `config` says, with as many `connections` at once.
    pub(crate) fn new(fleet: Arc<Fleet>, config: &HttpConfig, connections: u32) -> Self {
        let http = protocol::connections(config.header_limit, HEAD_TIMEOUT);
        let connections = Arc::new(Semaphore::new(connections as usize));
        let HttpConfig { access_log, write_timeout, .. } = *config;
        Self { fleet, access_log, write_timeout, http, connections }
    }

    /// Serves `listener` until `stop`; then finishes what is being answered, until `cut`.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        stop: CancellationToken,
        cut: CancellationToken,
    ) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = self.accept(&listener) => accepted,
            };
            let Some((stream, permit)) = accepted else { continue };
            let connection: Arc<Connection> = Arc::default();
            let service = {
                let (gateway, connection) = (Arc::clone(&self), Arc::clone(&connection));
                service_fn(move |request| {
                    let (gateway, connection) = (Arc::clone(&gateway), Arc::clone(&connection));
                    async move { Ok::<_, Infallible>(gateway.answer(request, &connection).await) }
                })
            };
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(self.write_timeout));
            let stream = TokioIo::new(Box::pin(stream));
            let served = self.http.serve_connection(stream, service).into_owned();
            let served = graceful.watch(served);
            let cut = cut.clone();
            tokio::spawn(async move {
                tokio::select! {
                    biased;
                    () = cut.cancelled() => debug!("data connection closed: the runner stops"),
                    () = connection.close.notified() => debug!("data connection closed: client too slow"),
                    () = connection.idle_timeout() => debug!("data connection closed: no request"),
                    outcome = served => if let Err(error) = outcome {
                        debug!(error, "data connection");
                    },
                }
                drop(permit);
            });
        }
        drop(listener);
        tokio::select! {
            () = graceful.shutdown() => {}
            () = cut.cancelled() => {}
        }
    }

    async fn accept(&self, listener: &TcpListener) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.connections).acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((stream, _)) => {
                // Responses are written in full frames: waiting to fill a packet would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    debug!(%error, "setting TCP_NODELAY");
                }
                Some((stream, permit))
            }
            Err(error) => {
                // Of the client's making, or out of descriptors, which passes when something is closed.
                if !matches!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
                ) {
                    warn!(%error, "accepting a data connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None
            }
        }
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
        connection: &Connection,
    ) -> http::Response<AnswerBody> {
        connection.got_request.store(true, Ordering::Relaxed);
        let authority = protocol::authority(&request);
        let mut record = Record::begin(self.access_log.then(|| {
            RequestLine {
                method: request.method().clone(),
                host: clipped(authority.unwrap_or_default()),
                path: request
                    .uri()
                    .path_and_query()
                    .map_or_else(String::new, |path| clipped_to(PATH_CHARS_MAX, path.as_str())),
            }
        }));
        let has_body = request.method() != Method::HEAD;
        let Some(authority) = authority else { return answer::own(NO_HOST, record, has_body, false) };
        let Some(service) = self.fleet.routes().find(authority, request.uri().path()).cloned() else {
            return answer::own(NO_ROUTE, record, has_body, false);
        };
        record.belongs_to(Arc::clone(&service));
        // Only a connection that carries nothing else may be closed for one request's sake.
        let close = match request.version() {
            Version::HTTP_2 => None,
            _ => Some(Arc::clone(&connection.close)),
        };
        match pass_on(&service, request, close, &mut record).await {
            Ok((head, exchange)) => answer::guest(head, exchange, record, has_body),
            Err((notice, close)) => answer::own(notice, record, has_body, close),
        }
    }
}

impl Connection {
    /// Returns when a client has sent no request within the time for one. hyper counts that time only once
    /// it knows which version of HTTP the client speaks.
    async fn idle_timeout(&self) {
        tokio::time::sleep(HEAD_TIMEOUT).await;
        if self.got_request.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

/// A request whose response has not begun. Dropped as it is, nobody waits for it any more.
struct Waiting(Option<Arc<Exchange>>);

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(exchange) = &self.0 {
            exchange.client_done(false);
        }
    }
}

/// Hands `request` to an instance of the module that `service` is of, and waits for the head of its response. An error is the
/// notice for the client, and whether its connection is to be closed after it.
async fn pass_on(
    service: &Service,
    request: http::Request<Incoming>,
    close: Option<Arc<Notify>>,
    record: &mut Record,
) -> Result<(ResponseHead, Arc<Exchange>), (Notice, bool)> {
    let serve = service.settings();
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > serve.body_limit.0) {
        return Err((TOO_LARGE, true));
    }
    let exchange = Arc::new(Exchange::new(serve.request_timeout, close));
    record.exchange = Some(Arc::clone(&exchange));
    let mut waiting = Waiting(Some(Arc::clone(&exchange)));
    let (reply, mut response) = oneshot::channel();
    let request = request.map(|incoming| upload::watch(incoming, &exchange, serve.body_limit.0));
    let job = Job { request, exchange: Arc::clone(&exchange), reply };
    service.queue.push(job).map_err(|_| (QUEUE_FULL, false))?;
    let head = tokio::select! {
        biased;
        head = head_or_fault(&mut response, &exchange) => head,
        () = tokio::time::sleep(serve.queue_timeout) => {
            if exchange.abandon() {
                return Err((WAITED_TOO_LONG, false));
            }
            // An instance has it, and is watched from there.
            head_or_fault(&mut response, &exchange).await
        }
    };
    // Nothing of it has been sent yet: better an answer that says what happened than one that breaks off.
    let fault = match (exchange.failure(), head) {
        (None, Some(head)) => {
            waiting.0 = None;
            return Ok((head, exchange));
        }
        (Some(Failure::TooLarge), _) => return Err((TOO_LARGE, true)),
        (Some(Failure::TooSlow), _) => return Err((TOO_SLOW, true)),
        (Some(Failure::Fault(fault)), _) => fault,
        // Its job was dropped, and why is not known yet.
        (None, None) => Fault::Gone,
    };
    let Some(server) = exchange.server() else { return Err((MODULE_GONE, false)) };
    warn!(module = %service.module, replica = server.replica.0, generation = server.generation.0,
        error = %fault, "request failed");
    Err((notice(&fault), false))
}

/// The head of the response; `None`: there will be none.
async fn head_or_fault(
    response: &mut oneshot::Receiver<ResponseHead>,
    exchange: &Exchange,
) -> Option<ResponseHead> {
    tokio::select! {
        biased;
        head = response => head.ok(),
        // The instance may go on with other requests for long.
        () = exchange.failed() => None,
    }
}

const fn notice(fault: &Fault) -> Notice {
    match fault {
        Fault::Stuck(_) => INSTANCE_STUCK,
        Fault::Gone | Fault::NoResponse | Fault::Unfinished | Fault::Code(_) => INSTANCE_FAILED,
    }
}
