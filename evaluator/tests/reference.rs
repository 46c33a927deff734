//! The estimate against reference values made with SciPy and mpmath (`reference/student_t.py`).

// The helpers of tests are tests, too.
#![allow(clippy::unwrap_used)]

use ebb_evaluator::{
    rule::{estimate::MedianSample, quantile},
    units::ConfidenceLevel,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    levels: Vec<f64>,
    quantiles: Vec<Quantile>,
    samples: Vec<Sample>,
}

#[derive(Deserialize)]
struct Quantile {
    m: u64,
    level: f64,
    t: f64,
}

#[derive(Deserialize)]
struct Sample {
    name: String,
    m: u64,
    medians_bytes: Option<Vec<u64>>,
    formula_seed: Option<u64>,
    mean_bytes: f64,
    stddev_bytes: f64,
    confidence_upper_bytes: Vec<f64>,
    prediction_upper_bytes: Vec<f64>,
}

impl Sample {
    fn medians(&self) -> Vec<u64> {
        if let Some(medians) = &self.medians_bytes {
            return medians.clone();
        }
        let seed = self.formula_seed.expect("a sample has its medians or a formula's seed");
        (seed..seed + self.m).map(|j| ((j * j * 7919 + j * 104_729) % 1_048_576) * 65_536).collect()
    }
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("reference/student_t.json")).unwrap()
}

fn level(level: f64) -> ConfidenceLevel {
    level.try_into().unwrap()
}

#[track_caller]
fn agree(ours: f64, reference: f64, what: &str) {
    let error = if reference == 0.0 { ours.abs() } else { ((ours - reference) / reference).abs() };
    assert!(error <= 1e-9, "{what}: ours {ours:e}, reference {reference:e}, relative error {error:e}");
}

#[test]
fn quantiles_of_students_t_agree_with_scipy() {
    let quantiles = reference().quantiles;
    assert!(quantiles.len() >= 60, "{} quantiles", quantiles.len());
    for Quantile { m, level: l, t } in quantiles {
        agree(quantile::student_t_upper(level(l), m - 1), t, &format!("t of m = {m} at level {l}"));
    }
}

#[test]
fn mean_deviation_and_bounds_agree_with_scipy() {
    let Reference { levels, samples, .. } = reference();
    assert!(samples.iter().any(|sample| sample.m == 2) && samples.iter().any(|sample| sample.m == 10_000));
    for sample in samples {
        let medians = sample.medians();
        assert_eq!(medians.len() as u64, sample.m, "{}", sample.name);
        let mut ours = MedianSample::default();
        ours.extend(medians.iter().map(|median| median * 2));
        let estimate = ours.estimate(2).unwrap();
        agree(estimate.mean_bytes, sample.mean_bytes, &format!("mean of {}", sample.name));
        agree(estimate.stddev_bytes, sample.stddev_bytes, &format!("deviation of {}", sample.name));
        for (k, l) in levels.iter().enumerate() {
            let name = format!("{} at level {l}", sample.name);
            agree(estimate.confidence_upper_bytes(level(*l)), sample.confidence_upper_bytes[k], &name);
            agree(estimate.prediction_upper_bytes(level(*l)), sample.prediction_upper_bytes[k], &name);
        }
    }
}
