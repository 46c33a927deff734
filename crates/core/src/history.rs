//! PURE: samples → lifetimes, each kept as its growth steps.
//!
//! Enters: samples of a slot in order of time, each with the generation it belongs to. Leaves: the
//! lifetimes that the slots have seen inside the window. Knows neither where samples come from nor what
//! is done with lifetimes.
//!
//! **A history depends on samples alone**, not on how they arrived: one that grew tick by tick equals one that was
//! filled at once, so an evaluator that was killed and started anew computes the same thresholds to the bit. What counts
//! are the samples inside the window and, of what still runs, the sizes at the boundaries of the blocks before it
//! (`earlier.rs`). For that, the window's start moves in whole blocks, and [`Lifetime`] keeps a mark
//! where a block begins, so that exactly the samples before it can be cut off.
//!
//! **A slot may have several series**: two Prometheus servers scrape it, or two jobs do. Each is kept by itself, and one of
//! them is chosen ([`History::choose`]), so that what is learned is what that one alone would have told.

pub(crate) mod day;
mod day_sums;
mod earlier;
mod ended;
mod growth;
mod lifetime;
mod median_sample;
mod sample;
mod series;
mod slot;
mod trace;
mod window;

use std::collections::BTreeMap;

pub(crate) use self::{
    day_sums::{DaySums, Sums},
    growth::Growth,
    median_sample::MedianSample,
    series::most_complete,
};
pub use self::{
    lifetime::{End, Lifetime, Step},
    sample::Sample,
    series::{Contradiction, Series},
    slot::Slot,
    trace::{Extract, Point, TRACES_MAX, Trace},
    window::Window,
};
use ebb_units::{Elapsed, Generation, Millis, Population, SeriesId, SlotId};

/// Every lifetime that the slots have seen inside the window.
#[derive(Debug, Default)]
pub struct History {
    populations: BTreeMap<Population, BTreeMap<SlotId, Slot>>,
    newest_sample: Option<Millis>,
    /// The window at the last [`History::forget_before`]; its start moves once in many ticks.
    window: Option<Window>,
}

impl History {
    /// Takes in `samples` of one series, oldest first, and returns how many were new. Samples not newer
    /// than the series' newest are ignored, so that overlapping fetches do no harm.
    pub fn observe(
        &mut self,
        series: &SeriesId,
        window: Window,
        samples: impl IntoIterator<Item = Sample>,
    ) -> usize {
        let mut samples = samples.into_iter();
        if let Some(known) = self.series_mut(series) {
            let taken = samples.filter(|sample| known.observe(window, *sample)).count();
            let watermark = known.watermark();
            self.newest_sample = self.newest_sample.max(Some(watermark));
            return taken;
        }
        let first = samples.by_ref().find(|sample| window.contains(sample.at));
        let Some(mut new) = first.map(|first| Series::starting_with(&series.labels, &first)) else {
            return 0;
        };
        let taken = 1 + samples.filter(|sample| new.observe(window, *sample)).count();
        self.newest_sample = self.newest_sample.max(Some(new.watermark()));
        let slots = self.populations.entry(series.slot.population.clone()).or_default();
        match slots.get_mut(&series.slot) {
            Some(slot) => slot.insert(new),
            None => drop(slots.insert(series.slot.clone(), Slot::starting_with(new))),
        }
        taken
    }

    /// The running lifetimes that began before the window, of which nothing earlier is known: their series and starts.
    pub(crate) fn begun_earlier(&self) -> impl Iterator<Item = (SeriesId, Generation)> {
        let series = self
            .populations
            .values()
            .flatten()
            .flat_map(|(id, slot)| slot.series.iter().map(move |series| (id, series)));
        series.filter_map(|(id, series)| {
            let (newest, window) = (series.newest()?, self.window?);
            let is_sought = newest.started_at() < window.start() && !newest.knows_earlier();
            is_sought.then(|| {
                (SeriesId { slot: id.clone(), labels: series.labels().clone() }, newest.generation())
            })
        })
    }

    /// Takes in what `series` told before the window: sizes at boundaries of the window's blocks, as `(boundary, bytes)`,
    /// oldest first, if what lives there is `generation`.
    pub fn go_back(&mut self, series: &SeriesId, generation: Generation, sizes: &[(Millis, u64)]) {
        let Some(window) = self.window else { return };
        if let Some(known) = self.series_mut(series) {
            known.go_back(window, generation, sizes);
        }
    }

    /// What will be told of `generation` is a simulation: nobody has seen what it started with.
    pub(crate) fn imagine_start(&mut self, series: &SeriesId, generation: Generation) {
        if let Some(known) = self.series_mut(series) {
            known.imagine_start(generation);
        }
    }

    /// The time between two samples of a series: the median of the newest ones of all series. None while
    /// no series has two.
    #[must_use]
    pub fn spacing(&self) -> Option<Elapsed> {
        median(self.series().filter_map(Series::spacing).collect())
    }

