//! PURE: what instances have cost: the memory that they held over time, and what their restarts are worth.
//!
//! A restart is worth [`RestartPrice`], so memory and restarts add up to one figure in byte-seconds, and that
//! figure over the time observed is an average in bytes: what it costs to keep a slot running.
//!
//! **Lifetimes that were not seen whole.** The newest one still runs, and of the oldest one the window may have cut off
//! the beginning. Such a lifetime has cost its memory and some share of the price of a restart; which share is not
//! known, so it counts as the average itself as far as that is possible: at least its memory, at most its memory and
//! the whole price. So an average neither jumps when a restart is done nor when one leaves the window.
//!
//! Of a lifetime between others, only samples can have been missed: its start is known, and until its first sample it
//! counts with the size of that.

use ebb_units::RestartPrice;
use serde::Serialize;

use crate::history::{End, Lifetime, Slot};

/// One slot's cost inside the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SlotCost {
    /// Of the lifetimes that were seen whole, their restarts included.
    whole: Cost,
    /// How many these are.
    lifetimes: u32,
    /// Of the newest lifetime and of one whose beginning is cut off: the memory alone.
    partial: [Cost; 2],
    /// Σ (cost of a whole lifetime − average of the whole ones · its length)².
    scatter: f64,
    /// What a restart is worth, in byte-seconds.
    price: f64,
    /// Lifetimes that ended because another was started, seen whole or not.
    pub restarts: u32,
    /// Lifetimes that ended because memory fell without a new start.
    pub falls: u32,
}

/// A cost and the time it was incurred in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cost {
    byte_seconds: f64,
    seconds: f64,
}

/// The cost of all slots of a population.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PopulationCost {
    slots: usize,
    /// Σ time, in seconds.
    seconds: f64,
    /// The average cost, in bytes.
    average_bytes: f64,
    /// See [`PopulationCost::weight_seconds`].
    weight_seconds: Option<f64>,
}

/// The population without one of its slots, as that slot is compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Others {
    /// Their average cost, in bytes.
    pub average_bytes: f64,
    /// Time for which it was observed, in seconds.
    pub seconds: f64,
}

/// What the threshold of one slot rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CostBasis {
    /// Time for which the slot was observed, in seconds.
    pub observed_seconds: f64,
    /// Its average memory, in bytes.
    pub average_memory_bytes: f64,
    /// Of the life of the instance that lives there now, the seconds before it was first seen: they do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub unseen_seconds: f64,
    /// Its restarts in that time.
    pub restarts: u64,
    /// How often its memory fell without a restart in that time.
    #[serde(skip_serializing_if = "is_none")]
    pub falls: u64,
    /// Average cost of the population's other slots, in bytes.
    pub others_average_bytes: Option<f64>,
    /// For how many seconds of the slot's own time that average counts.
    pub others_weight_seconds: f64,
}

const fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

const fn is_none(count: &u64) -> bool {
    *count == 0
}

impl SlotCost {
    /// The cost of what `slot` has seen. None when it was not observed for any time yet.
    #[must_use]
    pub fn of(slot: &Slot, price: RestartPrice) -> Option<Self> {
        let mut cost = Self { price: price.byte_seconds(), ..Self::default() };
        // Σ cost², Σ cost · seconds and Σ seconds² of the lifetimes seen whole.
        let mut moments = [0.0; 3];
        let mut before: Option<&Lifetime> = None;
        for lifetime in slot.lifetimes() {
            let (mut area, mut millis) = lifetime.area();
            let is_oldest = before.is_none();
            if let Some(before) = before.replace(lifetime)
                && !lifetime.seen_from_start()
            {
                // The window cut nothing off: its first samples were missed.
                let (missed, missed_millis) = lifetime.area_before(before.last_at());
                area += missed;
                millis += missed_millis;
            }
            let seen = Cost { byte_seconds: byte_seconds(area), seconds: seconds(millis) };
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
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        let key = |slot: &Self| {
            let costs = [slot.whole, slot.partial[0], slot.partial[1]];
            costs.map(|cost| [cost.byte_seconds, cost.seconds])
        };
        let keys = key(self).into_iter().flatten().zip(key(other).into_iter().flatten());
        keys.map(|(a, b)| a.total_cmp(&b))
            .fold(self.scatter.total_cmp(&other.scatter), std::cmp::Ordering::then)
    }

    /// Time observed, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.whole.seconds + self.partial[0].seconds + self.partial[1].seconds
    }

