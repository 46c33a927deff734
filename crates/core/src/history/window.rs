//! PURE: the span of time that counts.

use ebb_units::{Elapsed, Millis};

/// The window's start moves in blocks of 1/24 of its length: hourly for a day. Smaller blocks would
/// forget more evenly and cost one more mark per block and lifetime.
const BLOCKS_PER_WINDOW: i64 = 24;

/// The span of time whose samples count: from a block's beginning to `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: Millis,
    block_length: Elapsed,
}

impl Window {
    /// The window that reaches back at least `lookback` from `now`, to the beginning of a block.
    #[must_use]
    pub const fn ending_at(now: Millis, lookback: Elapsed) -> Self {
        let length = if lookback.0 < BLOCKS_PER_WINDOW { 1 } else { lookback.0 / BLOCKS_PER_WINDOW };
        let start = now.minus(lookback).0;
        Self { start: Millis(start - start.rem_euclid(length)), block_length: Elapsed(length) }
    }

    /// The first moment that counts.
    #[must_use]
    pub const fn start(self) -> Millis {
        self.start
    }

    /// Length of a block.
    #[must_use]
    pub const fn block_length(self) -> Elapsed {
        self.block_length
    }

    /// The first boundary between two blocks after a moment.
    #[must_use]
    pub const fn boundary_after(self, at: Millis) -> Millis {
        Millis((self.block(at) + 1).saturating_mul(self.block_length.0))
    }

    /// The last boundary between two blocks up to a moment.
    pub(crate) const fn boundary_up_to(self, at: Millis) -> Millis {
        Millis(self.block(at).saturating_mul(self.block_length.0))
    }

    /// Whether a sample of this moment counts.
    #[must_use]
    pub fn contains(self, at: Millis) -> bool {
        at >= self.start
    }

    /// The number of the block that a moment lies in.
    pub(crate) const fn block(self, at: Millis) -> i64 {
        at.0.div_euclid(self.block_length.0)
    }
}
