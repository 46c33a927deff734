//! What runs since before the window counts from its start: of which lifetimes to ask a store what they held by then.
//!
//! Each is asked for once: most at the start, some when their series comes. Without an answer they count inside the window,
//! which restarts nothing that should not be, and the store is asked again after a while.

use std::collections::{BTreeSet, HashMap};

use ebb_units::{Elapsed, Generation, Millis, SeriesId, SlotId};

use super::Filling;
use crate::{
    decide::clock::Now,
    history::{Sample, Slot, Window},
};

/// Further back nobody looks: more than three years at the default lookback.
const BLOCKS_MAX: i64 = 10_000;

/// When a store that failed is asked again.
const AGAIN_AFTER: Elapsed = Elapsed::secs(600);

/// The lifetimes of which a store was asked.
#[derive(Debug, Default)]
pub struct Backfill {
    asked: HashMap<SeriesId, Generation>,
    /// By the steady clock.
    failed_at: Option<Millis>,
}

/// What lifetimes held at the boundaries of the window's blocks, from a moment on.
#[derive(Debug)]
pub struct BackfillQuery {
    /// From when on.
    pub from: Millis,
    /// The window of the blocks.
    pub window: Window,
    /// Time between two samples of a series. None while no series has two.
    pub spacing: Option<Elapsed>,
    lifetimes: HashMap<SeriesId, Generation>,
    sizes: HashMap<SeriesId, Vec<(Millis, u64)>>,
}

impl Backfill {
    /// What to ask, if anything, for a history that is being filled.
    pub fn next(&mut self, filling: &mut Filling) -> Option<BackfillQuery> {
        let Filling { history, window, now, anew, .. } = filling;
        if *anew {
            self.asked.clear();
        }
        history.forget_before(*window);
        let mut lifetimes: HashMap<SeriesId, Generation> = history.begun_earlier().collect();
        self.asked.retain(|series, generation| lifetimes.get(series) == Some(generation));
        lifetimes.retain(|series, generation| self.asked.get(series) != Some(generation));
        let oldest = lifetimes.values().min()?;
        if self.failed_at.is_some_and(|then| now.steady.since(then) < AGAIN_AFTER) {
            return None;
        }
        let reach = window.start().minus(BLOCKS_MAX * window.block_length());
        let from = oldest.started_at().max(reach);
        let spacing = history.spacing();
        Some(BackfillQuery { from, window: *window, spacing, lifetimes, sizes: HashMap::new() })
    }

    /// The store did not answer.
    pub const fn failed(&mut self, now: Now) {
        self.failed_at = Some(now.steady);
    }

    /// Takes in a complete answer. How many instances count from later than their start nevertheless: the store has
    /// nothing from then.
    pub fn accept(&mut self, answered: BackfillQuery, filling: &mut Filling) -> usize {
        let history = &mut filling.history;
        self.failed_at = None;
        for (series, sizes) in &answered.sizes {
            history.go_back(series, answered.lifetimes[series], sizes);
        }
        let slots: BTreeSet<&SlotId> = answered.lifetimes.keys().map(|series| &series.slot).collect();
        let count_from_later = slots.into_iter().filter(|slot| {
            let newest = history.slot(slot).and_then(Slot::newest);
            newest.is_some_and(|newest| newest.counts_since() > newest.started_at())
        });
        let instances = count_from_later.count();
        self.asked.extend(answered.lifetimes);
        instances
    }
}

impl BackfillQuery {
    /// Takes in what the store answers about one series, oldest first: the newest sample before each boundary.
    pub fn take(&mut self, series: &SeriesId, samples: &[Sample]) {
        let Some(generation) = self.lifetimes.get(series) else { return };
        let own = samples.iter().filter(|sample| sample.generation == *generation);
        let at_boundaries = own.map(|sample| (sample.at.plus(Elapsed(1)), sample.bytes));
        // Some servers move the steps of a query to times of their own.
        let at_boundaries =
            at_boundaries.filter(|(boundary, _)| self.window.boundary_up_to(*boundary) == *boundary);
        self.sizes.entry(series.clone()).or_default().extend(at_boundaries);
    }
}

#[cfg(test)]
mod tests {
    use ebb_units::Population;

    use super::*;
    use crate::intake::{Intake, Next, Terms};

    const HOUR: i64 = 3_600_000;
    const STARTED: Generation = Generation(1_800_000);

    fn slot() -> SlotId {
        SlotId {
            population: Population { module: "m".into(), digest: "0123456789ab".into() },
            runner: "r".into(),
            replica: 0,
        }
    }

    /// One instance, started half an hour into 1970, still runs `hours` later, and a window of a day is filled.
    fn filling(next: &Next, hours: i64) -> Filling {
        let terms = Terms {
            keeps_past: true,
            clock_skew: Elapsed(2000),
            overlap: Elapsed::ZERO,
            lookback: Elapsed(24 * HOUR),
        };
        let mut filling = Intake::default().begin(&terms, next, Now::both(Millis(hours * HOUR)));
        let sample = |hour| Sample { at: Millis(hour * HOUR), generation: STARTED, bytes: 20 };
        filling.take(&slot().into(), &(7..=hours).map(sample).collect::<Vec<_>>());
        filling
    }

    #[test]
    fn each_lifetime_is_asked_for_once() {
        let (mut backfill, mut first) = (Backfill::default(), filling(&Next::Anew, 30));
        let query = backfill.next(&mut first).unwrap();
        assert_eq!(query.from, STARTED.started_at());
        // The store knows nothing of it.
        assert_eq!(backfill.accept(query, &mut first), 1);
        let since = Next::Since(Millis(30 * HOUR));
        assert!(backfill.next(&mut filling(&since, 31)).is_none());
        // A history that is filled anew has to be.
        assert!(backfill.next(&mut filling(&Next::Anew, 31)).is_some());
    }

    #[test]
    fn a_store_that_failed_is_asked_again_after_a_while() {
        let mut backfill = Backfill::default();
        assert!(backfill.next(&mut filling(&Next::Anew, 30)).is_some());
        backfill.failed(Now::both(Millis(30 * HOUR)));
        assert!(backfill.next(&mut filling(&Next::Anew, 30)).is_none());
        let mut later = filling(&Next::Anew, 31);
        let query = backfill.next(&mut later).unwrap();
        assert_eq!(backfill.accept(query, &mut later), 1);
    }

    #[test]
    fn only_the_own_size_at_boundaries_is_taken() {
        let (mut backfill, mut filling) = (Backfill::default(), filling(&Next::Anew, 30));
        let mut query = backfill.next(&mut filling).unwrap();
        // A millisecond before a boundary is what a block ends with.
        let ends = |block: i64, generation, bytes| Sample { at: Millis(block * HOUR - 1), generation, bytes };
        let moved = Sample { at: Millis(2 * HOUR + 7), generation: STARTED, bytes: 1 };
        let other = ends(3, Generation(1), 2);
        query.take(&slot().into(), &[ends(1, STARTED, 8), ends(2, STARTED, 10), moved, other]);
        assert_eq!(backfill.accept(query, &mut filling), 0);
        let newest = filling.history.slot(&slot()).and_then(Slot::newest).unwrap();
        assert_eq!(newest.counts_since(), STARTED.started_at());
        assert_eq!((newest.start_bytes(), newest.least_bytes()), (Some(8), 8));
    }
}