    /// Memory × time, in byte-seconds, without restarts.
    #[must_use]
    pub fn memory_byte_seconds(&self) -> f64 {
        let partial = self.partial[0].byte_seconds + self.partial[1].byte_seconds;
        self.whole.byte_seconds - self.price * f64::from(self.lifetimes) + partial
    }

    /// The cost in byte-seconds if the average is `average`.
    fn cost_given(&self, average: f64) -> f64 {
        let partial =
            |seen: &Cost| (average * seen.seconds).clamp(seen.byte_seconds, seen.byte_seconds + self.price);
        self.whole.byte_seconds + partial(&self.partial[0]) + partial(&self.partial[1])
    }

    /// The time, in seconds, whose cost tells of the average, if that is `average`: not that of lifetimes that were not
    /// seen whole and agree with it.
    fn informative_seconds(&self, average: f64) -> f64 {
        let partial = self.partial.iter().filter(|seen| {
            let cost = average * seen.seconds;
            cost < seen.byte_seconds || cost > seen.byte_seconds + self.price
        });
        self.whole.seconds + partial.map(|seen| seen.seconds).sum::<f64>()
    }

    /// The slot's average cost in bytes, as if it had been observed for `prior.seconds` more at an average of
    /// `prior.average_bytes`. Where several averages agree with what was seen, the highest.
    #[must_use]
    pub fn average_bytes(&self, prior: Option<Others>) -> f64 {
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

impl PopulationCost {
    /// The cost of all `slots`, in any order.
    #[must_use]
    pub fn of(slots: impl IntoIterator<Item = SlotCost>) -> Option<Self> {
        let mut slots: Vec<_> = slots.into_iter().collect();
        // Sums of floating-point numbers depend on the order of these in their last digits.
        slots.sort_unstable_by(SlotCost::compare);
        let slots = &slots[..];
        let seconds = sum(slots, SlotCost::seconds);
        if seconds <= 0.0 {
            return None;
        }
        let average_bytes = highest_average(slots, seconds);
        let population = Self { slots: slots.len(), seconds, average_bytes, weight_seconds: None };
        Some(Self { weight_seconds: population.shrinkage_weight(slots), ..population })
    }

    /// Average cost of the whole population, in bytes.
    #[must_use]
    pub const fn average_bytes(&self) -> f64 {
        self.average_bytes
    }

    /// The population without `own`. None when nobody else is in it.
    #[must_use]
    pub fn without(&self, own: &SlotCost) -> Option<Others> {
        let seconds = self.seconds - own.seconds();
        let cost = self.average_bytes * self.seconds - own.cost_given(self.average_bytes);
        (self.slots > 1 && seconds > 0.0).then(|| Others { average_bytes: cost.max(0.0) / seconds, seconds })
    }

    /// For how many seconds of a slot's own experience the others' average stands: the ratio of the variance
    /// within slots to the variance between them. None when the slots do not differ more than chance has it, and while too
    /// few have a past to tell: then nothing speaks against taking them for equal.
    ///
    /// Source: Efron & Morris, *Data Analysis Using Stein's Estimator and Its Generalizations* (1975), with the
    /// moment estimator of the variance between groups by DerSimonian & Laird (1986).
    #[must_use]
    pub const fn weight_seconds(&self) -> Option<f64> {
        self.weight_seconds
    }

    fn shrinkage_weight(&self, slots: &[SlotCost]) -> Option<f64> {
        let repeated = |slot: &SlotCost| slot.lifetimes > 1;
        let within_seconds = sum(slots, |slot| if repeated(slot) { slot.whole.seconds } else { 0.0 });
        if within_seconds <= 0.0 {
            return None;
        }
        let within = sum(slots, |slot| slot.scatter) / within_seconds;
        let telling = |slot: &SlotCost| slot.informative_seconds(self.average_bytes);
        let seconds = sum(slots, telling);
        let squares = sum(slots, |slot| telling(slot).powi(2));
        let groups = sum(slots, |slot| if telling(slot) > 0.0 { 1.0 } else { 0.0 });
        // One slot with a past says nothing of how slots differ.
        if groups < 2.0 {
            return None;
        }
        let observed = sum(slots, |slot| {
            let own = telling(slot);
            let excess = slot.cost_given(self.average_bytes) - self.average_bytes * slot.seconds();
            if own > 0.0 { excess * excess / own } else { 0.0 }
        });
        let between = (observed - (groups - 1.0) * within) / (seconds - squares / seconds);
        (between > 0.0).then(|| within / between)
    }
}

/// The highest average in bytes that agrees with what `slots` have seen in `seconds`, to 9 digits.
///
/// By Newton's method within a bracket: with every average, the excess of the cost over what it would be at that average
/// falls in straight lines, by the time that tells of the average.
fn highest_average(slots: &[SlotCost], seconds: f64) -> f64 {
    const PRECISION: f64 = 1e-9;
    let cost = |average: f64| sum(slots, |slot| slot.cost_given(average));
    let (mut low, mut high) = (cost(0.0) / seconds, cost(f64::MAX) / seconds);
    let mut guess = high;
    while high - low > high * PRECISION {
        // Also where nothing tells of the average, and the step is no number.
        if !(low < guess && guess < high) {
            guess = f64::midpoint(low, high);
        }
        let excess = cost(guess) - guess * seconds;
        let rounding = guess * seconds * PRECISION;
        let agrees = excess >= -rounding;
        if agrees {
            low = guess;
        } else {
            high = guess;
        }
        // Aims beyond the end of what agrees, from either side, so that the bracket closes on both.
        let aim = if agrees { 1.5 * rounding } else { 0.5 * rounding };
        guess += (excess + aim) / sum(slots, |slot| slot.informative_seconds(guess));
    }
    low
}

fn sum(slots: &[SlotCost], of: impl Fn(&SlotCost) -> f64) -> f64 {
    slots.iter().map(of).sum()
}

fn byte_seconds(byte_millis: u128) -> f64 {
    byte_millis as f64 / 1000.0
}

fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_units::{ByteCount, Generation, Millis, Population, SlotId, Span};
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::history::{History, Sample, Window};

    const SECOND: i64 = 1000;

    fn price() -> RestartPrice {
        RestartPrice::new(ByteCount(1000), Span::secs(100)).unwrap()
    }

    /// A slot whose instances each live for `lengths` seconds and grow by `rate` bytes a second from 1000.
    fn history(fleet: &[(u64, &[i64])]) -> History {
        history_in(Window::ending_at(Millis(0), i64::MAX / 4), fleet)
    }

    fn history_in(window: Window, fleet: &[(u64, &[i64])]) -> History {
        let mut history = History::default();
        for (replica, (rate, lengths)) in (0..).zip(fleet) {
            let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
            let slot = SlotId { population, runner: "r:1".into(), replica };
            let mut start = 0;
            for length in *lengths {
                let generation = Generation(u64::try_from(start).unwrap());
                let samples = (1..=*length).map(|second| Sample {
                    at: Millis(start + second * SECOND),
                    generation,
                    bytes: 1000 + rate * u64::try_from(second).unwrap(),
                });
                history.observe(&slot.clone().into(), window, samples);
                start += length * SECOND;
            }
        }
        history
    }

    fn costs(fleet: &[(u64, &[i64])]) -> Vec<SlotCost> {
        costs_at(price(), fleet)
    }

    fn costs_at(price: RestartPrice, fleet: &[(u64, &[i64])]) -> Vec<SlotCost> {
        let history = history(fleet);
        let (_, slots) = history.populations().next().unwrap();
        let mut slots: Vec<_> = slots.iter().collect();
        slots.sort_by_key(|(id, _)| id.replica);
        slots.iter().map(|(_, slot)| SlotCost::of(slot, price).unwrap()).collect()
    }

    fn average(rate: u64, lengths: &[i64]) -> f64 {
        costs(&[(rate, lengths)])[0].average_bytes(None)
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6 * expected, "{found}, expected {expected}");
    }

