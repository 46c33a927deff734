//! `t_interval`: restart above the upper end of a Student-t interval (Nakagawa & Kushida 2021).

use ebb_units::{ByteCount, ConfidenceLevel, Coverage, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bound::{Bound, Threshold};
use crate::{
    estimate::{Estimate, NoEstimate},
    history::Lifetime,
};

/// What the interval is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntervalKind {
    /// Of the population's mean: the paper. It narrows as lifetimes are added, until about half of the
    /// healthy instances lie above it; only `min_age` and the budget then hold restarts back.
    Confidence,
    /// Of one further lifetime: what a single instance may need.
    Prediction,
    /// Of a share of all lifetimes, `coverage`.
    Tolerance,
}

/// Whose medians make the sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PopulationKind {
    /// Those of all lifetimes: the paper. Restarts make lifetimes short, and so lower the threshold that they come from.
    All,
    /// Of lifetimes that no restart has ended.
    Unforced,
    /// As `unforced`, learned once, `baseline` after the module was first seen, and then fixed; until then, nothing is
    /// restarted. An evaluator started anew learns anew.
    Frozen,
}

/// How the level is set for each instance by its growth (Nakagawa & Kushida 2021, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adapt {
    /// Not at all.
    Off,
    /// What the paper wants: the faster the growth, the wider the interval. So the level rises.
    Intent,
    /// What the paper says: the faster the growth, the lower the level. That narrows the interval.
    Literal,
}

/// Restart above the upper end of an interval of the medians of all lifetimes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct TInterval {
    /// What the interval is for.
    pub interval: IntervalKind,
    // 1 − α of the two-sided interval.
    /// Level of the interval.
    pub confidence_level: ConfidenceLevel,
    /// The share of lifetimes that the interval contains, with `interval: tolerance`.
    pub coverage: Coverage,
    /// How the level adapts to an instance's growth.
    pub adapt: Adapt,
    /// Whose medians make the sample.
    pub population: PopulationKind,
    /// How long a module is watched without restarts, with `population: frozen`.
    pub baseline: Span,
}

impl Default for TInterval {
    fn default() -> Self {
        Self {
            interval: IntervalKind::Prediction,
            confidence_level: 0.99.try_into().expect("0.99 lies between 0 and 1"),
            coverage: 0.99.try_into().expect("0.99 lies between 0 and 1"),
            adapt: Adapt::Off,
            population: PopulationKind::All,
            baseline: Span::secs(3600),
        }
    }
}

/// Levels are told apart by quarters of a doubling of growth, from a quarter of the population's growth to four times
/// it: so one quantile for each step serves all instances. Beyond, levels would be 0 or 1 to all practical purposes.
const STEPS_PER_DOUBLING: f64 = 4.0;
/// Steps on either side of the population's growth.
const STEPS_PER_SIDE: usize = 8;

/// The bounds of one population at each step of growth, in bytes.
pub(crate) type StepBounds = [f64; 2 * STEPS_PER_SIDE + 1];

impl TInterval {
    /// Whether lifetimes that a restart has ended belong to the sample.
    pub(super) const fn counts_replaced(&self) -> bool {
        match self.population {
            PopulationKind::All => true,
            PopulationKind::Unforced | PopulationKind::Frozen => false,
        }
    }

    /// After how long the sample is learned for good.
    pub(super) fn baseline(&self) -> Option<Span> {
        (self.population == PopulationKind::Frozen).then_some(self.baseline)
    }

    /// The bound of a typical instance, and those at each step of growth, from the `estimate` of all lifetimes.
    pub(super) fn learn(&self, estimate: Result<Estimate, NoEstimate>) -> (Threshold, Option<StepBounds>) {
        match estimate {
            Ok(estimate) => {
                let threshold = self.upper_bytes(&estimate, self.confidence_level);
                (Threshold::Bytes(threshold), self.step_bounds(&estimate))
            }
            Err(reason) => (Threshold::Unavailable(reason), None),
        }
    }

    /// The bound of the instance `lifetime` in a population that grows at `mean_slope`, by what was learned of that.
    pub(super) fn bound(
        &self,
        threshold: Threshold,
        step_bounds: Option<&StepBounds>,
        mean_slope: f64,
        lifetime: &Lifetime,
    ) -> Bound {
        if self.adapt == Adapt::Off {
            return Bound {
                threshold_bytes: threshold.bytes(),
                confidence_level: Some(self.confidence_level.get()),
                ..Bound::default()
            };
        }
        let own_slope = lifetime.growth().slope();
        Bound {
            threshold_bytes: step_bounds.map(|bounds| Self::bound_of(bounds, own_slope, mean_slope)),
            confidence_level: Some(self.level(own_slope, mean_slope).get()),
            slope: Some(own_slope),
            cost: None,
        }
    }

    /// The interval's upper end at `level`, in bytes.
    fn upper_bytes(&self, estimate: &Estimate, level: ConfidenceLevel) -> f64 {
        match self.interval {
            IntervalKind::Confidence => estimate.confidence_upper_bytes(level),
            IntervalKind::Prediction => estimate.prediction_upper_bytes(level),
            IntervalKind::Tolerance => estimate.tolerance_upper_bytes(level, self.coverage),
        }
    }

    /// The level for an instance whose memory grows at `slope`, where its population's grows at `mean_slope`, both
    /// in bytes per second: 1 − α^r, r = `slope` / `mean_slope`, so that a typical instance gets the level 1 − α.
    /// With [`Adapt::Literal`], 1 − α^(1/r).
    fn level(&self, slope: f64, mean_slope: f64) -> ConfidenceLevel {
        self.level_at(step(slope, mean_slope))
    }

