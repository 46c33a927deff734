//! How well the kind of growth is told: of modules that leak, how many are found and when; of others, how often they are said to.
//! Under the shipped rule, on seeds that nobody tunes on.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use ebb_core::{
    estimate::growth::{GrowthKind, GrowthTrend},
    policy::{Policy, Renewal},
};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    contender::rule,
    report::{ReportError, write},
    simulate::{Watched, simulate_watched},
    study::{MINUTES_PER_DAY, setup},
    trace::Tick,
    workload::Workload,
};

/// Seeds from here on are for nothing else.
const FIRST_SEED: u64 = 40_000;

const REPLICAS: u32 = 10;

/// The kind is looked at so often.
const EVERY: Tick = 60;

/// Workloads, and of which kind their growth is.
const CASES: [(Workload, GrowthKind); 21] = [
    (Workload::Leaks, GrowthKind::Leak),
    (Workload::SlowLeak, GrowthKind::Leak),
    (Workload::Leak100K, GrowthKind::Leak),
    (Workload::Leak30K, GrowthKind::Leak),
    (Workload::Leak10K, GrowthKind::Leak),
    (Workload::LeakingCache, GrowthKind::Leak),
    (Workload::Office, GrowthKind::Leak),
    (Workload::BusyOffice, GrowthKind::Leak),
    (Workload::NightlyBatch, GrowthKind::Leak),
    (Workload::Daily, GrowthKind::Leak),
    (Workload::Shift, GrowthKind::Leak),
    (Workload::RareRoute, GrowthKind::Leak),
    (Workload::Root, GrowthKind::Leak),
    (Workload::Doubling, GrowthKind::Leak),
    (Workload::HighWater, GrowthKind::Steps),
    (Workload::Bursts, GrowthKind::Steps),
    (Workload::NoGrowth, GrowthKind::Steady),
    (Workload::Cache, GrowthKind::Plateau),
    (Workload::SlowCache, GrowthKind::Plateau),
    (Workload::LargeCache, GrowthKind::Plateau),
    (Workload::OfficeCache, GrowthKind::Plateau),
];

/// What was found of one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    workload: &'static str,
    /// What it is.
    is: GrowthKind,
    seeds: u64,
    days: u32,
    /// Modules that were said to leak in the end.
    leaks: u64,
    /// Modules that were said to leak at some time.
    ever: u64,
    /// The median of the hours until that was said for the first time.
    first_hours: Option<f64>,
    /// How often it began to be said, in all modules.
    alarms: u64,
    /// The same per 100 weeks of a module.
    alarms_per_100_weeks: f64,
    /// How many modules were said to be what, in the end.
    kinds: BTreeMap<GrowthKind, u64>,
}

/// Runs all workloads with so many seeds each.
pub(crate) fn kinds(seeds: u64, days: u32, wanted: &[String]) -> Vec<Told> {
    let is_wanted =
        |workload: Workload| wanted.is_empty() || wanted.iter().any(|name| name == workload.name());
    CASES
        .into_iter()
        .filter(|(workload, _)| is_wanted(*workload))
        .map(|(workload, is)| told(workload, is, seeds, days))
        .collect()
}

/// Of one module: the kind at each look.
fn looks(workload: Workload, seed: u64, days: u32) -> Vec<GrowthKind> {
    let ticks = days * MINUTES_PER_DAY;
    let traces = workload.fleet(REPLICAS, ticks, FIRST_SEED + seed);
    let rule = rule(Policy::Renewal(Renewal::default()));
    let mut looks = Vec::new();
    simulate_watched(&setup(rule), &traces, ticks, |tick, Watched { history, .. }| {
        if tick.is_multiple_of(EVERY) {
            let slots = history.populations().flat_map(|(_, slots)| slots.values());
            looks.push(GrowthTrend::of(slots).kind);
        }
    });
    looks
}

fn told(workload: Workload, is: GrowthKind, seeds: u64, days: u32) -> Told {
    let modules: Vec<_> = (0..seeds).into_par_iter().map(|seed| looks(workload, seed, days)).collect();
    let leaks = |kind: &GrowthKind| *kind == GrowthKind::Leak;
    let mut kinds = BTreeMap::new();
    for module in &modules {
        *kinds.entry(*module.last().expect("there are days")).or_default() += 1;
    }
    let mut firsts: Vec<_> = modules.iter().filter_map(|looks| looks.iter().position(leaks)).collect();
    firsts.sort_unstable();
    let begins = |looks: &Vec<GrowthKind>| {
        let first = u64::from(looks.first().is_some_and(leaks));
        first + looks.windows(2).filter(|pair| !leaks(&pair[0]) && leaks(&pair[1])).count() as u64
    };
    let alarms = modules.iter().map(begins).sum();
    let weeks = seeds as f64 * f64::from(days) / 7.0;
    Told {
        workload: workload.name(),
        is,
        seeds,
        days,
        leaks: kinds.get(&GrowthKind::Leak).copied().unwrap_or(0),
        ever: firsts.len() as u64,
        first_hours: firsts.get(firsts.len() / 2).map(|look| (look + 1) as f64 * f64::from(EVERY) / 60.0),
        alarms,
        alarms_per_100_weeks: 100.0 * alarms as f64 / weeks,
        kinds,
    }
}

/// Writes what was found into `folder`.
///
/// # Errors
/// When that cannot be written.
pub(crate) fn write_kinds(told: &[Told], folder: &Path) -> Result<(), ReportError> {
    let (leaking, others): (Vec<&Told>, Vec<_>) = told.iter().partition(|told| told.is == GrowthKind::Leak);
    let sum = |of: &[&Told], what: fn(&Told) -> u64| of.iter().map(|told| what(told)).sum::<u64>();
    let days = told.first().map_or(0, |told| told.days);
    let weeks = sum(&others, |told| told.seeds) as f64 * f64::from(days) / 7.0;
    let mut table = format!(
        "# How well the kind of growth is told\n\n\
         Modules of {REPLICAS} replicas, {days} simulated days under the shipped rule, looked at every hour, on seeds from {FIRST_SEED} on, \
         which nothing was tuned on: `ebb-lab kinds`.\n\n\
         Of {} modules that leak, {} were said to at some time and {} in the end: \
         those of which growth comes in large steps are now and then said to be `steps`. Of the others, {:.2} in 100 weeks of a module were said to, wrongly.\n\n",
        sum(&leaking, |told| told.seeds),
        sum(&leaking, |told| told.ever),
        sum(&leaking, |told| told.leaks),
        100.0 * sum(&others, |told| told.alarms) as f64 / weeks.max(f64::MIN_POSITIVE),
    );
    table.push_str(
        "| workload | is | said to leak in the end | ever | first said after | alarms per 100 weeks | said in the end |\n\
         | --- | --- | --: | --: | --: | --: | --- |\n",
    );
    for Told { workload, is, seeds, leaks, ever, first_hours, alarms_per_100_weeks, kinds, .. } in told {
        let first = first_hours.map_or_else(|| "–".to_owned(), |hours| format!("{hours:.0} h"));
        let kinds: Vec<_> =
            kinds.iter().map(|(kind, modules)| format!("{} {modules}", kind.name())).collect();
        let _ = writeln!(
            table,
            "| {workload} | {} | {leaks} of {seeds} | {ever} | {first} | {alarms_per_100_weeks:.1} | {} |",
            is.name(),
            kinds.join(", ")
        );
    }
    write(&folder.join("kinds.json"), &serde_json::to_string_pretty(told).expect("it is JSON"))?;
    write(&folder.join("kinds.md"), &table)
}
