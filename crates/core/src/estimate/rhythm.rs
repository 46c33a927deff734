//! PURE: the costs of lifetimes → how a threshold follows the time of day.
//!
//! Where growth has a rhythm, one threshold for all hours restarts too late in some and too early in others. What an instance
//! may hold at each hour moves about its mean, and over each lifetime it averages to that lifetime's own cost over its time
//! (Poisson's equation of a periodic renewal process). So the movement is fitted to the lifetimes that are over, by least squares, as one wave a
//! day in shares of each slot's span, each lifetime weighing as its time. Only costs are looked at and nothing of growth is
//! assumed: what was never restarted shows no rhythm.
//!
//! A restart now must beat each later one. Memory never falls, so it does if the size is above the mean of what may be held
//! from now until then, however far the dip that it is in still goes. So the threshold is the highest of these means, for as long as
//! a lifetime lasts on average, and at most half a day: by then a wave has turned.
//!
//! The slots of a module mostly see the same traffic. So one wave is fitted to all of them; and what each has beyond that,
//! by itself. Both are drawn towards nothing as far as chance explains them (ridge regression; its strength is the variance
//! of chance over that of what is sought, by empirical Bayes). Chance is what differs between lifetimes, and what differs
//! between days: a crowd that came once is no rhythm, however many lifetimes saw it.
//!
//! Source: Ross, *Applied Probability Models with Optimization Applications* (1970), ch. 7; Hoerl & Kennard, *Ridge
//! Regression* (1970); Morris, *Parametric Empirical Bayes Inference* (1983); Liang & Zeger, *Longitudinal Data Analysis Using
//! Generalized Linear Models* (1986), for the variance between days.

mod fit;

use std::f64::consts::{PI, TAU};

use ebb_units::{Elapsed, Millis};
use serde::Serialize;

use self::fit::Evidence;
use super::cost::SlotCost;
use crate::history::day::{self, DAY};

/// The least span in bytes: a threshold so near to what an instance starts with follows nothing.
const SPAN_MIN: f64 = 524_288.0;

/// The threshold stays within these shares of the span.
const SHARE_MIN: f64 = 0.1;
const SHARE_MAX: f64 = 4.0;

/// Figures that are fitted to a slot: its average, and its wave.
const FITTED: u32 = 3;

/// What an instance may hold, by the time of day: `base_bytes + span_bytes · (1 + cos · cos ωt + sin · sin ωt)`, the last factor
/// within 0.1 and 4; ω is a turn a day, t the time since midnight UTC.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Rhythm {
    /// The least size that a start was seen with.
    base_bytes: f64,
    /// From there to the mean of the threshold.
    span_bytes: f64,
    cos: f64,
    sin: f64,
    /// For so long, a restart now must beat each later one.
    ahead_hours: u32,
}

/// The rhythm of a module, and how much its slots may differ from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ModuleRhythm {
    wave: [f64; 2],
    /// How strongly a slot's own wave is drawn towards the module's. None: it is the module's.
    ridge: Option<f64>,
}

impl ModuleRhythm {
    /// The rhythm of a module with these slots, each with its average cost in bytes. None where there is none but by chance.
    pub(crate) fn of<'a>(slots: impl Iterator<Item = (&'a SlotCost<'a>, f64)>) -> Option<Self> {
        let slots: Vec<Evidence> =
            slots.filter_map(|(slot, average)| Rhythm::none(slot, average)?.evidence(slot)).collect();
        let module = Evidence::sum(slots.iter());
        let freedom = f64::from(module.lifetimes) - slots.len() as f64 - 2.0;
        if freedom <= 0.0 {
            return None;
        }
        let noise = module.unexplained().max(0.0) / freedom;
        let wave = fit::ridge(&[module], noise).map_or([0.0; 2], |ridge| module.solve(ridge));
        let own = own_ridge(&slots, wave);
        (wave != [0.0; 2] || own.is_some()).then_some(Self { wave, ridge: own })
    }

    /// The rhythm of one of its slots, whose average cost is `average` bytes. None where no restart of it has paid: what
    /// is large and stays so is not restarted because others grow by day.
    pub(crate) fn of_slot(&self, slot: &SlotCost<'_>, average: f64) -> Option<Rhythm> {
        let none = Rhythm::none(slot, average)?;
        let own = none
            .evidence(slot)
            .zip(self.ridge)
            .map_or([0.0; 2], |(evidence, ridge)| evidence.beside(self.wave).solve(ridge));
        Some(Rhythm { cos: self.wave[0] + own[0], sin: self.wave[1] + own[1], ..none })
    }
}

