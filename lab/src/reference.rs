//! PURE: what fixed sizes reach, with each replica restarted above its own: the best ones in hindsight, which are fitted to
//! chance, too; and the best ones on a long run of the same replica, which is what a policy could reach that knows how the
//! replica grows, but not what comes.

use crate::{
    optimum::Outcome,
    trace::{Instance, Tick, Trace},
};

/// For each of `prices`, the cheapest of a ladder of sizes for this replica.
pub(crate) fn best_size(trace: &Trace, ticks: Tick, prices: &[i64]) -> Vec<Outcome> {
    const STEPS: usize = 60;
    // From a little above what an instance starts with, in steps of 1/12, to some 120 times that.
    let sizes =
        std::iter::successors(Some(trace.base + trace.base / 24), |size| Some(size + size / 12)).take(STEPS);
    let outcomes: Vec<Outcome> =
        sizes.map(|size| replay(trace, ticks, size)).chain([replay(trace, ticks, i64::MAX)]).collect();
    let cheapest = |price: &i64| {
        *outcomes.iter().min_by_key(|outcome| outcome.cost(*price)).expect("the ladder has steps")
    };
    prices.iter().map(cheapest).collect()
}

/// By the hour of the day, the size above which a replica is restarted.
pub(crate) type Sizes = [i64; 24];

/// The sizes that cost least on `trace`, a long run of a replica: what there is to know of how it grows. They are the same at all
/// hours; with `by_hour`, larger and smaller ones are tried from there, at ever shorter times of the day.
pub(crate) fn known_sizes(trace: &Trace, ticks: Tick, price: i64, by_hour: bool) -> Sizes {
    let least_size = trace.base + trace.base / 24;
    let ladder = std::iter::successors(Some(least_size), |size| Some(size + size / 12)).take(80);
    let always = ladder.chain([i64::MAX / 4]).min_by_key(|size| replay(trace, ticks, *size).cost(price));
    let mut best = [always.expect("the ladder has steps"); 24];
    if !by_hour {
        return best;
    }
    let cost = |sizes: &Sizes| replay_by_hour(trace, ticks, sizes).cost(price);
    let mut least = cost(&best);
    for hours in [12, 6, 6, 3, 3, 1, 1] {
        for first in (0..24).step_by(hours) {
            for factor in [0.5, 0.8, 0.9, 1.1, 1.25, 2.0] {
                let mut sizes = best;
                for size in &mut sizes[first..first + hours] {
                    let above = (*size - trace.base) as f64 * factor;
                    *size = (trace.base + above as i64).max(least_size);
                }
                let found = cost(&sizes);
                if found < least {
                    (best, least) = (sizes, found);
                }
            }
        }
    }
    best
}

/// Restart as soon as memory is above the size of that hour.
pub(crate) fn replay_by_hour(trace: &Trace, ticks: Tick, sizes: &Sizes) -> Outcome {
    let mut instance = Instance::new(trace);
    let mut outcome = Outcome::default();
    let mut demands = trace.demands().iter().peekable();
    for at in 1..ticks {
        if let Some(demand) = demands.next_if(|demand| demand.at == at) {
            instance.meet(demand);
        }
        outcome.area += instance.bytes;
        if instance.bytes > sizes[(at / 60 % 24) as usize] {
            instance = Instance::new(trace);
            outcome.restarts += 1;
        }
    }
    outcome
}

/// Restart as soon as memory is above `size`.
pub(crate) fn replay(trace: &Trace, ticks: Tick, size: i64) -> Outcome {
    let mut instance = Instance::new(trace);
    let mut outcome = Outcome::default();
    let mut at = 0;
    for demand in trace.demands() {
        outcome.area += instance.bytes * i64::from(demand.at - 1 - at);
        instance.meet(demand);
        outcome.area += instance.bytes;
        at = demand.at;
        if instance.bytes > size {
            instance = Instance::new(trace);
            outcome.restarts += 1;
        }
    }
    outcome.area += instance.bytes * i64::from(ticks - 1 - at);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{optimum::optimum, workload::Workload};

    #[test]
    fn a_size_chosen_in_hindsight_is_never_better_than_the_optimum() {
        let prices = [100 << 20, 1000 << 20, 10_000 << 20];
        for trace in Workload::Mixture.fleet(8, 5000, 1) {
            let (best, found) = (optimum(&trace, 5000, &prices), best_size(&trace, 5000, &prices));
            for ((best, found), price) in best.iter().zip(&found).zip(prices) {
                assert!(best.cost(price) <= found.cost(price), "{best:?} {found:?}");
            }
        }
    }

    #[test]
    fn the_same_size_at_all_hours_is_that_size() {
        let trace = &Workload::Mixture.fleet(1, 5000, 1)[0];
        for size in [3 << 20, 5 << 20, i64::MAX] {
            assert_eq!(replay_by_hour(trace, 5000, &[size; 24]), replay(trace, 5000, size));
        }
    }

    #[test]
    fn sizes_by_the_hour_save_where_growth_has_a_day() {
        let (price, ticks) = (10_240 << 20, 30 * 1440);
        let trace = &Workload::Office.fleet(1, ticks, 1)[0];
        let cost = |by_hour| {
            let sizes = known_sizes(trace, ticks, price, by_hour);
            replay_by_hour(trace, ticks, &sizes).cost(price)
        };
        assert!(cost(true) * 100 < cost(false) * 90, "{} {}", cost(true), cost(false));
    }

    #[test]
    fn a_steady_leak_is_restarted_near_the_optimal_size() {
        let price = 1000 << 20;
        let trace = &Workload::SlowLeak.fleet(1, 20_160, 1)[0];
        let (best, found) = (optimum(trace, 20_160, &[price])[0], best_size(trace, 20_160, &[price])[0]);
        assert!(found.cost(price) < best.cost(price) * 103 / 100, "{found:?} {best:?}");
    }
}