    #[test]
    fn a_slot_costs_its_memory_over_time_and_its_restarts() {
        // 100 s × 1000 B and a restart of 100,000 byte-seconds; what runs now agrees with that.
        let cost = costs(&[(0, &[100, 50])])[0];
        assert_eq!((cost.seconds(), cost.memory_byte_seconds(), cost.restarts), (150.0, 150_000.0, 1));
        assert_near(cost.average_bytes(None), 2000.0);
    }

    #[test]
    fn what_runs_counts_as_the_average_as_far_as_that_is_possible() {
        // Restarted at once or in a while: the average is that of the first.
        for running in [1, 50, 100] {
            assert_near(average(0, &[100, running]), 2000.0);
        }
        // It has run for so long that it is cheaper, even if it were restarted now: (200,000 + 400,000) / 400.
        assert_near(average(0, &[100, 300]), 1500.0);
        // It holds so much that it is dearer already: 1000 + 100 more each second for 100 s and for 300 s.
        let area = |seconds: f64| {
            1000.0 * seconds + 100.0 * seconds * (seconds + 1.0) / 2.0 - 100.0 * seconds + 100.0
        };
        assert_near(average(100, &[100, 300]), (area(100.0) + 100_000.0 + area(300.0)) / 400.0);
        // Nothing is over yet: the highest average that agrees, as if it were restarted now.
        assert_near(average(0, &[100]), 2000.0);
    }