/// How strongly what `slots` have beside `wave` is drawn towards nothing.
fn own_ridge(slots: &[Evidence], wave: [f64; 2]) -> Option<f64> {
    let telling: Vec<&Evidence> = slots.iter().filter(|slot| slot.lifetimes > FITTED).collect();
    let freedom: f64 = telling.iter().map(|slot| f64::from(slot.lifetimes - FITTED)).sum();
    if freedom <= 0.0 {
        return None;
    }
    let noise = telling.iter().map(|slot| slot.unexplained()).sum::<f64>().max(0.0) / freedom;
    fit::ridge(&telling.iter().map(|slot| slot.beside(wave)).collect::<Vec<_>>(), noise)
}

impl Rhythm {
    /// The threshold of `slot`, whose average cost is `average` bytes, without a rhythm. None where no restart of it has paid, or
    /// no start was seen.
    fn none(slot: &SlotCost<'_>, average: f64) -> Option<Self> {
        const MOST_HOURS: u32 = 12;
        let base_bytes = slot.fresh_bytes.filter(|_| slot.paid)? as f64;
        let span_bytes = (average - base_bytes).max(SPAN_MIN);
        let (lifetimes, _, seconds) = slot.whole();
        let ahead_hours = MOST_HOURS.min((seconds / f64::from(lifetimes) / 3600.0) as u32);
        Some(Self { base_bytes, span_bytes, cos: 0.0, sin: 0.0, ahead_hours })
    }

    /// What the lifetimes of `slot`, of which this is the mean, tell of a wave.
    fn evidence(&self, slot: &SlotCost<'_>) -> Option<Evidence> {
        Evidence::of(slot, self.mean_bytes(), self.span_bytes)
    }

    /// The threshold at a moment, in bytes: the most of what may be held then, and of its means over the next hours.
    pub(crate) fn threshold_bytes(&self, at: Millis) -> f64 {
        const HALF_AN_HOUR: Elapsed = Elapsed::secs(1_800);
        let (mut most, mut sum) = (self.share(at), 0.0);
        for hours in 1..=self.ahead_hours {
            // In the middle of each hour.
            sum += self.share(at.plus(i64::from(2 * hours - 1) * HALF_AN_HOUR));
            most = most.max(sum / f64::from(hours));
        }
        self.base_bytes + self.span_bytes * most
    }

    /// How much of the span may be held at a moment.
    fn share(&self, at: Millis) -> f64 {
        let [cos, sin] = day::wave(at);
        (1.0 + self.cos * cos + self.sin * sin).clamp(SHARE_MIN, SHARE_MAX)
    }

    /// What it moves about, in bytes.
    pub(crate) fn mean_bytes(&self) -> f64 {
        self.base_bytes + self.span_bytes
    }

    /// The time of day at which the threshold is lowest, since midnight UTC: where the wave, on its way down, meets its mean over
    /// the hours ahead. Where a wave is cut off at its least share, somewhat later.
    pub(crate) fn lowest_at(&self) -> Elapsed {
        let ahead = f64::from(self.ahead_hours) / 24.0 * TAU;
        let before_trough = (ahead - ahead.sin()).atan2(1.0 - ahead.cos());
        let trough = self.sin.atan2(self.cos) + PI;
        Elapsed(((trough - before_trough).rem_euclid(TAU) / TAU * DAY.0 as f64) as i64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_units::{ByteCount, Generation, Population, RestartPrice, SlotId, Span};

    use super::*;
    use crate::history::{History, Sample, Window};

    const MINUTE: i64 = 60_000;
    const KIB: u64 = 1024;

    /// How slots start, grow at a time of day, and above which size they are restarted.
    struct Slots {
        start: u64,
        grows: fn(minute: i64) -> u64,
        above: u64,
    }

    /// Four of `slots`, a sample every five minutes for so many hours, and their costs at a price of 10 MiB for an hour. Costs
    /// borrow from a history, which is kept to the end of the tests.
    fn costs(slots: &Slots, hours: i64) -> Vec<SlotCost<'static>> {
        let window = Window::ending_at(Millis(hours * 60 * MINUTE), Elapsed(i64::MAX / 4));
        let history = Box::leak(Box::<History>::default());
        for replica in 0..4 {
            let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
            let slot = SlotId { population, runner: "r:1".into(), replica };
            let (mut generation, mut bytes) = (Generation(0), slots.start + u64::from(replica) * 100 * KIB);
            for minute in (1..hours * 60).step_by(5) {
                bytes += 5 * (slots.grows)(minute);
                let at = Millis(minute * MINUTE);
                history.observe(&slot.clone().into(), window, [Sample { at, generation, bytes }]);
                if bytes > slots.above {
                    generation = Generation((minute * MINUTE).unsigned_abs());
                    bytes = slots.start;
                }
            }
        }
        let price = RestartPrice::new(ByteCount::mib(10), Span::secs(3600)).unwrap();
        let (_, slots) = history.populations().next().unwrap();
        slots.values().map(|slot| SlotCost::of(slot, price).unwrap()).collect()
    }

    /// The rhythm of the first of `slots`, drawn to that of all `module`.
    fn found(slots: &[SlotCost<'_>], module: &[SlotCost<'_>]) -> Option<Rhythm> {
        let average = |slot: &SlotCost<'_>| slot.average_bytes(None);
        let all = slots.iter().chain(module);
        ModuleRhythm::of(all.map(|slot| (slot, average(slot))))?.of_slot(&slots[0], average(&slots[0]))
    }

    /// Grows from six to eighteen o'clock.
    const BY_DAY: Slots = Slots {
        start: 1024 * KIB,
        grows: |minute| if (360..1080).contains(&(minute % 1440)) { 100 * KIB } else { KIB },
        above: 8 * 1024 * KIB,
    };

    /// What holds much and hardly grows, started anew by somebody else at five o'clock.
    const LARGE: Slots = Slots {
        start: 50_000 * KIB,
        grows: |minute| u64::from((1020..1025).contains(&(minute % 1440))) * KIB,
        above: 50_004 * KIB,
    };

    #[test]
    fn what_grows_by_day_is_restarted_late_by_day_and_early_in_the_evening() {
        let rhythm = found(&costs(&BY_DAY, 72), &[]).unwrap();
        let hour = |hour: i64| rhythm.threshold_bytes(Millis(hour * 60 * MINUTE)) / 1_048_576.0;
        let lowest = (0..24).min_by(|a, b| hour(*a).total_cmp(&hour(*b))).unwrap();
        assert!(hour(12) > 1.5 * hour(lowest) && !(5..18).contains(&lowest), "{lowest} {rhythm:?}");
        let told = rhythm.lowest_at().0 / (60 * MINUTE);
        assert!(
            (told - lowest + 36) % 24 - 12 <= 1 && (lowest - told + 36) % 24 - 12 <= 1,
            "{told} {lowest}"
        );
        // Over the day it may hold its average cost.
        let mean = (0..24).map(|hour| rhythm.share(Millis(hour * 60 * MINUTE))).sum::<f64>() / 24.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean} {rhythm:?}");
    }

