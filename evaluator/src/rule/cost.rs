//! PURE: what instances have cost: the memory that they held over time, and what their restarts are worth.
//!
//! A restart is worth [`RestartPrice`], so memory and restarts add up to one figure in byte-seconds, and that
//! figure over the time observed is an average in bytes: what it costs to keep the slot running.

use serde::Serialize;

use crate::{history::Slot, units::RestartPrice};

/// One slot's cost inside the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SlotCost {
    /// Memory × time, in byte-seconds.
    pub byte_seconds: f64,
    /// Time observed, in seconds.
    pub seconds: f64,
    /// Lifetimes that ended.
    pub restarts: u64,
}

/// The cost of all slots of a population. Sums are kept as integers, so that they do not depend on the order
/// in which a map yields the slots.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModuleCost {
    slots: u64,
    /// Σ memory × time + price · (restarts + 1), in byte-seconds.
    cost: u128,
    /// Σ time, in milliseconds.
    millis: u128,
    /// Σ cost² / time: from it, how much the slots' averages differ.
    square_cost_per_second: u128,
    /// Σ (cost of a lifetime − the slot's average · its length)²: how much one slot's lifetimes differ.
    scatter: u128,
}

/// The population without one of its slots, as that slot is compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Others {
    /// Their average cost, in bytes.
    pub average_bytes: f64,
    /// Time for which it was observed, in seconds.
    pub seconds: f64,
}

impl SlotCost {
    /// The cost of what `slot` has seen.
    #[must_use]
    pub fn of(slot: &Slot) -> Self {
        let (mut area, mut millis, mut ended) = (0, 0, 0);
        for lifetime in slot.lifetimes() {
            let (lifetime_area, lifetime_millis) = lifetime.area();
            area += lifetime_area;
            millis += lifetime_millis;
            ended += u64::from(lifetime.end().is_some());
        }
        Self { byte_seconds: byte_seconds(area), seconds: seconds(millis), restarts: ended }
    }

    /// Cost if the instance that lives now were restarted at once: its restart is counted already.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn with_next_restart(&self, price: RestartPrice) -> f64 {
        self.byte_seconds + price.byte_seconds() * (self.restarts + 1) as f64
    }

    /// Σ (cost of a lifetime − `average` · its length)² over the lifetimes of `slot`. The last one's restart is
    /// not paid yet. Few lifetimes lie too close to the average that they make; n/(n − 1) mends that.
    #[allow(clippy::cast_precision_loss)]
    fn scatter(&self, slot: &Slot, price: RestartPrice) -> f64 {
        let paid = self.byte_seconds + price.byte_seconds() * self.restarts as f64;
        let average = paid / self.seconds;
        let squares = slot.lifetimes().map(|lifetime| {
            let (area, millis) = lifetime.area();
            let restart = if lifetime.end().is_some() { price.byte_seconds() } else { 0.0 };
            (byte_seconds(area) + restart - average * seconds(millis)).powi(2)
        });
        let lifetimes = self.restarts as f64 + 1.0;
        squares.sum::<f64>() * lifetimes / (lifetimes - 1.0).max(1.0)
    }
}

impl ModuleCost {
    /// Adds one slot.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn push(&mut self, slot: &Slot, price: RestartPrice) {
        let own = SlotCost::of(slot);
        if own.seconds <= 0.0 {
            return;
        }
        let cost = own.with_next_restart(price);
        self.slots += 1;
        self.cost = self.cost.saturating_add(cost as u128);
        self.millis = self.millis.saturating_add((own.seconds * 1000.0) as u128);
        let square = cost * cost / own.seconds;
        self.square_cost_per_second = self.square_cost_per_second.saturating_add(square as u128);
        self.scatter = self.scatter.saturating_add(own.scatter(slot, price) as u128);
    }

    /// Average cost of the whole population, in bytes. None before anything was observed.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn average_bytes(&self) -> Option<f64> {
        (self.millis > 0).then(|| self.cost as f64 / self.seconds())
    }

    /// The population without `own`. None when nobody else is in it.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn without(&self, own: &SlotCost, price: RestartPrice) -> Option<Others> {
        let seconds = self.seconds() - own.seconds;
        let cost = self.cost as f64 - own.with_next_restart(price);
        (self.slots > 1 && seconds > 0.0).then(|| Others { average_bytes: cost.max(0.0) / seconds, seconds })
    }

    /// For how many seconds of a slot's own experience the others' average stands: the ratio of the variance
    /// within slots to the variance between them. None when the slots do not differ more than chance has it:
    /// then nothing speaks against taking them for equal.
    ///
    /// Source: Efron & Morris, *Data Analysis Using Stein's Estimator and Its Generalizations* (1975), with the
    /// moment estimator of the variance between groups.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn weight_seconds(&self) -> Option<f64> {
        let seconds = self.seconds();
        let average = self.average_bytes()?;
        let within = self.scatter as f64 / seconds;
        let observed = (self.square_cost_per_second as f64 / seconds - average * average).max(0.0);
        let between = observed - within * self.slots as f64 / seconds;
        (between > 0.0).then(|| within / between)
    }

    #[allow(clippy::cast_precision_loss)]
    fn seconds(&self) -> f64 {
        self.millis as f64 / 1000.0
    }
}