    #[test]
    fn an_average_does_not_jump_when_a_restart_leaves_the_window() {
        // The window begins at 70 s, 80 s and 90 s: in the first of three lifetimes.
        for now in [310, 320, 330] {
            let window = Window::ending_at(Millis(now * SECOND), 240 * SECOND);
            let history = history_in(window, &[(0, &[100, 100, 100])]);
            let (_, slots) = history.populations().next().unwrap();
            let cost = SlotCost::of(slots.values().next().unwrap(), price()).unwrap();
            assert_eq!((cost.restarts, cost.lifetimes), (2, 1), "{cost:?}");
            assert_near(cost.average_bytes(None), 2000.0);
        }
    }

    #[test]
    fn a_prior_counts_like_so_much_more_of_the_slots_own_time() {
        let cost = costs(&[(0, &[100, 50])])[0];
        let with = |average_bytes, seconds| cost.average_bytes(Some(Others { average_bytes, seconds }));
        assert_near(with(3000.0, 100.0), 2500.0);
        assert_near(with(2000.0, 100.0), 2000.0);
        // So low that what runs is dearer already: (200,000 + 50,000 + 300 · 10) / 450.
        assert_near(with(10.0, 300.0), 253_000.0 / 450.0);
    }

    #[test]
    fn slots_that_differ_only_by_chance_are_taken_for_equal() {
        // Two slots with the same three lifetimes in another order.
        let costs = costs(&[(10, &[100, 300, 200, 1]), (10, &[300, 200, 100, 1])]);
        assert_eq!(PopulationCost::of(costs.iter().copied()).unwrap().weight_seconds(), None);
    }

    #[test]
    fn one_slot_with_a_past_says_nothing_of_how_slots_differ() {
        let past: &[i64] = &[3600, 3602, 3598, 3601, 3599, 60];
        let mut fleet = vec![(100_000, past)];
        fleet.extend([(100_000, &[60_i64][..]); 9]);
        let price = RestartPrice::new(ByteCount::mib(1024), Span::secs(600)).unwrap();
        assert_eq!(PopulationCost::of(costs_at(price, &fleet)).unwrap().weight_seconds(), None);
    }

    #[test]
    fn what_was_missed_of_a_lifetime_counts_with_the_first_size_seen() {
        // 1000 bytes for 100 s, then an hour of which the first half was not seen, then what runs.
        let slot = |missed: i64| {
            let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
            let id = SlotId { population, runner: "r:1".into(), replica: 0 };
            let mut history = History::default();
            let lifetimes = [(0, 1, 100), (100, 100 + missed, 3700), (3700, 3701, 3710)];
            let samples = lifetimes.into_iter().flat_map(|(start, first, last)| {
                (first..=last).map(move |second| Sample {
                    at: Millis(second * SECOND),
                    generation: Generation(u64::try_from(start * SECOND).unwrap()),
                    bytes: 1000,
                })
            });
            history.observe(&id.clone().into(), Window::ending_at(Millis(0), i64::MAX / 4), samples);
            SlotCost::of(history.slot(&id).unwrap(), price()).unwrap()
        };
        assert_eq!(slot(1800), slot(1));
    }

