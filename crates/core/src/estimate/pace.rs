//! PURE: how fast the instances of a population grow, and when one reaches a size.
//!
//! Growth varies around the pace of its slot, and the paces of slots vary around that of their population. How much each counts for a
//! slot is what the data say of both (a random-effects model; DerSimonian and Laird, *Meta-analysis in clinical trials*, 1986).
//! How far growth strays from an even pace is asked of spans of several lengths (the structure function of what is left when the pace
//! is taken off): what strays the further the longer the span is noise, what comes back within a day is its swing. A size is
//! reached when the interval in which growth until then lies (a prediction interval) begins to hold it, and at the latest when
//! it ends to. Where the pace becomes slower with age, it may go on to, or not: the interval holds both. So it does where growth came
//! in large steps, which may be those of a size that is reached once.

use std::{fmt, iter::Sum};

use ebb_units::{ConfidenceLevel, Elapsed, Span};
use serde::Serialize;

use super::{
    quantile::student_t_upper,
    seen::{Grown, Seen, first_at_age, size_at, slope},
    steps::{in_large_steps, steps_add_up},
};
use crate::history::Slot;

/// Slots that a population's pace is learned from.
const SLOTS_MAX: usize = 200;

/// Spans that growth is looked at in, in hours, or in less where less was seen. A day is the longest: rhythms come back by then.
const SPANS: [usize; 7] = [1, 2, 4, 8, 12, 18, 24];

/// So many hours must have been seen for that.
const HOURS_MIN: f64 = 64.0;

/// Fewer spans that do not overlap tell nothing.
const DEGREES_MIN: f64 = 8.0;

/// Young instances that grow so many times as fast as older ones are warming up.
const AS_FAST: f64 = 1.1;

/// The level of the interval of [`TimeLeft`].
const LEVEL: f64 = 0.9;

const HOUR: f64 = 3600.0;

/// When a size is reached, from now on, with the ends of its interval at level 0.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TimeLeft {
    /// Not before.
    #[serde(rename = "low_millis")]
    pub low: Elapsed,
    /// As likely before as after.
    #[serde(rename = "median_millis")]
    pub median: Elapsed,
    /// Not after; absent where it may be never.
    #[serde(rename = "high_millis")]
    pub high: Option<Elapsed>,
}

impl TimeLeft {
    /// The same, and in no case earlier than `other`.
    pub(crate) fn not_before(self, other: Self) -> Self {
        Self {
            low: self.low.max(other.low),
            median: self.median.max(other.median),
            high: self.high.zip(other.high).map(|(own, other)| own.max(other)),
        }
    }
}

impl fmt::Display for TimeLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, median] = [self.low, self.median].map(|time| Span::rounded(time.as_seconds()));
        write!(f, "in {median} ({low} ")?;
        match self.high {
            Some(high) => write!(f, "to {})", Span::rounded(high.as_seconds())),
            None => f.write_str("at the earliest)"),
        }
    }
}

/// How fast the instances of a population grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Bytes per second, of all slots together.
    mean: f64,
    /// The variance of that estimate, as a part of its square. So is the next one.
    mean_variance: f64,
    /// The variance of a slot's own pace around it.
    between: f64,
    straying: Straying,
    /// Of a slot that was seen for less nothing is told, in seconds.
    unit: f64,
    /// Whether young instances grow faster, and so tell nothing of the pace.
    warms_up: bool,
    /// The part of growth that is sure to come again.
    lasting: f64,
    /// Growth is in proportion to this power of the age: 1 where the pace does not change.
    power: f64,
}

/// How far growth strays from an even pace: in spans of t seconds by a variance of `noise`·t + `swing`², in seconds of growth.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Straying {
    noise: f64,
    swing: f64,
    degrees: f64,
}

/// How fast one instance grows, or several together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InstancePace {
    /// Bytes per second.
    mean: f64,
    /// The variance of that estimate, as far as it is the slot's own.
    own_variance: f64,
    /// The deviation of that estimate, as far as it is the population's.
    shared_deviation: f64,
    /// The variance of growth in a second, in square bytes.
    noise: f64,
    /// How far growth strays and comes back, in bytes.
    swing: f64,
    degrees: f64,
    /// The part of growth that is sure to come again.
    lasting: f64,
    /// How its pace changes with its age, where it is a single instance whose pace does.
    bend: Option<Bend>,
}

