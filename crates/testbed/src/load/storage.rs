//! Clients of the storage service, who look at every byte that comes back.

use std::time::Duration;

use super::{
    Connection, Load,
    ask::{Ask, Expected, Pattern},
};

/// Clients of one runner, and how long each rests after an answer.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(25);

/// Every so many requests, somebody uploads a video.
const VIDEO_EVERY: u64 = 400;
const VIDEO_BYTES: u64 = 24 << 20;

/// Files that are there from the start, and read again and again.
const STORED: u64 = 8;

/// The clients of all runners. They leave with this value.
#[derive(Debug)]
pub struct Clients(Vec<Load>);

impl Clients {
    /// Stores the first files, and lets the clients begin.
    ///
    /// # Panics
    /// When a runner does not take the first files.
    pub async fn start(addresses: impl Iterator<Item = &str>) -> Self {
        let mut loads = Vec::new();
        for address in addresses {
            let mut connection = Connection::open(address).await.expect("a runner that is ready listens");
            for n in 0..STORED {
                let stored = connection.ask(&Ask::put(path(n), content(n))).await;
                stored.expect("an empty volume takes a small file");
            }
            loads.push(Load::start_at_leisure(address, CLIENTS, PAUSE, plan));
        }
        Self(loads)
    }

    /// Requests that were answered as they should be.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.0.iter().map(Load::served).sum()
    }

    /// Requests that were not.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.iter().map(Load::failed).sum()
    }

    /// The first of these.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        self.0.iter().flat_map(Load::failures).collect()
    }
}

fn path(n: u64) -> String {
    format!("/stored/{n}.bin")
}

/// From 4 KiB to 512 KiB.
fn content(n: u64) -> Pattern {
    Pattern { bytes: 4096 << (n % STORED), seed: n }
}

fn plan(n: u64) -> Ask {
    if n % VIDEO_EVERY == VIDEO_EVERY - 1 {
        // Not all are of the same length.
        let bytes = VIDEO_BYTES / 2 + VIDEO_BYTES / 2 * (n / VIDEO_EVERY % 5) / 4;
        return Ask::put(format!("/videos/{}.mp4", n / VIDEO_EVERY % 4), Pattern { bytes, seed: n });
    }
    match n % 4 {
        0 => Ask::put(format!("/uploads/{}.bin", n % 64), content(n)),
        1 => Ask::get("/stored/", Expected::Anything),
        _ => Ask::get(path(n % STORED) + "?download", Expected::Pattern(content(n % STORED))),
    }
}
