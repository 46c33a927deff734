//! PURE: quantiles of Student's t distribution.

use statrs::distribution::{Continuous as _, ContinuousCDF as _, StudentsT};

use crate::units::ConfidenceLevel;

/// The quantile t_{α/2}(m − 1): a value of Student's t distribution with `degrees_of_freedom` that is
/// exceeded with probability α/2, where 1 − α is `level`.
///
/// `degrees_of_freedom`: at least 1. Agrees with SciPy to 1e-9 relative (`tests/reference/`).
///
/// Source: Mood, Graybill & Boes, *Introduction to the Theory of Statistics* (1974), ch. VIII.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub fn upper_quantile(level: ConfidenceLevel, degrees_of_freedom: u64) -> f64 {
    let distribution = StudentsT::new(0.0, 1.0, degrees_of_freedom.max(1) as f64)
        .expect("location 0, scale 1 and positive degrees of freedom are valid");
    let tail = level.upper_tail();
    let quantile = -distribution.inverse_cdf(tail);
    // statrs stops its search at about 1e-8 for some arguments (m = 10,000 at level 0.8); one step of
    // Newton's method from there reaches the precision of its distribution function.
    quantile + (distribution.sf(quantile) - tail) / distribution.pdf(quantile)
}
