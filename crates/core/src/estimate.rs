//! PURE: the sample of a population → how much memory its instances need (Nakagawa & Kushida 2021, formulas 1 to 4).
//!
//! Sums are kept as integers. They are exact, so mean and deviation depend on the set of lifetimes alone,
//! never on the order in which a map or a fetch yields them.

pub(crate) mod cost;
pub mod growth;
pub mod pace;
pub(crate) mod quantile;
pub(crate) mod rhythm;
mod seen;
mod steps;
pub mod versions;

use ebb_units::{ConfidenceLevel, Coverage, Elapsed, Span};
use serde::Serialize;

use crate::history::MedianSample;

/// Why there is no estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum NoEstimate {
    /// The sample is too small.
    #[error("{have} lifetimes known, {need} needed")]
    TooFewLifetimes {
        /// Lifetimes in the sample.
        have: u64,
        /// Lifetimes that the estimate needs.
        need: u64,
    },
    /// It is learned only once, and the time for that is not over.
    #[error("the baseline lasts {} more", Span::whole_secs(.left.as_seconds()))]
    Baseline {
        /// Until it is.
        #[serde(rename = "left_millis")]
        left: Elapsed,
    },
    /// The sums of the sample do not fit into 128 bits: values beyond any address space.
    #[error("the medians are too large to be memory sizes")]
    NotSizesOfMemory,
}

/// Mean and deviation of a sample of medians.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Number of lifetimes m; at least 2.
    pub lifetimes: u64,
    /// Mean x̄, in bytes.
    pub mean_bytes: f64,
    /// Unbiased standard deviation u, in bytes.
    pub stddev_bytes: f64,
}

impl MedianSample {
    /// Mean and unbiased deviation of the sample.
    ///
    /// # Errors
    /// [`NoEstimate::TooFewLifetimes`] below `lifetimes_min` medians, and below two in any case.
    pub(crate) fn estimate(&self, lifetimes_min: u64) -> Result<Estimate, NoEstimate> {
        let need = lifetimes_min.max(2);
        if self.lifetimes < need {
            return Err(NoEstimate::TooFewLifetimes { have: self.lifetimes, need });
        }
        let m = u128::from(self.lifetimes);
        // m·Σ(2a)² − (Σ2a)² = 4·m·(m − 1)·u², all in integers: nothing cancels, nothing is rounded.
        let scatter = m
            .checked_mul(self.doubled_square_sum)
            .zip(self.doubled_sum.checked_mul(self.doubled_sum))
            .and_then(|(squares, square)| squares.checked_sub(square))
            .ok_or(NoEstimate::NotSizesOfMemory)?;
        let m = self.lifetimes as f64;
        let variance = scatter as f64 / (4.0 * m * (m - 1.0));
        Ok(Estimate {
            lifetimes: self.lifetimes,
            mean_bytes: self.doubled_sum as f64 / (2.0 * m),
            stddev_bytes: variance.sqrt(),
        })
    }
}

impl Estimate {
    /// Upper end of the Student-t confidence interval of the **mean**: x̄ + t·sqrt(u²/m), in bytes
    /// (Nakagawa & Kushida 2021, formula 4).
    #[must_use]
    pub fn confidence_upper_bytes(&self, level: ConfidenceLevel) -> f64 {
        let m = self.lifetimes as f64;
        self.mean_bytes + self.quantile(level) * (self.stddev_bytes * self.stddev_bytes / m).sqrt()
    }

    /// Upper end of the Student-t prediction interval of **one further lifetime**:
    /// x̄ + t·u·sqrt(1 + 1/m), in bytes.
    ///
    /// Source: Geisser, *Predictive Inference* (1993), ch. 2.
    #[must_use]
    pub fn prediction_upper_bytes(&self, level: ConfidenceLevel) -> f64 {
        let m = self.lifetimes as f64;
        self.mean_bytes + self.quantile(level) * self.stddev_bytes * (1.0 + 1.0 / m).sqrt()
    }

    /// Upper end of the interval that contains the share `coverage` of all lifetimes, with confidence `level`:
    /// x̄ + z·u·sqrt((m − 1)·(1 + 1/m)/χ²), in bytes, where z leaves (1 − coverage)/2 above it in the standard
    /// normal distribution, and χ² leaves 1 − α above it in the chi-squared distribution with m − 1 degrees of
    /// freedom.
    ///
    /// Source: Howe, *Two-Sided Tolerance Limits for Normal Populations* (1969).
    pub(crate) fn tolerance_upper_bytes(&self, level: ConfidenceLevel, coverage: Coverage) -> f64 {
        let m = self.lifetimes as f64;
        let chi_squared = quantile::chi_squared_lower(level, self.lifetimes - 1);
        let factor = quantile::normal_central(coverage) * ((m - 1.0) * (1.0 + 1.0 / m) / chi_squared).sqrt();
        self.mean_bytes + factor * self.stddev_bytes
    }

