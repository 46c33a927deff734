//! PURE: what to ask a store for, and which of its samples enter the history, whatever the clocks do.
//!
//! **A step of the clock loses nothing.** While this clock and the store's disagree, nothing enters the history and
//! nothing leaves it. A clock that has stepped and agrees with the store's has the history fetched anew; so afterwards it
//! equals that of an evaluator that started then. A store that keeps no past has to be asked whether the clock holds still.
//!
//! **Nothing that comes late is missed.** A fetch reaches back to the newest sample of each series that is told of, not
//! only to the end of the fetch before; and for a series that is new, once to where its first samples may lie.

use std::collections::BTreeSet;

use crate::{
    history::{History, Sample, Window},
    rule::{
        clock::{Now, Steps},
        hold::Hold,
    },
    units::{Millis, SeriesId},
};

/// How samples are taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How far back lifetimes count.
    pub lookback_millis: i64,
    /// How far clocks may differ.
    pub clock_skew_millis: i64,
    /// How far a fetch reaches back behind the one before, at least.
    pub overlap_millis: i64,
    /// Whether the store knows the past.
    pub keeps_past: bool,
}

/// What to ask the store for.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Everything inside the window, into an empty history.
    Anew,
    /// What came after a moment.
    Since(Millis),
    /// Nothing for now.
    Wait(Hold),
}

/// The history, and up to when it was filled.
#[derive(Debug, Default)]
pub struct Intake {
    history: History,
    /// Up to when everything was asked for.
    until: Option<Millis>,
    steps: Steps,
    /// The most that a sample came late.
    late_millis: i64,
}

/// A history that is being filled.
#[derive(Debug)]
pub struct Filling {
    history: History,
    anew: bool,
    /// Series that are new, and wait for their first samples; none where these cannot be asked for.
    new: Option<BTreeSet<SeriesId>>,
    window: Window,
    now: Now,
    /// Up to when everything was asked for before; none if that was nothing.
    until: Option<Millis>,
    /// Time between two samples of a series.
    spacing_millis: i64,
    /// The latest time that is believed.
    latest: Millis,
    /// Samples that were new.
    pub taken: usize,
    /// Those of them that a fetch before should have had.
    pub late: u64,
    late_millis: i64,
    /// How far ahead of this clock a sample was, at most.
    ahead_millis: i64,
}

/// Series that were told of within this time of the last fetch are waited for. A dead one is alive for that long in
/// Prometheus, too.
const WAITED_FOR_MILLIS: i64 = 300_000;

/// How long a clock that has stepped must hold still where nothing tells whether it is right.
const STILL_FOR_MILLIS: i64 = 60_000;

impl Intake {
    /// What is known.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// As [`Intake::history`], to choose series.
    pub const fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// The most that a sample came late, in milliseconds, five minutes at most.
    #[must_use]
    pub const fn late_millis(&self) -> i64 {
        self.late_millis
    }

    /// What to ask for at `now`.
    pub fn next(&mut self, terms: &Terms, now: Now) -> Next {
        let step_millis = self.steps.step_millis(now);
        let stepped = step_millis.abs() > terms.clock_skew_millis;
        let Some(until) = self.until else { return Next::Anew };
        if !stepped {
            let from = until.minus(terms.overlap_millis);
            let waited_for = self.history.oldest_watermark_since(until.minus(WAITED_FOR_MILLIS));
            return Next::Since(waited_for.map_or(from, |oldest| oldest.min(from)));
        }
        if terms.keeps_past {
            return Next::Anew;
        }
        if self.steps.still_for_millis(now, terms.clock_skew_millis) < STILL_FOR_MILLIS {
            return Next::Wait(Hold::ClockStepped { by_millis: step_millis });
        }
        // What was dated by a clock that was ahead would keep out what comes now.
        self.history.forget_after(now.wall);
        Next::Since(now.wall)
    }

    /// Begins to fill the history with what was asked for.
    #[must_use]
    pub fn begin(&mut self, terms: &Terms, anew: bool, now: Now) -> Filling {
        let spacing_millis = self.history.spacing_millis().unwrap_or(0);
        let history = if anew { History::default() } else { std::mem::take(&mut self.history) };
        Filling {
            history,
            anew,
            new: (terms.keeps_past && !anew).then(BTreeSet::new),
            window: Window::ending_at(now.wall, terms.lookback_millis),
            now,
            until: self.until.filter(|_| !anew),
            spacing_millis,
            latest: Millis(now.wall.0.saturating_add(terms.clock_skew_millis)),
            taken: 0,
            late: 0,
            late_millis: 0,
            ahead_millis: 0,
        }
    }

    /// Takes over what was filled by a complete answer. A hold if some of it cannot be right.
    pub fn accept(&mut self, mut filled: Filling) -> Option<Hold> {
        filled.history.forget_before(filled.window);
        self.history = filled.history;
        self.until = Some(filled.now.wall);
        self.steps.believe(filled.now);
        self.late_millis = if filled.anew { 0 } else { self.late_millis.max(filled.late_millis) };
        (filled.ahead_millis > 0).then_some(Hold::FutureSample { ahead_millis: filled.ahead_millis })
    }

    /// Takes back what was filled by an answer that was not complete: what is in it is right, but not all. Of a history
    /// that was to be fetched anew, the old one stays.
    pub fn refuse(&mut self, filled: Filling) {
        if !filled.anew {
            self.history = filled.history;
        }
    }
}

impl Filling {
    /// Takes in samples of one series, oldest first.
    pub fn take(&mut self, series: &SeriesId, samples: &[Sample]) {
        if let Some(new) = &mut self.new
            && !self.history.knows(series)
        {
            new.insert(series.clone());
            return;
        }
        self.observe(series, samples);
    }

    /// Since when the store has to be asked once more, for series that are new: their samples were passed over.
    pub fn reach_back(&mut self) -> Option<Millis> {
        let is_needed = self.new.as_ref().is_some_and(|new| !new.is_empty());
        is_needed.then(|| self.now.wall.minus(WAITED_FOR_MILLIS))
    }

    /// Takes in samples of a series that is new, oldest first; those of others were taken.
    pub fn take_new(&mut self, series: &SeriesId, samples: &[Sample]) {
        if self.new.as_ref().is_some_and(|new| new.contains(series)) {
            self.observe(series, samples);
        }
    }

    fn observe(&mut self, series: &SeriesId, samples: &[Sample]) {
        let believed = samples.partition_point(|sample| sample.at <= self.latest);
        if let Some(last) = samples[believed..].last() {
            self.ahead_millis = self.ahead_millis.max(last.at.since(self.now.wall));
        }
        let samples = &samples[..believed];
        let taken = self.history.observe(series, self.window, samples.iter().copied());
        self.taken += taken;
        let Some(until) = self.until else { return };
        for sample in &samples[samples.len() - taken..] {
            let late_millis = until.since(sample.at);
            if self.spacing_millis > 0 && late_millis >= self.spacing_millis {
                self.late += 1;
                self.late_millis = self.late_millis.max(late_millis).min(WAITED_FOR_MILLIS);
            }
        }
    }

    /// The window that is filled.
    #[must_use]
    pub const fn window(&self) -> Window {
        self.window
    }

    /// The history as it is filled by now.
    pub const fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }
}

#[cfg(test)]
mod tests;
