//! PURE: what was seen of one slot, as the one of its series tells it that is believed.

use ebb_units::{Elapsed, Millis};

use super::{
    ended::Ended,
    lifetime::Lifetime,
    series::{self, Series},
    window::Window,
};

/// What is known of one slot: its series, of which one is chosen to tell of its lifetimes.
#[derive(Debug)]
pub struct Slot {
    /// In order of their labels; at least one.
    pub(super) series: Vec<Series>,
    chosen: usize,
}

impl Slot {
    pub(super) fn starting_with(series: Series) -> Self {
        Self { series: vec![series], chosen: 0 }
    }

    /// The newest lifetime. It may be over: see `Slot::live`.
    #[must_use]
    pub fn newest(&self) -> Option<&Lifetime> {
        self.chosen().newest()
    }

    /// All lifetimes, oldest first.
    pub fn lifetimes(&self) -> impl Iterator<Item = &Lifetime> {
        self.chosen().lifetimes()
    }

    /// What those that are over add up to.
    pub(crate) fn ended(&self) -> &Ended {
        self.chosen().ended()
    }

    /// What the newest lifetime has held, in byte-seconds, and for how long.
    pub(crate) fn newest_held(&self) -> Option<(f64, Elapsed)> {
        self.chosen().newest_held()
    }

    /// The least size that a start was seen with here: what a restart goes back to. None while no lifetime
    /// was seen from its start.
    pub(crate) fn fresh_bytes(&self) -> Option<u64> {
        self.ended().fresh_bytes.into_iter().chain(self.newest().and_then(Lifetime::start_bytes)).min()
    }

    /// The least size that was seen here.
    pub(crate) fn least_bytes(&self) -> Option<u64> {
        self.ended().least_bytes.into_iter().chain(self.newest().map(Lifetime::least_bytes)).min()
    }

    /// The instance that lives here at `now`: its newest sample is at most `stale_after` old.
    /// A dead series looks alive for minutes to a query with lookback, so the sample's own age decides.
    pub(crate) fn live(&self, now: Millis, stale_after: Elapsed) -> Option<&Lifetime> {
        self.chosen().live(now, stale_after)
    }

    fn chosen(&self) -> &Series {
        &self.series[self.chosen]
    }

    pub(super) fn choose(&mut self, now: Millis, stale_after: Elapsed) {
        self.chosen = series::choose(&self.series, now, stale_after);
    }

    pub(super) fn series_mut(&mut self, labels: &str) -> Option<&mut Series> {
        self.series.iter_mut().find(|series| **series.labels() == *labels)
    }

    pub(super) fn insert(&mut self, new: Series) {
        let place = self.series.partition_point(|series| series.labels() < new.labels());
        self.series.insert(place, new);
        // What was chosen stays chosen until it is chosen anew.
        self.chosen += usize::from(place <= self.chosen);
    }

    /// Whether a series is left.
    pub(super) fn forget_before(&mut self, window: Window) -> bool {
        let chosen = self.chosen().labels().clone();
        self.series.retain_mut(|series| series.forget_before(window));
        self.chosen = self.series.iter().position(|series| *series.labels() == chosen).unwrap_or(0);
        !self.series.is_empty()
    }
}
