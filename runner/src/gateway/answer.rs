//! What a client is answered: the guest's response or the runner's own, and the record of it.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use ebb_service::date;
use http::{HeaderValue, Method, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tracing::info;
use wasmtime_wasi_http::Error;

use crate::exchange::{job::ResponseHead, service::Service, state::Exchange};

/// What clients are told to wait before they try again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// nginx's code for a client that left before it was answered; it is on no wire.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The runner's own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) status: StatusCode,
    pub(super) text: &'static str,
}

/// An exchange's entry in metrics and access log, written when it is over.
pub(super) struct Record {
    /// Whose request it was; nobody's if no route leads to a module.
    pub(super) service: Option<Arc<Service>>,
    pub(super) exchange: Option<Arc<Exchange>>,
    begun: Instant,
    status: u16,
    bytes_sent: u64,
    /// What the response's head announced.
    bytes_expected: Option<u64>,
    outcome: Outcome,
    /// Only for the access log.
    line: Option<RequestLine>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The client has not got all of it, and if nothing else comes, it left.
    Partial,
    /// The instance did not deliver all of it.
    Truncated,
    Complete,
}

/// What was asked for.
pub(super) struct RequestLine {
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
}

impl Record {
    /// The record of a request that has just come. `line`: for the access log.
    pub(super) fn begin(line: Option<RequestLine>) -> Self {
        Self {
            service: None,
            exchange: None,
            begun: Instant::now(),
            status: CLIENT_CLOSED_REQUEST,
            bytes_sent: 0,
            bytes_expected: None,
            outcome: Outcome::Partial,
            line,
        }
    }

    /// Counts the request as one of `service`.
    pub(super) fn belongs_to(&mut self, service: Arc<Service>) {
        service.traffic.begin();
        self.service = Some(service);
    }

    /// `has_body`: something comes after the head.
    fn head(&mut self, status: StatusCode, headers: &http::HeaderMap, has_body: bool) {
        self.status = status.as_u16();
        let announced = headers.get(header::CONTENT_LENGTH);
        self.bytes_expected = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        if !has_body || self.bytes_expected == Some(0) {
            self.outcome = Outcome::Complete;
        }
    }

    fn sent(&mut self, bytes: u64) {
        self.bytes_sent += bytes;
        if self.bytes_expected == Some(self.bytes_sent) {
            self.outcome = Outcome::Complete;
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let duration = self.begun.elapsed();
        let truncated = self.outcome == Outcome::Truncated;
        if let Some(service) = &self.service {
            service.traffic.end(self.status, duration.as_secs_f64(), truncated);
        }
        let Some(line) = &self.line else { return };
        let server = self.exchange.as_ref().and_then(|exchange| exchange.server());
        info!(
            target: "access",
            method = %line.method,
            host = line.host,
            path = line.path,
            status = self.status,
            bytes = self.bytes_sent,
            duration_us = duration.as_micros(),
            module = self.service.as_ref().map(|service| service.module.as_str()),
            replica = server.map(|server| server.replica.0),
            generation = server.map(|server| server.generation.0),
            outcome = match self.outcome {
                Outcome::Complete => "complete",
                Outcome::Truncated => "truncated",
                Outcome::Partial => "client left",
            },
            "request"
        );
    }
}

/// The body of an answer.
pub(super) struct AnswerBody {
    source: Source,
    record: Record,
}

enum Source {
    /// The runner's own words, or none.
    Own(Full<Bytes>),
    /// The guest's, kept in the exchange.
    Guest(Arc<Exchange>),
}

/// The runner's own answer to a request. `has_body`: the method allows for one. `close`: the rest of the request
/// is not waited for.
pub(super) fn own(
    notice: Notice,
    mut record: Record,
    has_body: bool,
    close: bool,
) -> http::Response<AnswerBody> {
    let text = Bytes::from(format!("{}: {}\n", notice.status, notice.text));
    let length = HeaderValue::from(text.len());
    let mut response = http::Response::new(());
    *response.status_mut() = notice.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CONTENT_LENGTH, length);
    date::set(headers);
    if notice.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    record.head(notice.status, headers, has_body);
    let text = if has_body { text } else { Bytes::new() };
    response.map(|()| AnswerBody { source: Source::Own(Full::new(text)), record })
}

/// The guest's response to `exchange`'s request. `has_body`: the method allows for one.
pub(super) fn guest(
    mut head: ResponseHead,
    exchange: Arc<Exchange>,
    mut record: Record,
    has_body: bool,
) -> http::Response<AnswerBody> {
    // None of these can be a final answer, and hyper would take 101 for an upgrade.
    if head.status().is_informational() {
        *head.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    let has_body = has_body && !matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_empty = exchange.ask_body(Body::is_end_stream).unwrap_or(false);
    record.head(head.status(), head.headers(), has_body && !is_empty);
    date::set(head.headers_mut());
    let source = if has_body {
        Source::Guest(exchange)
    } else {
        // A guest that writes a body all the same would otherwise wait until somebody reads it.
        tokio::spawn(async move {
            while let Some(Ok(_)) = poll_fn(|context| exchange.poll_body(context)).await {}
            exchange.client_done(true);
        });
        Source::Own(Full::default())
    };
    head.map(|()| AnswerBody { source, record })
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let frame = std::task::ready!(match &mut this.source {
            Source::Own(text) => Pin::new(text).poll_frame(context).map_err(|never| match never {}),
            Source::Guest(exchange) => exchange.poll_body(context),
        });
        match &frame {
            Some(Ok(frame)) => {
                this.record.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
                // hyper does not ask for more after trailers, or if the body says that this was all.
                if frame.is_trailers() || this.is_end_stream() {
                    this.record.outcome = Outcome::Complete;
                }
            }
            Some(Err(_)) => this.record.outcome = Outcome::Truncated,
            None => this.record.outcome = Outcome::Complete,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.is_end_stream(),
            Source::Guest(exchange) => exchange.ask_body(Body::is_end_stream).unwrap_or(false),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => text.size_hint(),
            Source::Guest(exchange) => exchange.ask_body(Body::size_hint).unwrap_or_default(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Source::Guest(exchange) = &self.source {
            exchange.client_done(self.record.outcome == Outcome::Complete);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{task::Waker, time::Duration};

    use ebb_units::{Generation, Replica};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::exchange::state::Server;

    fn answer(text: &'static str) -> (Arc<Exchange>, AnswerBody) {
        let exchange = Arc::new(Exchange::new(Duration::from_secs(3600), None));
        assert!(exchange.begin(Server { replica: Replica(0), generation: Generation(1) }));
        exchange.set_body(Full::from(text).map_err(|never| match never {}).boxed_unsync());
        let head = http::Response::new(());
        let response = guest(head, Arc::clone(&exchange), Record::begin(None), true);
        (exchange, response.into_body())
    }

    fn is_kept(exchange: &Exchange) -> bool {
        exchange.ask_body(|_| ()).is_some()
    }

    #[test]
    fn an_answer_of_which_the_client_has_all_is_complete_though_its_length_was_not_announced() {
        let (exchange, mut body) = answer("text");
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut context), Poll::Ready(Some(Ok(_)))));
        assert!(body.is_end_stream(), "hyper does not ask again");
        drop(body);
        assert!(is_kept(&exchange), "for as long as the guest works");
    }

    #[test]
    fn an_answer_that_the_client_did_not_take_is_dropped() {
        let (exchange, body) = answer("text");
        drop(body);
        assert!(!is_kept(&exchange), "the guest learns that nobody reads it");
    }
}
