//! PURE: the lifetimes of one slot → what it has cost, and its average.

use std::{cmp::Ordering, iter};

use ebb_units::RestartPrice;
use serde::Serialize;

use crate::history::{DaySums, Slot};

/// One slot's cost inside the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SlotCost<'a> {
    /// Of the lifetimes that were seen whole, their restarts included.
    pub(super) whole: Cost,
    /// How many these are.
    pub(super) lifetimes: u32,
    /// Of the newest lifetime and of one whose beginning is cut off: the memory alone.
    partial: [Cost; 2],
    /// Σ (cost of a whole lifetime − average of the whole ones · its length)².
    pub(super) scatter: f64,
    /// Whether the restart of any of them has paid: its last size, held for all of its time, would have cost more.
    pub(in crate::estimate) paid: bool,
    /// What the whole lifetimes tell of the day.
    pub(in crate::estimate) day: &'a DaySums,
    /// The least size that a start was seen with, in bytes.
    pub(in crate::estimate) fresh_bytes: Option<u64>,
    /// What a restart is worth, in byte-seconds.
    pub(in crate::estimate) price: f64,
    /// Lifetimes that ended because another was started, seen whole or not.
    pub restarts: u32,
    /// Lifetimes that ended because memory fell without a new start.
    pub falls: u32,
}

/// A cost and the time it was incurred in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    byte_seconds: f64,
    pub(super) seconds: f64,
}

/// The population without one of its slots, as that slot is compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Others {
    /// Their average cost, in bytes.
    pub average_bytes: f64,
    /// Time for which it was observed, in seconds.
    pub seconds: f64,
}

impl<'a> SlotCost<'a> {
    /// The cost of what `slot` has seen. None when it was not observed for any time yet.
    pub(crate) fn of(slot: &'a Slot, price: RestartPrice) -> Option<Self> {
        let price = price.byte_seconds();
        let ended = slot.ended();
        let lifetimes = f64::from(ended.lifetimes);
        let seen = |(byte_seconds, seconds)| Cost { byte_seconds, seconds };
        let newest = slot.newest_held().map(|(area, time)| seen((area, time.as_seconds())));
        let whole = seen((ended.area + lifetimes * price, ended.seconds));
        let mut cost = Self {
            whole,
            lifetimes: ended.lifetimes,
            partial: [ended.cut.map(seen), newest].map(Option::unwrap_or_default),
            scatter: 0.0,
            paid: ended.most_spared > price,
            day: &ended.day,
            fresh_bytes: slot.fresh_bytes(),
            price,
            restarts: ended.restarts,
            falls: ended.falls,
        };
        if cost.lifetimes > 1 {
            let average = whole.byte_seconds / whole.seconds;
            // Σ (A + price − average · T)², multiplied out.
            let [areas, products, times] = ended.moments;
            let memory = areas - 2.0 * average * products + average * average * times;
            let restarts = price * (2.0 * (ended.area - average * ended.seconds) + price * lifetimes);
            let squares = memory + restarts;
            // Few lifetimes lie too close to the average that they make.
            cost.scatter = squares.max(0.0) * lifetimes / (lifetimes - 1.0);
        }
        (cost.seconds() > 0.0).then_some(cost)
    }

    /// An order of costs, so that sums over slots do not depend on which slot is which.
    pub(super) fn compare(&self, other: &SlotCost<'_>) -> Ordering {
        let key = |slot: &SlotCost<'_>| {
            let costs = [slot.whole, slot.partial[0], slot.partial[1]];
            costs.map(|cost| [cost.byte_seconds, cost.seconds])
        };
        let keys = key(self).into_iter().flatten().zip(key(other).into_iter().flatten());
        let orders = keys.map(|(a, b)| a.total_cmp(&b));
        let mut differ =
            iter::once(self.scatter.total_cmp(&other.scatter)).chain(orders).filter(|order| order.is_ne());
        differ.next().unwrap_or(Ordering::Equal)
    }

    /// The lifetimes that were seen whole: how many, their cost with their restarts in byte-seconds, and their time in seconds.
    pub(in crate::estimate) const fn whole(&self) -> (u32, f64, f64) {
        (self.lifetimes, self.whole.byte_seconds, self.whole.seconds)
    }

    /// Time observed, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.whole.seconds + self.partial[0].seconds + self.partial[1].seconds
    }

    /// Memory × time, in byte-seconds, without restarts.
    pub(crate) fn memory_byte_seconds(&self) -> f64 {
        let partial = self.partial[0].byte_seconds + self.partial[1].byte_seconds;
        self.whole.byte_seconds - self.price * f64::from(self.lifetimes) + partial
    }

    /// The cost in byte-seconds if the average is `average`.
    pub(super) fn cost_given(&self, average: f64) -> f64 {
        let partial =
            |seen: &Cost| (average * seen.seconds).clamp(seen.byte_seconds, seen.byte_seconds + self.price);
        self.whole.byte_seconds + partial(&self.partial[0]) + partial(&self.partial[1])
    }

    /// The time, in seconds, whose cost tells of the average, if that is `average`: not that of lifetimes that were not
    /// seen whole and agree with it.
    pub(super) fn informative_seconds(&self, average: f64) -> f64 {
        let partial = self.partial.iter().filter(|seen| {
            let cost = average * seen.seconds;
            cost < seen.byte_seconds || cost > seen.byte_seconds + self.price
        });
        self.whole.seconds + partial.map(|seen| seen.seconds).sum::<f64>()
    }

    /// The slot's average cost in bytes, as if it had been observed for `prior.seconds` more at an average of
    /// `prior.average_bytes`. Where several averages agree with what was seen, the highest.
    pub(crate) fn average_bytes(&self, prior: Option<Others>) -> f64 {
        let prior = prior.unwrap_or(Others { average_bytes: 0.0, seconds: 0.0 });
        let seconds = self.seconds() + prior.seconds;
        let excess =
            |average: f64| self.cost_given(average) + prior.average_bytes * prior.seconds - average * seconds;
        // The excess falls with the average, in straight lines between these points.
        let mut bends = [0.0; 4];
        for (pair, seen) in bends.chunks_mut(2).zip(self.partial) {
            if seen.seconds > 0.0 {
                pair[0] = seen.byte_seconds / seen.seconds;
                pair[1] = (seen.byte_seconds + self.price) / seen.seconds;
            }
        }
        bends.sort_by(f64::total_cmp);
        let (mut below, mut excess_below) = (0.0, excess(0.0));
        for bend in bends {
            let excess_here = excess(bend);
            // Rounding must not turn what agrees into what does not.
            if excess_here < -1e-9 * bend * seconds {
                return below
                    + (bend - below) * excess_below.max(0.0) / (excess_below.max(0.0) - excess_here);
            }
            (below, excess_below) = (bend, excess_here);
        }
        below + excess_below.max(0.0) / seconds
    }
}
