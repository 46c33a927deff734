//! Uses what `inherit_network` promises, once each, and says what came of it: names, TCP to `PEER` and from others, UDP.

use std::{
    env, io,
    net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket},
    thread::sleep,
    time::Duration,
};

fn main() {
    let peer = env::var("PEER").expect("PEER is host:port");
    say("resolve", "localhost:80".to_socket_addrs().map(drop));
    say("connect", TcpStream::connect(&peer).map(drop));
    say("listen", TcpListener::bind("127.0.0.1:0").map(drop));
    say("udp", echo_over_udp());
    loop {
        sleep(Duration::from_secs(3600));
    }
}

fn echo_over_udp() -> io::Result<()> {
    let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    here.send_to(b"hello", there.local_addr()?)?;
    let mut bytes = [0; 16];
    let (length, from) = there.recv_from(&mut bytes)?;
    assert_eq!((&bytes[..length], from), (&b"hello"[..], here.local_addr()?));
    Ok(())
}

fn say(what: &str, outcome: io::Result<()>) {
    match outcome {
        Ok(()) => println!("{what}: ok"),
        Err(error) => println!("{what}: {error}"),
    }
}
