//! PURE: quantiles of the distributions that intervals are made of.

use ebb_units::{ConfidenceLevel, Coverage};
use statrs::distribution::{ChiSquared, Continuous as _, ContinuousCDF as _, Normal, StudentsT};

/// The quantile t_{α/2}(m − 1): a value of Student's t distribution with `degrees_of_freedom` that is
/// exceeded with probability α/2, where 1 − α is `level`.
///
/// `degrees_of_freedom`: at least 1. Agrees with SciPy to 1e-9 relative (`reference/`).
///
/// Source: Mood, Graybill & Boes, *Introduction to the Theory of Statistics* (1974), ch. VIII.
#[must_use]
pub(crate) fn student_t_upper(level: ConfidenceLevel, degrees_of_freedom: u64) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, degrees_of_freedom.max(1) as f64)
        .expect("location 0, scale 1 and positive degrees of freedom are valid");
    let tail = level.upper_tail();
    let quantile = -distribution.inverse_cdf(tail);
    // statrs stops its search at about 1e-8 for some arguments (m = 10,000 at level 0.8); one step of
    // Newton's method from there reaches the precision of its distribution function.
    quantile + (distribution.sf(quantile) - tail) / distribution.pdf(quantile)
}

/// The value of the chi-squared distribution with `degrees_of_freedom` that is exceeded with probability `level`.
pub(crate) fn chi_squared_lower(level: ConfidenceLevel, degrees_of_freedom: u64) -> f64 {
    ChiSquared::new(degrees_of_freedom.max(1) as f64)
        .expect("positive degrees of freedom are valid")
        .inverse_cdf(1.0 - level.get())
}

/// The value z between whose negative and itself the standard normal distribution has the share `coverage`.
pub(crate) fn normal_central(coverage: Coverage) -> f64 {
    -Normal::standard().inverse_cdf((1.0 - coverage.get()) / 2.0)
}