    #[test]
    fn a_dip_that_is_over_before_a_restart_would_pay_restarts_nothing() {
        let rhythm = Rhythm { base_bytes: 0.0, span_bytes: 100.0, cos: 0.5, sin: 0.0, ahead_hours: 12 };
        let at = |hour: i64| rhythm.threshold_bytes(Millis(hour * 60 * MINUTE));
        // At noon, what may be held is least; at midnight, most.
        assert!((rhythm.share(Millis(720 * MINUTE)) - 0.5).abs() < 1e-9);
        assert!(
            at(12) > 95.0 && at(8) < 80.0 && (at(0) - 150.0).abs() < 1e-9,
            "{} {} {}",
            at(12),
            at(8),
            at(0)
        );
    }

    #[test]
    fn what_grows_alike_at_all_hours_has_no_rhythm() {
        let slots = Slots { grows: |minute| (20 + (minute * 7919 % 61).unsigned_abs()) * KIB, ..BY_DAY };
        assert_eq!(found(&costs(&slots, 72), &[]), None);
    }

    #[test]
    fn what_happened_on_one_day_alone_is_no_rhythm() {
        let once = Slots {
            grows: |minute| if (2160..2400).contains(&minute) { 300 * KIB } else { 20 * KIB },
            ..BY_DAY
        };
        for hours in [48, 60, 72, 96] {
            assert_eq!(found(&costs(&once, hours), &[]), None, "{hours} h");
        }
    }

    #[test]
    fn before_a_day_was_seen_there_is_no_rhythm() {
        assert_eq!(found(&costs(&BY_DAY, 24), &[]), None);
    }

    #[test]
    fn what_is_large_and_stays_so_does_not_follow_others() {
        let (large, by_day) = (costs(&LARGE, 72), costs(&BY_DAY, 72));
        assert!(large[0].whole().0 > 1 && found(&by_day, &large).is_some());
        assert_eq!(found(&large, &by_day), None);
    }

    #[test]
    fn a_threshold_stays_within_bounds_however_strong_the_wave() {
        let rhythm = Rhythm { base_bytes: 10.0, span_bytes: 100.0, cos: 9.0, sin: 0.0, ahead_hours: 12 };
        assert_eq!([0, 12].map(|hour| rhythm.share(Millis(hour * 60 * MINUTE))), [4.0, 0.1]);
        let hours = (0..24).map(|hour| rhythm.threshold_bytes(Millis(hour * 60 * MINUTE)));
        assert!(
            hours.clone().all(|bytes| (20.0..=410.0).contains(&bytes)),
            "{:?}",
            hours.collect::<Vec<_>>()
        );
    }
}
