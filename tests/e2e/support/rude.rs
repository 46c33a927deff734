//! Clients that do not behave: on a bare connection, so that no library puts anything right.

use std::{
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A connection that sends what it is told to.
#[derive(Debug)]
pub(crate) struct Rude(TcpStream);

impl Rude {
    /// Connects to `address` and sends `text`.
    pub(crate) async fn say(address: &str, text: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("somebody listens");
        stream.write_all(text.as_bytes()).await.expect("a new connection takes bytes");
        Self(stream)
    }

    /// Sends `bytes`. An error means that the server has closed the connection.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Sends `byte` every `pause` until the server answers or closes; then reads what it said. `None`: it
    /// did neither within `deadline`.
    pub(crate) async fn drip(mut self, byte: u8, pause: Duration, deadline: Duration) -> Option<String> {
        let given_up = Instant::now() + deadline;
        let mut some = [0; 4096];
        while Instant::now() < given_up {
            match tokio::time::timeout(pause, self.0.read(&mut some)).await {
                Ok(Ok(count)) if count > 0 => {
                    let rest = self.hear(deadline).await;
                    return Some(format!("{}{rest}", String::from_utf8_lossy(&some[..count])));
                }
                Ok(_) => return Some(String::new()),
                // An error shows at the next read.
                Err(_) => drop(self.0.write_all(&[byte]).await),
            }
        }
        None
    }

    /// Everything that the server says until it closes the connection or says nothing for a while.
    pub(crate) async fn hear(&mut self, patience: Duration) -> String {
        let mut said = Vec::new();
        let mut some = [0; 4096];
        // Errors and silence both mean that there is no more.
        while let Ok(Ok(count)) = tokio::time::timeout(patience, self.0.read(&mut some)).await {
            if count == 0 {
                break;
            }
            said.extend_from_slice(&some[..count]);
        }
        String::from_utf8_lossy(&said).into_owned()
    }

    /// The first line of what the server says, such as `HTTP/1.1 200 OK`.
    pub(crate) async fn status_line(&mut self, deadline: Duration) -> String {
        let mut line = Vec::new();
        let read = async {
            while !line.ends_with(b"\r\n") {
                match self.0.read_u8().await {
                    Ok(byte) => line.push(byte),
                    Err(_) => break,
                }
            }
        };
        let _ = tokio::time::timeout(deadline, read).await;
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }
}
