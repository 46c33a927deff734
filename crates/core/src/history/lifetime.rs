//! PURE: one lifetime as its growth steps.
//!
//! Linear memory never shrinks, so the series of a lifetime is nondecreasing and sorted already: its
//! median is the value at half of its samples, and the step that they lie in only ever moves forward.

use ebb_units::{Elapsed, Generation, Millis};
use serde::Serialize;

use super::{
    earlier::{Earlier, FIRST_SAMPLE_WITHIN, area},
    growth::Growth,
    sample::Sample,
    window::Window,
};

/// Part of a lifetime in which memory had one size, inside one block of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Linear memory in bytes.
    pub bytes: u64,
    /// Time of its first sample.
    pub at: Millis,
    /// Number of the lifetime's samples before it.
    index: u32,
}

/// Why a lifetime is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// A newer generation was seen in its slot.
    Replaced,
    /// Its memory fell, which one instance's memory never does.
    Discontinued,
}

/// What lived in a slot between two starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    generation: Generation,
    /// When it was started, by the clock that dates the samples.
    started_at: Millis,
    steps: Vec<Step>,
    /// The step of the lower one of its middle samples inside the window. It moves forward alone.
    middle: usize,
    samples: u32,
    last_at: Millis,
    end: Option<End>,
    /// What it held before the window, while it runs: one that is over counts inside the window alone.
    earlier: Option<Box<Earlier>>,
    /// When the lifetime before it was seen last: it cannot have begun earlier.
    not_before: Millis,
    /// Nobody has seen what it started with: it is a simulation's.
    imagined: bool,
    /// Memory × time from the first sample inside the window to the last step, in byte-milliseconds.
    area_before_last_step: u128,
    /// Of a lifetime that is over: what every tick asks of it. Most lifetimes are over.
    settled: Settled,
}

/// What is asked of a lifetime at every tick, and changes no more once it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Settled {
    doubled_median: u64,
    first_bytes: u64,
    bytes: u64,
    seen_from_start: bool,
    counts_since: Millis,
    growth: Growth,
    age: Elapsed,
}

impl Lifetime {
    pub(super) fn starting_with(sample: &Sample, not_before: Millis) -> Self {
        Self {
            not_before,
            generation: sample.generation,
            started_at: sample.generation.started_at(),
            steps: vec![Step { bytes: sample.bytes, at: sample.at, index: 0 }],
            middle: 0,
            samples: 1,
            last_at: sample.at,
            end: None,
            earlier: None,
            imagined: false,
            area_before_last_step: 0,
            settled: Settled::default(),
        }
    }

    /// Nothing is known of a lifetime before it.
    pub(super) fn forget_predecessor(&mut self) {
        if self.not_before > self.started_at {
            self.not_before = Millis(i64::MIN);
            if self.end.is_some() {
                self.settled = self.sought();
            }
        }
        self.not_before = Millis(i64::MIN);
    }

    pub(super) const fn disregard_start(&mut self) {
        self.imagined = true;
    }

    pub(super) fn continues_with(&self, sample: &Sample) -> bool {
        sample.generation == self.generation && sample.bytes >= self.bytes()
    }

    pub(super) fn push(&mut self, window: Window, sample: &Sample) {
        if sample.bytes > self.bytes() || window.block(sample.at) != window.block(self.last_step().at) {
            self.area_before_last_step += area(self.bytes(), self.last_step().at, sample.at);
            self.steps.push(Step { bytes: sample.bytes, at: sample.at, index: self.samples });
        }
        self.samples += 1;
        self.last_at = sample.at;
        self.find_middle();
    }

    pub(super) fn finish(&mut self, end: End) {
        self.end = Some(end);
        self.earlier = None;
        self.steps.shrink_to_fit();
        self.settled = self.sought();
    }

    /// Cuts off the samples before the window; `false` when none is left.
    pub(super) fn forget_before(&mut self, window: Window) -> bool {
        if window.contains(self.steps[0].at) {
            return true;
        }
        let outside = self.steps.partition_point(|step| !window.contains(step.at));
        if self.end.is_none() {
            self.remember_earlier(window, outside);
        }
        self.steps.drain(..outside);
        if self.steps.is_empty() {
            return false;
        }
        self.area_before_last_step = area_of(&self.steps);
        self.middle = self.middle.saturating_sub(outside);
        self.find_middle();
        if self.end.is_some() {
            self.settled = self.sought();
        }
        true
    }

