//! Opens `/data/pipe`, a FIFO that nobody writes to, and waits for ever: a host call that blocks, as on a dead network
//! mount.

use std::fs::File;

fn main() {
    let opened = File::open("/data/pipe");
    println!("opened: {opened:?}");
}
