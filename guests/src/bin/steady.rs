//! Grows to the memory it needs and then keeps it: the app whose true need is known.
//!
//! Settings: see `guests/README.md`.

use ebb_guests::memory::{grow_to, memory_bytes};
use ebb_guests::settings::{self, InvalidSetting, Settings};
use std::thread::sleep;
use std::time::Duration;

/// Steps of the ramp: enough to look like growth at any scrape interval, few enough to log.
const RAMP_STEPS: u64 = 20;

struct Steady {
    required_bytes: u64,
    ramp_ms: u64,
}

fn settings(env: &Settings<'_>) -> Result<Steady, InvalidSetting> {
    let required_bytes = env.bytes_from("REQUIRED_BYTES", memory_bytes(), 16 * 1024 * 1024)?;
    let more_bytes = env.bytes("MORE_BYTES_PER_REPLICA", 0)?.saturating_mul(u64::from(env.replica()?));
    Ok(Steady {
        required_bytes: required_bytes.saturating_add(more_bytes),
        ramp_ms: env.milliseconds("RAMP_MS", 0)?,
    })
}

fn main() {
    let Steady { required_bytes, ramp_ms } = settings::from_environment(settings);
    let start_bytes = memory_bytes();
    println!("steady required_bytes={required_bytes} ramp_ms={ramp_ms} memory_bytes={start_bytes}");
    let steps = if ramp_ms == 0 { 1 } else { RAMP_STEPS };
    for step in 1..=steps {
        sleep(Duration::from_millis(ramp_ms / steps));
        grow_to(start_bytes + (required_bytes - start_bytes) * step / steps);
        println!("ramp_step={step}/{steps} memory_bytes={}", memory_bytes());
    }
    loop {
        sleep(Duration::from_secs(3_600));
    }
}
