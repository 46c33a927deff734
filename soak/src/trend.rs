//! PURE: readings over time → growth per hour, how sure that is, and whether it matters.
//!
//! Readings in a row resemble each other, and a straight line through all of them would seem far surer than it is. So they are
//! cut into batches, long enough that one hardly resembles the next, and the line is drawn through the batches' medians, which
//! a peak does not move.
//!
//! Source: batch means: Law & Kelton, *Simulation Modeling and Analysis* (1991), section 9.5.3; interval of a slope: Mood,
//! Graybill & Boes, *Introduction to the Theory of Statistics* (1974), ch. X.

use statrs::distribution::{ContinuousCDF as _, StudentsT};

/// Batches of a trend. Fewer tell little, more are alike (Law & Kelton advise 10 to 30).
pub(crate) const BATCHES: usize = 12;

/// A batch with fewer readings has no median to speak of.
const READINGS_MIN: usize = 3;

/// How sure an interval is. Of the 14 trends that are judged of a fleet that does not grow, one soak in 15 would flag one, if no
/// growth were too small to matter.
pub(crate) const CONFIDENCE: f64 = 0.99;

/// A line through readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trend {
    /// Median of the batches, in the readings' unit.
    pub(crate) level: f64,
    /// Growth per hour.
    pub(crate) slope: f64,
    /// The lower end of its confidence interval.
    pub(crate) low: f64,
    /// The upper end.
    pub(crate) high: f64,
}

impl Trend {
    /// The trend of `readings` (hours since the start, value), in order of time. None of too few.
    pub(crate) fn of(readings: &[(f64, f64)]) -> Option<Self> {
        if readings.len() < BATCHES * READINGS_MIN {
            return None;
        }
        let points: Vec<(f64, f64)> = (0..BATCHES)
            .map(|n| &readings[readings.len() * n / BATCHES..readings.len() * (n + 1) / BATCHES])
            .map(|batch| {
                let column = |pick: fn(&(f64, f64)) -> f64| median(batch.iter().map(pick).collect());
                (column(|reading| reading.0), column(|reading| reading.1))
            })
            .collect();
        let count = BATCHES as f64;
        let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
        let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
        if spread <= 0.0 {
            return None;
        }
        let slope = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>() / spread;
        let residuals: f64 = points.iter().map(|(x, y)| (y - mean_y - slope * (x - mean_x)).powi(2)).sum();
        let freedom = count - 2.0;
        let student = StudentsT::new(0.0, 1.0, freedom).expect("ten degrees of freedom are more than none");
        let width =
            student.inverse_cdf(f64::midpoint(1.0, CONFIDENCE)) * (residuals / freedom / spread).sqrt();
        let level = median(points.iter().map(|point| point.1).collect());
        Some(Self { level, slope, low: slope - width, high: slope + width })
    }

    /// What it says of growth, of which `limit` per hour does not matter.
    pub(crate) fn verdict(&self, limit: f64) -> Verdict {
        if self.low > 0.0 && self.slope > limit {
            Verdict::Grows
        } else if self.high <= limit {
            Verdict::Steady
        } else {
            Verdict::Undecided
        }
    }
}

/// What a trend says of growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// More than matters, and beyond noise.
    Grows,
    /// No more than does not matter, as far as the interval reaches.
    Steady,
    /// Noise hides which it is: a longer run tells.
    Undecided,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two hours, a reading each ten seconds, of a level of 100 that grows by `slope` per hour.
    fn readings(slope: f64, mut noise: impl FnMut(usize) -> f64) -> Vec<(f64, f64)> {
        (0..720_u32)
            .map(|n| (f64::from(n) / 360.0, n as usize))
            .map(|(hours, n)| (hours, 100.0 + slope * hours + noise(n)))
            .collect()
    }

    /// Noise of mean 0 and deviation 5 that remembers: each value is 0.9 times the one before, and something new. (A
    /// correlation over some 100 s.)
    fn remembering(seed: u64) -> impl FnMut(usize) -> f64 {
        let (mut state, mut value) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, 0.0);
        move |_| {
            let mut uniform = || {
                // Xorshift (Marsaglia 2003).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX) - 0.5
            };
            // Twelve uniforms have variance 1; √(1 − 0.9²) keeps the deviation at 1.
            let new: f64 = (0..12).map(|_| uniform()).sum();
            value = 0.9 * value + 0.19_f64.sqrt() * new;
            5.0 * value
        }
    }

    #[test]
    fn a_straight_line_is_its_own_trend() {
        let trend = Trend::of(&readings(3.0, |_| 0.0)).unwrap();
        assert!((trend.slope - 3.0).abs() < 1e-9 && (trend.high - trend.low).abs() < 1e-6, "{trend:?}");
        assert!((trend.level - 103.0).abs() < 0.5, "{trend:?}");
        assert_eq!((trend.verdict(2.9), trend.verdict(3.1)), (Verdict::Grows, Verdict::Steady));
    }

    #[test]
    fn the_interval_is_the_textbooks() {
        // Batches of three equal readings: medians 0, 1, 0, 1, … at x = 0 … 11. Slope Σ(x−5.5)(y−0.5)/Σ(x−5.5)² = 3/143,
        // residuals 3 − 3²/143, deviation √(2.93706/10/143) = 0.045321, t(0.995; 10) = 3.169273.
        let readings: Vec<_> = (0..36_u32).map(|n| (f64::from(n / 3), f64::from(n / 3 % 2))).collect();
        let trend = Trend::of(&readings).unwrap();
        assert!((trend.slope - 3.0 / 143.0).abs() < 1e-12, "{trend:?}");
        assert!((trend.high - trend.slope - 3.169_273 * 0.045_321).abs() < 1e-4, "{trend:?}");
    }

    #[test]
    fn noise_that_remembers_is_no_growth_and_a_leak_in_it_is() {
        let flagged = |slope: f64| {
            (1..=200)
                .map(|seed| Trend::of(&readings(slope, remembering(seed))).unwrap().verdict(0.0))
                .filter(|verdict| *verdict == Verdict::Grows)
                .count()
        };
        // One half of a percent of 200 is one; of a straight line through all readings, it would be every fourth.
        assert!(flagged(0.0) <= 4, "{}", flagged(0.0));
        // The interval's half width is about 5 an hour here.
        assert!(flagged(10.0) >= 190, "{}", flagged(10.0));
    }

    #[test]
    fn what_shrinks_or_grows_too_little_to_matter_passes() {
        let verdict = |slope, limit| Trend::of(&readings(slope, remembering(7))).unwrap().verdict(limit);
        assert_eq!(verdict(-30.0, 0.0), Verdict::Steady);
        assert_eq!(verdict(30.0, 40.0), Verdict::Steady);
        assert_eq!(verdict(0.0, 0.0), Verdict::Undecided, "an interval reaches above zero");
    }

    #[test]
    fn a_few_peaks_are_no_growth() {
        let peaks = |n: usize| if n > 600 && n % 40 < 5 { 1000.0 } else { 0.0 };
        assert_ne!(Trend::of(&readings(0.0, peaks)).unwrap().verdict(0.0), Verdict::Grows);
    }

    #[test]
    fn too_few_readings_are_no_trend() {
        assert_eq!(Trend::of(&readings(1.0, |_| 0.0)[..35]), None);
        assert_eq!(Trend::of(&[(1.0, 5.0); 40]), None);
    }
}
