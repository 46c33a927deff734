//! PURE: the lifetimes of one slot → what it has cost, and its average.

use ebb_units::RestartPrice;
use serde::Serialize;

use super::day_sums::DaySums;
use crate::history::{End, Lifetime, Slot, day};

/// One slot's cost inside the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SlotCost {
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
    pub(in crate::estimate) day: DaySums,
    /// The least size that a start was seen with, in bytes.
    pub(in crate::estimate) fresh_bytes: Option<u64>,
    /// What a restart is worth, in byte-seconds.
    price: f64,
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

impl SlotCost {
    /// The cost of what `slot` has seen. None when it was not observed for any time yet.
    pub(crate) fn of(slot: &Slot, price: RestartPrice) -> Option<Self> {
        let mut cost = Self { price: price.byte_seconds(), ..Self::default() };
        // Σ cost², Σ cost · seconds and Σ seconds² of the lifetimes seen whole.
        let mut moments = [0.0; 3];
        let mut before: Option<&Lifetime> = None;
        for lifetime in slot.lifetimes() {
            cost.fresh_bytes = cost.fresh_bytes.into_iter().chain(lifetime.start_bytes()).min();
            let (mut area, mut time) = lifetime.area();
            let mut weighted = lifetime.weighted();
            let is_oldest = before.is_none();
            if let Some(before) = before.replace(lifetime)
                && !lifetime.seen_from_start()
            {
                // The window cut nothing off: its first samples were missed.
                let (missed, missed_time) = lifetime.area_before(before.last_at());
                area += missed;
                time += missed_time;
                weighted = day::weighted(lifetime.last_at().minus(time), lifetime.last_at());
            }
            let seen = Cost { byte_seconds: byte_seconds(area), seconds: time.as_seconds() };
            if lifetime.end().is_none() {
                cost.partial[1] = seen;
                continue;
            }
            if lifetime.end() == Some(End::Discontinued) {
                cost.falls += 1;
            } else {
                cost.restarts += 1;
            }
            if is_oldest && !lifetime.seen_from_start() {
                cost.partial[0] = seen;
                continue;
            }
            let whole = seen.byte_seconds + cost.price;
            cost.lifetimes += 1;
            cost.whole.byte_seconds += whole;
            cost.whole.seconds += seen.seconds;
            cost.paid |= lifetime.bytes() as f64 * seen.seconds > whole;
            cost.day.add(whole, time, lifetime.last_at(), weighted);
            moments[0] += whole * whole;
            moments[1] += whole * seen.seconds;
            moments[2] += seen.seconds * seen.seconds;
        }
        if cost.lifetimes > 1 {
            let average = cost.whole.byte_seconds / cost.whole.seconds;
            let squares = moments[0] - 2.0 * average * moments[1] + average * average * moments[2];
            // Few lifetimes lie too close to the average that they make.
            let lifetimes = f64::from(cost.lifetimes);
            cost.scatter = squares.max(0.0) * lifetimes / (lifetimes - 1.0);
        }
        (cost.seconds() > 0.0).then_some(cost)
    }

    /// An order of costs, so that sums over slots do not depend on which slot is which.
    pub(super) fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let key = |slot: &Self| {
            let costs = [slot.whole, slot.partial[0], slot.partial[1]];
            costs.map(|cost| [cost.byte_seconds, cost.seconds])
        };
        let keys = key(self).into_iter().flatten().zip(key(other).into_iter().flatten());
        keys.map(|(a, b)| a.total_cmp(&b))
            .fold(self.scatter.total_cmp(&other.scatter), std::cmp::Ordering::then)
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

fn byte_seconds(byte_millis: u128) -> f64 {
    byte_millis as f64 / 1000.0
}
