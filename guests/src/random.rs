//! A deterministic random source: the same seed gives the same guest behaviour on every engine.

use std::ops::RangeInclusive;

/// SplitMix64: one addition and three mixing steps per number, any seed is a good one.
///
/// Source: Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
#[derive(Debug, Clone)]
pub struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    /// A source that starts at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A source for one member of a family, `path` naming it: replica, then perhaps start time.
    ///
    /// Each part goes through the mixer, so that neighbours (replica 0 and 1, seed 1 and 2) share nothing.
    #[must_use]
    pub(crate) fn derived(seed: u64, path: &[u64]) -> Self {
        let state = path.iter().fold(seed, |state, part| Self::new(state).next_u64() ^ part);
        Self::new(Self::new(state).next_u64())
    }

    /// The next number, uniform over all `u64`.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number within `range`, ends included; their order must be ascending.
    pub fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let span = u128::from(range.end() - range.start()) + 1;
        // The high half of a 64 × 64 bit product scales without the bias of a remainder.
        let offset = (u128::from(self.next_u64()) * span) >> 64;
        range.start() + offset as u64
    }

    /// `true` with the given probability, 0 for never and 1 for always.
    pub fn chance(&mut self, probability: f64) -> bool {
        // 53 bits are what an f64 holds exactly, so the left side is uniform over [0, 1).
        let unit = (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_reference_implementation() {
        let mut random = SplitMix64::new(1_234_567);
        // First outputs of the authors' C code for this seed.
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(expected.map(|_| random.next_u64()), expected);
    }

    #[test]
    fn a_range_includes_both_ends_and_nothing_else() {
        let mut random = SplitMix64::new(7);
        let mut seen: Vec<u64> = (0..1_000).map(|_| random.within(&(3..=6))).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [3, 4, 5, 6]);
        assert_eq!(random.within(&(9..=9)), 9);
    }

    #[test]
    fn the_widest_range_does_not_overflow() {
        let mut plain = SplitMix64::new(1);
        let mut scaled = SplitMix64::new(1);
        assert_eq!(scaled.within(&(0..=u64::MAX)), plain.next_u64());
    }

    #[test]
    fn chance_never_happens_at_zero_and_always_at_one() {
        let mut random = SplitMix64::new(3);
        assert!((0..1_000).all(|_| !random.chance(0.0)));
        assert!((0..1_000).all(|_| random.chance(1.0)));
    }

    #[test]
    fn members_of_a_family_differ_and_repeat() {
        let first = |seed, path: &[u64]| SplitMix64::derived(seed, path).next_u64();
        assert_eq!(first(1, &[0]), first(1, &[0]));
        let mut all = vec![first(1, &[0]), first(1, &[1]), first(2, &[0]), first(1, &[0, 5]), first(0, &[0])];
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5);
    }
}
