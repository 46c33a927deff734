//! PURE: one lifetime as its growth steps.
//!
//! Linear memory never shrinks, so the series of a lifetime is nondecreasing and sorted already: its
//! median is the value at half of its samples, found by a binary search over the steps.

use serde::Serialize;

use super::{Sample, Window};
use crate::units::{Generation, Millis};

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
    steps: Vec<Step>,
    samples: u32,
    last_at: Millis,
    end: Option<End>,
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
    seen_from_start: bool,
    area: u128,
    area_millis: i64,
    grown_bytes: u64,
    grown_millis: i64,
}

impl Lifetime {
    pub(super) fn starting_with(sample: &Sample) -> Self {
        Self {
            generation: sample.generation,
            steps: vec![Step { bytes: sample.bytes, at: sample.at, index: 0 }],
            samples: 1,
            last_at: sample.at,
            end: None,
            area_before_last_step: 0,
            settled: Settled::default(),
        }
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
    }

    pub(super) fn finish(&mut self, end: End) {
        self.end = Some(end);
        self.steps.shrink_to_fit();
        self.settled = self.sought();
    }

    /// Cuts off the samples before the window; `false` when none is left.
    pub(super) fn forget_before(&mut self, window: Window) -> bool {
        if window.contains(self.steps[0].at) {
            return true;
        }
        let outside = self.steps.partition_point(|step| !window.contains(step.at));
        self.steps.drain(..outside);
        if self.steps.is_empty() {
            return false;
        }
        self.area_before_last_step =
            self.steps.windows(2).map(|pair| area(pair[0].bytes, pair[0].at, pair[1].at)).sum();
        if self.end.is_some() {
            self.settled = self.sought();
        }
        true
    }

    /// The start that began it.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Time of its newest sample.
    #[must_use]
    pub const fn last_at(&self) -> Millis {
        self.last_at
    }

    /// Its steps inside the window, oldest first; at least one. A step lasts until the next, the last one until
    /// [`Lifetime::last_at`].
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Newest size, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.last_step().bytes
    }

    /// First size inside the window, in bytes.
    #[must_use]
    pub fn first_bytes(&self) -> u64 {
        if self.end.is_some() { self.settled.first_bytes } else { self.steps[0].bytes }
    }

    /// Time of its first sample inside the window.
    #[must_use]
    pub fn first_at(&self) -> Millis {
        self.steps[0].at
    }

    /// Whether its first sample tells what it started with: it came within a minute of the start, the longest
    /// usual time between two scrapes. An instance that was old when it was first seen tells nothing of that.
    #[must_use]
    pub fn seen_from_start(&self) -> bool {
        if self.end.is_some() { self.settled.seen_from_start } else { self.sought_seen_from_start() }
    }

    /// Why it is over, if a newer one took its place.
    #[must_use]
    pub const fn end(&self) -> Option<End> {
        self.end
    }

    /// Number of its samples inside the window.
    #[must_use]
    pub fn samples(&self) -> u32 {
        self.samples - self.steps[0].index
    }

    /// Milliseconds from its start to its newest sample.
    #[must_use]
    pub fn age_millis(&self) -> i64 {
        self.last_at.since(self.generation.started_at())
    }

    /// Bytes by which it grew inside the window, and the milliseconds in which it did.
    #[must_use]
    pub fn growth(&self) -> (u64, i64) {
        if self.end.is_some() {
            (self.settled.grown_bytes, self.settled.grown_millis)
        } else {
            self.sought_growth()
        }
    }

    /// What it has held inside the window: memory × time in byte-milliseconds, and the milliseconds. Where it
    /// was seen from its start, the time before the first sample counts with the size of the first sample.
    #[must_use]
    pub fn area(&self) -> (u128, i64) {
        if self.end.is_some() { (self.settled.area, self.settled.area_millis) } else { self.sought_area() }
    }

    /// What it has held between `from`, or its start if that was later, and its first sample: with the size of that sample,
    /// as in [`Lifetime::area`].
    #[must_use]
    pub fn area_before_first_sample(&self, from: Millis) -> (u128, i64) {
        let first = self.steps[0];
        let from = self.generation.started_at().max(from).min(first.at);
        (area(first.bytes, from, first.at), first.at.since(from))
    }

    fn sought(&self) -> Settled {
        let (area, area_millis) = self.sought_area();
        let (grown_bytes, grown_millis) = self.sought_growth();
        Settled {
            doubled_median: self.sought_median(),
            first_bytes: self.steps[0].bytes,
            seen_from_start: self.sought_seen_from_start(),
            area,
            area_millis,
            grown_bytes,
            grown_millis,
        }
    }

    fn sought_seen_from_start(&self) -> bool {
        const FIRST_SAMPLE_WITHIN_MILLIS: i64 = 60_000;
        self.steps[0].at.since(self.generation.started_at()) <= FIRST_SAMPLE_WITHIN_MILLIS
    }

    fn sought_growth(&self) -> (u64, i64) {
        (self.bytes() - self.steps[0].bytes, self.last_at.since(self.steps[0].at))
    }

    fn sought_area(&self) -> (u128, i64) {
        let first = self.steps[0];
        let from =
            if self.sought_seen_from_start() { self.generation.started_at().min(first.at) } else { first.at };
        let area = area(first.bytes, from, first.at)
            + self.area_before_last_step
            + area(self.bytes(), self.last_step().at, self.last_at);
        (area, self.last_at.since(from))
    }

    /// **Twice** the median of its samples inside the window, in bytes: an integer even where the
    /// median of an even number of samples lies between two of them.
    #[must_use]
    pub fn doubled_median(&self) -> u64 {
        if self.end.is_some() { self.settled.doubled_median } else { self.sought_median() }
    }

    fn sought_median(&self) -> u64 {
        let first = self.steps[0].index;
        let count = self.samples - first;
        self.nth(first + (count - 1) / 2) + self.nth(first + count / 2)
    }

    /// Size at the lifetime's `n`-th sample.
    fn nth(&self, n: u32) -> u64 {
        self.steps[self.steps.partition_point(|step| step.index <= n) - 1].bytes
    }

    fn last_step(&self) -> &Step {
        self.steps.last().expect("a lifetime has a step from its first sample on")
    }
}

/// `bytes` held from one moment to another, in byte-milliseconds.
fn area(bytes: u64, from: Millis, to: Millis) -> u128 {
    u128::from(bytes) * u128::try_from(to.since(from)).unwrap_or(0)
}
