//! PURE: version against version: does a binary start larger, or grow faster, than the one before it?
//!
//! Replicas differ, so lifetimes are compared within each slot: all slots' Mann-Whitney statistics together (van Elteren, *On the
//! Combination of Independent Two Sample Tests of Wilcoxon*, 1960), inverted into a ratio with its interval. Ranks alone count, so
//! one lifetime that is far off changes little. Growth is compared up to the same age.

use std::{collections::BTreeMap, fmt, sync::Arc};

use ebb_units::{Elapsed, Millis, Population, RunnerId, SlotId};
use serde::Serialize;

use crate::history::{History, Lifetime, Slot};

/// Lifetimes of a slot that are compared: the newest.
const LIFETIMES_MAX: usize = 20;

/// Slots that are compared.
const SLOTS_MAX: usize = 200;

/// Lifetimes of each version that are compared where no slot has seen both.
const POOLED_MAX: usize = 200;

/// The quantile of the standard normal distribution at level 0.999, two-sided: versions are compared again and again.
const BEYOND: f64 = 3.29;

/// A difference is one if it is at least so much: a tenth.
const AT_LEAST: f64 = 1.1;

/// Before a version was seen for so long, it may grow faster because it is day.
const SEEN_MIN: Elapsed = Elapsed::secs(24 * 3600);

/// A binary beside the one before it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The digest of the one before.
    pub before: Arc<str>,
    /// Lifetimes that were compared: of the one before, and of this one.
    pub lifetimes: [usize; 2],
    /// How many times as large instances start.
    pub start: Option<Ratio>,
    /// How many times as fast they grow.
    pub growth: Option<Ratio>,
    /// Whether one of both is a difference that matters.
    pub is_regression: bool,
}

/// An estimate with the ends of its interval at level 0.999.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The median of the ratios of a lifetime of the one to a lifetime of the other.
    pub median: f64,
    /// At least.
    pub low: f64,
    /// At most.
    pub high: f64,
}

impl Ratio {
    /// Whether it is a difference that matters, with that certainty.
    fn is_worse(&self) -> bool {
        self.low >= AT_LEAST
    }
}

impl fmt::Display for Comparison {
    /// What is worse, in a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = false;
        for (ratio, verb, like) in [(self.start, "starts", "large"), (self.growth, "grows", "fast")] {
            if let Some(Ratio { median, low, high }) = ratio.filter(Ratio::is_worse) {
                f.write_str(if said { ", and " } else { "it " })?;
                write!(f, "{verb} {median:.1} times as {like} ({low:.1} to {high:.1})")?;
                said = true;
            }
        }
        if !said {
            f.write_str("it is no worse")?;
        }
        write!(
            f,
            " than digest {}, by {} and {} lifetimes",
            self.before, self.lifetimes[1], self.lifetimes[0]
        )
    }
}

/// The newest binary of each module beside the one before it, where there is one.
pub fn compared(history: &History) -> impl Iterator<Item = (Population, Comparison)> {
    type Version<'a> = (Millis, &'a Population, &'a BTreeMap<SlotId, Slot>);
    let mut modules: BTreeMap<&str, Vec<Version<'_>>> = BTreeMap::new();
    for (population, slots) in history.populations() {
        // By the newest start: after a way back, the old binary is the newest one.
        let started = slots.values().filter_map(Slot::newest).map(Lifetime::started_at).max();
        if let Some(started) = started {
            modules.entry(&population.module).or_default().push((started, population, slots));
        }
    }
    modules.into_values().filter_map(|mut versions| {
        versions.sort_by_key(|(started, population, _)| (*started, *population));
        let [.., (_, before, old), (_, population, new)] = &*versions else { return None };
        Some(((*population).clone(), compare(Arc::clone(&before.digest), old, new)))
    })
}

