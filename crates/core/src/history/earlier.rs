//! PURE: what a running lifetime held before the window.
//!
//! A lifetime that runs on counts from its start, however long ago that was: an instance that leaks so slowly that the
//! window sees none of it costs its memory all the same. What leaves the window is added up from the sizes at the
//! boundaries of the window's blocks alone, because these are what an evaluator that starts anew can still ask a store
//! for at a bearable price. So both know the same, to the bit.

use ebb_units::{Elapsed, Millis};

use super::window::Window;

/// What a lifetime held before the window's start, as far as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Earlier {
    /// Since when it counts: its start where it was seen from there, else the first boundary at which it was seen.
    since: Millis,
    from_start: bool,
    /// Size at the first boundary, in bytes.
    first_bytes: u64,
    /// The newest boundary.
    boundary: Millis,
    /// Size at the newest boundary, in bytes.
    bytes: u64,
    /// Twice memory × time from `since` to `boundary`, in byte-milliseconds.
    doubled_area: u128,
}

/// A lifetime is taken to be seen from its start where its first sample came within this time after it, the longest
/// usual time between two scrapes.
pub(super) const FIRST_SAMPLE_WITHIN: Elapsed = Elapsed::secs(60);

impl Earlier {
    /// Begins at the first boundary at which a lifetime was seen. From its start to that boundary it counts with the size
    /// there: what it grew by in between is not known, and a size that is too large promises no saving.
    pub(super) fn at(window: Window, started_at: Millis, boundary: Millis, bytes: u64) -> Self {
        let age = boundary.since(started_at);
        let from_start = age >= Elapsed::ZERO && age <= window.block_length() + FIRST_SAMPLE_WITHIN;
        let since = if from_start { started_at } else { boundary };
        let doubled_area = 2 * area(bytes, since, boundary);
        Self { since, from_start, first_bytes: bytes, boundary, bytes, doubled_area }
    }

    /// Goes on to a later boundary. Where boundaries between were missed, nothing is known to have grown until the last
    /// block; inside a block, memory is taken to grow evenly.
    pub(super) fn go_on_to(&mut self, window: Window, boundary: Millis, bytes: u64) {
        let block = boundary.minus(window.block_length());
        if block > self.boundary {
            self.doubled_area += 2 * area(self.bytes, self.boundary, block);
            self.boundary = block;
        }
        self.doubled_area += area(self.bytes, self.boundary, boundary) + area(bytes, self.boundary, boundary);
        self.boundary = boundary;
        self.bytes = bytes;
    }

    pub(super) const fn shift(&mut self, by: Elapsed) {
        self.since = self.since.plus(by);
        self.boundary = self.boundary.plus(by);
    }

    pub(super) const fn since(&self) -> Millis {
        self.since
    }

    /// Size at the first boundary after its start, in bytes; `None` if it was not seen from there.
    pub(super) const fn start_bytes(&self) -> Option<u64> {
        if self.from_start { Some(self.first_bytes) } else { None }
    }

    pub(super) const fn least_bytes(&self) -> u64 {
        self.first_bytes
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Memory × time up to a moment inside the window at which it was seen first, in byte-milliseconds.
    pub(super) const fn area_until(&self, first_at: Millis) -> u128 {
        self.doubled_area / 2 + area(self.bytes, self.boundary, first_at)
    }
}

/// `bytes` held from one moment to another, in byte-milliseconds.
pub(super) const fn area(bytes: u64, from: Millis, to: Millis) -> u128 {
    let millis = to.since(from).0;
    if millis <= 0 { 0 } else { bytes as u128 * millis.unsigned_abs() as u128 }
}
