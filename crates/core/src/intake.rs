//! PURE: what to ask a store for, and which of its samples enter the history, whatever the clocks do.
//!
//! **A step of the clock loses nothing.** While this clock and the store's disagree, nothing enters the history and
//! nothing leaves it. A clock that has stepped and agrees with the store's has the history fetched anew; so afterwards it
//! equals that of an evaluator that started then. A store that keeps no past cannot be asked: there, what is known moves with
//! the clock once that has held still for a minute.
//!
//! **Nothing that comes late is missed.** Once a minute a fetch looks back for five, so that what always comes late is found, and
//! how late it comes is learned. Where an answer does not reach back to the newest sample of a series that goes on, or to
//! the first samples of a new one, these are asked for once more.

pub mod backfill;

use std::collections::BTreeMap;

use ebb_units::{Millis, SeriesId};

use crate::{
    decide::{
        clock::{Now, Steps},
        hold::Hold,
    },
    history::{History, Sample, Window},
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
    /// What came after a moment so long ago that it takes a bootstrap.
    CatchUp(Millis),
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
    /// The most that a sample came late, and when that is forgotten.
    late: Option<(i64, Millis)>,
    /// When it was looked for what comes late.
    looked_at: Option<Millis>,
    /// Time between two samples of a series, in milliseconds.
    spacing_millis: Option<i64>,
}

/// A history that is being filled.
#[derive(Debug)]
pub struct Filling {
    history: History,
    anew: bool,
    window: Window,
    now: Now,
    /// By how much the clock was set that dates samples: what is known moves by that, before anything is taken.
    shift_millis: i64,
    /// After when the store was asked; none if that is all there is.
    from: Option<Millis>,
    /// Series of which the answer may lack samples, and after when these lie.
    again: BTreeMap<SeriesId, Millis>,
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

/// A gap longer than this is caught up with by a bootstrap: a tick's query over it could be refused as too large.
const CATCH_UP_MILLIS: i64 = 600_000;

/// Samples are looked for, and those of a series that is new are expected, this late.
const LATE_MILLIS: i64 = 300_000;

/// How often what comes late is looked for.
const LOOK_EVERY_MILLIS: i64 = 60_000;

/// How late samples come is known for as long.
const LATE_FOR_MILLIS: i64 = 3_600_000;

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

    /// The time between two samples of a series, in milliseconds, as of the last answer. None while no series has two.
    #[must_use]
    pub const fn spacing_millis(&self) -> Option<i64> {
        self.spacing_millis
    }

    /// The most that a sample came late within the last hour, in milliseconds.
    #[must_use]
    pub fn late_millis(&self) -> i64 {
        self.late.map_or(0, |(late_millis, _)| late_millis)
    }

    /// What to ask for at `now`.
    pub fn next(&mut self, terms: &Terms, now: Now) -> Next {
        let Some(until) = self.until else { return Next::Anew };
        let step_millis = self.steps.step_millis(now);
        if step_millis.abs() <= terms.clock_skew_millis {
            self.steps.settle();
            let look = self.looked_at.is_none_or(|then| now.steady.since(then) >= LOOK_EVERY_MILLIS);
            let from = until.minus(terms.overlap_millis.max(if look { LATE_MILLIS } else { 0 }));
            let is_long = now.wall.since(until) > CATCH_UP_MILLIS;
            return if is_long && terms.keeps_past { Next::CatchUp(from) } else { Next::Since(from) };
        }
        if terms.keeps_past {
            return Next::Anew;
        }
        if self.steps.still_for_millis(now, terms.clock_skew_millis) < STILL_FOR_MILLIS {
            return Next::Wait(Hold::ClockStepped { by_millis: step_millis });
        }
        Next::Since(now.wall)
    }

    /// Begins to fill the history with what `next` says to ask for.
    #[must_use]
    pub fn begin(&mut self, terms: &Terms, next: &Next, now: Now) -> Filling {
        let anew = *next == Next::Anew;
        let history = if anew { History::default() } else { std::mem::take(&mut self.history) };
        Filling {
            history,
            anew,
            window: Window::ending_at(now.wall, terms.lookback_millis),
            now,
            shift_millis: match self.steps.step_millis(now) {
                step if !terms.keeps_past && step.abs() > terms.clock_skew_millis => step,
                _ => 0,
            },
            from: match next {
                Next::Since(from) if terms.keeps_past => Some(*from),
                _ => None,
            },
            again: BTreeMap::new(),
            until: self.until.filter(|_| !anew),
            spacing_millis: self.spacing_millis.unwrap_or(0),
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
        self.spacing_millis = self.history.spacing_millis();
        self.until = Some(filled.now.wall);
        self.steps.believe(filled.now);
        if filled.from.is_none_or(|from| filled.now.wall.since(from) >= LATE_MILLIS) {
            self.looked_at = Some(filled.now.steady);
        }
        let known = self.late.filter(|(_, until)| !filled.anew && filled.now.steady < *until);
        self.late = known;
        if filled.late_millis > 0 && filled.late_millis >= self.late_millis() {
            self.late = Some((filled.late_millis, filled.now.steady.plus(LATE_FOR_MILLIS)));
        }
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
        let shift_millis = std::mem::take(&mut self.shift_millis);
        if shift_millis != 0 {
            self.history.shift(shift_millis);
        }
        if let Some(after) = self.lacks_before(series, samples) {
            self.again.insert(series.clone(), after);
            return;
        }
        self.observe(series, samples);
    }

    /// After when the store has to be asked once more, if it has: of some series, this answer may lack samples.
    #[must_use]
    pub fn reach_back(&self) -> Option<Millis> {
        self.again.values().min().copied()
    }

    /// Whether so much has to be asked for once more that it takes a bootstrap.
    #[must_use]
    pub fn reaches_far_back(&self) -> bool {
        self.reach_back().is_some_and(|from| self.now.wall.since(from) > CATCH_UP_MILLIS)
    }

    /// Takes in samples of the series that were asked for once more, oldest first; those of others were taken.
    pub fn take_again(&mut self, series: &SeriesId, samples: &[Sample]) {
        if self.again.contains_key(series) {
            self.observe(series, samples);
        }
    }

    /// After when samples lie that `samples` of a series lack: since its newest one, if the answer does not reach back to
    /// that and there is room for another; of a series that is new, since its first ones may have come late.
    fn lacks_before(&self, series: &SeriesId, samples: &[Sample]) -> Option<Millis> {
        let from = self.from?;
        let Some(newest) = self.history.watermark(series) else {
            return Some(self.now.wall.minus(LATE_MILLIS).min(from));
        };
        let next = samples.iter().find(|sample| sample.at > newest)?;
        let is_next = 2 * next.at.since(newest) <= 3 * self.spacing_millis;
        (newest < from && !is_next).then_some(newest)
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
                self.late_millis = self.late_millis.max(late_millis).min(LATE_MILLIS);
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