fn compare(before: Arc<str>, old: &BTreeMap<SlotId, Slot>, new: &BTreeMap<SlotId, Slot>) -> Comparison {
    // A slot is another's if its digest differs.
    let mut pairs: BTreeMap<(&RunnerId, u32), [Vec<&Lifetime>; 2]> = BTreeMap::new();
    for (version, slots) in [old, new].into_iter().enumerate() {
        for (id, slot) in slots.iter().take(SLOTS_MAX) {
            let lifetimes: Vec<_> =
                slot.lifetimes().filter(|lifetime| lifetime.start_bytes().is_some()).collect();
            let newest = lifetimes[lifetimes.len().saturating_sub(LIFETIMES_MAX)..].to_vec();
            pairs.entry((&id.runner, id.replica)).or_default()[version] = newest;
        }
    }
    let mut slots: Vec<[Vec<&Lifetime>; 2]> = pairs.into_values().collect();
    if slots.iter().all(|[old, new]| old.is_empty() || new.is_empty()) {
        // Other runners: all that there is, as if it were one slot.
        let all = |version: usize| {
            let all: Vec<&Lifetime> = slots.iter().flat_map(|slot| &slot[version]).copied().collect();
            let every = all.len().div_ceil(POOLED_MAX).max(1);
            all.into_iter().step_by(every).collect()
        };
        slots = vec![[all(0), all(1)]];
    }
    let of = |version: usize| slots.iter().flat_map(move |slot| &slot[version]).copied();
    let lifetimes = [of(0).count(), of(1).count()];
    let age = common_age(of(0)).min(common_age(of(1)));
    let start = ratio(&slots, |lifetime| lifetime.start_bytes().map(|bytes| bytes.max(1) as f64));
    let seen = of(1).map(Lifetime::first_at).min().zip(of(1).map(Lifetime::last_at).max());
    let long_enough = seen.is_some_and(|(first, last)| last.since(first) >= SEEN_MIN);
    let growth = ratio(&slots, |lifetime| pace(lifetime, age)).filter(|_| long_enough);
    let is_regression = [start, growth].iter().flatten().any(Ratio::is_worse);
    Comparison { before, lifetimes, start, growth, is_regression }
}

/// The age that three quarters of them reached.
fn common_age<'a>(lifetimes: impl Iterator<Item = &'a Lifetime>) -> Elapsed {
    let mut ages: Vec<_> = lifetimes.map(Lifetime::age).collect();
    ages.sort_unstable();
    ages.get(ages.len() / 4).copied().unwrap_or_default()
}

/// Growth per second up to `age`, and a page in that time more, so that there is a ratio; none of those that were not as old.
fn pace(lifetime: &Lifetime, age: Elapsed) -> Option<f64> {
    const PAGE: f64 = 65_536.0;
    if age <= Elapsed::ZERO || lifetime.age() < age {
        return None;
    }
    let at = lifetime.last_at().plus(age).plus(-lifetime.age());
    let after = lifetime.steps().partition_point(|step| step.at <= at);
    let bytes = lifetime.steps()[after.max(1) - 1].bytes;
    let grown = bytes.saturating_sub(lifetime.start_bytes()?) as f64;
    Some((grown + PAGE) / age.as_seconds())
}

/// By what factor the second of each pair is larger than the first.
fn ratio(slots: &[[Vec<&Lifetime>; 2]], of: impl Fn(&Lifetime) -> Option<f64>) -> Option<Ratio> {
    let mut differences: Vec<(f64, f64)> = Vec::new();
    let (mut half, mut variance) = (0.0, 0.0);
    for [old, new] in slots {
        let values = |lifetimes: &[&Lifetime]| -> Vec<f64> {
            lifetimes.iter().filter_map(|lifetime| of(lifetime)).map(f64::ln).collect()
        };
        let (old, new) = (values(old), values(new));
        let (m, n) = (old.len() as f64, new.len() as f64);
        if m * n == 0.0 {
            continue;
        }
        let weight = (m + n + 1.0).recip();
        half += weight * m * n / 2.0;
        variance += weight * weight * m * n * (m + n + 1.0) / 12.0;
        differences.extend(new.iter().flat_map(|new| old.iter().map(move |old| (new - old, weight))));
    }
    differences.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    // The difference below which there is so much weight.
    let below = |wanted: f64| {
        let mut weight = 0.0;
        let place = differences.iter().position(|(_, more)| {
            weight += more;
            weight > wanted
        });
        place.map(|place| differences[place].0.exp())
    };
    let beyond = BEYOND * variance.sqrt();
    if half - beyond <= 0.0 {
        return None;
    }
    Some(Ratio {
        median: below(half)?,
        low: below(half - beyond)?,
        high: below(half + beyond).unwrap_or(f64::INFINITY),
    })
}

#[cfg(test)]
mod tests {
    use ebb_units::{Generation, SeriesId};

    use super::*;
    use crate::history::{Sample, Window};

    const HOUR: i64 = 3_600_000;
    const KIB: f64 = 1024.0;

    /// Two versions on `slots` slots, each for two days with a restart every four hours; each holds so many KiB by version, slot,
    /// lifetime and age in hours.
    fn versions(slots: u32, kib: impl Fn(u32, u32, i64, f64) -> f64) -> Comparison {
        let mut history = History::default();
        let window = Window::ending_at(Millis(96 * HOUR), Elapsed(96 * HOUR));
        for version in 0..2_u32 {
            let population =
                Population { module: "m".into(), digest: if version == 0 { "old" } else { "new" }.into() };
            for replica in 0..slots {
                let slot = SlotId { population: population.clone(), runner: "r:1".into(), replica };
                let samples = (0..48 * 12).map(|number| {
                    let at = number * HOUR / 12 + i64::from(version) * 48 * HOUR;
                    let started = at - at % (4 * HOUR);
                    let age = (at - started) as f64 / HOUR as f64;
                    let bytes = KIB * kib(version, replica, started / (4 * HOUR), age);
                    Sample {
                        at: Millis(at),
                        generation: Generation(started.unsigned_abs()),
                        bytes: bytes as u64,
                    }
                });
                history.observe(&SeriesId::from(slot), window, samples);
            }
        }
        let (newest, comparison) = compared(&history).next().unwrap();
        assert_eq!((&*newest.digest, &*comparison.before), ("new", "old"));
        comparison
    }

