//! How well it is foreseen when an instance reaches its limit: how often it does within the interval that was told.
//! Foreseen from what the shipped rule leaves to be seen, and compared with what comes without restarts.

use std::{fmt::Write as _, path::Path};

use ebb_core::{
    estimate::{
        growth::{GrowthKind, GrowthTrend},
        pace::{Pace, TimeLeft},
    },
    policy::{Policy, Renewal},
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
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
const FIRST_SEED: u64 = 60_000;

const REPLICAS: u32 = 10;

/// When it is foreseen, in simulated days, and until when the truth is looked for.
const FROM_DAY: Tick = 4;
const DAYS: Tick = 12;
const ALL_DAYS: Tick = 40;

/// Limits are so many hours of growth away.
const HOURS: std::ops::Range<f64> = 2.0..96.0;

/// Workloads that go on growing, and whether their pace is taken to stay what it is.
const CASES: [(Workload, bool); 13] = [
    (Workload::Leaks, true),
    (Workload::SlowLeak, true),
    (Workload::Leak100K, true),
    (Workload::Leak30K, true),
    (Workload::LeakingCache, true),
    (Workload::Office, true),
    (Workload::BusyOffice, true),
    (Workload::NightlyBatch, true),
    (Workload::Daily, true),
    (Workload::RareRoute, true),
    (Workload::Mixture, true),
    (Workload::Root, false),
    (Workload::Doubling, false),
];

/// What was found of one workload.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Foreseen {
    workload: &'static str,
    /// Its pace does not change with age.
    is_even: bool,
    /// What was foreseen.
    instances: u64,
    /// The limit was reached before the interval.
    before: u64,
    /// After it.
    after: u64,
    /// It had no end.
    endless: u64,
    /// The median of the ends of intervals over their beginnings.
    width: f64,
}

impl Foreseen {
    fn covered(&self) -> u64 {
        self.instances - self.before - self.after
    }
}

/// Foresees all workloads, with so many seeds each.
pub(crate) fn exhaustion(seeds: u64, wanted: &[String]) -> Vec<Foreseen> {
    let is_wanted =
        |workload: Workload| wanted.is_empty() || wanted.iter().any(|name| name == workload.name());
    CASES
        .into_iter()
        .filter(|(workload, _)| is_wanted(*workload))
        .map(|(workload, is_even)| foreseen(workload, is_even, seeds))
        .collect()
}

fn foreseen(workload: Workload, is_even: bool, seeds: u64) -> Foreseen {
    let told: Vec<_> = (0..seeds).into_par_iter().flat_map(|seed| told(workload, seed)).collect();
    let count = |is: fn(&(TimeLeft, Option<f64>)) -> bool| told.iter().filter(|one| is(one)).count() as u64;
    let mut widths: Vec<_> = told
        .iter()
        .filter_map(|(left, _)| Some(left.high?.as_seconds() / left.low.as_seconds().max(60.0)))
        .collect();
    widths.sort_unstable_by(f64::total_cmp);
    Foreseen {
        workload: workload.name(),
        is_even,
        instances: told.len() as u64,
        before: count(|(left, came)| came.is_some_and(|came| came < left.low.as_seconds() - 60.0)),
        after: count(|(left, came)| {
            left.high.is_some_and(|high| came.is_none_or(|came| came > high.as_seconds() + 60.0))
        }),
        endless: count(|(left, _)| left.high.is_none()),
        width: widths.get(widths.len() / 2).copied().unwrap_or_default(),
    }
}

/// What was told of the instances of one module, and after how many seconds it came.
fn told(workload: Workload, seed: u64) -> Vec<(TimeLeft, Option<f64>)> {
    let traces = workload.fleet(REPLICAS, ALL_DAYS * MINUTES_PER_DAY, FIRST_SEED + seed);
    let rule = rule(Policy::Renewal(Renewal::default()));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut told = Vec::new();
    simulate_watched(&setup(rule), &traces, DAYS * MINUTES_PER_DAY, |tick, Watched { history, fleet }| {
        // At another time of each day.
        if tick < FROM_DAY * MINUTES_PER_DAY || !tick.is_multiple_of(MINUTES_PER_DAY + 187) {
            return;
        }
        let slots = || history.populations().flat_map(|(_, slots)| slots);
        let trend = GrowthTrend::of(slots().map(|(_, slot)| slot));
        let Some(rate) = trend.bytes_per_hour.filter(|_| trend.kind == GrowthKind::Leak) else { return };
        let Some(pace) = Pace::of(slots().map(|(_, slot)| slot)) else { return };
        for (id, slot) in slots() {
            let hours = (random.random_range(HOURS.start.ln()..HOURS.end.ln())).exp();
            let room = hours * rate.mean;
            let Some(left) = pace.of_newest(slot).and_then(|pace| pace.time_to_grow(room)) else { continue };
            told.push((left, fleet.left_alone(id.replica, room).map(|ticks| 60.0 * f64::from(ticks))));
        }
    });
    told
}

/// Writes what was found into `folder`.
///
/// # Errors
/// When that cannot be written.
pub(crate) fn write_exhaustion(found: &[Foreseen], folder: &Path) -> Result<(), ReportError> {
    let even = || found.iter().filter(|found| found.is_even);
    let (all, covered): (u64, u64) =
        even().fold((0, 0), |(all, covered), found| (all + found.instances, covered + found.covered()));
    let percent = |part: u64, all: u64| 100.0 * part as f64 / all.max(1) as f64;
    let mut table = format!(
        "# How well it is foreseen when a limit is reached\n\n\
         Modules of {REPLICAS} replicas under the shipped rule; between day {FROM_DAY} and day {DAYS}, of each that is said to leak, it is foreseen when \
         its instances reach a limit that is {} to {} hours of the module's growth away, if nothing is restarted. Seeds from \
         {FIRST_SEED} on, which nothing was tuned on: `ebb-lab exhaustion`.\n\n\
         Of {all} instances whose pace does not change with their age, {:.1} % reached it within the interval at level 0.9.\n\n\
         | workload | foreseen | within the interval | before | after | interval without end | end over beginning |\n\
         | --- | --: | --: | --: | --: | --: | --: |\n",
        HOURS.start,
        HOURS.end,
        percent(covered, all),
    );
    for one in found {
        let Foreseen { workload, is_even, instances, before, after, endless, width } = one;
        let name = if *is_even { (*workload).to_owned() } else { format!("{workload} (its pace changes)") };
        let _ = writeln!(
            table,
            "| {name} | {instances} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {width:.1} |",
            percent(one.covered(), *instances),
            percent(*before, *instances),
            percent(*after, *instances),
            percent(*endless, *instances),
        );
    }
    write(&folder.join("exhaustion.json"), &serde_json::to_string_pretty(found).expect("it is JSON"))?;
    write(&folder.join("exhaustion.md"), &table)
}
