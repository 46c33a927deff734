//! Reads `/data/file` again and again, and says after each hundred times how often it did.

use std::{fs, thread::sleep, time::Duration};

fn main() {
    for reads in 1_u64.. {
        fs::read("/data/file").expect("the file can be read");
        if reads.is_multiple_of(100) {
            println!("reads: {reads}");
        }
        sleep(Duration::from_millis(1));
    }
}
