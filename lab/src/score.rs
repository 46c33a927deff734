//! PURE: points of a sweep → how many restarts more than the optimum a policy needs at equal mean memory.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// One run: the fleet's mean memory and its restarts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Mean memory of an instance, in bytes.
    pub mean_bytes: f64,
    /// Restarts per replica and day.
    pub restarts: f64,
}

/// Restarts against mean memory over the sweep of a knob, in order of memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Frontier(pub Vec<Point>);

impl Frontier {
    /// The frontier through `points`, in any order.
    pub(crate) fn new(mut points: Vec<Point>) -> Self {
        points.sort_by(|a, b| a.mean_bytes.total_cmp(&b.mean_bytes));
        Self(points)
    }

    /// Restarts at this mean memory, between the two points around it. None outside of the sweep.
    pub(crate) fn restarts_at(&self, mean_bytes: f64) -> Option<f64> {
        self.between(mean_bytes, |point| (point.mean_bytes, point.restarts))
    }

    /// Mean memory at which there are so many restarts. None outside of the sweep.
    pub(crate) fn mean_bytes_at(&self, restarts: f64) -> Option<f64> {
        self.between(restarts, |point| (point.restarts, point.mean_bytes))
    }

    /// What belongs to `x` between the two points around it. Restarts fall with memory as a power does, so the line
    /// between two points is straight on logarithmic scales; where there are no restarts, on linear ones.
    fn between(&self, x: f64, of: impl Fn(&Point) -> (f64, f64)) -> Option<f64> {
        self.0.windows(2).find_map(|pair| {
            let ((x0, y0), (x1, y1)) = (of(&pair[0]), of(&pair[1]));
            let inside = x0.min(x1) <= x && x <= x0.max(x1);
            let straight = |[x0, y0, x1, y1, x]: [f64; 5]| {
                let share = if x0 == x1 { 0.0 } else { (x - x0) / (x1 - x0) };
                share.mul_add(y1 - y0, y0)
            };
            let values = [x0, y0, x1, y1, x];
            let y = if values.iter().all(|value| *value > 0.0) {
                straight(values.map(f64::ln)).exp()
            } else {
                straight(values)
            };
            inside.then_some(y)
        })
    }
}

/// Restarts per replica and day of the optimum at which policies are compared: from one a day to one an hour.
pub(crate) const LEVELS: [f64; 10] = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0];

/// The restarts of `policy` over those of `optimum` at equal mean memory: geometric mean over the [`LEVELS`] that both
/// sweeps reach, and how many these are.
pub(crate) fn ratio(policy: &Frontier, optimum: &Frontier) -> Option<(f64, usize)> {
    let logarithms: Vec<f64> = LEVELS
        .iter()
        .filter_map(|level| {
            let restarts = policy.restarts_at(optimum.mean_bytes_at(*level)?)?;
            Some((restarts / level).ln())
        })
        .collect();
    let count = logarithms.len();
    (count > 0).then(|| ((logarithms.iter().sum::<f64>() / count as f64).exp(), count))
}

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    /// The median.
    pub median: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The median of `values` with its bootstrap interval (percentiles of the medians of 2,000 resamples). None when there
/// are no values.
pub(crate) fn median(values: &[f64]) -> Option<Estimate> {
    const RESAMPLES: usize = 2000;
    if values.is_empty() {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let resample = (0..values.len()).map(|_| values[random.random_range(0..values.len())]);
            middle(resample.collect())
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    Some(Estimate {
        median: middle(values.to_vec()),
        low: medians[RESAMPLES * 25 / 1000],
        high: medians[RESAMPLES * 975 / 1000 - 1],
    })
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[half - 1], values[half]) } else { values[half] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontier(points: &[(f64, f64)]) -> Frontier {
        Frontier::new(
            points
                .iter()
                .map(|(mean_bytes, restarts)| Point { mean_bytes: *mean_bytes, restarts: *restarts })
                .collect(),
        )
    }

    #[test]
    fn restarts_are_read_between_the_points_of_a_sweep() {
        let frontier = frontier(&[(30.0, 2.0), (10.0, 10.0)]);
        let near = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-9;
        // A power between the two: 10 · (20 / 10)^(ln 0.2 / ln 3).
        let expected = 10.0 * 2_f64.powf(0.2_f64.ln() / 3_f64.ln());
        assert!(near(frontier.restarts_at(20.0), expected));
        assert!(near(frontier.mean_bytes_at(expected), 20.0));
        assert!(near(frontier.restarts_at(30.0), 2.0));
        assert_eq!(frontier.restarts_at(31.0), None);
        assert_eq!(frontier.mean_bytes_at(1.0), None);
    }

    #[test]
    fn towards_no_restarts_the_line_is_straight() {
        let frontier = frontier(&[(10.0, 4.0), (20.0, 0.0)]);
        assert_eq!(frontier.restarts_at(15.0), Some(2.0));
    }

    #[test]
    fn a_policy_that_needs_twice_the_restarts_scores_two() {
        let optimum = frontier(&[(10.0, 30.0), (100.0, 0.5)]);
        let twice = frontier(&[(10.0, 60.0), (100.0, 1.0)]);
        let (score, levels) = ratio(&twice, &optimum).unwrap();
        assert!((score - 2.0).abs() < 1e-12 && levels == LEVELS.len(), "{score} {levels}");
        let (score, _) = ratio(&optimum, &optimum).unwrap();
        assert!((score - 1.0).abs() < 1e-12);
        // Where a policy cannot go, it is not compared.
        let short = frontier(&[(1.0, 60.0), (9.0, 35.0)]);
        assert_eq!(ratio(&short, &optimum), None);
    }

    #[test]
    fn the_interval_of_a_median_contains_it() {
        let found = median(&[1.0, 9.0, 2.0, 8.0, 3.0]).unwrap();
        assert_eq!(found.median, 3.0);
        assert!(found.low <= 3.0 && 3.0 <= found.high && found.low < found.high);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[4.0]), Some(Estimate { median: 4.0, low: 4.0, high: 4.0 }));
    }
}
