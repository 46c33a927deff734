//! PURE: what could be reached without knowing the future, if everything else were known: each replica restarted above a
//! size of its own, the best one in hindsight. No policy; it shows how much of the distance to the optimum is the
//! price of not knowing what comes.

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
    fn a_steady_leak_is_restarted_near_the_optimal_size() {
        let price = 1000 << 20;
        let trace = &Workload::SlowLeak.fleet(1, 20_160, 1)[0];
        let (best, found) = (optimum(trace, 20_160, &[price])[0], best_size(trace, 20_160, &[price])[0]);
        assert!(found.cost(price) < best.cost(price) * 103 / 100, "{found:?} {best:?}");
    }
}