/// Growth in proportion to a power of the age.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bend {
    power: f64,
    /// The age of the instance, in seconds.
    age: f64,
    /// The age at which its pace was seen.
    seen_at: f64,
}

impl Pace {
    /// That of the instances of `slots`; none where too little was seen.
    #[must_use]
    pub fn of<'a>(slots: impl Iterator<Item = &'a Slot>) -> Option<Self> {
        let slots: Vec<_> = slots.take(SLOTS_MAX).filter_map(Seen::of).collect();
        // Where nothing becomes slower with age, all ages tell of the pace: older ones may be those of busy hours.
        let young = slope(slots.iter().filter_map(Seen::younger));
        let warms_up = young > AS_FAST * slope(slots.iter().filter_map(Seen::older));
        let grown: Vec<_> = slots.iter().filter_map(|slot| Some((slot, settled(slot, warms_up)?))).collect();
        let typical = slope(grown.iter().map(|(_, grown)| *grown));
        let time: f64 = grown.iter().map(|(_, (_, seconds))| seconds).sum();
        let unit = (time / HOURS_MIN).clamp(60.0, HOUR);
        // Against what hardly grows nothing can be measured, and what was hardly seen tells nothing.
        let grown: Vec<_> = grown
            .into_iter()
            .filter(|(_, (bytes, seconds))| *seconds >= unit && *bytes > 0.1 * typical * seconds)
            .collect();
        let straying = Straying::of(&grown, warms_up, unit)?;
        let paces: Vec<_> = grown
            .iter()
            .map(|(_, grown)| (slope([*grown].into_iter()) / typical, straying.variance(grown.1)))
            .collect();
        let between = between(&paces);
        let weights = || paces.iter().map(|(_, variance)| (between + variance).max(TINY).recip());
        let weight: f64 = weights().sum();
        let mean = weights().zip(&paces).map(|(weight, (pace, _))| weight * pace).sum::<f64>() / weight;
        Some(Self {
            mean: mean * typical,
            mean_variance: weight.recip(),
            between,
            unit,
            warms_up,
            lasting: lasting(&slots, warms_up),
            power: power(&grown),
            straying,
        })
    }

    /// That of the newest instance in `slot`, at its newest sample.
    #[must_use]
    pub fn of_newest(&self, slot: &Slot) -> Option<InstancePace> {
        let newest = slot.newest()?;
        let seen = Seen::of(slot);
        let own = seen.as_ref().and_then(|seen| settled(seen, self.warms_up));
        let own = own.filter(|(_, seconds)| *seconds >= self.unit);
        let sampling = own.map(|(_, seconds)| self.straying.variance(seconds));
        // How far the slot's own growth counts, from 0 to 1.
        let trust = sampling.map_or(0.0, |sampling| self.between / (self.between + sampling).max(TINY));
        let own_mean = own.map_or(self.mean, |own| slope([own].into_iter()));
        let mean = trust * own_mean + (1.0 - trust) * self.mean;
        let own_variance = sampling.map_or(self.between, |sampling| trust * sampling);
        let bend = seen.filter(|_| self.power < 1.0).map(|seen| Bend {
            power: self.power,
            age: newest.age().as_seconds(),
            seen_at: (1.5 * seen.half.as_seconds()).max(self.unit),
        });
        Some(InstancePace {
            mean,
            own_variance: own_variance * self.mean.powi(2),
            shared_deviation: (1.0 - trust) * self.mean_variance.sqrt() * self.mean,
            noise: self.straying.noise * mean.powi(2),
            swing: self.straying.swing * mean,
            degrees: self.straying.degrees,
            lasting: self.lasting,
            bend,
        })
    }
}

/// Variances below this are those of what does not vary.
const TINY: f64 = 1e-12;

/// Growth at ages that tell of the pace: from half of those that were seen on where instances warm up, else at all ages.
fn settled(slot: &Seen<'_>, warms_up: bool) -> Option<Grown> {
    if warms_up { slot.older() } else { Some(slot.between(Elapsed::ZERO, Elapsed(i64::MAX))) }
}

