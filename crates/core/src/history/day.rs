//! PURE: the time of day, as an angle.
//!
//! Days are counted from midnight UTC. A rhythm needs no time zone: it is found where it is.

use std::f64::consts::TAU;

use ebb_units::{Elapsed, Millis};

/// A day.
pub(crate) const DAY: Elapsed = Elapsed::secs(86_400);

/// Cosine and sine of the time of day, which turns once a day.
pub(crate) fn wave(at: Millis) -> [f64; 2] {
    let (sin, cos) = (TAU * (at.0.rem_euclid(DAY.0) as f64 / DAY.0 as f64)).sin_cos();
    [cos, sin]
}

/// The time between two moments, weighted with the cosine and with the sine of the time of day: ∫cos and ∫sin.
pub(crate) fn weighted(from: Millis, until: Millis) -> [Elapsed; 2] {
    let ([cos_from, sin_from], [cos_until, sin_until]) = (wave(from), wave(until));
    [sin_until - sin_from, cos_from - cos_until]
        .map(|turned| Elapsed((turned * DAY.0 as f64 / TAU).round() as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_whole_days_nothing_is_left_and_over_half_days_most() {
        let hour = |hour: i64| Millis(hour * 3_600_000);
        assert_eq!(weighted(hour(7), hour(31)), [Elapsed::ZERO; 2]);
        // ∫sin over the half turn that begins at midnight is 2, in units of a day over a turn.
        let most = Elapsed((2.0 * 86_400_000.0 / TAU).round() as i64);
        assert_eq!(weighted(hour(0), hour(12)), [Elapsed::ZERO, most]);
        assert_eq!(weighted(hour(-6), hour(6)), [most, Elapsed::ZERO]);
    }
}
