//! A command that serves on the TCP port `PORT` and leaks 256 KiB per connection: restarted while clients connect.

use std::{
    env,
    io::{Read as _, Write as _},
    net::TcpListener,
};

fn main() {
    let port = env::var("PORT").expect("PORT is a port");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("the port is free");
    let mut kept = Vec::new();
    for client in listener.incoming() {
        let Ok(mut client) = client else { continue };
        kept.push(vec![1_u8; 256 << 10]);
        // A client that leaves is no fault.
        let _ = client.read(&mut [0; 1024]);
        let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
    }
}
