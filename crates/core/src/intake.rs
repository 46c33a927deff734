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

use ebb_units::{Elapsed, Millis, SeriesId};

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
    pub lookback: Elapsed,
    /// How far clocks may differ.
    pub clock_skew: Elapsed,
    /// How far a fetch reaches back behind the one before, at least.
    pub overlap: Elapsed,
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
    late: Option<(Elapsed, Millis)>,
    /// When it was looked for what comes late.
    looked_at: Option<Millis>,
    /// Time between two samples of a series.
    spacing: Option<Elapsed>,
}

/// A history that is being filled.
#[derive(Debug)]
pub struct Filling {
    history: History,
    anew: bool,
    window: Window,
    now: Now,
    /// By how much the clock was set that dates samples: what is known moves by that, before anything is taken.
    shift: Elapsed,
    /// After when the store was asked; none if that is all there is.
    from: Option<Millis>,
    /// Series of which the answer may lack samples, and after when these lie.
    again: BTreeMap<SeriesId, Millis>,
    /// Up to when everything was asked for before; none if that was nothing.
    until: Option<Millis>,
    /// Time between two samples of a series.
    spacing: Elapsed,
    /// The latest time that is believed.
    latest: Millis,
    /// Samples that were new.
    pub taken: usize,
    /// Those of them that a fetch before should have had.
    pub late_samples: u64,
    late: Elapsed,
    /// How far ahead of this clock a sample was, at most.
    ahead: Elapsed,
}

/// A gap longer than this is caught up with by a bootstrap: a tick's query over it could be refused as too large.
const CATCH_UP: Elapsed = Elapsed::secs(600);

/// Samples are looked for, and those of a series that is new are expected, this late.
const LATE: Elapsed = Elapsed::secs(300);

/// How often what comes late is looked for.
const LOOK_EVERY: Elapsed = Elapsed::secs(60);

/// How late samples come is known for as long.
const LATE_FOR: Elapsed = Elapsed::secs(3_600);

/// How long a clock that has stepped must hold still where nothing tells whether it is right.
const STILL_FOR: Elapsed = Elapsed::secs(60);

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

    /// The time between two samples of a series, as of the last answer. None while no series has two.
    #[must_use]
    pub const fn spacing(&self) -> Option<Elapsed> {
        self.spacing
    }

    /// The most that a sample came late within the last hour.
    #[must_use]
    pub fn late(&self) -> Elapsed {
        self.late.map_or(Elapsed::ZERO, |(late, _)| late)
    }

    /// What to ask for at `now`.
    pub fn next(&mut self, terms: &Terms, now: Now) -> Next {
        let Some(until) = self.until else { return Next::Anew };
        let step = self.steps.step(now);
        if step.abs() <= terms.clock_skew {
            self.steps.settle();
            let look = self.looked_at.is_none_or(|then| now.steady.since(then) >= LOOK_EVERY);
            let from = until.minus(terms.overlap.max(if look { LATE } else { Elapsed::ZERO }));
            let is_long = now.wall.since(until) > CATCH_UP;
            return if is_long && terms.keeps_past { Next::CatchUp(from) } else { Next::Since(from) };
        }
        if terms.keeps_past {
            return Next::Anew;
        }
        if self.steps.still_for(now, terms.clock_skew) < STILL_FOR {
            return Next::Wait(Hold::ClockStepped { by: step });
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
            window: Window::ending_at(now.wall, terms.lookback),
            now,
            shift: match self.steps.step(now) {
                step if !terms.keeps_past && step.abs() > terms.clock_skew => step,
                _ => Elapsed::ZERO,
            },
            from: match next {
                Next::Since(from) if terms.keeps_past => Some(*from),
                _ => None,
            },
            again: BTreeMap::new(),
            until: self.until.filter(|_| !anew),
            spacing: self.spacing.unwrap_or_default(),
            latest: now.wall.plus(terms.clock_skew),
            taken: 0,
            late_samples: 0,
            late: Elapsed::ZERO,
            ahead: Elapsed::ZERO,
        }
    }

    /// Takes over what was filled by a complete answer. A hold if some of it cannot be right.
    pub fn accept(&mut self, mut filled: Filling) -> Option<Hold> {
        filled.history.forget_before(filled.window);
        self.history = filled.history;
        self.spacing = self.history.spacing();
        self.until = Some(filled.now.wall);
        self.steps.believe(filled.now);
        if filled.from.is_none_or(|from| filled.now.wall.since(from) >= LATE) {
            self.looked_at = Some(filled.now.steady);
        }
        let known = self.late.filter(|(_, until)| !filled.anew && filled.now.steady < *until);
        self.late = known;
        if filled.late > Elapsed::ZERO && filled.late >= self.late() {
            self.late = Some((filled.late, filled.now.steady.plus(LATE_FOR)));
        }
        (filled.ahead > Elapsed::ZERO).then_some(Hold::FutureSample { ahead: filled.ahead })
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
        let shift = std::mem::take(&mut self.shift);
        if shift != Elapsed::ZERO {
            self.history.shift(shift);
        }
        if let Some(after) = self.lacks_before(series, samples) {
            self.again.insert(series.clone(), after);
            return;
        }
        self.observe(series, samples);
    }

    /// What the store has to be asked for once more, if anything: of some series, this answer may lack samples.
    #[must_use]
    pub fn reach_back(&self) -> Option<Next> {
        let from = self.again.values().min().copied()?;
        let is_far = self.now.wall.since(from) > CATCH_UP;
        Some(if is_far { Next::CatchUp(from.max(self.begin())) } else { Next::Since(from) })
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
            return Some(self.now.wall.minus(LATE).min(from));
        };
        let next = samples.iter().find(|sample| sample.at > newest)?;
        let is_next = 2 * next.at.since(newest) <= 3 * self.spacing;
        (newest < from && !is_next).then_some(newest)
    }

    fn observe(&mut self, series: &SeriesId, samples: &[Sample]) {
        let believed = samples.partition_point(|sample| sample.at <= self.latest);
        if let Some(last) = samples[believed..].last() {
            self.ahead = self.ahead.max(last.at.since(self.now.wall));
        }
        let samples = &samples[..believed];
        let taken = self.history.observe(series, self.window, samples.iter().copied());
        self.taken += taken;
        let Some(until) = self.until else { return };
        for sample in &samples[samples.len() - taken..] {
            let late = until.since(sample.at);
            if self.spacing > Elapsed::ZERO && late >= self.spacing {
                self.late_samples += 1;
                self.late = self.late.max(late).min(LATE);
            }
        }
    }

    /// After when everything inside the window lies.
    #[must_use]
    pub const fn begin(&self) -> Millis {
        self.window.start().minus(Elapsed(1))
    }
}

#[cfg(test)]
mod tests;