    /// The interval's upper end at the level of every step, where the level follows growth.
    fn step_bounds(&self, estimate: &Estimate) -> Option<StepBounds> {
        let bound = |step| self.upper_bytes(estimate, self.level_at(step));
        (self.adapt != Adapt::Off).then(|| std::array::from_fn(bound))
    }

    /// Of [`TInterval::step_bounds`], the one at [`TInterval::level`].
    fn bound_of(bounds: &StepBounds, slope: f64, mean_slope: f64) -> f64 {
        bounds[step(slope, mean_slope)]
    }

    fn level_at(&self, step: usize) -> ConfidenceLevel {
        let doublings = (step as f64 - STEPS_PER_SIDE as f64) / STEPS_PER_DOUBLING;
        match self.adapt {
            Adapt::Off => self.confidence_level,
            Adapt::Intent => self.confidence_level.with_alpha_to_the(doublings.exp2()),
            Adapt::Literal => self.confidence_level.with_alpha_to_the((-doublings).exp2()),
        }
    }

    pub(super) fn summary(&self) -> String {
        let kind = match self.interval {
            IntervalKind::Confidence => "confidence".to_owned(),
            IntervalKind::Prediction => "prediction".to_owned(),
            IntervalKind::Tolerance => format!("tolerance of {}", self.coverage.get()),
        };
        let adapt = match self.adapt {
            Adapt::Off => "",
            Adapt::Intent | Adapt::Literal => ", by growth",
        };
        let population = match self.population {
            PopulationKind::All => "",
            PopulationKind::Unforced => ", without restarted ones",
            PopulationKind::Frozen => ", learned once",
        };
        format!("level {}, {kind}{adapt}{population}", self.confidence_level)
    }

    /// `level` is that of the instance, where it has its own.
    pub(super) fn describe(&self, level: Option<f64>) -> String {
        let level = level.and_then(|level| ConfidenceLevel::try_from(level).ok());
        let level = level.unwrap_or(self.confidence_level);
        match self.interval {
            IntervalKind::Confidence => format!("upper end of the confidence interval at level {level}"),
            IntervalKind::Prediction => format!("upper end of the prediction interval at level {level}"),
            IntervalKind::Tolerance => {
                format!(
                    "upper end of the interval that contains {} of lifetimes at level {level}",
                    self.coverage
                )
            }
        }
    }

    /// What a threshold rests on, in words.
    pub(super) fn basis(estimate: &Estimate, mean_slope: f64, bound: &Bound) -> String {
        let hourly = |slope: f64| ByteCount::rounded(slope * 3600.0);
        let slope = bound.slope.map_or_else(String::new, |slope| {
            format!(", growing {}/h where its module grows {}/h", hourly(slope), hourly(mean_slope))
        });
        format!(
            " of {} lifetimes (mean {}, deviation {}{slope})",
            estimate.lifetimes,
            ByteCount::rounded(estimate.mean_bytes),
            ByteCount::rounded(estimate.stddev_bytes)
        )
    }
}

/// Which step of growth an instance is at; the middle one grows as its population does.
fn step(slope: f64, mean_slope: f64) -> usize {
    let doublings = if mean_slope > 0.0 { (slope / mean_slope).log2() } else { 0.0 };
    let side = STEPS_PER_SIDE as f64;
    // Nothing at all is −∞ doublings.
    ((doublings * STEPS_PER_DOUBLING).clamp(-side, side).round() + side) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::history::MedianSample;

    fn policy(adapt: Adapt, level: f64) -> TInterval {
        TInterval {
            interval: IntervalKind::Prediction,
            confidence_level: level.try_into().unwrap(),
            coverage: 0.9.try_into().unwrap(),
            adapt,
            ..TInterval::default()
        }
    }

    #[test]
    fn a_typical_instance_gets_the_configured_level() {
        for adapt in [Adapt::Off, Adapt::Intent, Adapt::Literal] {
            let level = policy(adapt, 0.95).level(7.0, 7.0).get();
            assert!((level - 0.95).abs() < 1e-12, "{adapt:?}: {level}");
            // Nothing grows: nobody grows faster than others.
            assert!((policy(adapt, 0.95).level(0.0, 0.0).get() - 0.95).abs() < 1e-12);
        }
    }

    #[test]
    fn the_two_readings_of_the_paper_are_opposite() {
        // Twice as fast: α = 0.05 → 0.05² = 0.0025, or √0.05 = 0.2236.
        let level = |adapt| policy(adapt, 0.95).level(2.0, 1.0).get();
        assert!((level(Adapt::Intent) - 0.9975).abs() < 1e-12);
        assert!((level(Adapt::Literal) - 0.776_393_202_250_021).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn faster_growth_never_lowers_the_bound_under_intent(
            medians in prop::collection::vec(0..1_u64 << 40, 2..50),
            level in 0.1..0.999_f64, slope in 0.0..1e9_f64, faster in 0.0..1e9_f64, mean in 0.0..1e9_f64,
        ) {
            let mut sample = MedianSample::default();
            sample.extend(medians.iter().map(|median| median * 2));
            let estimate = sample.estimate(2).unwrap();
            for interval in [IntervalKind::Confidence, IntervalKind::Prediction, IntervalKind::Tolerance] {
                let bound = |adapt, slope| {
                    let policy = TInterval { interval, ..policy(adapt, level) };
                    policy.upper_bytes(&estimate, policy.level(slope, mean))
                };
                prop_assert!(bound(Adapt::Intent, slope + faster) >= bound(Adapt::Intent, slope));
                prop_assert!(bound(Adapt::Literal, slope + faster) <= bound(Adapt::Literal, slope));
                prop_assert_eq!(bound(Adapt::Off, slope + faster), bound(Adapt::Off, slope));
            }
        }
    }
}
