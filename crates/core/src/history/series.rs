//! PURE: one series of a slot: the lifetimes that it tells of; several of them: which one to believe, and whether one can.

use std::sync::Arc;

use ebb_units::{Elapsed, Generation, Millis};

use super::{
    ended::{self, Ended},
    lifetime::{End, Lifetime},
    sample::Sample,
    window::Window,
};

/// What one series of a slot has told: the lifetimes that are over and the newest one.
#[derive(Debug)]
pub struct Series {
    labels: Arc<str>,
    finished: Vec<Lifetime>,
    /// What these add up to.
    ended: Ended,
    newest: Option<Lifetime>,
    watermark: Millis,
    /// Times between its newest samples.
    spacings: [Option<Elapsed>; 3],
    /// When a lifetime was told of again that was over, and how long after it was.
    came_back: Option<(Millis, Elapsed)>,
    /// A start that only a simulation has seen.
    imagined: Option<Generation>,
    /// For how long its newest sample tells of the present at least: samples may be far apart.
    patience: Elapsed,
}

/// Series of one slot that cannot all be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contradiction {
    /// Two tell of different instances at the same time: their labels.
    Between(Arc<str>, Arc<str>),
    /// One tells of several instances in turn: its labels.
    Within(Arc<str>),
}

impl Series {
    pub(super) fn starting_with(labels: &Arc<str>, first: &Sample) -> Self {
        Self {
            labels: Arc::clone(labels),
            finished: Vec::new(),
            ended: Ended::default(),
            newest: Some(Lifetime::starting_with(first, Millis(i64::MIN))),
            watermark: first.at,
            spacings: [None; 3],
            came_back: None,
            imagined: None,
            patience: Elapsed::ZERO,
        }
    }

    pub(super) const fn labels(&self) -> &Arc<str> {
        &self.labels
    }

    pub(super) const fn newest(&self) -> Option<&Lifetime> {
        self.newest.as_ref()
    }

    pub(super) const fn ended(&self) -> &Ended {
        &self.ended
    }

    /// What the newest lifetime has held, in byte-seconds, and for how long.
    pub(super) fn newest_held(&self) -> Option<(f64, Elapsed)> {
        self.newest.as_ref().map(|newest| ended::held(self.finished.last(), newest))
    }

    pub(super) fn lifetimes(&self) -> impl Iterator<Item = &Lifetime> {
        self.finished.iter().chain(&self.newest)
    }

    /// Time of its newest sample.
    pub(super) const fn watermark(&self) -> Millis {
        self.watermark
    }

    pub(super) fn live(&self, now: Millis, stale_after: Elapsed) -> Option<&Lifetime> {
        let stale_after = stale_after.max(self.patience);
        self.newest.as_ref().filter(|lifetime| now.since(lifetime.last_at()) <= stale_after)
    }

    /// Takes its newest sample for one of the present for as long as three samples take, and `late`; without that,
    /// for no longer than others.
    pub(super) fn be_patient(&mut self, late: Option<Elapsed>) {
        let spacing = 3 * self.spacing().unwrap_or_default();
        self.patience = late.map_or(Elapsed::ZERO, |late| spacing + late);
    }

    pub(super) fn observe(&mut self, window: Window, sample: Sample) -> bool {
        if sample.at <= self.watermark || !window.contains(sample.at) {
            return false;
        }
        self.spacings = [Some(sample.at.since(self.watermark)), self.spacings[0], self.spacings[1]];
        self.watermark = sample.at;
        match &mut self.newest {
            Some(newest) if newest.continues_with(&sample) => newest.push(window, &sample),
            newest => {
                let end = match newest {
                    // Memory that fell can only be another instance's: linear memory never shrinks.
                    Some(old) if old.generation() == sample.generation => End::Discontinued,
                    _ => End::Replaced,
                };
                if end == End::Replaced
                    && newest.as_ref().is_some_and(|newest| newest.generation() > sample.generation)
                    && let Some(over) =
                        self.finished.iter().rev().find(|over| over.generation() == sample.generation)
                {
                    self.came_back = Some((sample.at, sample.at.since(over.last_at())));
                }
                let before = newest.as_ref().map_or(Millis(i64::MIN), Lifetime::last_at);
                let mut new = Lifetime::starting_with(&sample, before);
                if self.imagined == Some(sample.generation) {
                    new.disregard_start();
                }
                if let Some(mut old) = newest.replace(new) {
                    old.finish(end);
                    self.ended.add(self.finished.last(), &old);
                    self.finished.push(old);
                }
            }
        }
        true
    }

