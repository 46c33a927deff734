//! Leaks random amounts of memory at random times, for ever: the app that Ebb is for.
//!
//! Settings: see `guests/README.md`.

use ebb_guests::memory::{leak, memory_bytes};
use ebb_guests::random::SplitMix64;
use ebb_guests::settings::{self, InvalidSetting, Settings};
use std::ops::RangeInclusive;
use std::thread::sleep;
use std::time::Duration;

struct Leaky {
    random: SplitMix64,
    leak_bytes: RangeInclusive<u64>,
    leak_every_ms: RangeInclusive<u64>,
    start_bytes: u64,
}

fn settings(env: &Settings<'_>) -> Result<Leaky, InvalidSetting> {
    let sizes = ("LEAK_BYTES_MIN", "LEAK_BYTES_MAX");
    let pauses = ("LEAK_EVERY_MS_MIN", "LEAK_EVERY_MS_MAX");
    Ok(Leaky {
        random: env.random()?,
        leak_bytes: env.range(Settings::bytes, sizes, 64 * 1024..=1024 * 1024)?,
        leak_every_ms: env.range(Settings::milliseconds, pauses, 500..=2_000)?,
        start_bytes: env.bytes("START_BYTES", 0)?,
    })
}

fn main() {
    let Leaky { mut random, leak_bytes, leak_every_ms, start_bytes } = settings::from_environment(settings);
    leak(start_bytes);
    println!(
        "leaky leak_bytes={leak_bytes:?} leak_every_ms={leak_every_ms:?} start_bytes={start_bytes} memory_bytes={}",
        memory_bytes(),
    );
    loop {
        sleep(Duration::from_millis(random.within(&leak_every_ms)));
        let bytes = random.within(&leak_bytes);
        leak(bytes);
        println!("leaked_bytes={bytes} memory_bytes={}", memory_bytes());
    }
}
