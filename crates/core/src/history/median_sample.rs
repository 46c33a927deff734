//! PURE: medians of lifetimes, added up.

/// The medians of some lifetimes, as their count and exact sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MedianSample {
    pub lifetimes: u64,
    /// Σ 2a.
    pub doubled_sum: u128,
    /// Σ (2a)².
    pub doubled_square_sum: u128,
}

impl MedianSample {
    /// Adds one lifetime, by twice its median in bytes.
    pub(crate) fn push(&mut self, doubled_median: u64) {
        let value = u128::from(doubled_median);
        self.add(Self { lifetimes: 1, doubled_sum: value, doubled_square_sum: value * value });
    }

    /// Adds others.
    pub(crate) const fn add(&mut self, others: Self) {
        self.lifetimes += others.lifetimes;
        self.doubled_sum = self.doubled_sum.saturating_add(others.doubled_sum);
        self.doubled_square_sum = self.doubled_square_sum.saturating_add(others.doubled_square_sum);
    }
}

impl Extend<u64> for MedianSample {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, doubled_medians: I) {
        doubled_medians.into_iter().for_each(|median| self.push(median));
    }
}
