//! A leak of which the lookback sees next to nothing, over months: does the shipped rule find it?

use ebb_core::policy::Pooling;
use serde::{Deserialize, Serialize};

use crate::{
    contender::renewal,
    optimum::{Outcome, optimum},
    simulate::simulate,
    study::{MINUTES_PER_DAY, setup},
    workload::Workload,
};

/// What the shipped rule did with a fleet on [`Workload::Trickle`].
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Trickle {
    /// Replicas of the module.
    pub replicas: u32,
    /// Simulated days.
    pub days: u32,
    /// Restarts of the fleet.
    pub restarts: i64,
    /// Its cost, over that of an optimum which knows the future.
    pub over_least: f64,
    /// The cost of no restarts, over that of the optimum.
    pub never_over_least: f64,
}

impl Trickle {
    /// Runs the shipped rule.
    pub(crate) fn of(replicas: u32, days: u32) -> Self {
        // The shipped price: 1 GiB for 10 minutes.
        const PRICE_MIB_MINUTES: u64 = 10_240;
        let price = i64::try_from(PRICE_MIB_MINUTES << 20).expect("the price is below 2^63 byte-minutes");
        let ticks = days * MINUTES_PER_DAY;
        let traces = Workload::Trickle.fleet(replicas, ticks, 0);
        let found = simulate(&setup(renewal(Pooling::Adaptive, PRICE_MIB_MINUTES)), &traces, ticks).outcome;
        let mut least = 0;
        let mut never = 0;
        for trace in &traces {
            let outcomes: Vec<Outcome> = optimum(trace, ticks, &[price, i64::MAX / 4]);
            least += outcomes[0].cost(price);
            never += outcomes[1].area;
        }
        Self {
            replicas,
            days,
            restarts: found.restarts,
            over_least: found.cost(price) as f64 / least as f64,
            never_over_least: never as f64 / least as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_that_the_lookback_does_not_see_costs_what_it_must() {
        for (replicas, days) in [(1, 60), (12, 60), (1, 120), (12, 120)] {
            let found = Trickle::of(replicas, days);
            assert!((1.0..=1.02).contains(&found.over_least), "{found:?}");
            assert!(found.never_over_least > 2.0, "{found:?}");
        }
    }
}