    /// Something between 0 and 1 that looks like chance.
    fn noise(slot: u32, lifetime: i64) -> f64 {
        ((f64::from(slot) * 12.9898 + lifetime as f64 * 78.233).sin() * 43_758.545).fract().abs()
    }

    #[test]
    fn a_version_that_grows_faster_is_found_among_replicas_that_differ() {
        let paced = |factor: f64| {
            versions(4, move |version, slot, lifetime, age| {
                let pace = 4.0_f64.powi(slot as i32) * (0.8 + 0.4 * noise(slot, lifetime));
                2048.0 + 1000.0 * pace * age * if version == 1 { factor } else { 1.0 }
            })
        };
        let faster = paced(1.5);
        let growth = faster.growth.unwrap();
        assert!(faster.is_regression && growth.low > 1.1 && growth.high < 2.0, "{faster:?}");
        assert!(faster.to_string().starts_with("it grows 1.5 times as fast ("), "{faster}");
        let same = paced(1.0);
        assert!(!same.is_regression && same.growth.unwrap().low < 1.0, "{same:?}");
        assert!(same.to_string().starts_with("it is no worse than digest old"), "{same}");
    }

    #[test]
    fn a_version_that_starts_larger_is_found() {
        let larger = versions(2, |version, slot, lifetime, _| {
            1000.0 * if version == 1 { 15.0 } else { 1.0 } + noise(slot, lifetime)
        });
        assert!(larger.is_regression && (larger.start.unwrap().median - 15.0).abs() < 0.1, "{larger:?}");
        assert!(larger.to_string().starts_with("it starts 15.0 times as large"), "{larger}");
    }

    #[test]
    fn after_a_way_back_the_old_version_is_the_newest() {
        let mut history = History::default();
        let window = Window::ending_at(Millis(30 * HOUR), Elapsed(30 * HOUR));
        for (hour, digest) in
            (0..30).map(|hour| (hour, if (10..20).contains(&hour) { "bad" } else { "good" }))
        {
            let population = Population { module: "m".into(), digest: digest.into() };
            let slot = SlotId { population, runner: "r:1".into(), replica: 0 };
            let bytes = if digest == "bad" { 15 << 20 } else { 1 << 20 };
            let at = hour * HOUR;
            let sample = Sample { at: Millis(at), generation: Generation(at.unsigned_abs()), bytes };
            history.observe(&SeriesId::from(slot), window, [sample]);
        }
        let (newest, comparison) = compared(&history).next().unwrap();
        assert_eq!((&*newest.digest, &*comparison.before, comparison.is_regression), ("good", "bad", false));
    }

    #[test]
    fn versions_on_other_runners_are_compared_by_a_few_lifetimes() {
        let mut history = History::default();
        let window = Window::ending_at(Millis(100 * HOUR), Elapsed(100 * HOUR));
        for (version, digest) in [(0_i64, "old"), (1, "new")] {
            for replica in 0..100 {
                let population = Population { module: "m".into(), digest: digest.into() };
                let slot = SlotId { population, runner: format!("r{version}:1").as_str().into(), replica };
                let samples = (0..30).map(|hour| {
                    let at = (hour + 50 * version) * HOUR;
                    let bytes = (1 + version.unsigned_abs()) << 20;
                    Sample { at: Millis(at), generation: Generation(at.unsigned_abs()), bytes }
                });
                history.observe(&SeriesId::from(slot), window, samples);
            }
        }
        let (_, comparison) = compared(&history).next().unwrap();
        let few = comparison.lifetimes.iter().all(|count| *count <= POOLED_MAX);
        assert!(comparison.is_regression && few, "{comparison:?}");
    }

    #[test]
    fn one_lifetime_that_is_far_off_is_no_regression() {
        let outlier = versions(1, |version, slot, lifetime, age| {
            let factor = if version == 1 && lifetime == 15 { 1000.0 } else { 1.0 };
            2048.0 + 100.0 * age * factor * (0.8 + 0.4 * noise(slot, lifetime))
        });
        assert!(!outlier.is_regression, "{outlier:?}");
    }
}
