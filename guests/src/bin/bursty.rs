//! Needs little memory, rarely a lot for a moment, then little again.
//!
//! It frees every burst, yet its linear memory stays as large as the largest burst made it: memory that
//! only a restart gives back. Later bursts of one life reuse it.
//!
//! Settings: see `guests/README.md`.

use ebb_guests::memory::{filled, leak, memory_bytes};
use ebb_guests::random::SplitMix64;
use ebb_guests::settings::{self, InvalidSetting, Settings};
use std::thread::sleep;
use std::time::Duration;

struct Bursty {
    random: SplitMix64,
    base_bytes: u64,
    burst_bytes: u64,
    burst_probability: f64,
    step: Duration,
}

fn settings(env: &Settings<'_>) -> Result<Bursty, InvalidSetting> {
    Ok(Bursty {
        random: env.random()?,
        base_bytes: env.bytes("BASE_BYTES", 1024 * 1024)?,
        burst_bytes: env.bytes("BURST_BYTES", 32 * 1024 * 1024)?,
        burst_probability: env.probability("BURST_PROBABILITY", 0.01)?,
        step: Duration::from_millis(env.milliseconds("STEP_MS", 1_000)?),
    })
}

fn main() {
    let Bursty { mut random, base_bytes, burst_bytes, burst_probability, step } =
        settings::from_environment(settings);
    leak(base_bytes);
    println!(
        "bursty base_bytes={base_bytes} burst_bytes={burst_bytes} \
         burst_probability={burst_probability} step_ms={} memory_bytes={}",
        step.as_millis(),
        memory_bytes(),
    );
    loop {
        sleep(step);
        if random.chance(burst_probability) {
            drop(filled(burst_bytes));
            println!("burst_bytes={burst_bytes} memory_bytes={}", memory_bytes());
        }
    }
}
