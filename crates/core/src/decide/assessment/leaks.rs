//! No leak, however slow, escapes: what a policy does with instances that leak steadily and for ever.

use std::sync::Arc;

use ebb_units::{ByteCount, Elapsed, Span};
use proptest::prelude::*;

use super::*;
use crate::{
    history::{Sample, Window},
    policy::{GuardRails, IntervalKind, Policy, Pooling, Renewal, TInterval},
};

const KIB: u64 = 1024;
/// When the fleet begins to be seen.
const BEGIN: i64 = 1_700_000_000_000;

/// A module of which every instance starts with 1 MiB and leaks at a steady rate.
#[derive(Clone, Copy, Debug)]
struct Leak {
    bytes_per_second: f64,
    /// By how much more each replica leaks than the one before it.
    steeper: f64,
    replicas: u32,
    lookback: Elapsed,
    /// Time between two samples, and between two ticks.
    tick: Elapsed,
}

impl Leak {
    /// Ages in milliseconds at which `policy` restarts instances, in `ticks` ticks.
    fn restarts(self, policy: Policy, ticks: i64) -> Vec<i64> {
        let guard_rails = GuardRails {
            min_age: Span::secs(0),
            min_lifetimes: 2,
            max_bytes: None,
            min_reclaim: ByteCount(1),
        };
        let rule = Rule { policy, guard_rails };
        let mut history = History::default();
        let mut started = vec![BEGIN; self.replicas as usize];
        let mut ages = Vec::new();
        for tick in 1..=ticks {
            let now = Millis(BEGIN).plus(tick * self.tick);
            let window = Window::ending_at(now, self.lookback);
            for (replica, started) in (0..).zip(&started) {
                let sample = Sample {
                    at: now,
                    generation: Generation(started.unsigned_abs()),
                    bytes: self.bytes_at(replica, Elapsed(now.0 - started)),
                };
                history.observe(&slot(replica).into(), window, [sample]);
            }
            history.forget_before(window);
            let eligibility = |_: &SlotId, _| Eligibility::Eligible;
            let assessment =
                Assessment::new(&history, |_| &rule, &Hosts::default(), eligibility, now, self.tick);
            for wish in assessment.candidates() {
                let started = &mut started[wish.slot.replica as usize];
                ages.push(now.0 - *started);
                // The new one starts just behind the sample of the old one.
                *started = now.0 + 1;
            }
        }
        ages
    }

    fn bytes_at(self, replica: u32, age: Elapsed) -> u64 {
        let rate = self.bytes_per_second * (1.0 + self.steeper * f64::from(replica));
        1024 * KIB + (rate * age.as_seconds()) as u64
    }
}

fn slot(replica: u32) -> SlotId {
    let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
    SlotId { population, runner: "r:1".into(), replica }
}

fn renewal(pooling: Pooling) -> Policy {
    Policy::Renewal(Renewal { restart_price: "1MiB*1h".parse().unwrap(), pooling, ..Renewal::default() })
}

/// The best lifetime of an instance that leaks at this rate, in milliseconds: sqrt(2 · price / rate).
fn best_millis(bytes_per_second: f64) -> f64 {
    1000.0 * (2.0 * 3600.0 * 1_048_576.0 / bytes_per_second).sqrt()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// From leaks that the window sees hundreds of restarts of to those of which it sees nothing at all.
    #[test]
    fn renewal_restarts_every_steady_leak_near_its_best_lifetime(
        log_rate in -4.0..12.0_f64, replicas in 1..8_u32, lookback_per_best in 0.01..20.0_f64, pooling in prop::bool::ANY,
    ) {
        let bytes_per_second = log_rate.exp();
        let best = best_millis(bytes_per_second);
        let time = |of_best: f64| Elapsed((best * of_best) as i64);
        let leak = Leak {
            bytes_per_second,
            steeper: 0.0,
            replicas,
            lookback: time(lookback_per_best),
            tick: time(0.005),
        };
        let pooling = if pooling { Pooling::Adaptive } else { Pooling::Off };
        let ages = leak.restarts(renewal(pooling), 1000);
        // 5 best lifetimes have passed.
        prop_assert!(ages.len() >= 4 * replicas as usize, "{} restarts: {ages:?}", ages.len());
        for age in ages {
            let of_best = age as f64 / best;
            prop_assert!((0.9..1.1).contains(&of_best), "restarted after {of_best} of the best lifetime");
        }
    }
}

/// Said as it is: `t_interval` knows no price, and takes a leak that all share for what instances need. Where they leak
/// alike, whatever has grown since mid-life is too large; where they do not, the bound runs ahead of all of them.
#[test]
fn t_interval_restarts_a_leak_that_all_share_at_once_or_never() {
    let restarts = |interval, steeper| {
        let (confidence_level, coverage) = (0.99.try_into().unwrap(), 0.99.try_into().unwrap());
        let policy =
            Policy::TInterval(TInterval { interval, confidence_level, coverage, ..TInterval::default() });
        let (lookback, tick) = (Elapsed::secs(3600), Elapsed::secs(10));
        Leak { bytes_per_second: 1000.0, steeper, replicas: 8, lookback, tick }.restarts(policy, 1000)
    };
    for interval in [IntervalKind::Confidence, IntervalKind::Prediction, IntervalKind::Tolerance] {
        let ages = restarts(interval, 0.0);
        assert_eq!((ages.len(), ages.iter().max()), (8 * 500, Some(&20_000)), "{interval:?}");
    }
    // One leaks eight times as fast as another: the best lifetime of neither is ever reached by a tolerance interval.
    assert!(restarts(IntervalKind::Tolerance, 1.0).is_empty());
}
