//! How well a version is found that grows faster: of modules that are deployed half-way and grow half as fast again since, how many are
//! found; of those that grow as before, how many are said to be worse. Under the shipped rule, on seeds that nobody tunes on.

use std::{fmt::Write as _, path::Path};

use ebb_core::{
    estimate::versions::compared,
    policy::{Policy, Renewal},
};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    contender::rule,
    report::{ReportError, write},
    simulate::{Faults, Setup, Watched, simulate_watched},
    study::{MINUTES_PER_DAY, setup},
    workload::Workload,
};

/// Seeds from here on are for nothing else.
const FIRST_SEED: u64 = 50_000;

const REPLICAS: u32 = 10;

/// Of which half comes before the deploy, and half after it.
const DAYS: u32 = 4;

/// What is known of each version when the comparison counts.
const LIFETIMES: usize = 20;

/// Workloads, and whether the second version grows faster.
const CASES: [(Workload, bool); 8] = [
    (Workload::Faster, true),
    (Workload::Leaks, false),
    (Workload::SlowLeak, false),
    (Workload::Daily, false),
    (Workload::Office, false),
    (Workload::Cache, false),
    (Workload::HighWater, false),
    (Workload::NoGrowth, false),
];

/// What was found of one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    workload: &'static str,
    is_faster: bool,
    seeds: u64,
    /// Modules with enough lifetimes of both versions.
    compared: u64,
    /// Of these, those said to be worse with so many lifetimes, at the first look.
    at_first: u64,
    /// Of all, those said to be worse at any look.
    ever: u64,
}

/// Runs all workloads with so many seeds each.
pub(crate) fn versions(seeds: u64) -> Vec<Found> {
    CASES.into_iter().map(|(workload, is_faster)| found(workload, is_faster, seeds)).collect()
}

fn found(workload: Workload, is_faster: bool, seeds: u64) -> Found {
    let modules: Vec<Vec<bool>> = (0..seeds).into_par_iter().map(|seed| looks(workload, seed)).collect();
    let count = |what: fn(&Vec<bool>) -> bool| modules.iter().filter(|looks| what(looks)).count() as u64;
    Found {
        workload: workload.name(),
        is_faster,
        seeds,
        compared: count(|looks| !looks.is_empty()),
        at_first: count(|looks| looks.first() == Some(&true)),
        ever: count(|looks| looks.contains(&true)),
    }
}

/// Whether the second version is said to be worse, at each look at which enough is known of its growth.
fn looks(workload: Workload, seed: u64) -> Vec<bool> {
    let ticks = DAYS * MINUTES_PER_DAY;
    let traces = workload.fleet(REPLICAS, ticks, FIRST_SEED + seed);
    let faults = Faults { deploys_every: Some(ticks / 2), ..Faults::default() };
    let rule = rule(Policy::Renewal(Renewal::default()));
    let mut looks = Vec::new();
    simulate_watched(&Setup { faults, ..setup(rule) }, &traces, ticks, |tick, Watched { history, .. }| {
        if tick.is_multiple_of(60)
            && let Some((_, comparison)) = compared(history).next()
            && comparison.growth.is_some()
            && comparison.lifetimes.iter().all(|lifetimes| *lifetimes >= LIFETIMES)
        {
            looks.push(comparison.is_regression);
        }
    });
    looks
}

/// Writes what was found into `folder`.
///
/// # Errors
/// When that cannot be written.
pub(crate) fn write_versions(found: &[Found], folder: &Path) -> Result<(), ReportError> {
    let mut table = format!(
        "# How well a version is found that grows faster\n\n\
         Modules of {REPLICAS} replicas, {DAYS} simulated days under the shipped rule with a deploy half-way, looked at every hour once {LIFETIMES} \
         lifetimes of each version are known and the new one was seen for a day, on seeds from {FIRST_SEED} on, which nothing was tuned on: \
         `ebb-lab versions`. In `faster`, the new version grows 1.5 times as fast.\n\n\
         | workload | new version | modules | compared | worse at the first look | worse at any look |\n\
         | --- | --- | --: | --: | --: | --: |\n"
    );
    for Found { workload, is_faster, seeds, compared, at_first, ever } in found {
        let version = if *is_faster { "1.5 times as fast" } else { "as before" };
        let _ = writeln!(table, "| {workload} | {version} | {seeds} | {compared} | {at_first} | {ever} |");
    }
    write(&folder.join("versions.json"), &serde_json::to_string_pretty(found).expect("it is JSON"))?;
    write(&folder.join("versions.md"), &table)
}