    /// Moves everything `by` that much: the clock that dates samples and starts was set by that.
    pub(crate) fn shift(&mut self, by: Elapsed) {
        let slots = self.populations.values_mut().flat_map(BTreeMap::values_mut);
        slots.flat_map(|slot| &mut slot.series).for_each(|series| series.shift(by));
        self.newest_sample = self.newest_sample.map(|newest| newest.plus(by));
        self.window = None;
    }

    fn series(&self) -> impl Iterator<Item = &Series> {
        self.populations.values().flat_map(BTreeMap::values).flat_map(|slot| &slot.series)
    }

    /// Chooses of each slot the series that tells of its lifetimes: of those that are alive at `now` the one with most
    /// samples; where these are about equal, the first by its labels. A function of what was seen alone: whoever has seen
    /// the same chooses the same.
    ///
    /// From now on, a series is alive while its newest sample is at most `stale_after` old; with `late`, also
    /// while it is no older than three of its samples take, and that.
    pub fn choose(&mut self, now: Millis, stale_after: Elapsed, late: Option<Elapsed>) {
        for slot in self.populations.values_mut().flat_map(BTreeMap::values_mut) {
            slot.series.iter_mut().for_each(|series| series.be_patient(late));
            slot.choose(now, stale_after);
        }
    }

    /// The slots of which living series contradict each other.
    pub fn contradictions(
        &self,
        now: Millis,
        stale_after: Elapsed,
        clock_skew: Elapsed,
    ) -> impl Iterator<Item = (&SlotId, Contradiction)> {
        self.populations.values().flatten().filter_map(move |(id, slot)| {
            Some((id, series::contradiction(&slot.series, now, stale_after, clock_skew)?))
        })
    }

    /// Forgets every sample before the window. None comes in again: [`History::observe`] takes none from there.
    pub fn forget_before(&mut self, window: Window) {
        if self.window.replace(window).is_some_and(|before| before.start() == window.start()) {
            return;
        }
        for slots in self.populations.values_mut() {
            slots.retain(|_, slot| slot.forget_before(window));
        }
        self.populations.retain(|_, slots| !slots.is_empty());
    }

    /// The populations with at least one lifetime, in order of their names.
    pub fn populations(&self) -> impl Iterator<Item = (&Population, &BTreeMap<SlotId, Slot>)> {
        self.populations.iter()
    }

    /// Whether `slot` was there throughout the window: its first sample lies in the window's first block.
    pub(crate) fn spans_window(&self, slot: &Slot) -> bool {
        let first = slot.lifetimes().next().map(Lifetime::first_at);
        self.window
            .zip(first)
            .is_some_and(|(window, first)| window.block(first) == window.block(window.start()))
    }

    /// Time of the newest sample of a series, if anything was seen of it.
    pub(crate) fn watermark(&self, series: &SeriesId) -> Option<Millis> {
        let mut known = self.slot(&series.slot)?.series.iter();
        known.find(|known| *known.labels() == series.labels).map(Series::watermark)
    }

    /// Every slot.
    pub fn slots(&self) -> impl Iterator<Item = &SlotId> {
        self.populations.values().flat_map(BTreeMap::keys)
    }

    /// Every slot with the labels of its series.
    pub fn series_of_slots(&self) -> impl Iterator<Item = (&SlotId, Vec<&str>)> {
        let slots = self.populations.values().flatten();
        slots.map(|(id, slot)| (id, slot.series.iter().map(|series| &**series.labels()).collect()))
    }

    /// What the slot has seen.
    #[must_use]
    pub fn slot(&self, slot: &SlotId) -> Option<&Slot> {
        self.populations.get(&slot.population)?.get(slot)
    }

    /// The memory of `slots` since a moment, for charts: of [`TRACES_MAX`] at most, and of bounded size whatever they
    /// have seen.
    #[must_use]
    pub fn extract(&self, slots: &[SlotId], since: Millis) -> Extract {
        let until = self.newest_sample.unwrap_or(since).max(since);
        let known: Vec<_> =
            slots.iter().take(TRACES_MAX).filter_map(|id| Some((id, self.slot(id)?))).collect();
        // Where less was seen, the room that there is goes to what was.
        let seen = known.iter().flat_map(|(_, slot)| slot.lifetimes());
        let first = seen.filter(|lifetime| lifetime.last_at() >= since).map(Lifetime::first_at).min();
        let since = first.map_or(since, |first| first.max(since));
        Extract {
            since,
            until,
            traces: known.into_iter().map(|(id, slot)| Trace::of(id, slot, since, until)).collect(),
        }
    }

    fn series_mut(&mut self, series: &SeriesId) -> Option<&mut Series> {
        self.populations.get_mut(&series.slot.population)?.get_mut(&series.slot)?.series_mut(&series.labels)
    }

    /// Time of the newest sample of all.
    #[must_use]
    pub const fn newest_sample(&self) -> Option<Millis> {
        self.newest_sample
    }
}

/// The middle one; of an even number, the greater of the two in the middle. None of none.
#[must_use]
pub fn median(mut values: Vec<Elapsed>) -> Option<Elapsed> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests;
