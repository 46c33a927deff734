//! PURE: the costs of all slots of a population → their average, and what it weighs against a slot's own.

use super::slot::{Others, SlotCost};

/// The cost of all slots of a population.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PopulationCost {
    slots: usize,
    /// Σ time, in seconds.
    seconds: f64,
    /// The average cost, in bytes.
    average_bytes: f64,
    /// See [`PopulationCost::weight_seconds`].
    weight_seconds: Option<f64>,
}

impl PopulationCost {
    /// The cost of all `slots`, in any order.
    pub(crate) fn of(slots: &[SlotCost<'_>]) -> Option<Self> {
        // Sums of floating-point numbers depend on the order of these in their last digits.
        let mut slots: Vec<&SlotCost<'_>> = slots.iter().collect();
        slots.sort_unstable_by(|a, b| a.compare(b));
        let slots = &*slots;
        let seconds = sum(slots, SlotCost::seconds);
        if seconds <= 0.0 {
            return None;
        }
        let average_bytes = highest_average(slots, seconds);
        let population = Self { slots: slots.len(), seconds, average_bytes, weight_seconds: None };
        Some(Self { weight_seconds: population.shrinkage_weight(slots), ..population })
    }

    /// Average cost of the whole population, in bytes.
    pub(crate) const fn average_bytes(&self) -> f64 {
        self.average_bytes
    }

    /// The population without `own`. None when nobody else is in it.
    pub(crate) fn without(&self, own: &SlotCost<'_>) -> Option<Others> {
        let seconds = self.seconds - own.seconds();
        let cost = self.average_bytes * self.seconds - own.cost_given(self.average_bytes);
        (self.slots > 1 && seconds > 0.0).then(|| Others { average_bytes: cost.max(0.0) / seconds, seconds })
    }

    /// For how many seconds of a slot's own experience the others' average stands: the ratio of the variance
    /// within slots to the variance between them. None when the slots do not differ more than chance has it, and while too
    /// few have a past to tell: then nothing speaks against taking them for equal.
    ///
    /// Source: Efron & Morris, *Data Analysis Using Stein's Estimator and Its Generalizations* (1975), with the
    /// moment estimator of the variance between groups by DerSimonian & Laird (1986).
    #[must_use]
    pub(crate) const fn weight_seconds(&self) -> Option<f64> {
        self.weight_seconds
    }

    fn shrinkage_weight(&self, slots: &[&SlotCost<'_>]) -> Option<f64> {
        let repeated = |slot: &SlotCost<'_>| slot.lifetimes > 1;
        let within_seconds = sum(slots, |slot| if repeated(slot) { slot.whole.seconds } else { 0.0 });
        if within_seconds <= 0.0 {
            return None;
        }
        let within = sum(slots, |slot| slot.scatter) / within_seconds;
        let telling = |slot: &SlotCost<'_>| slot.informative_seconds(self.average_bytes);
        let seconds = sum(slots, telling);
        let squares = sum(slots, |slot| telling(slot).powi(2));
        let groups = sum(slots, |slot| if telling(slot) > 0.0 { 1.0 } else { 0.0 });
        // One slot with a past says nothing of how slots differ.
        if groups < 2.0 {
            return None;
        }
        let observed = sum(slots, |slot| {
            let own = telling(slot);
            let excess = slot.cost_given(self.average_bytes) - self.average_bytes * slot.seconds();
            if own > 0.0 { excess * excess / own } else { 0.0 }
        });
        let between = (observed - (groups - 1.0) * within) / (seconds - squares / seconds);
        (between > 0.0).then(|| within / between)
    }
}

/// The highest average in bytes that agrees with what `slots` have seen in `seconds`, to 9 digits.
///
/// By Newton's method within a bracket: with every average, the excess of the cost over what it would be at that average
/// falls in straight lines, by the time that tells of the average.
fn highest_average(slots: &[&SlotCost<'_>], seconds: f64) -> f64 {
    const PRECISION: f64 = 1e-9;
    let cost = |average: f64| sum(slots, |slot| slot.cost_given(average));
    let (mut low, mut high) = (cost(0.0) / seconds, cost(f64::MAX) / seconds);
    let mut guess = high;
    while high - low > high * PRECISION {
        // Also where nothing tells of the average, and the step is no number.
        if !(low < guess && guess < high) {
            guess = f64::midpoint(low, high);
        }
        let excess = cost(guess) - guess * seconds;
        let rounding = guess * seconds * PRECISION;
        let agrees = excess >= -rounding;
        if agrees {
            low = guess;
        } else {
            high = guess;
        }
        // Aims beyond the end of what agrees, from either side, so that the bracket closes on both.
        let aim = if agrees { 1.5 * rounding } else { 0.5 * rounding };
        guess += (excess + aim) / sum(slots, |slot| slot.informative_seconds(guess));
    }
    low
}

fn sum<'a>(slots: &[&SlotCost<'a>], of: impl Fn(&SlotCost<'a>) -> f64) -> f64 {
    slots.iter().map(|slot| of(slot)).sum()
}
