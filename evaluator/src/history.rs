//! PURE: samples → lifetimes, each kept as its growth steps.
//!
//! Enters: samples of a slot in order of time, each with the generation it belongs to. Leaves: the
//! lifetimes that the slots have seen inside the window. Knows neither where samples come from nor what
//! is done with lifetimes.
//!
//! **A history depends on samples alone**, not on how they arrived: one that grew tick by tick equals one that was
//! filled at once, so an evaluator that was killed and started anew computes the same thresholds to the bit. What counts
//! are the samples inside the window and, of what still runs, the sizes at the boundaries of the blocks before it
//! ([`Earlier`](earlier::Earlier)). For that, the window's start moves in whole blocks, and [`Lifetime`] keeps a mark
//! where a block begins, so that exactly the samples before it can be cut off.

mod earlier;
mod lifetime;
mod trace;
mod window;

use std::collections::BTreeMap;

pub use self::{
    lifetime::{End, Lifetime, Step},
    trace::{Extract, Point, TRACES_MAX, Trace},
    window::Window,
};
use crate::units::{Generation, Millis, Population, SlotId};

/// One reading of one slot: how much memory which instance held when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was scraped.
    pub at: Millis,
    /// Which start of the slot's instance it belongs to.
    pub generation: Generation,
    /// Linear memory in bytes.
    pub bytes: u64,
}

/// Every lifetime that the slots have seen inside the window.
#[derive(Debug, Default)]
pub struct History {
    populations: BTreeMap<Population, BTreeMap<SlotId, Slot>>,
    newest_sample: Option<Millis>,
    /// The window at the last [`History::forget_before`]; its start moves once in many ticks.
    window: Option<Window>,
}

/// What one slot has seen: the lifetimes that are over and the newest one.
#[derive(Debug, Default)]
pub struct Slot {
    finished: Vec<Lifetime>,
    newest: Option<Lifetime>,
}

impl History {
    /// Takes in `samples` of one slot, oldest first, and returns how many were new. Samples not newer
    /// than the slot's newest are ignored, so that overlapping fetches do no harm.
    pub fn observe(
        &mut self,
        slot: &SlotId,
        window: Window,
        samples: impl IntoIterator<Item = Sample>,
    ) -> usize {
        let samples = samples.into_iter();
        if let Some(seen) = self.populations.get_mut(&slot.population).and_then(|slots| slots.get_mut(slot)) {
            let taken = samples.filter(|sample| seen.observe(window, *sample)).count();
            self.newest_sample = self.newest_sample.max(seen.watermark());
            return taken;
        }
        let mut seen = Slot::default();
        let taken = samples.filter(|sample| seen.observe(window, *sample)).count();
        if taken > 0 {
            self.newest_sample = self.newest_sample.max(seen.watermark());
            self.populations.entry(slot.population.clone()).or_default().insert(slot.clone(), seen);
        }
        taken
    }

    /// The lifetimes that run on since before the window, of which nothing earlier is known: their slots and starts.
    pub fn begun_earlier(&self) -> impl Iterator<Item = (&SlotId, Generation)> {
        let slots = self.populations.values().flatten();
        slots.filter_map(|(id, slot)| {
            let newest = slot.newest.as_ref()?;
            let began = newest.generation().started_at();
            let window = self.window?;
            (began < window.start() && !newest.knows_earlier()).then(|| (id, newest.generation()))
        })
    }

    /// Takes in what `slot` held before the window: its sizes at boundaries of the window's blocks, as `(boundary, bytes)`,
    /// oldest first, if what lives there is `generation`.
    pub fn go_back(&mut self, slot: &SlotId, generation: Generation, sizes: &[(Millis, u64)]) {
        let Some(window) = self.window else { return };
        let slots = self.populations.get_mut(&slot.population);
        let newest = slots.and_then(|slots| slots.get_mut(slot)).and_then(|slot| slot.newest.as_mut());
        if let Some(newest) = newest.filter(|newest| newest.generation() == generation) {
            newest.go_back(window, sizes);
        }
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
    #[must_use]
    pub fn spans_window(&self, slot: &Slot) -> bool {
        let first = slot.lifetimes().next().map(Lifetime::first_at);
        self.window
            .zip(first)
            .is_some_and(|(window, first)| window.block(first) == window.block(window.start()))
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

    /// Time of the newest sample of all.
    #[must_use]
    pub const fn newest_sample(&self) -> Option<Millis> {
        self.newest_sample
    }
}

impl Slot {
    /// The newest lifetime. It may be over: see [`Slot::live`].
    #[must_use]
    pub const fn newest(&self) -> Option<&Lifetime> {
        self.newest.as_ref()
    }

    /// All lifetimes, oldest first.
    pub fn lifetimes(&self) -> impl Iterator<Item = &Lifetime> {
        self.finished.iter().chain(&self.newest)
    }

    /// The least size that a start was seen with here: what a restart goes back to. None while no lifetime
    /// was seen from its start.
    #[must_use]
    pub fn fresh_bytes(&self) -> Option<u64> {
        self.lifetimes().filter_map(Lifetime::start_bytes).min()
    }

    /// The least size that was seen here.
    #[must_use]
    pub fn least_bytes(&self) -> Option<u64> {
        self.lifetimes().map(Lifetime::least_bytes).min()
    }

    /// The instance that lives here at `now`: its newest sample is at most `stale_after_millis` old.
    /// A dead series looks alive for minutes to a query with lookback, so the sample's own age decides.
    #[must_use]
    pub fn live(&self, now: Millis, stale_after_millis: i64) -> Option<&Lifetime> {
        self.newest.as_ref().filter(|lifetime| now.since(lifetime.last_at()) <= stale_after_millis)
    }

    fn watermark(&self) -> Option<Millis> {
        self.newest.as_ref().map(Lifetime::last_at)
    }

    fn observe(&mut self, window: Window, sample: Sample) -> bool {
        if self.watermark().is_some_and(|watermark| sample.at <= watermark) || !window.contains(sample.at) {
            return false;
        }
        match &mut self.newest {
            Some(newest) if newest.continues_with(&sample) => newest.push(window, &sample),
            newest => {
                let end = match newest {
                    // Memory that fell can only be another instance's: linear memory never shrinks.
                    Some(old) if old.generation() == sample.generation => End::Discontinued,
                    _ => End::Replaced,
                };
                if let Some(mut old) = newest.replace(Lifetime::starting_with(&sample)) {
                    old.finish(end);
                    self.finished.push(old);
                }
            }
        }
        true
    }

    fn forget_before(&mut self, window: Window) -> bool {
        self.finished.retain_mut(|lifetime| lifetime.forget_before(window));
        if self.newest.as_mut().is_some_and(|newest| !newest.forget_before(window)) {
            self.newest = None;
        }
        self.newest.is_some() || !self.finished.is_empty()
    }
}

#[cfg(test)]
mod tests;
