//! One request after another on one connection.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::{Request, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle, time::Sleep};

use super::ask::{Ask, Expected, Pace, Pattern};

/// Bytes of a body that are sent at once.
const PIECE_BYTES: usize = 64 * 1024;

/// How long an exchange may take altogether. More than any test waits.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(120);

/// A connection that stays open from request to request.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Sent>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// Connects to `address`.
    ///
    /// # Errors
    /// As text.
    pub async fn open(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("connecting: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("connecting: {error}"))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| format!("connecting: {error}"))?;
        // Its errors reach the exchange that they concern.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { sender, driver })
    }

    /// Asks, and looks at the whole answer.
    ///
    /// # Errors
    /// What was not as it must be, as text.
    pub async fn ask(&mut self, ask: &Ask) -> Result<(), String> {
        let exchange = tokio::time::timeout(EXCHANGE_WITHIN, self.exchange(ask));
        exchange.await.unwrap_or_else(|_| Err(format!("no answer within {EXCHANGE_WITHIN:?}")))
    }

    async fn exchange(&mut self, ask: &Ask) -> Result<(), String> {
        let body = Sent { pattern: ask.body, at: 0, pace: ask.pace, pause: None };
        let request =
            Request::builder().method(ask.method).uri(&ask.path).header("host", &ask.host).body(body);
        let request = request.map_err(|error| format!("the request itself: {error}"))?;
        self.sender.ready().await.map_err(|error| format!("the connection: {error}"))?;
        let response = self.sender.send_request(request).await.map_err(|error| format!("asking: {error}"))?;
        let status = response.status().as_u16();
        if !ask.status.contains(&status) {
            let text = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            let text = text.unwrap_or_default();
            return Err(format!("status {status}: {}", String::from_utf8_lossy(&text).trim()));
        }
        check(response.into_body(), &ask.expected, ask.pace).await
    }
}

async fn check(mut body: Incoming, expected: &Expected, pace: Option<Pace>) -> Result<(), String> {
    let mut at = 0;
    let mut since_pause = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the answer broke off after {at} bytes: {error}"))?;
        let Some(data) = frame.data_ref() else { continue };
        for (i, got) in (at..).zip(data.iter().copied()) {
            let wanted = match expected {
                Expected::Anything => continue,
                Expected::Exactly(bytes) => usize::try_from(i).ok().and_then(|i| bytes.get(i).copied()),
                Expected::Pattern(pattern) => (i < pattern.bytes).then(|| pattern.at(i)),
            };
            if wanted != Some(got) {
                return Err(format!("byte {i} of the answer is {got}, expected {wanted:?}"));
            }
        }
        at += data.len() as u64;
        since_pause += data.len();
        if let Some(pace) = pace
            && since_pause >= pace.piece
        {
            since_pause = 0;
            tokio::time::sleep(pace.pause).await;
        }
    }
    let length = match expected {
        Expected::Anything => at,
        Expected::Exactly(bytes) => bytes.len() as u64,
        Expected::Pattern(pattern) => pattern.bytes,
    };
    if at == length { Ok(()) } else { Err(format!("the answer has {at} bytes, expected {length}")) }
}

/// A request's body: a pattern, piece by piece.
#[derive(Debug)]
struct Sent {
    pattern: Option<Pattern>,
    at: u64,
    pace: Option<Pace>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Sent {
    fn left(&self) -> u64 {
        self.pattern.map_or(0, |pattern| pattern.bytes - self.at)
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let Some(pattern) = this.pattern.filter(|pattern| pattern.bytes > this.at) else {
            return Poll::Ready(None);
        };
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(context));
        }
        this.pause = this.pace.map(|pace| Box::pin(tokio::time::sleep(pace.pause)));
        let piece = pattern.piece(this.at, this.pace.map_or(PIECE_BYTES, |pace| pace.piece));
        this.at += piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}