    fn quantile(&self, level: ConfidenceLevel) -> f64 {
        quantile::student_t_upper(level, self.lifetimes - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample_of(medians: &[u64]) -> MedianSample {
        let mut sample = MedianSample::default();
        sample.extend(medians.iter().map(|median| median * 2));
        sample
    }

    fn level(level: f64) -> ConfidenceLevel {
        level.try_into().unwrap()
    }

    #[test]
    fn fewer_than_two_lifetimes_are_no_sample() {
        let too_few = |have| Err(NoEstimate::TooFewLifetimes { have, need: 2 });
        assert_eq!(sample_of(&[]).estimate(0), too_few(0));
        assert_eq!(sample_of(&[7]).estimate(0), too_few(1));
        assert_eq!(sample_of(&[7, 8]).estimate(3), Err(NoEstimate::TooFewLifetimes { have: 2, need: 3 }));
    }

    #[test]
    fn mean_and_deviation_of_a_worked_example() {
        // 2 4 4 4 5 5 7 9: mean 40/8 = 5; squared deviations 9+1+1+1+0+0+4+16 = 32; u² = 32/7.
        let estimate = sample_of(&[2, 4, 4, 4, 5, 5, 7, 9]).estimate(2).unwrap();
        assert_eq!(estimate.mean_bytes, 5.0);
        assert!((estimate.stddev_bytes - (32.0_f64 / 7.0).sqrt()).abs() < 1e-15);
    }

    #[test]
    fn equal_lifetimes_give_their_size_as_the_bound() {
        let estimate = sample_of(&[1 << 40; 50]).estimate(2).unwrap();
        assert_eq!(estimate.stddev_bytes, 0.0);
        assert_eq!(estimate.confidence_upper_bytes(level(0.9999)), (1_u64 << 40) as f64);
        assert_eq!(estimate.prediction_upper_bytes(level(0.9999)), (1_u64 << 40) as f64);
    }

    #[test]
    fn the_tolerance_factor_is_that_of_the_nist_handbook() {
        // NIST/SEMATECH e-Handbook of Statistical Methods, 7.2.6.3: N = 43, coverage 0.90, confidence 0.99: 2.217.
        let estimate = Estimate { lifetimes: 43, mean_bytes: 0.0, stddev_bytes: 1.0 };
        let factor = estimate.tolerance_upper_bytes(level(0.99), 0.9.try_into().unwrap());
        assert!((factor - 2.217).abs() < 5e-4, "{factor}");
    }

    #[test]
    fn sums_beyond_any_address_space_are_refused_by_name() {
        let mut sample = MedianSample::default();
        sample.extend([u64::MAX; 4]);
        assert_eq!(sample.estimate(2), Err(NoEstimate::NotSizesOfMemory));
    }

    proptest! {
        #[test]
        fn the_order_of_lifetimes_changes_nothing(mut medians in prop::collection::vec(0..1_u64 << 45, 2..200)) {
            let before = sample_of(&medians).estimate(2).unwrap();
            medians.reverse();
            let reversed = sample_of(&medians).estimate(2).unwrap();
            medians.sort_unstable();
            let sorted = sample_of(&medians).estimate(2).unwrap();
            prop_assert_eq!(before.mean_bytes.to_bits(), reversed.mean_bytes.to_bits());
            prop_assert_eq!(before.stddev_bytes.to_bits(), sorted.stddev_bytes.to_bits());
        }

        #[test]
        fn a_higher_level_never_lowers_a_bound(
            medians in prop::collection::vec(0..1_u64 << 45, 2..50),
            low in 0.01..0.98_f64,
            more in 0.001..0.0199_f64,
        ) {
            let estimate = sample_of(&medians).estimate(2).unwrap();
            let (low, high) = (level(low), level(low + more));
            prop_assert!(estimate.confidence_upper_bytes(high) >= estimate.confidence_upper_bytes(low));
            prop_assert!(estimate.prediction_upper_bytes(high) >= estimate.prediction_upper_bytes(low));
            let tolerance = |level| estimate.tolerance_upper_bytes(level, 0.9.try_into().unwrap());
            prop_assert!(tolerance(high) >= tolerance(low));
        }

        #[test]
        fn scaling_all_memory_scales_every_bound(
            medians in prop::collection::vec(0..1_u64 << 40, 2..50),
            scale in 1..1000_u64,
            confidence in 0.01..0.999_f64,
        ) {
            let plain = sample_of(&medians).estimate(2).unwrap();
            let scaled = sample_of(&medians.iter().map(|median| median * scale).collect::<Vec<_>>()).estimate(2).unwrap();
            let (level, coverage) = (level(confidence), 0.9.try_into().unwrap());
            let bounds = |estimate: &Estimate| [
                estimate.confidence_upper_bytes(level),
                estimate.prediction_upper_bytes(level),
                estimate.tolerance_upper_bytes(level, coverage),
            ];
            for (plain, scaled) in bounds(&plain).into_iter().zip(bounds(&scaled)) {
                let expected = plain * scale as f64;
                prop_assert!((scaled - expected).abs() <= 1e-9 * expected.abs() + 1.0, "{scaled} {expected}");
            }
        }

        #[test]
        fn the_bound_for_one_instance_is_never_below_the_bound_of_the_mean(
            medians in prop::collection::vec(0..1_u64 << 45, 2..50),
        ) {
            let estimate = sample_of(&medians).estimate(2).unwrap();
            let level = level(0.95);
            prop_assert!(estimate.prediction_upper_bytes(level) >= estimate.confidence_upper_bytes(level));
        }
    }
}
