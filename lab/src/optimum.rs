//! PURE: the best that anyone could do who knew the future: for each price of a restart, the restart times that cost
//! least, as a shortest path.
//!
//! **Candidates.** Restarting right after a demand is at least as good as later, up to the next one: memory falls
//! earlier and nothing else changes. So the nodes of the path are the start and every demand, and an edge from
//! demand i to demand j is a lifetime that begins with a restart at i's tick and ends with one at j's.
//!
//! **Cost of an edge in constant time.** The memory of an instance started after i is base + max(P) − L(i), where L is
//! all that was leaked until then and P = L + need at each demand since. The sum over time of such a running maximum
//! follows the chain of next greater values, whose suffix sums are computed once; the chain's last element before j is
//! a range maximum.
//!
//! **Shortest path in n·log n.** An older instance holds at least as much as a younger one at any time, so edge costs
//! satisfy the quadrangle inequality: once a later predecessor is the better one, it stays so. A queue of predecessors
//! with the nodes from which they are best suffices.
//!
//! Source: Galil & Park, *Dynamic Programming with Convexity, Concavity and Sparsity* (1992).

use std::collections::VecDeque;

use crate::trace::{Tick, Trace};

/// Memory × time and restarts of one way to run a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Σ memory at each tick, in byte-ticks.
    pub area: i64,
    /// Number of restarts.
    pub restarts: i64,
}

impl Outcome {
    /// The cost at a price of a restart, in byte-ticks.
    pub(crate) const fn cost(&self, price: i64) -> i64 {
        self.area + price * self.restarts
    }
}

/// The cheapest way to run the replica for `ticks`, for each of `prices` in byte-ticks.
pub(crate) fn optimum(trace: &Trace, ticks: Tick, prices: &[i64]) -> Vec<Outcome> {
    let lifetimes = Lifetimes::new(trace, ticks);
    prices.iter().map(|price| lifetimes.cheapest(*price)).collect()
}

/// Edge costs of one trace. Node 0 is the start, node i the i-th demand.
struct Lifetimes {
    base: i64,
    ticks: i64,
    /// Tick of each node.
    at: Vec<i64>,
    /// Leaked up to and including each node.
    leaked: Vec<i64>,
    /// Leaked and needed at each node.
    peak: Vec<i64>,
    /// Σ over ticks from each node to the end of the running maximum of `peak` that starts there.
    suffix: Vec<i64>,
    /// `maxima[k][i]`: node with the greatest peak among the 2^k from i on; the first of equals.
    maxima: Vec<Vec<usize>>,
}

impl Lifetimes {
    fn new(trace: &Trace, ticks: Tick) -> Self {
        let demands = trace.demands();
        let (mut at, mut leaked, mut peak) = (vec![0], vec![0], vec![i64::MIN]);
        for demand in demands {
            let sum = leaked[leaked.len() - 1] + demand.leak;
            at.push(i64::from(demand.at));
            leaked.push(sum);
            peak.push(sum + demand.need);
        }
        let ticks = i64::from(ticks);
        let nodes = at.len();
        let mut suffix = vec![0; nodes];
        let mut greater: Vec<usize> = Vec::new();
        for node in (1..nodes).rev() {
            while greater.last().is_some_and(|next| peak[*next] <= peak[node]) {
                greater.pop();
            }
            let (until, rest) = greater.last().map_or((ticks, 0), |next| (at[*next], suffix[*next]));
            suffix[node] = peak[node] * (until - at[node]) + rest;
            greater.push(node);
        }
        let mut maxima = vec![(0..nodes).collect::<Vec<_>>()];
        let mut width = 1;
        while 2 * width <= nodes {
            let half = &maxima[maxima.len() - 1];
            let row = (0..=nodes - 2 * width).map(|i| greater_of(&peak, half[i], half[i + width])).collect();
            maxima.push(row);
            width *= 2;
        }
        Self { base: trace.base, ticks, at, leaked, peak, suffix, maxima }
    }

    /// Memory × time of an instance that started at node `from`'s tick, after it, over the ticks up to `until`, the last
    /// demand until then being `last`.
    fn area(&self, from: usize, last: usize, until: i64) -> i64 {
        let base = self.base * (until - self.at[from]);
        if from == last {
            return base;
        }
        let first = from + 1;
        let greatest = self.greatest(first, last);
        let maximum = self.suffix[first] - self.suffix[greatest]
            + self.peak[greatest] * (until + 1 - self.at[greatest]);
        base + maximum - self.leaked[from] * (until + 1 - self.at[first])
    }

    /// The node with the greatest peak among `first..=last`.
    fn greatest(&self, first: usize, last: usize) -> usize {
        let level = (last - first + 1).ilog2() as usize;
        let row = &self.maxima[level];
        greater_of(&self.peak, row[first], row[last + 1 - (1 << level)])
    }