    pub(super) const fn imagine_start(&mut self, generation: Generation) {
        self.imagined = Some(generation);
    }

    pub(super) fn go_back(&mut self, window: Window, generation: Generation, sizes: &[(Millis, u64)]) {
        if let Some(newest) = self.newest.as_mut().filter(|newest| newest.generation() == generation) {
            newest.go_back(window, sizes);
        }
    }

    /// `false` when nothing is left.
    pub(super) fn forget_before(&mut self, window: Window) -> bool {
        self.finished.retain_mut(|lifetime| lifetime.forget_before(window));
        if self.newest.as_mut().is_some_and(|newest| !newest.forget_before(window)) {
            self.newest = None;
        }
        // Nothing is known any more of what was before the first.
        if let Some(first) = self.finished.first_mut().or(self.newest.as_mut()) {
            first.forget_predecessor();
        }
        self.ended = Ended::of(&self.finished);
        self.newest.is_some() || !self.finished.is_empty()
    }

    pub(super) fn shift(&mut self, by: Elapsed) {
        self.finished.iter_mut().chain(&mut self.newest).for_each(|lifetime| lifetime.shift(by));
        self.ended = Ended::of(&self.finished);
        self.watermark = self.watermark.plus(by);
        self.came_back = self.came_back.map(|(at, after)| (at.plus(by), after));
    }

    /// Time between two samples: the median of the newest ones, so that a gap is none of it.
    pub(super) fn spacing(&self) -> Option<Elapsed> {
        match self.spacings {
            [Some(a), Some(b), Some(c)] => Some(a.max(b).min(c).max(a.min(b))),
            [a, Some(b), _] => a.map(|a| a.min(b)),
            [a, None, _] => a,
        }
    }

    fn samples(&self) -> u64 {
        self.lifetimes().map(|lifetime| u64::from(lifetime.samples())).sum()
    }
}

/// Which of `series`, which are in order of their labels, is to be believed.
pub(super) fn choose(series: &[Series], now: Millis, stale_after: Elapsed) -> usize {
    if series.len() < 2 {
        return 0;
    }
    let lives = |series: &Series| series.live(now, stale_after).is_some();
    let any_lives = series.iter().any(lives);
    let samples = |series: &Series| if lives(series) == any_lives { series.samples() } else { 0 };
    most_complete(&series.iter().map(samples).collect::<Vec<_>>())
}

/// The first series that has about as many samples as any. Two that scrape side by side differ by a sample or two; one
/// that was away has missed more.
pub(crate) fn most_complete(samples: &[u64]) -> usize {
    let most = samples.iter().copied().max().unwrap_or(0);
    let enough = most - most / 100 - u64::from(most > 1);
    samples.iter().position(|samples| *samples >= enough).unwrap_or(0)
}

/// Why the series of one slot cannot all be true, if they cannot: an older instance is told of when a newer one was told
/// of already, or memory that fell. Two that are scraped in turn see a restart one after another, and their clocks may
/// differ: by `clock_skew` at most.
pub(super) fn contradiction(
    series: &[Series],
    now: Millis,
    stale_after: Elapsed,
    clock_skew: Elapsed,
) -> Option<Contradiction> {
    let came_back = |series: &&Series| {
        series.came_back.is_some_and(|(at, after)| now.since(at) <= stale_after && after > clock_skew)
    };
    if let Some(series) = series.iter().find(came_back) {
        return Some(Contradiction::Within(Arc::clone(&series.labels)));
    }
    let living = || series.iter().filter_map(|one| Some((one, one.live(now, stale_after)?)));
    for (place, (one, lifetime)) in living().enumerate() {
        for (other, other_lifetime) in living().skip(place + 1) {
            let contradicts =
                contradicts(lifetime, other, clock_skew) || contradicts(other_lifetime, one, clock_skew);
            if contradicts {
                return Some(Contradiction::Between(Arc::clone(&one.labels), Arc::clone(&other.labels)));
            }
        }
    }
    None
}

/// Whether `lifetime` is told of after `other` has told of a later one, or of more memory.
fn contradicts(lifetime: &Lifetime, other: &Series, clock_skew: Elapsed) -> bool {
    let too_late = |known: Millis| lifetime.last_at().since(known) > clock_skew;
    // The first of them: the newest may have begun a moment ago, again and again.
    let later = other.lifetimes().find(|known| known.generation() > lifetime.generation());
    let same = other.newest().filter(|known| known.generation() == lifetime.generation());
    later.is_some_and(|later| too_late(later.first_at()))
        || same.is_some_and(|same| lifetime.bytes() < same.bytes() && too_late(same.last_at()))
}

#[cfg(test)]
mod tests;
