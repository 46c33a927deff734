//! What does the program say that listens there? Asked over HTTP by its own commands: is it ready, as a container's health check asks.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ebb_units::Span;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{quote, secret::BearerToken, web_config::any_client};

/// Where a program says whether it is ready.
const READY: &str = "/-/ready";

/// The longest answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a program did not answer what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens there, or cannot be reached.
    #[error("connecting to {address}; is the program running, and does it listen there?")]
    Connect {
        /// Who was asked.
        address: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// What came back is no answer.
    #[error("asking {address}{path}")]
    Exchange {
        /// Who was asked.
        address: String,
        /// For what.
        path: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It refused.
    #[error("{address}{path}: expected 200, got {status}{}", told(.answer))]
    Status {
        /// Who was asked.
        address: String,
        /// For what.
        path: String,
        /// What it answered.
        status: StatusCode,
        /// And what it said about it.
        answer: String,
    },
    /// It did not answer in time.
    #[error("{address}{path}: no answer within {within}")]
    Timeout {
        /// Who was asked.
        address: String,
        /// For what.
        path: String,
        /// How long was waited.
        within: Span,
    },
}

fn told(answer: &str) -> String {
    if answer.is_empty() { String::new() } else { format!(": {answer}") }
}

/// Where to reach, from this machine, who listens on `address`: on all addresses means on loopback as well.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Who is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// `host:port`.
    pub address: String,
    /// By TLS, if so.
    pub tls: Option<Arc<ClientConfig>>,
    /// What is shown where others are kept out.
    pub token: Option<BearerToken>,
}

impl Listener {
    /// The one at `address`, as somebody wrote it: `host:port`, or with `https://` before it. Certificates are not verified, and
    /// nothing is shown.
    pub(crate) fn at(address: &str) -> Self {
        let (address, tls) = match address.strip_prefix("https://") {
            Some(address) => (address, Some(any_client())),
            None => (address.strip_prefix("http://").unwrap_or(address), None),
        };
        Self { address: address.trim_end_matches('/').to_owned(), tls, token: None }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// Asks whether the program is ready that is that listener's; waits for its answer for at most `within`.
///
/// # Errors
/// [`ProbeError`] unless the answer is 200.
pub(crate) async fn ready(listener: &Listener, within: Span) -> Result<(), ProbeError> {
    get(listener, READY, within).await.map(drop)
}

/// Asks the program for `path`; waits for its answer for at most `within`.
///
/// # Errors
/// [`ProbeError`] unless the answer is 200.
pub(crate) async fn get(listener: &Listener, path: &str, within: Span) -> Result<Bytes, ProbeError> {
    let too_late = |_| ProbeError::Timeout { address: listener.to_string(), path: path.to_owned(), within };
    tokio::time::timeout(Duration::from(within), ask(listener, path)).await.map_err(too_late)?
}

async fn ask(listener: &Listener, path: &str) -> Result<Bytes, ProbeError> {
    let address = &listener.address;
    let connect = |source| ProbeError::Connect { address: address.clone(), source };
    let connection = TcpStream::connect(address).await.map_err(connect)?;
    let Some(tls) = &listener.tls else { return exchange(listener, path, connection).await };
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
    let name = name.map_err(|error| connect(io::Error::other(error)))?;
    let connection = TlsConnector::from(Arc::clone(tls)).connect(name, connection).await;
    exchange(listener, path, connection.map_err(connect)?).await
}

async fn exchange(
    listener: &Listener,
    path: &str,
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Bytes, ProbeError> {
    let address = listener.to_string();
    let exchange = |source| ProbeError::Exchange { address: address.clone(), path: path.to_owned(), source };
    let failed = |error: hyper::Error| exchange(error.into());
    let (mut requests, connection) = http1::handshake(TokioIo::new(connection)).await.map_err(failed)?;
    // It ends with the exchange; its error, if any, is the exchange's as well.
    tokio::spawn(connection);
    let mut request = Request::get(path)
        .header(header::HOST, &listener.address)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| exchange(error.into()))?;
    if let Some(token) = &listener.token {
        let value =
            format!("Bearer {}", token.reveal()).parse().map_err(|_| exchange("an unusable token".into()))?;
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    let answer = requests.send_request(request).await.map_err(failed)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes);
    if status == StatusCode::OK {
        return body.map_err(exchange);
    }
    let answer = quote::clipped_bytes(&body.unwrap_or_default());
    Err(ProbeError::Status { address, path: path.to_owned(), status, answer })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::logging::Chain;

    #[test]
    fn who_listens_on_all_addresses_is_asked_on_loopback() {
        let check = |listens: &str, asked: &str| {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        };
        check("0.0.0.0:9742", "127.0.0.1:9742");
        check("[::]:9742", "[::1]:9742");
        check("192.0.2.1:9742", "192.0.2.1:9742");
    }

    /// What is said of a listener that answers its first connection with `answer`, and with `None` keeps silent.
    async fn said_of(answer: Option<&'static str>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = connection.read(&mut request).await.unwrap();
            assert!(request[..length].starts_with(b"GET /-/ready HTTP/1.1\r\n"));
            match answer {
                Some(answer) => connection.write_all(answer.as_bytes()).await.unwrap(),
                // Until the one who asks leaves.
                None => drop(connection.read(&mut request).await),
            }
        });
        let within = if answer.is_some() { Span::secs(30) } else { Span::millis(50) };
        let said = ready(&Listener::at(&address), within).await;
        server.await.unwrap();
        said.map_err(|error| Chain(&error).to_string())
    }

    #[tokio::test]
    async fn only_a_200_in_time_is_ready() {
        assert_eq!(said_of(Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).await, Ok(()));
        let not_yet = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 8\r\n\r\nstarting";
        let said = said_of(Some(not_yet)).await.unwrap_err();
        assert!(said.ends_with("/-/ready: expected 200, got 503 Service Unavailable: starting"), "{said}");
        let said = said_of(Some("SSH-2.0-OpenSSH\r\n")).await.unwrap_err();
        assert!(said.contains("asking http://127.0.0.1:"), "{said}");
        let said = said_of(None).await.unwrap_err();
        assert!(said.ends_with("/-/ready: no answer within 50ms"), "{said}");
    }

    #[tokio::test]
    async fn where_nothing_listens_is_not_ready() {
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let said = ready(&Listener::at(&address), Span::secs(30)).await.unwrap_err();
        let said = Chain(&said).to_string();
        assert!(said.starts_with(&format!("connecting to {address}; is the program running")), "{said}");
        assert!(said.contains("refused"), "{said}");
    }
}