    fn cheapest(&self, price: i64) -> Outcome {
        let nodes = self.at.len();
        let mut cost = vec![0; nodes];
        let mut restarts = vec![0; nodes];
        // Predecessors, each with the first node from which it is the best of those before.
        let mut best: VecDeque<(usize, usize)> = [(0, 1)].into();
        for node in 1..nodes {
            while best.get(1).is_some_and(|(_, from)| *from <= node) {
                best.pop_front();
            }
            let (previous, _) = best[0];
            cost[node] = cost[previous] + self.area(previous, node, self.at[node]) + price;
            restarts[node] = restarts[previous] + 1;
            let cost_via = |previous: usize, to: usize| cost[previous] + self.area(previous, to, self.at[to]);
            let beats = |other: usize, to: usize| cost_via(node, to) <= cost_via(other, to);
            let mut from = node + 1;
            while let Some(&(other, others_from)) = best.back() {
                let begins = others_from.max(node + 1);
                if begins >= nodes {
                    from = nodes;
                    break;
                }
                if beats(other, begins) {
                    best.pop_back();
                    from = begins;
                    continue;
                }
                from = begins + 1 + partition_point(nodes - begins - 1, |n| !beats(other, begins + 1 + n));
                break;
            }
            if from < nodes {
                best.push_back((node, from));
            }
        }
        let end = self.ticks - 1;
        let total = |node: usize| cost[node] + self.area(node, nodes - 1, end);
        let last = (0..nodes).min_by_key(|node| total(*node)).unwrap_or(0);
        Outcome { area: total(last) - price * restarts[last], restarts: restarts[last] }
    }
}

fn greater_of(peak: &[i64], first: usize, second: usize) -> usize {
    if peak[second] > peak[first] { second } else { first }
}

/// The first of `0..count` for which `holds` does not hold, given that it then never holds again.
fn partition_point(count: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = usize::midpoint(low, high);
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::{Demand, Instance};

    /// The cheapest cost over restarts after any tick whatever, by trying all of them.
    fn brute_force(trace: &Trace, ticks: Tick, price: i64) -> i64 {
        let ticks = ticks as usize;
        // cost[t]: cheapest way to the moment after tick t with a restart there; the start is a restart at tick 0.
        let mut cost = vec![i64::MAX; ticks];
        cost[0] = 0;
        let mut cheapest = i64::MAX;
        for from in 0..ticks {
            let mut instance = Instance::new(trace);
            let mut area = 0;
            for to in from + 1..ticks {
                for demand in trace.demands().iter().filter(|demand| demand.at as usize == to) {
                    instance.meet(demand);
                }
                area += instance.bytes;
                cost[to] = cost[to].min(cost[from] + area + price);
            }
            cheapest = cheapest.min(cost[from] + area);
        }
        cheapest
    }

    fn traces() -> impl Strategy<Value = Trace> {
        let demand = (1..60_u32, 0..50_i64, 0..200_i64).prop_map(|(at, leak, need)| Demand {
            at,
            leak,
            need,
            work: 0.0,
        });
        (0..100_i64, prop::collection::vec(demand, 0..40))
            .prop_map(|(base, demands)| Trace::new(base, demands))
    }

    proptest! {
        #[test]
        fn no_other_restart_times_are_cheaper(trace in traces(), price in 1..5000_i64) {
            let found = optimum(&trace, 60, &[price])[0];
            prop_assert_eq!(found.cost(price), brute_force(&trace, 60, price));
        }

        #[test]
        fn a_higher_price_never_means_more_restarts(trace in traces(), price in 1..5000_i64, more in 0..5000_i64) {
            let found = optimum(&trace, 60, &[price, price + more]);
            prop_assert!(found[0].restarts >= found[1].restarts, "{found:?}");
            prop_assert!(found[0].area <= found[1].area, "{found:?}");
        }
    }

    #[test]
    fn a_steady_leak_is_restarted_at_equal_intervals() {
        let demands = (1..1000).map(|at| Demand { at, leak: 10, ..Demand::default() }).collect();
        // A lifetime of T ticks costs 10·T²/2 and a restart: T = sqrt(2 · price / 10) = 100.
        let found = optimum(&Trace::new(0, demands), 1000, &[50_000])[0];
        assert_eq!(found.restarts, 9);
    }

    #[test]
    fn who_is_asked_for_nothing_is_never_restarted() {
        let found = optimum(&Trace::new(100, Vec::new()), 1000, &[1])[0];
        assert_eq!(found, Outcome { area: 99_900, restarts: 0 });
    }
}
