//! The policies that are compared, each as a sweep of its one knob, all with the shipped guard rails.

use ebb_core::{
    decide::budget::BudgetConfig,
    policy::{
        Adapt, GuardRails, IntervalKind, MaxAge, Policy, Pooling, PopulationKind, Pressure, Renewal, Rule,
        TInterval,
    },
};
use ebb_units::{ByteCount, RestartPrice, Span};

/// A policy and the settings of its knob.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// The name in tables and in `scores.json`.
    pub name: &'static str,
    /// The rule at each setting.
    pub rules: Vec<Rule>,
}

/// A policy with the shipped guard rails.
pub(crate) fn rule(policy: Policy) -> Rule {
    Rule { policy, guard_rails: GuardRails::default() }
}

/// `renewal` at a price of so many MiB held for a minute.
///
/// # Panics
/// When the price is nothing.
pub(crate) fn renewal(pooling: Pooling, mib_minutes: u64) -> Rule {
    let restart_price =
        RestartPrice::new(ByteCount::mib(mib_minutes), Span::secs(60)).expect("a price above nothing");
    rule(Policy::Renewal(Renewal { restart_price, pooling, ..Renewal::default() }))
}

/// `t_interval`.
///
/// # Panics
/// When `level` is no confidence level.
pub(crate) fn t_interval(interval: IntervalKind, adapt: Adapt, level: f64) -> Rule {
    rule(Policy::TInterval(TInterval {
        interval,
        confidence_level: level.try_into().expect("a level between 0 and 1"),
        adapt,
        ..TInterval::default()
    }))
}

/// The paper's interval, of other lifetimes than the paper's. `baseline` counts where it is learned once.
fn confidence(population: PopulationKind, level: f64, baseline: Span) -> Rule {
    rule(Policy::TInterval(TInterval {
        interval: IntervalKind::Confidence,
        confidence_level: level.try_into().expect("a level between 0 and 1"),
        population,
        baseline,
        ..TInterval::default()
    }))
}

/// The paper's rule and nothing else: no guard rails but what arithmetic needs.
///
/// # Panics
/// When `level` is no confidence level.
pub(crate) fn paper(level: f64) -> Rule {
    let mut rule = t_interval(IntervalKind::Confidence, Adapt::Off, level);
    rule.guard_rails =
        GuardRails { min_age: Span::secs(0), min_lifetimes: 2, max_bytes: None, min_reclaim: ByteCount(1) };
    rule
}

/// A budget that puts nothing off.
pub(crate) fn no_budget() -> BudgetConfig {
    BudgetConfig {
        restarts_per_minute: 1_000_000,
        burst: 1_000_000,
        cooldown: Span::secs(0),
        max_ineffective: u32::MAX,
        ..BudgetConfig::default()
    }
}

/// All contenders, for a fleet of `replicas` on a host with `host_bytes` of memory.
pub(crate) fn contenders(replicas: u32, host_bytes: i64) -> Vec<Contender> {
    let prices = || geometric(60.0, 1.9, 13).map(whole);
    let sizes = || geometric(2.4, 1.5, 9);
    let levels = [0.05, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.999_999];
    let by_level = |interval, adapt| levels.map(|level| t_interval(interval, adapt, level)).to_vec();
    let adaptive = |adapt| {
        [0.2, 0.8, 0.99, 0.9999, 0.999_999]
            .map(|level| t_interval(IntervalKind::Prediction, adapt, level))
            .to_vec()
    };
    let static_at = |mib| {
        let mut rule = rule(Policy::Static);
        rule.guard_rails.max_bytes = Some(mebibytes(mib));
        rule
    };
    let pressure_at = |mib: f64| {
        let fleet = mebibytes(mib * f64::from(replicas));
        Pressure { available_below: ByteCount(host_bytes.unsigned_abs()).saturating_sub(fleet) }
    };
    let contender = |name, rules| Contender { name, rules };
    vec![
        contender("renewal", prices().map(|price| renewal(Pooling::Adaptive, price)).collect()),
        contender("renewal_alone", prices().map(|price| renewal(Pooling::Off, price)).collect()),
        contender("t_prediction", by_level(IntervalKind::Prediction, Adapt::Off)),
        contender("t_tolerance", by_level(IntervalKind::Tolerance, Adapt::Off)),
        contender("t_confidence", by_level(IntervalKind::Confidence, Adapt::Off)),
        contender(
            "t_confidence_unforced",
            [0.5, 0.99, 0.9999]
                .map(|level| confidence(PopulationKind::Unforced, level, Span::secs(0)))
                .to_vec(),
        ),
        contender(
            "t_confidence_frozen",
            geometric(1.0, 2.0, 6)
                .map(|hours| confidence(PopulationKind::Frozen, 0.95, Span::secs(whole(hours * 3600.0))))
                .collect(),
        ),
        contender("t_adapt_intent", adaptive(Adapt::Intent)),
        contender("t_adapt_literal", adaptive(Adapt::Literal)),
        contender("static", sizes().map(static_at).collect()),
        contender("largest_first", sizes().map(|mib| rule(Policy::LargestFirst(pressure_at(mib)))).collect()),
        contender("oldest_first", sizes().map(|mib| rule(Policy::OldestFirst(pressure_at(mib)))).collect()),
        contender(
            "max_age",
            geometric(0.5, 1.8, 8)
                .map(|hours| rule(Policy::MaxAge(MaxAge { max_age: Span::secs(whole(hours * 3600.0)) })))
                .collect(),
        ),
        contender("none", vec![rule(Policy::None)]),
    ]
}

fn geometric(first: f64, factor: f64, count: usize) -> impl Iterator<Item = f64> {
    std::iter::successors(Some(first), move |value| Some(value * factor)).take(count)
}

const fn whole(value: f64) -> u64 {
    value as u64
}

fn mebibytes(mib: f64) -> ByteCount {
    ByteCount(whole(mib * 1_048_576.0))
}
