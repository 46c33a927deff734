use std::{net::SocketAddr, pin::pin};

use axum::routing::get;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::timeout,
};

use super::*;

const DEADLINE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(3600);
const ASK: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LARGE_BYTES: usize = 32 << 20;

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    /// Answers to `/slow` come when it is notified.
    release: Arc<Notify>,
    task: JoinHandle<()>,
}

async fn start(limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, release) = (CancellationToken::new(), Arc::new(Notify::new()));
    let released = Arc::clone(&release);
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/large", get(async || vec![b'x'; LARGE_BYTES]))
        .route(
            "/slow",
            get(move || {
                let released = Arc::clone(&released);
                async move {
                    released.notified().await;
                    "done"
                }
            }),
        );
    let task = tokio::spawn(serve(listener, router, limits, None, stop.clone()));
    Server { address, stop, release, task }
}

fn limits() -> Limits {
    Limits { head_timeout: LONG, answer_timeout: LONG, connections_max: 4 }
}

impl Server {
    /// A connection that has said `text`.
    async fn say(&self, text: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(text.as_bytes()).await.unwrap();
        connection
    }
}

/// Reads until the server closes the connection.
async fn until_closed(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // Errors mean that it was closed before everything that was sent was read.
    let read = timeout(DEADLINE, connection.read_to_end(&mut answer)).await;
    let _ = read.expect("the server closes the connection");
    String::from_utf8(answer).unwrap()
}

/// Reads up to the end of an answer, which is `end`.
async fn answer(connection: &mut TcpStream, end: &str) -> String {
    let mut answer = String::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(end) {
        let read = timeout(DEADLINE, connection.read(&mut buffer)).await.expect("an answer").unwrap();
        assert!(read > 0, "closed behind {answer:?}");
        answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    answer
}

#[tokio::test]
async fn a_connection_that_does_not_finish_its_request_is_closed() {
    let server = start(Limits { head_timeout: Duration::from_millis(50), ..limits() }).await;
    for begun in ["", "GET", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let said = until_closed(&mut server.say(begun).await).await;
        assert!(!said.contains("hello"), "{begun:?}: {said}");
    }
}

#[tokio::test]
async fn a_connection_that_rests_after_an_answer_is_closed() {
    let server = start(Limits { head_timeout: Duration::from_secs(2), ..limits() }).await;
    let said = until_closed(&mut server.say(ASK).await).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("hello"), "{said}");
}