    /// Moves it `by` that much: the clock that dates samples and starts was set by that.
    pub(super) fn shift(&mut self, by: Elapsed) {
        for step in &mut self.steps {
            step.at = step.at.plus(by);
        }
        for at in [&mut self.started_at, &mut self.last_at, &mut self.not_before] {
            *at = at.plus(by);
        }
        if let Some(earlier) = &mut self.earlier {
            earlier.shift(by);
        }
        if self.end.is_some() {
            self.settled = self.sought();
        }
    }

    /// Adds up the first `outside` steps, which are about to leave the window.
    fn remember_earlier(&mut self, window: Window, outside: usize) {
        for place in 0..outside {
            let step = self.steps[place];
            let until = self.steps.get(place + 1).map_or(window.start(), |next| next.at.min(window.start()));
            let (first, last) = (window.boundary_after(step.at), window.boundary_up_to(until));
            if first <= last {
                self.seen_at(window, first, step.bytes);
            }
            if first < last {
                self.seen_at(window, last, step.bytes);
            }
        }
    }

    /// Goes back behind the window: takes in sizes at boundaries of its blocks, as `(boundary, bytes)`, oldest first. Only
    /// while it runs, and where it does not know what was before; sizes that it cannot have had are passed over.
    pub(super) fn go_back(&mut self, window: Window, sizes: &[(Millis, u64)]) {
        if self.end.is_some() || self.earlier.is_some() || self.started_at >= window.start() {
            return;
        }
        // Memory never falls: what lies before a fall was another instance's.
        let mut least = self.steps[0].bytes;
        let own = sizes.iter().rev().take_while(|(_, bytes)| {
            let falls = *bytes > least;
            least = *bytes;
            !falls
        });
        let first = sizes.len() - own.count();
        for (boundary, bytes) in &sizes[first..] {
            if *boundary <= window.start() && *boundary > self.started_at {
                self.seen_at(window, *boundary, *bytes);
            }
        }
        if let Some(earlier) = &self.earlier {
            let bytes = earlier.bytes();
            self.seen_at(window, window.start(), bytes);
        }
    }

    /// Whether it is known what it held before the window.
    pub(super) const fn knows_earlier(&self) -> bool {
        self.earlier.is_some()
    }

    /// It had this size at a boundary that it leaves behind.
    fn seen_at(&mut self, window: Window, boundary: Millis, bytes: u64) {
        match &mut self.earlier {
            Some(earlier) => earlier.go_on_to(window, boundary, bytes),
            None => {
                let started_at = self.started_at;
                self.earlier = Some(Box::new(Earlier::at(window, started_at, boundary, bytes)));
            }
        }
    }

    /// When it began, as far as what was seen before allows.
    fn begun_at(&self) -> Millis {
        self.started_at.max(self.not_before)
    }

    /// When it was started, by the clock that dates the samples.
    pub(crate) const fn started_at(&self) -> Millis {
        self.started_at
    }

    /// The start that began it.
    pub(crate) const fn generation(&self) -> Generation {
        self.generation
    }

    /// Time of its newest sample.
    pub(crate) const fn last_at(&self) -> Millis {
        self.last_at
    }

