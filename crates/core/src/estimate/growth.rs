//! PURE: how the memory of a population's instances grows with their age: not at all, up to a size, in rare large steps, or for ever.
//!
//! Growth is compared by age, not by the clock, and within each slot: the second half of the ages that a slot has seen against the
//! first. That what is restarted for its size is seen no further changes neither: as with the mean cumulative function (Nelson,
//! *Graphical Analysis of System Repair Data*, 1988), growth at an age is that of whoever was there at that age.
//! Whether it goes on is asked of blocks of equal time in the second half, whose mean has a Student-t interval: a slope
//! through all points (Theil-Sen), or a test of its sign (Mann-Kendall), would call a cache that filled up a leak.

mod plateau;
#[cfg(test)]
mod tests;

use std::fmt;

use ebb_units::{ByteCount, ConfidenceLevel, Elapsed, Span};
use serde::Serialize;

pub use self::plateau::Plateau;
use self::plateau::{best_plateau, outlasts_plateaus};
use super::{
    quantile::student_t_upper,
    seen::{Grown, Seen, slope},
    steps::{in_large_steps, steps_add_up},
};
use crate::history::Slot;

/// Slots that are looked at; the others of a larger population are like them.
const SLOTS_MAX: usize = 200;

/// Blocks that the second half of all slots' ages is divided into.
const BLOCKS: f64 = 32.0;

/// Fewer whole blocks tell nothing.
const BLOCKS_MIN: u64 = 12;

/// Fewer samples tell nothing.
const SAMPLES_MIN: u64 = 100;

/// Growth that is less than this part of what instances hold is none.
const LITTLE: f64 = 0.03;

/// What grows at this part of its first pace at least goes on.
const AS_FAST: f64 = 0.7;

/// What grows at less than this part of its first pace comes to an end. What grows with the root of time has 0.41.
const SLOWER: f64 = 0.3;

/// Before a module was seen for so long, whatever fills up looks like what leaks.
const SEEN_MIN: Elapsed = Elapsed::secs(24 * 3600);

/// How the memory of instances grows with their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GrowthKind {
    /// Too little was seen.
    Unknown,
    /// It does not grow.
    Steady,
    /// It grows up to a size, such as a cache that fills up.
    Plateau,
    /// It grows in rare large steps, ever more rarely: the largest request so far sets its size.
    Steps,
    /// It goes on growing.
    Leak,
}

impl GrowthKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Steady, Self::Plateau, Self::Steps, Self::Leak];

    /// Its name, as in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Steady => "steady",
            Self::Plateau => "plateau",
            Self::Steps => "steps",
            Self::Leak => "leak",
        }
    }
}

/// How the memory of a population's instances grows, and on what that rests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct GrowthTrend {
    /// In one word.
    pub kind: GrowthKind,
    /// By how much an instance grows in an hour at ages from `from_age` on; absent while too little was seen.
    pub bytes_per_hour: Option<Rate>,
    /// The same at younger ages, since the start.
    pub younger_bytes_per_hour: Option<f64>,
    /// Half of the ages that were seen for some time.
    #[serde(rename = "from_age_millis")]
    pub from_age: Elapsed,
    /// The part of growth that came in large steps, from 0 to 1.
    pub in_large_steps: f64,
    /// What an instance holds, on average.
    pub mean_bytes: f64,
    /// Where it comes to an end.
    pub plateau: Option<Plateau>,
}

/// An estimate with the ends of its interval at level 0.99.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Most likely.
    pub mean: f64,
    /// At least.
    pub low: f64,
    /// At most.
    pub high: f64,
}