#[tokio::test]
async fn a_stop_closes_what_waits_at_once_and_finishes_what_is_being_answered() {
    let server = start(limits()).await;
    let mut half = server.say("GET / HT").await;
    let mut idle = server.say(ASK).await;
    answer(&mut idle, "hello").await;
    let mut busy = server.say("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // The server has seen that request: it answers what comes later.
    answer(&mut server.say(ASK).await, "hello").await;
    server.stop.cancel();
    assert_eq!(until_closed(&mut half).await, "");
    assert_eq!(until_closed(&mut idle).await, "");
    server.release.notify_one();
    assert!(until_closed(&mut busy).await.ends_with("done"));
    timeout(DEADLINE, server.task).await.expect("nothing is left to answer").unwrap();
}

#[tokio::test]
async fn a_body_that_does_not_come_makes_room_too_and_is_waited_for_no_longer_than_a_head() {
    const HALF: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n{";
    let server = start(limits()).await;
    let mut half = Vec::new();
    for _ in 0..40 {
        half.push(server.say(HALF).await);
    }
    answer(&mut server.say(ASK).await, "hello").await;
    for connection in &mut half[..36] {
        assert_eq!(until_closed(connection).await, "");
    }

    let hasty = start(Limits { head_timeout: Duration::from_millis(50), ..limits() }).await;
    let said = until_closed(&mut hasty.say(HALF).await).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    let long = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 70000\r\n\r\n{}", "x".repeat(70_000));
    let said = answer(&mut server.say(&long).await, "expected at most 65536 bytes\n").await;
    assert!(said.starts_with("HTTP/1.1 413"), "{said}");
}

#[tokio::test]
async fn a_full_server_closes_what_has_waited_longest_and_answers_the_newest() {
    let server = start(limits()).await;
    let mut half = Vec::new();
    for _ in 0..40 {
        half.push(server.say("GET / HTTP/1.1\r\nhost: a\r\n").await);
    }
    answer(&mut server.say(ASK).await, "hello").await;
    for connection in &mut half[..36] {
        assert_eq!(until_closed(connection).await, "");
    }
    // Whoever is among the newest is still listened to.
    half[39].write_all(b"\r\n").await.unwrap();
    answer(&mut half[39], "hello").await;
}

#[tokio::test]
async fn a_request_under_way_is_never_closed_for_another() {
    let server = start(limits()).await;
    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(server.say("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await);
    }
    // All places are taken by requests: this one waits until the first of them is over.
    let mut late = server.say(ASK).await;
    server.release.notify_one();
    answer(&mut late, "hello").await;
    // One was answered and waits: it is the one that makes room. The others are answered all the same.
    for _ in 0..3 {
        server.release.notify_one();
    }
    for mut connection in busy {
        answer(&mut connection, "done").await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_taken_yet_is_no_connection_that_waits() {
    let server = start(limits()).await;
    // The server has handed all of it to the connection by the time that its head can be read.
    let mut slow = server.say("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut head = [0; 12];
    timeout(DEADLINE, slow.read_exact(&mut head)).await.expect("an answer").unwrap();
    for _ in 0..20 {
        answer(&mut server.say(ASK).await, "hello").await;
    }
    let mut rest = Vec::new();
    let read = async {
        while rest.len() < LARGE_BYTES {
            if slow.read_buf(&mut rest).await.unwrap() == 0 {
                break;
            }
        }
    };
    timeout(DEADLINE, read).await.expect("all of it");
    assert!(rest.len() >= LARGE_BYTES, "{} bytes", rest.len());
}

#[tokio::test]
async fn who_does_not_take_an_answer_is_cut_off() {
    let server = start(Limits { answer_timeout: Duration::from_millis(100), ..limits() }).await;
    let mut slow = server.say("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    // It takes a byte again and again, which is not enough.
    let trickle = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::Instant::now() < trickle {
        if slow.read_u8().await.is_err() {
            return;
        }
    }
    let mut rest = Vec::new();
    // An error means that it was cut off before everything that was sent was read.
    let _ = timeout(DEADLINE, slow.read_to_end(&mut rest)).await.expect("it is cut off");
    assert!(rest.len() < LARGE_BYTES - (1 << 20), "{}", rest.len());
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = start(limits()).await;
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(2 * HEAD_BYTES_MAX));
    let said = until_closed(&mut server.say(&head).await).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431"), "{said}");
}

#[tokio::test]
async fn no_connection_comes_in_before_the_one_that_makes_room_is_closed() {
    let connections = Arc::new(Connections::new(1));
    let first = Connections::place(&connections).await;
    let mut second = pin!(Connections::place(&connections));
    assert!(timeout(Duration::ZERO, second.as_mut()).await.is_err());
    first.close.notified().await;
    assert!(timeout(Duration::ZERO, second.as_mut()).await.is_err());
    drop(first);
    let second = second.await;
    assert!(timeout(Duration::ZERO, second.close.notified()).await.is_err());
}

#[test]
fn connections_leave_most_descriptors_to_the_program() {
    let connections_max = |descriptors| Limits::for_descriptors(descriptors).connections_max;
    assert_eq!(connections_max(1024), 256);
    assert_eq!(connections_max(64), 16);
    assert_eq!(connections_max(4), 4);
    assert_eq!(connections_max(1 << 30), 256);
}
