//! The experiment's guests in the simulator: the same sizes and pauses, a tick a second.

use ebb_core::decide::budget::BudgetConfig;
use ebb_units::Span;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::arm::{Kind, Protocol};
use crate::{
    simulate::{Faults, Module, Setup, simulate_modules},
    trace::{Demand, Tick, Trace},
};

/// What every guest starts with.
const START_BYTES: i64 = 1_114_112;

/// Memory of the simulated host.
const HOST_BYTES: i64 = 16 << 30;

/// Each arm's cost in the simulator, by its name: mean memory of the fleet plus the price of its restarts over time, in
/// bytes.
///
/// # Panics
/// When a constant of a protocol is not what it must be.
pub(crate) fn costs(protocol: &Protocol, seconds: u64) -> Vec<(String, f64)> {
    let ticks = Tick::try_from(seconds).expect("an experiment of less than a century");
    let fleet = fleet(protocol, ticks);
    let price = protocol.price(1);
    let cost = |arm: &super::arm::Arm| {
        let setup = Setup {
            rule: protocol.rule(arm, HOST_BYTES.unsigned_abs()),
            budget: BudgetConfig {
                restarts_per_minute: 600,
                burst: 20,
                cooldown: Span::secs(2),
                ..BudgetConfig::default()
            },
            interval: Span::secs(1),
            lookback: Span::secs(3600),
            host_bytes: HOST_BYTES,
            faults: Faults::default(),
        };
        let outcome = simulate_modules(&setup, &fleet, ticks).outcome;
        let cost = (outcome.area as f64 + price.byte_seconds() * outcome.restarts as f64) / f64::from(ticks);
        (arm.name.to_owned(), cost)
    };
    protocol.arms.iter().map(cost).collect()
}

fn fleet(protocol: &Protocol, ticks: Tick) -> Vec<Module> {
    let mut stream = 0;
    protocol
        .guests
        .iter()
        .map(|guests| Module {
            name: guests.kind.name(),
            traces: (0..guests.replicas * protocol.runners)
                .map(|replica| {
                    stream += 1;
                    let mut random = ChaCha8Rng::seed_from_u64(7);
                    random.set_stream(stream);
                    trace(guests.kind, replica % guests.replicas, &mut random, ticks)
                })
                .collect(),
        })
        .collect()
}

fn trace(kind: Kind, replica: u32, random: &mut ChaCha8Rng, ticks: Tick) -> Trace {
    let mut demands = Vec::new();
    let base = START_BYTES;
    let bytes = |bytes: u64| i64::try_from(bytes).expect("a size of memory");
    match kind {
        Kind::Leaky { bytes: sizes, pause_ms } => {
            let mut millis = 0;
            loop {
                millis += random.random_range(pause_ms.0..=pause_ms.1);
                let at = Tick::try_from(millis / 1000 + 1).unwrap_or(Tick::MAX);
                if at >= ticks {
                    break;
                }
                demands.push(Demand {
                    at,
                    leak: bytes(random.random_range(sizes.0..=sizes.1)),
                    ..Demand::default()
                });
            }
        }
        Kind::Steady { required_bytes, more_bytes, ramp_ms } => {
            const STEPS: u32 = 20;
            let more = bytes(required_bytes + more_bytes * u64::from(replica)) - base;
            for step in 1..=STEPS {
                let seconds = ramp_ms * u64::from(step) / u64::from(STEPS) / 1000;
                let at = Tick::try_from(seconds).unwrap_or(Tick::MAX).max(1);
                demands.push(Demand { at, leak: more / i64::from(STEPS), ..Demand::default() });
            }
        }
        Kind::Bursty { bytes: size, probability } => {
            for at in 1..ticks {
                // Two steps a tick.
                if random.random_bool(1.0 - (1.0 - probability).powi(2)) {
                    demands.push(Demand { at, need: bytes(size), ..Demand::default() });
                }
            }
        }
    }
    Trace::new(base, demands)
}