impl GrowthTrend {
    /// That of the instances of `slots`.
    pub fn of<'a>(slots: impl Iterator<Item = &'a Slot>) -> Self {
        let slots: Vec<_> = slots.take(SLOTS_MAX).filter_map(Seen::of).collect();
        let mut growth = Self {
            kind: GrowthKind::Unknown,
            bytes_per_hour: None,
            younger_bytes_per_hour: None,
            from_age: Elapsed::ZERO,
            in_large_steps: 0.0,
            mean_bytes: 0.0,
            plateau: None,
        };
        if slots.is_empty() {
            return growth;
        }
        let mean = |of: fn(&Seen<'_>) -> f64| slots.iter().map(of).sum::<f64>() / slots.len() as f64;
        growth.mean_bytes = mean(|slot| slot.mean_bytes);
        growth.from_age = Elapsed(mean(|slot| slot.half.0 as f64) as i64);
        growth.in_large_steps = in_large_steps(&slots, growth.mean_bytes, |_| Elapsed::ZERO);
        let younger: Vec<_> = slots.iter().filter_map(Seen::younger).collect();
        if !younger.is_empty() {
            growth.younger_bytes_per_hour = Some(HOUR * slope(younger.iter().copied()));
        }
        let samples: u64 = slots.iter().map(|slot| slot.samples).sum();
        growth.bytes_per_hour = rate(&slots).filter(|_| samples >= SAMPLES_MIN);
        growth.kind = growth.sought(&slots);
        if growth.kind == GrowthKind::Plateau {
            growth.plateau = best_plateau(&slots, 2.0 * growth.from_age.as_seconds());
        }
        growth
    }

    fn sought(&self, slots: &[Seen<'_>]) -> GrowthKind {
        let Some(rate) = self.bytes_per_hour else { return GrowthKind::Unknown };
        let hours = 2.0 * self.from_age.as_seconds() / 3600.0;
        let is_little = |bytes: f64| bytes < LITTLE * self.mean_bytes;
        let in_steps = self.in_large_steps > 0.5;
        // Of each slot by its own pace: fast ones are restarted young.
        let paces = slots.iter().filter_map(|slot| Some((slot.older()?, slot.younger()?, slot.half)));
        let grown = paces.fold([0.0; 2], |[older, younger], (old, young, half)| {
            [
                older + slope([old].into_iter()) * half.as_seconds(),
                younger + slope([young].into_iter()) * half.as_seconds(),
            ]
        });
        let [older, younger] = grown;
        let goes_on = rate.low > 0.0 && !is_little(rate.mean * hours);
        let is_as_fast = if in_steps {
            steps_add_up(slots, self.mean_bytes)
        } else {
            // Where no start was seen, there is nothing to compare with.
            younger > 0.0 && older * rate.high >= AS_FAST * younger * rate.mean
                || outlasts_plateaus(slots, 2.0 * self.from_age.as_seconds())
        };
        let seen = slots.iter().map(Seen::span).max().unwrap_or_default();
        if goes_on && is_as_fast {
            return if seen >= SEEN_MIN { GrowthKind::Leak } else { GrowthKind::Unknown };
        }
        let most = slots.iter().map(|slot| slot.grown).fold(0.0, f64::max);
        if is_little(most) && is_little(rate.high * hours) {
            GrowthKind::Steady
        } else if in_steps {
            GrowthKind::Steps
        } else if older < SLOWER * younger {
            GrowthKind::Plateau
        } else {
            GrowthKind::Unknown
        }
    }
}

impl fmt::Display for GrowthTrend {
    /// In a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Rate { mean, low, high }) = self.bytes_per_hour else {
            return f.write_str("too little was seen of instances at different ages");
        };
        let bytes = |bytes: f64| ByteCount(bytes.max(0.0).round() as u64);
        let age = Span::whole_secs(self.from_age.as_seconds());
        let (mean, low, high) = (bytes(mean), bytes(low), bytes(high));
        write!(f, "instances older than {age} grow by {mean} an hour ({low} to {high})")?;
        if let Some(younger) = self.younger_bytes_per_hour {
            write!(f, ", younger ones by {}", bytes(younger))?;
        }
        f.write_str(match self.kind {
            GrowthKind::Leak => ": it goes on",
            GrowthKind::Plateau => ": it comes to an end",
            GrowthKind::Steps => ", mostly in large steps that become rare",
            GrowthKind::Steady => ": next to nothing",
            GrowthKind::Unknown => ": more must be seen to tell whether that goes on",
        })
    }
}

const HOUR: f64 = 3600.0;

/// Growth per hour at older ages, with the interval that its blocks give.
fn rate(slots: &[Seen<'_>]) -> Option<Rate> {
    let time: f64 = slots.iter().filter_map(Seen::older).map(|(_, seconds)| seconds).sum();
    let block = Elapsed((time * 1000.0 / BLOCKS) as i64);
    if block <= Elapsed::ZERO {
        return None;
    }
    let blocks: Vec<Grown> = slots.iter().flat_map(|slot| slot.blocks(block)).collect();
    let n = blocks.len() as u64;
    if n < BLOCKS_MIN {
        return None;
    }
    let mean = slope(blocks.iter().copied());
    // Of a ratio of sums (Cochran, *Sampling Techniques*, 1977, section 6.3).
    let squares: f64 = blocks.iter().map(|(bytes, seconds)| (bytes - mean * seconds).powi(2)).sum();
    let n = n as f64;
    let deviation = (squares * n / (n - 1.0)).sqrt() / time;
    let level = ConfidenceLevel::try_from(0.99).expect("it is one");
    let beyond = student_t_upper(level, blocks.len() as u64 - 1) * deviation;
    Some(Rate { mean: HOUR * mean, low: HOUR * (mean - beyond), high: HOUR * (mean + beyond) })
}