/// The part of growth that did not come in large steps, unless those add up.
fn lasting(slots: &[Seen<'_>], warms_up: bool) -> f64 {
    let from = |slot: &Seen<'_>| if warms_up { slot.half } else { Elapsed::ZERO };
    let mean_bytes = slots.iter().map(|slot| slot.mean_bytes).sum::<f64>() / slots.len() as f64;
    if steps_add_up(slots, mean_bytes) {
        1.0
    } else {
        (1.0 - in_large_steps(slots, mean_bytes, from)).max(0.05)
    }
}

/// The variance of slots' paces around their mean, beyond what those of each, by its second number, explain.
fn between(paces: &[(f64, f64)]) -> f64 {
    let weights = || paces.iter().map(|(_, variance)| variance.max(TINY).recip());
    let sum: f64 = weights().sum();
    let mean = weights().zip(paces).map(|(weight, (pace, _))| weight * pace).sum::<f64>() / sum;
    let spread: f64 = weights().zip(paces).map(|(weight, (pace, _))| weight * (pace - mean).powi(2)).sum();
    let scale = sum - weights().map(|weight| weight * weight).sum::<f64>() / sum;
    if scale > 0.0 { ((spread - (paces.len() as f64 - 1.0)) / scale).max(0.0) } else { 0.0 }
}

/// By which power of their age instances grow: less than 1 where the last quarter of the ages that were seen has a slower pace than the
/// one before it, by more than chance; then as much less as may well be.
fn power(grown: &[(&Seen<'_>, Grown)]) -> f64 {
    /// As few slots tell nothing of chance.
    const SLOTS_MIN: f64 = 4.0;
    let (mut third, mut last, mut squares, mut slots) = (0.0, 0.0, 0.0, 0.0);
    for (slot, own) in grown {
        let quarter = Elapsed(slot.half.0 / 2);
        let [one, other] =
            [(2, 3), (3, 5)].map(|(from, until)| slot.between(from * quarter, until * quarter));
        if one.1 > 0.0 && other.1 > 0.0 {
            let [one, other] =
                [one, other].map(|grown| slope([grown].into_iter()) / slope([*own].into_iter()));
            third += one;
            last += other;
            squares += (one - other).powi(2);
            slots += 1.0;
        }
    }
    let slower = third - last;
    // Of the sum of what slots differ by.
    let variance = ((squares - slower.powi(2) / slots) * slots / (slots - 1.0)).max(0.0);
    if slots < SLOTS_MIN || slower <= 2.0 * variance.sqrt().max(0.01 * third) {
        return 1.0;
    }
    let last = last - variance.sqrt();
    // Growth of the last quarter over that of the third, which rises with the power.
    let ratio = |power: f64| (1.0 - 0.75_f64.powf(power)) / (0.75_f64.powf(power) - 0.5_f64.powf(power));
    let (mut low, mut high) = (0.2, 1.0);
    for _ in 0..20 {
        let middle = f64::midpoint(low, high);
        *(if ratio(middle) < last / third { &mut low } else { &mut high }) = middle;
    }
    low
}

impl Straying {
    /// That of the slots' growth around their paces, looked at after each `unit`, in seconds.
    fn of(grown: &[(&Seen<'_>, Grown)], warms_up: bool, unit: f64) -> Option<Self> {
        let from = |slot: &Seen<'_>| if warms_up { slot.half } else { Elapsed::ZERO };
        let path = |(slot, own): &(&Seen<'_>, Grown)| path(slot, from(slot), slope([*own].into_iter()), unit);
        let paths: Vec<_> = grown.iter().map(path).collect();
        let units: usize = paths.iter().map(Vec::len).sum();
        let spans: Vec<_> = SPANS
            .into_iter()
            .map(|span| (span, (units / span) as f64 - grown.len() as f64))
            .take_while(|(_, degrees)| *degrees >= DEGREES_MIN)
            .collect();
        let (longest, degrees) = *spans.last()?;
        let variance = |span: usize| {
            let moved =
                paths.iter().flat_map(|path| path.windows(span + 1).map(move |part| part[span] - part[0]));
            let (count, squares) =
                moved.fold((0.0, 0.0), |(count, squares), moved: f64| (count + 1.0, squares + moved * moved));
            squares / f64::max(count, 1.0)
        };
        let seconds = |span: usize| span as f64 * unit;
        let noise = variance(longest) / seconds(longest);
        let swing =
            spans.iter().map(|(span, _)| variance(*span) - noise * seconds(*span)).fold(0.0, f64::max);
        Some(Self { noise, swing: swing.sqrt(), degrees })
    }

    /// The variance of a pace that was seen for so many seconds, as a part of its square.
    fn variance(&self, seconds: f64) -> f64 {
        (self.noise * seconds + self.swing.powi(2)) / seconds.powi(2)
    }
}

/// By how much more a slot had grown than at its pace, after each `unit` at ages from `warm` on, in seconds of growth.
fn path(slot: &Seen<'_>, warm: Elapsed, pace: f64, unit: f64) -> Vec<f64> {
    let unit = Elapsed((1000.0 * unit) as i64);
    let mut path = Vec::new();
    let mut beyond = 0.0;
    for lifetime in &slot.lifetimes {
        let Some(mut from) = first_at_age(lifetime, warm) else { continue };
        while from < lifetime.last_at() {
            let end = from.plus(unit);
            let until = end.min(lifetime.last_at());
            let bytes = size_at(lifetime, until) - size_at(lifetime, from);
            beyond += bytes as f64 - pace * until.since(from).as_seconds();
            if until == end {
                path.push(beyond / pace);
            }
            from = until;
        }
    }
    path
}

impl InstancePace {
    /// By how many bytes it grows in that time, most likely.
    pub(crate) fn bytes_in(&self, time: Elapsed) -> f64 {
        self.mean.max(0.0) * time.as_seconds()
    }

    /// When it has grown by `bytes`; none if it does not grow.
    #[must_use]
    pub fn time_to_grow(&self, bytes: f64) -> Option<TimeLeft> {
        if self.mean <= 0.0 {
            return None;
        }
        let level = ConfidenceLevel::try_from(LEVEL).expect("it is one");
        let squared = student_t_upper(level, self.degrees as u64).powi(2);
        // (bytes − mean·t)² = squared·(noise·t + variance·t²) + 2·swing²: a sine strays by √2 of its deviations at most.
        let variance = self.own_variance + self.shared_deviation.powi(2);
        let quadratic = self.mean.powi(2) - squared * variance;
        let half = bytes * self.mean + squared * self.noise / 2.0;
        let constant = bytes.powi(2) - 2.0 * self.swing.powi(2);
        let root = (half.powi(2) - quadratic * constant).max(0.0).sqrt();
        let low = (constant / (half + root)).max(0.0);
        let median = bytes / self.mean;
        let high = (quadratic > 0.0).then(|| (half + root) / quadratic);
        // At the least that is sure to go on.
        let at_last = |seconds: f64| {
            let seconds = seconds / self.lasting;
            self.bend.map_or(seconds, |bend| bend.apply(seconds))
        };
        let at = |seconds: f64| Elapsed((1000.0 * seconds.max(0.0)).min(FAR) as i64);
        Some(TimeLeft {
            low: at(low.min(at_last(low))),
            median: at((median * at_last(median)).sqrt()),
            high: high.map(|high| at(high.max(at_last(high)))),
        })
    }
}

impl Bend {
    /// After how long it has grown as much as it would in `seconds` at the pace that was seen.
    fn apply(self, seconds: f64) -> f64 {
        let Self { power, age, seen_at } = self;
        (age.powf(power) + power * seconds * seen_at.powf(power - 1.0)).powf(power.recip()) - age
    }
}

/// A thousand years, in milliseconds.
const FAR: f64 = 3.2e13;

impl Sum for InstancePace {
    /// That of all of them: what a population's instances have in common, they have at the same time.
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        let none = Self {
            mean: 0.0,
            own_variance: 0.0,
            shared_deviation: 0.0,
            noise: 0.0,
            swing: 0.0,
            degrees: f64::INFINITY,
            lasting: 1.0,
            bend: None,
        };
        all.fold(none, |sum, one| Self {
            mean: sum.mean + one.mean,
            own_variance: sum.own_variance + one.own_variance,
            shared_deviation: sum.shared_deviation + one.shared_deviation,
            noise: sum.noise + one.noise,
            swing: sum.swing + one.swing,
            degrees: sum.degrees.min(one.degrees),
            // By how much each counts.
            lasting: if sum.mean + one.mean > 0.0 {
                (sum.lasting * sum.mean + one.lasting * one.mean) / (sum.mean + one.mean)
            } else {
                1.0
            },
            bend: None,
        })
    }
}

#[cfg(test)]
mod tests;