    #[test]
    fn memory_that_fell_without_a_start_is_no_restart() {
        let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
        let id = SlotId { population, runner: "r:1".into(), replica: 0 };
        let mut history = History::default();
        let sizes =
            [(1, 0, 1000), (100, 0, 2000), (101, 0, 500), (200, 0, 500), (201, 200, 500), (300, 200, 500)];
        let samples = sizes.map(|(second, start, bytes)| Sample {
            at: Millis(second * SECOND),
            generation: Generation(start * 1000),
            bytes,
        });
        history.observe(&id.clone().into(), Window::ending_at(Millis(0), i64::MAX / 4), samples);
        let cost = SlotCost::of(history.slot(&id).unwrap(), price()).unwrap();
        assert_eq!((cost.restarts, cost.falls, cost.lifetimes), (1, 1, 2));
    }

    #[test]
    fn the_more_slots_differ_the_less_the_module_weighs() {
        let weight = |rate| {
            let lengths: &[i64] = &[200, 210, 190, 205, 195, 200];
            let costs = costs(&[(10, lengths), (10, lengths), (rate, lengths), (rate, lengths)]);
            PopulationCost::of(costs.iter().copied()).unwrap().weight_seconds().unwrap()
        };
        assert!(weight(1000) < weight(100), "{} {}", weight(1000), weight(100));
        assert!(weight(100) < weight(20), "{} {}", weight(100), weight(20));
    }

    #[test]
    fn a_slot_that_is_new_does_not_make_the_others_differ() {
        let lengths: [&[i64]; 3] = [&[200, 210, 190, 205], &[205, 190, 200, 210], &[195, 205, 210, 190]];
        let old = lengths.map(|lengths| (10, lengths));
        let population = |fleet: &[(u64, &[i64])]| PopulationCost::of(costs(fleet)).unwrap();
        let with_young = [&old[..], &[(10, &[2])]].concat();
        assert_eq!(population(&old).weight_seconds(), None);
        assert_eq!(population(&with_young).weight_seconds(), None);
        assert_near(population(&with_young).average_bytes(), population(&old).average_bytes());
    }

    proptest! {
        /// The definition: it agrees with what was seen, and nothing above it does.
        #[test]
        fn the_average_of_a_population_is_the_highest_that_agrees(
            fleet in vec((0_u64..200, vec(1_i64..400, 1..5)), 1..6),
        ) {
            let fleet: Vec<_> = fleet.iter().map(|(rate, lengths)| (*rate, &lengths[..])).collect();
            let costs = costs(&fleet);
            let average = PopulationCost::of(costs.iter().copied()).unwrap().average_bytes();
            let excess = |average: f64| {
                costs.iter().map(|slot| slot.cost_given(average) - average * slot.seconds()).sum::<f64>()
            };
            let seconds: f64 = costs.iter().map(SlotCost::seconds).sum();
            let rounding = 1e-8 * average * seconds + 1.0;
            prop_assert!(excess(average) >= -rounding, "{average}: {}", excess(average));
            prop_assert!(excess(1.01 * average) < 0.0, "{average}: {}", excess(1.01 * average));
        }
    }

    #[test]
    fn a_slot_is_compared_with_the_others_not_with_itself() {
        let costs = costs(&[(0, &[100, 100]), (10, &[100, 100])]);
        let population = PopulationCost::of(costs.iter().copied()).unwrap();
        let others =
            [1, 0].map(|other| costs[other].cost_given(population.average_bytes()) / costs[other].seconds());
        for (own, expected) in costs.iter().zip(others) {
            assert_near(population.without(own).unwrap().average_bytes, expected);
        }
        let alone = PopulationCost::of(costs[..1].iter().copied()).unwrap();
        assert_eq!(alone.without(&costs[0]), None);
    }
}
