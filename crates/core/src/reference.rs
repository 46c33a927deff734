//! Estimates and thresholds against reference values that others than this code have made: Student's t by SciPy and
//! mpmath (`reference/student_t.py`), `renewal` from its description in the docs alone (`reference/renewal.py`).

use ebb_units::{
    ByteCount, ConfidenceLevel, Elapsed, Generation, Millis, Population, RestartPrice, SlotId, Span,
};
use serde::Deserialize;

use crate::{
    estimate::quantile,
    history::{self, History, MedianSample, Window},
    policy::{DailyRhythm, GuardRails, Policy, Pooling, Renewal, Rule},
};

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
    serde_json::from_str(include_str!("../reference/student_t.json")).unwrap()
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

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Byte-seconds.
    price: u64,
    lookback: i64,
    now: i64,
    pooling: Pooling,
    rhythm: DailyRhythm,
    /// Of each replica (time, generation, bytes).
    replicas: Vec<Vec<(i64, u64, u64)>>,
    thresholds: Vec<Option<f64>>,
    average: f64,
    weight: Option<f64>,
}

impl Case {
    fn slot(replica: usize) -> SlotId {
        let population = Population { module: "m".into(), digest: "d".into() };
        SlotId { population, runner: "r:1".into(), replica: u32::try_from(replica).unwrap() }
    }

    /// A history that has grown sample by sample, as that of an evaluator that ran through.
    fn history(&self) -> History {
        let mut history = History::default();
        let mut samples: Vec<_> = (0..)
            .zip(&self.replicas)
            .flat_map(|(replica, samples)| samples.iter().map(move |sample| (*sample, replica)))
            .collect();
        samples.sort_by_key(|((at, ..), _)| *at);
        for ((at, generation, bytes), replica) in samples {
            let window = Window::ending_at(Millis(at), Elapsed(self.lookback));
            let sample = history::Sample { at: Millis(at), generation: Generation(generation), bytes };
            history.observe(&Self::slot(replica).into(), window, [sample]);
            history.forget_before(window);
        }
        history.forget_before(Window::ending_at(Millis(self.now), Elapsed(self.lookback)));
        history
    }
}

/// The table of the worked example: | replica | start | first sample | MiB at each sample |, 10 s apart.
fn example_of(docs: &str) -> Vec<Vec<(i64, u64, u64)>> {
    let table = docs.split("<!-- example -->").nth(1).unwrap();
    let mut replicas: Vec<Vec<_>> = Vec::new();
    for line in table.lines() {
        let cells: Vec<_> = line.trim_matches(['|', ' ']).split('|').map(str::trim).collect();
        let [replica, start, first, sizes] = cells[..] else { continue };
        let Ok(replica) = replica.parse::<usize>() else { continue };
        replicas.resize(replicas.len().max(replica + 1), Vec::new());
        let (start, first): (u64, i64) = (start.parse().unwrap(), first.parse().unwrap());
        let samples = (0..)
            .zip(sizes.split_whitespace())
            .map(|(n, size)| ((first + 10 * n) * 1000, start * 1000, size.parse::<u64>().unwrap() << 20));
        replicas[replica].extend(samples);
    }
    replicas
}

#[test]
fn thresholds_of_renewal_agree_with_an_independent_computation_and_with_the_docs() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../reference/renewal.json")).unwrap();
    let (mut pooled, mut earlier, mut moved) = (0, 0, 0);
    for case in &cases {
        let restart_price = RestartPrice::new(ByteCount(case.price), Span::secs(1)).unwrap();
        let rule = Rule {
            policy: Policy::Renewal(Renewal { restart_price, pooling: case.pooling, rhythm: case.rhythm }),
            guard_rails: GuardRails {
                min_age: Span::secs(0),
                min_lifetimes: 2,
                max_bytes: None,
                min_reclaim: ByteCount(0),
            },
        };
        let history = case.history();
        let (_, slots) = history.populations().next().unwrap();
        let learned = rule.learn(slots.values());
        // The evaluator finds averages to 9 digits of the cost.
        let near = |ours: f64, reference: f64| (ours / reference - 1.0).abs() < 1e-6;
        let average = learned.threshold.bytes().unwrap();
        assert!(near(average, case.average), "{}: {average} {}", case.name, case.average);
        let weight = learned.cost.unwrap().weight_seconds();
        assert_eq!(weight.is_some(), case.weight.is_some(), "{}: {weight:?} {:?}", case.name, case.weight);
        if let Some((ours, reference)) = weight.zip(case.weight) {
            // A difference of small differences.
            assert!((ours / reference - 1.0).abs() < 1e-5, "{}: {ours} {reference}", case.name);
            pooled += 1;
        }
        for (replica, expected) in case.thresholds.iter().enumerate() {
            let slot = history.slot(&Case::slot(replica)).unwrap();
            let newest = slot.newest().unwrap();
            let bound = rule.bound(&learned, slot, newest, Millis(case.now));
            let found = bound.threshold_bytes;
            moved += usize::from(bound.cost.is_some_and(|cost| cost.rhythm.is_some()));
            let agrees = match (found, expected) {
                (Some(found), Some(expected)) => near(found, *expected),
                (found, expected) => found.is_none() && expected.is_none(),
            };
            assert!(agrees, "{}, replica {replica}: {found:?} {expected:?}", case.name);
            earlier += usize::from(newest.counts_since().0 < case.now - case.lookback);
        }
    }
    assert!(
        pooled > 5 && earlier > 20 && moved > 5,
        "{pooled} cases have a weight, {earlier} lifetimes began before the window, {moved} thresholds follow the day"
    );

    // What the docs say goes in and comes out.
    let docs = include_str!("../../../docs/policies.md");
    let example = &cases[0];
    assert_eq!(example.replicas, example_of(docs), "run crates/core/reference/renewal.py");
    for (replica, threshold) in example.thresholds.iter().flatten().enumerate() {
        let told = format!("replica {replica}: {:.3} MiB", threshold / 1_048_576.0);
        assert!(docs.contains(&told), "docs/policies.md does not say {told:?}");
    }
    for told in [
        format!("*m* = {:.3} MiB", example.average / 1_048_576.0),
        format!("*w* = {:.3} s", example.weight.unwrap()),
    ] {
        assert!(docs.contains(&told), "docs/policies.md does not say {told:?}");
    }
}
