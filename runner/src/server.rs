//! HTTP/1.1 on a listener, as `axum::serve`, but that clients have to finish what they begin to send.

use std::time::Duration;

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long a connection may take to send a request's head, from its opening or from the last answer on:
/// forgotten connections do not hold descriptors for ever.
///
/// Longer than clients keep idle connections (reqwest 90 s): who closes first never meets a request that is
/// on its way.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(120);

/// Serves `router` on `listener` until `stop`; then finishes what is being answered.
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    head_timeout: Duration,
    stop: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let connections = GracefulShutdown::new();
    loop {
        // Accepting does not fail: axum's listener waits while the process is out of descriptors.
        let (stream, _) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "control connection");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        task::JoinHandle,
    };

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    async fn start(head_timeout: Duration) -> (TcpStream, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(async || "hello"));
        let server = tokio::spawn(serve(listener, router, head_timeout, stop.clone()));
        (TcpStream::connect(address).await.unwrap(), stop, server)
    }

    /// Sends `text`, and reads until the server closes the connection.
    async fn until_closed(connection: &mut TcpStream, text: &str) -> String {
        let mut answer = Vec::new();
        let exchange = async {
            // Errors mean that it was closed before everything was sent.
            let _ = connection.write_all(text.as_bytes()).await;
            let _ = connection.read_to_end(&mut answer).await;
        };
        tokio::time::timeout(DEADLINE, exchange).await.expect("the server closes the connection");
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_does_not_finish_its_request_is_closed() {
        for begun in ["", "GET", "GET / HTTP/1.1\r\nhost: a\r\n"] {
            let (mut connection, _stop, _server) = start(Duration::from_millis(50)).await;
            let answer = until_closed(&mut connection, begun).await;
            assert!(!answer.contains("hello"), "{begun:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_rests_after_an_answer_is_closed() {
        let (mut connection, _stop, _server) = start(Duration::from_secs(2)).await;
        let answer = until_closed(&mut connection, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    }

    #[tokio::test]
    async fn a_stop_closes_what_rests_at_once() {
        let (mut connection, stop, server) = start(Duration::from_secs(3600)).await;
        connection.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut some = [0; 12];
        connection.read_exact(&mut some).await.unwrap();
        assert_eq!(&some, b"HTTP/1.1 200");
        stop.cancel();
        tokio::time::timeout(DEADLINE, server).await.expect("nothing is left to answer").unwrap();
    }
}