#[allow(clippy::cast_precision_loss)]
fn byte_seconds(byte_millis: u128) -> f64 {
    byte_millis as f64 / 1000.0
}

#[allow(clippy::cast_precision_loss)]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_service::units::{ByteCount, Span};

    use super::*;
    use crate::{
        history::{History, Sample, Window},
        units::{Generation, Millis, Population, SlotId},
    };

    const SECOND: i64 = 1000;

    fn price() -> RestartPrice {
        RestartPrice::new(ByteCount(1000), Span::secs(100)).unwrap()
    }

    /// A slot whose instances each live for `lengths` seconds and grow by `rate` bytes a second from 1000.
    fn history(fleet: &[(u64, &[i64])]) -> History {
        let mut history = History::default();
        let window = Window::ending_at(Millis(0), i64::MAX / 4);
        for (replica, (rate, lengths)) in (0..).zip(fleet) {
            let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
            let slot = SlotId { population, runner: Arc::from("r:1"), replica };
            let mut start = 0;
            for length in *lengths {
                let generation = Generation(u64::try_from(start).unwrap());
                let samples = (1..=*length).map(|second| Sample {
                    at: Millis(start + second * SECOND),
                    generation,
                    bytes: 1000 + rate * u64::try_from(second).unwrap(),
                });
                history.observe(&slot, window, samples);
                start += length * SECOND;
            }
        }
        history
    }

    fn module(fleet: &[(u64, &[i64])]) -> ModuleCost {
        let history = history(fleet);
        let mut module = ModuleCost::default();
        let (_, slots) = history.populations().next().unwrap();
        slots.values().for_each(|slot| module.push(slot, price()));
        module
    }

    #[test]
    fn a_slot_costs_its_memory_over_time_and_its_restarts() {
        let history = history(&[(0, &[100, 50])]);
        let (_, slots) = history.populations().next().unwrap();
        let cost = SlotCost::of(slots.values().next().unwrap());
        assert_eq!(cost, SlotCost { byte_seconds: 150_000.0, seconds: 150.0, restarts: 1 });
        assert_eq!(cost.with_next_restart(price()), 350_000.0);
        // 350,000 byte-seconds in 150 s.
        let average = module(&[(0, &[100, 50])]).average_bytes().unwrap();
        assert!((average - 350_000.0 / 150.0).abs() < 1e-6, "{average}");
    }

    #[test]
    fn slots_that_differ_only_by_chance_are_taken_for_equal() {
        // Two slots with the same three lifetimes in another order.
        assert_eq!(module(&[(10, &[100, 300, 200]), (10, &[300, 200, 100])]).weight_seconds(), None);
    }

    #[test]
    fn the_more_slots_differ_the_less_the_module_weighs() {
        let weight = |rate| {
            let lengths: &[i64] = &[200, 210, 190, 205, 195, 200];
            module(&[(10, lengths), (10, lengths), (rate, lengths), (rate, lengths)])
                .weight_seconds()
                .unwrap()
        };
        assert!(weight(1000) < weight(100), "{} {}", weight(1000), weight(100));
        assert!(weight(100) < weight(20), "{} {}", weight(100), weight(20));
    }

    #[test]
    fn a_slot_is_compared_with_the_others_not_with_itself() {
        let history = history(&[(0, &[100]), (10, &[100])]);
        let (_, slots) = history.populations().next().unwrap();
        let mut module = ModuleCost::default();
        slots.values().for_each(|slot| module.push(slot, price()));
        for slot in slots.values() {
            let own = SlotCost::of(slot);
            let others = module.without(&own, price()).unwrap();
            let other = slots.values().map(SlotCost::of).find(|cost| *cost != own).unwrap();
            let expected = other.with_next_restart(price()) / other.seconds;
            assert!((others.average_bytes - expected).abs() < 1e-6, "{others:?} {expected}");
        }
        let alone = module_of_one();
        assert_eq!(alone.0.without(&alone.1, price()), None);
    }

    fn module_of_one() -> (ModuleCost, SlotCost) {
        let history = history(&[(0, &[100])]);
        let (_, slots) = history.populations().next().unwrap();
        let mut module = ModuleCost::default();
        let slot = slots.values().next().unwrap();
        module.push(slot, price());
        (module, SlotCost::of(slot))
    }
}
