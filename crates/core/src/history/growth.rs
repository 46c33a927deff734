//! PURE: by how much lifetimes have grown, and in which time.

use ebb_units::Elapsed;

/// Growth of one lifetime, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    bytes: u128,
    millis: i128,
}

impl Growth {
    pub(super) fn new(bytes: u64, time: Elapsed) -> Self {
        Self { bytes: u128::from(bytes), millis: i128::from(time.0) }
    }

    /// Adds that of others.
    pub(crate) const fn add(&mut self, others: Self) {
        self.bytes += others.bytes;
        self.millis += others.millis;
    }

    /// In bytes per second; 0 where it took no time.
    pub(crate) fn slope(self) -> f64 {
        if self.millis > 0 { self.bytes as f64 * 1000.0 / self.millis as f64 } else { 0.0 }
    }
}
