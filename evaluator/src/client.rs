//! What every HTTP client of the evaluator has in common: whom it believes, and how much of an answer it reads.

mod builder;
mod credentials;
mod runner;

use bytes::{Bytes, BytesMut};
use ebb_units::{ByteCount, Millis};
use reqwest::Response;

pub(crate) use self::{
    builder::client_builder,
    credentials::{BasicAuth, TlsConfig, read_line},
    runner::{RunnerClient, Scheme},
};

/// The time at the server when it answered (RFC 9110, section 6.6.1), to the second.
pub(crate) fn server_time(headers: &reqwest::header::HeaderMap) -> Option<Millis> {
    let date = headers.get(reqwest::header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok().map(Millis::from)
}

/// Why an answer was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It broke off, or did not come in time.
    #[error(transparent)]
    Transport(#[from] reqwest::Error),
    /// It is longer than it may be.
    #[error("expected an answer of at most {0}")]
    TooLong(ByteCount),
}

/// The whole body, of at most `bytes_max` bytes after decompression. What its head announces allocates nothing.
///
/// # Errors
/// [`BodyError`].
pub(crate) async fn body(mut response: Response, bytes_max: usize) -> Result<Bytes, BodyError> {
    let mut body = BytesMut::new();
    while let Some(more) = response.chunk().await? {
        if body.len() + more.len() > bytes_max {
            return Err(BodyError::TooLong(ByteCount(bytes_max as u64)));
        }
        body.extend_from_slice(&more);
    }
    Ok(body.freeze())
}

/// How much of a refusal is read: enough to quote.
pub(crate) const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// The beginning of a body that is only quoted: of a refusal, which may be of any length and break off.
pub(crate) async fn refusal(mut response: Response) -> Bytes {
    let mut body = BytesMut::new();
    while let Ok(Some(more)) = response.chunk().await {
        let room = REFUSAL_BYTES_MAX - body.len();
        body.extend_from_slice(&more[..more.len().min(room)]);
        if body.len() == REFUSAL_BYTES_MAX {
            break;
        }
    }
    body.freeze()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// A server that answers each connection with `head` and then with `piece` again and again until the client leaves,
    /// or once if it is `finite`.
    pub(crate) async fn server(head: String, piece: Vec<u8>, finite: bool) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let (head, piece) = (head.clone(), piece.clone());
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = connection.read(&mut request).await;
                    let _ = connection.write_all(head.as_bytes()).await;
                    while connection.write_all(&piece).await.is_ok() && !finite {}
                });
            }
        });
        address
    }

    /// A head after which the body ends with the connection.
    pub(crate) const ENDLESS: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";

    async fn get(address: SocketAddr) -> Response {
        let http = client_builder().no_proxy().build().unwrap();
        http.get(format!("http://{address}/")).send().await.unwrap()
    }

    #[tokio::test]
    async fn an_answer_is_read_up_to_its_limit() {
        let address = server(ENDLESS.into(), b"hello".to_vec(), true).await;
        assert_eq!(body(get(address).await, 5).await.unwrap(), "hello");
        let problem = body(get(address).await, 4).await.unwrap_err().to_string();
        assert_eq!(problem, "expected an answer of at most 4 B");
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_its_end() {
        let address = server(ENDLESS.into(), vec![b'x'; 1 << 16], false).await;
        assert!(matches!(body(get(address).await, 1 << 20).await, Err(BodyError::TooLong(_))));
        assert_eq!(refusal(get(address).await).await.len(), REFUSAL_BYTES_MAX);
    }

    #[tokio::test]
    async fn what_a_head_announces_allocates_nothing() {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2);
        let address = server(head, b"hello".to_vec(), true).await;
        assert!(matches!(body(get(address).await, 1 << 40).await, Err(BodyError::Transport(_))));
    }

    #[tokio::test]
    async fn a_compressed_answer_counts_as_what_it_is_without_compression() {
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut bomb, &vec![0; 64 << 20]).unwrap();
        let bomb = bomb.finish().unwrap();
        assert!(bomb.len() < 100_000, "{}", bomb.len());
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
        let address = server(head, bomb, true).await;
        assert!(matches!(body(get(address).await, 1 << 20).await, Err(BodyError::TooLong(_))));
        assert_eq!(body(get(address).await, 64 << 20).await.unwrap().len(), 64 << 20);
    }
}