    /// Its steps inside the window, oldest first; at least one. A step lasts until the next, the last one until
    /// [`Lifetime::last_at`].
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Newest size, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        if self.end.is_some() { self.settled.bytes } else { self.last_step().bytes }
    }

    /// First size inside the window, in bytes.
    pub(crate) fn first_bytes(&self) -> u64 {
        if self.end.is_some() { self.settled.first_bytes } else { self.steps[0].bytes }
    }

    /// Time of its first sample inside the window.
    pub(crate) fn first_at(&self) -> Millis {
        self.steps[0].at
    }

    /// What it started with, in bytes, where that was seen. Of one that began before the window, its size at the end of the
    /// block of the window that it began in.
    pub(crate) fn start_bytes(&self) -> Option<u64> {
        if self.imagined {
            return None;
        }
        if self.seen_from_start() {
            return Some(self.first_bytes());
        }
        self.earlier.as_ref().and_then(|earlier| earlier.start_bytes())
    }

    /// The least size that it was seen with, in bytes.
    pub(crate) fn least_bytes(&self) -> u64 {
        self.earlier.as_ref().map_or_else(|| self.first_bytes(), |earlier| earlier.least_bytes())
    }

    /// Since when it counts: its start where it was seen from there, else the first moment at which it was seen. Of one that
    /// is over, inside the window.
    pub(crate) fn counts_since(&self) -> Millis {
        if self.end.is_some() { self.settled.counts_since } else { self.sought_counts_since() }
    }

    fn sought_counts_since(&self) -> Millis {
        match &self.earlier {
            Some(earlier) => earlier.since(),
            None if self.sought_seen_from_start() => self.begun_at().min(self.first_at()),
            None => self.first_at(),
        }
    }

    /// Whether its first sample tells what it started with: it came within a minute of the start, the longest
    /// usual time between two scrapes. An instance that was old when it was first seen tells nothing of that.
    pub(crate) fn seen_from_start(&self) -> bool {
        if self.end.is_some() { self.settled.seen_from_start } else { self.sought_seen_from_start() }
    }

    /// Why it is over, if a newer one took its place.
    pub(crate) const fn end(&self) -> Option<End> {
        self.end
    }

    /// Number of its samples inside the window.
    pub(crate) fn samples(&self) -> u32 {
        self.samples - self.steps[0].index
    }

    /// The time from its start to its newest sample.
    pub(crate) fn age(&self) -> Elapsed {
        if self.end.is_some() { self.settled.age } else { self.age_at(self.last_at) }
    }

    /// The time from its start to a moment. It is at least as old as it was seen to be, whatever the clock of its runner
    /// said when it started.
    pub(crate) fn age_at(&self, now: Millis) -> Elapsed {
        self.age_between(self.counts_since(), now)
    }

    fn age_between(&self, counts_since: Millis, now: Millis) -> Elapsed {
        now.since(self.started_at.min(counts_since)).max(Elapsed::ZERO)
    }

    /// By how much it grew inside the window.
    pub(crate) fn growth(&self) -> Growth {
        if self.end.is_some() { self.settled.growth } else { self.sought_growth() }
    }

    /// What it has held since [`Lifetime::counts_since`]: memory × time in byte-milliseconds, and that time. The
    /// time between start and first sample counts with the size of that.
    pub(crate) fn area(&self) -> (u128, Elapsed) {
        let first = self.steps[0];
        let since = self.counts_since();
        let before = match &self.earlier {
            Some(earlier) => earlier.area_until(first.at),
            None => area(first.bytes, since, first.at),
        };
        let inside = self.area_before_last_step + area(self.bytes(), self.last_step().at, self.last_at);
        (before + inside, self.last_at.since(since))
    }

    /// What it has held between `from`, or its start if that was later, and the moment since which it counts: with the size
    /// of its first sample.
    pub(crate) fn area_before(&self, from: Millis) -> (u128, Elapsed) {
        let until = self.counts_since();
        let from = self.begun_at().max(from).min(until);
        (area(self.first_bytes(), from, until), until.since(from))
    }

    fn sought(&self) -> Settled {
        let counts_since = self.sought_counts_since();
        Settled {
            doubled_median: self.sought_median(),
            first_bytes: self.steps[0].bytes,
            bytes: self.last_step().bytes,
            counts_since,
            seen_from_start: self.sought_seen_from_start(),
            growth: self.sought_growth(),
            age: self.age_between(counts_since, self.last_at),
        }
    }

    fn sought_seen_from_start(&self) -> bool {
        // A start that lies far ahead was dated by a wrong clock, and tells nothing.
        let age = self.steps[0].at.since(self.started_at);
        age.abs() <= FIRST_SAMPLE_WITHIN
    }

    fn sought_growth(&self) -> Growth {
        let first = self.steps[0];
        Growth::new(self.last_step().bytes - first.bytes, self.last_at.since(first.at))
    }

    /// **Twice** the median of its samples inside the window, in bytes: an integer even where the
    /// median of an even number of samples lies between two of them.
    pub(crate) fn doubled_median(&self) -> u64 {
        if self.end.is_some() { self.settled.doubled_median } else { self.sought_median() }
    }

    fn sought_median(&self) -> u64 {
        let lower = &self.steps[self.middle];
        let upper = self.steps.get(self.middle + 1).filter(|next| next.index <= self.middle_sample(0));
        lower.bytes + upper.unwrap_or(lower).bytes
    }

    /// The number of the middle one of its samples inside the window and `fewer` at their end.
    fn middle_sample(&self, fewer: u32) -> u32 {
        self.steps[0].index + (self.samples() - fewer) / 2
    }

    fn find_middle(&mut self) {
        let lower = self.middle_sample(1);
        while self.steps.get(self.middle + 1).is_some_and(|next| next.index <= lower) {
            self.middle += 1;
        }
    }

    fn last_step(&self) -> &Step {
        self.steps.last().expect("a lifetime has a step from its first sample on")
    }
}

/// Memory × time from the first of `steps` to the last one, in byte-milliseconds.
fn area_of(steps: &[Step]) -> u128 {
    steps.windows(2).map(|pair| area(pair[0].bytes, pair[0].at, pair[1].at)).sum()
}
