//! What does the program say that listens there? Asked over HTTP by its own commands: is it ready, as a container's health check asks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use ebb_units::Span;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::quote;

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
    #[error("asking http://{address}{path}")]
    Exchange {
        /// Who was asked.
        address: String,
        /// For what.
        path: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It refused.
    #[error("http://{address}{path}: expected 200, got {status}{}", told(.answer))]
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
    #[error("http://{address}{path}: no answer within {within}")]
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

/// Asks the program at `address`, `host:port`, whether it is ready; waits for its answer for at most `within`.
///
/// # Errors
/// [`ProbeError`] unless the answer is 200.
pub(crate) async fn ready(address: &str, within: Span) -> Result<(), ProbeError> {
    get(address, READY, within).await.map(drop)
}

/// Asks the program at `address`, `host:port`, for `path`; waits for its answer for at most `within`.
///
/// # Errors
/// [`ProbeError`] unless the answer is 200.
pub(crate) async fn get(address: &str, path: &str, within: Span) -> Result<Bytes, ProbeError> {
    let too_late = |_| ProbeError::Timeout { address: address.to_owned(), path: path.to_owned(), within };
    tokio::time::timeout(Duration::from(within), ask(address, path)).await.map_err(too_late)?
}

async fn ask(address: &str, path: &str) -> Result<Bytes, ProbeError> {
    let exchange =
        |source| ProbeError::Exchange { address: address.to_owned(), path: path.to_owned(), source };
    let failed = |error: hyper::Error| exchange(error.into());
    let connection = TcpStream::connect(address)
        .await
        .map_err(|source| ProbeError::Connect { address: address.to_owned(), source })?;
    let (mut requests, connection) = http1::handshake(TokioIo::new(connection)).await.map_err(failed)?;
    // It ends with the exchange; its error, if any, is the exchange's as well.
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(header::HOST, address)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| exchange(error.into()))?;
    let answer = requests.send_request(request).await.map_err(failed)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes);
    if status == StatusCode::OK {
        return body.map_err(exchange);
    }
    let answer = quote::clipped_bytes(&body.unwrap_or_default());
    Err(ProbeError::Status { address: address.to_owned(), path: path.to_owned(), status, answer })
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
        let said = ready(&address, within).await;
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
        let said = ready(&address, Span::secs(30)).await.unwrap_err();
        let said = Chain(&said).to_string();
        assert!(said.starts_with(&format!("connecting to {address}; is the program running")), "{said}");
        assert!(said.contains("refused"), "{said}");
    }
}
