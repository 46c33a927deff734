//! What the shipped rule costs at its own price, on seeds that nobody tunes on: memory over time and restarts in one figure,
//! over that of no restarts, of the best size for the module in hindsight, of what a policy could reach that knows how each
//! replica grows, and of an optimum that knows the future.

use std::{fmt::Write as _, path::Path};

use ebb_core::policy::{DailyRhythm, Policy, Renewal, Rule};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    contender::rule,
    optimum::{Outcome, optimum},
    reference::{known_sizes, replay, replay_by_hour},
    report::{ReportError, write},
    score::{Estimate, median},
    simulate::{Faults, Setup, simulate},
    study::{MINUTES_PER_DAY, setup},
    trace::{Tick, Trace},
    workload::Workload,
};

/// Seeds from here on are for nothing else.
const FIRST_SEED: u64 = 10_000;

/// So long a replica is watched until all is known of how it grows.
const WATCHED_DAYS: u32 = 100;

/// A workload, and what else happens to it.
#[derive(Clone, Copy, Debug)]
struct Case {
    workload: Workload,
    replicas: u32,
    days: u32,
    /// In words, for the table.
    also: &'static str,
    faults: Faults,
}

/// What was found of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Costs {
    workload: String,
    replicas: u32,
    days: u32,
    #[serde(skip_serializing_if = "String::is_empty", default)]
    also: String,
    seeds: u64,
    /// With and without the daily rhythm.
    auto: Cost,
    off: Cost,
}

/// Medians over the seeds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cost {
    over_best_size: Estimate,
    over_never: Estimate,
    /// None where growth is not the same every day.
    over_online: Option<Estimate>,
    /// None where an optimum is not known: what instances hold depends on their own past.
    over_optimum: Option<Estimate>,
    /// Of the whole fleet.
    restarts: Estimate,
}

fn cases() -> Vec<Case> {
    let case = Case::of;
    let alone = |workload, days| Case { replicas: 1, ..case(workload, days) };
    let reboots = |workload| Case {
        also: "all started anew every 33 h",
        faults: Faults { reboots_every: Some(2000), ..Faults::default() },
        ..case(workload, 10)
    };
    let deploys = |workload| Case {
        also: "a deploy every two days",
        faults: Faults { deploys_every: Some(2 * MINUTES_PER_DAY), ..Faults::default() },
        ..case(workload, 10)
    };
    vec![
        case(Workload::Daily, 10),
        case(Workload::Daily, 24),
        case(Workload::SummerTime, 10),
        case(Workload::Office, 10),
        case(Workload::BusyOffice, 10),
        case(Workload::Weekly, 28),
        case(Workload::NightlyBatch, 10),
        case(Workload::NightlyBatch, 24),
        deploys(Workload::Office),
        reboots(Workload::Office),
        case(Workload::Cache, 10),
        case(Workload::SlowCache, 10),
        case(Workload::OfficeCache, 10),
        reboots(Workload::Cache),
        reboots(Workload::OfficeCache),
        deploys(Workload::Cache),
        case(Workload::LargeCache, 10),
        case(Workload::LeakingCache, 10),
        case(Workload::CachesAndOffice, 10),
        case(Workload::RareRoute, 10),
        case(Workload::Root, 10),
        case(Workload::Doubling, 10),
        case(Workload::FlashCrowd, 10),
        case(Workload::Storage, 10),
        case(Workload::Python, 10),
        case(Workload::Axum, 10),
        case(Workload::Leaks, 10),
        case(Workload::HighWater, 10),
        case(Workload::Bursts, 10),
        case(Workload::Mixture, 10),
        case(Workload::SlowLeak, 10),
        case(Workload::Shift, 10),
        alone(Workload::Leak10K, 120),
        case(Workload::Leak10K, 120),
        alone(Workload::Leak30K, 60),
        case(Workload::Leak30K, 60),
        alone(Workload::Leak100K, 60),
        case(Workload::Leak100K, 60),
        case(Workload::NoGrowth, 30),
    ]
}

/// Runs all cases with so many seeds each.
pub(crate) fn costs(seeds: u64) -> Vec<Costs> {
    cases().into_iter().map(|case| case.run(seeds)).collect()
}

/// The cost in byte-minutes, over each of what it is compared with, and the restarts.
struct Found {
    best_size: f64,
    never: f64,
    cost: f64,
    optimum: Option<f64>,
    restarts: f64,
}

impl Case {
    /// Twelve replicas, and nothing else happens.
    fn of(workload: Workload, days: u32) -> Self {
        Self { workload, replicas: 12, days, also: "", faults: Faults::default() }
    }

    fn run(&self, seeds: u64) -> Costs {
        let seeds_of_it = (FIRST_SEED..FIRST_SEED + seeds).into_par_iter();
        let found: Vec<_> = seeds_of_it.map(|seed| (self.of_seed(seed), self.online(seed))).collect();
        let cost = |place: usize| {
            let of = |figure: &dyn Fn(&Found) -> Option<f64>| {
                median(&found.iter().filter_map(|(both, _)| figure(&both[place])).collect::<Vec<_>>())
            };
            let over_online = found.iter().filter_map(|(both, online)| Some(both[place].cost / (*online)?));
            let all = |figure: fn(&Found) -> f64| of(&|found| Some(figure(found))).expect("at least a seed");
            Cost {
                over_best_size: all(|found| found.best_size),
                over_never: all(|found| found.never),
                over_online: median(&over_online.collect::<Vec<_>>()),
                over_optimum: of(&|found| found.optimum),
                restarts: all(|found| found.restarts),
            }
        };
        let (workload, also) = (self.workload.name().to_owned(), self.also.to_owned());
        let Self { replicas, days, .. } = *self;
        Costs { workload, replicas, days, also, seeds, auto: cost(0), off: cost(1) }
    }

    /// With and without the daily rhythm.
    fn of_seed(&self, seed: u64) -> [Found; 2] {
        let ticks = self.days * MINUTES_PER_DAY;
        let traces = self.workload.fleet(self.replicas, ticks, seed);
        let price = price();
        let never = at_size(&traces, ticks, i64::MAX, price);
        let best = best_size(&traces, ticks, price);
        let least = traces.iter().all(Trace::is_exogenous).then(|| {
            let of_one = |trace: &Trace| optimum(trace, ticks, &[price])[0].cost(price);
            traces.iter().map(of_one).sum::<i64>() as f64
        });
        [DailyRhythm::Auto, DailyRhythm::Off].map(|rhythm| {
            let setup = Setup { faults: self.faults, ..setup(shipped(rhythm)) };
            let outcome: Outcome = simulate(&setup, &traces, ticks).outcome;
            let cost = outcome.cost(price) as f64;
            Found {
                best_size: cost / best as f64,
                never: cost / never as f64,
                cost,
                optimum: least.map(|least| cost / least),
                restarts: outcome.restarts as f64,
            }
        })
    }

    /// What the fleet costs with each replica restarted above the best sizes that could be known of it.
    fn online(&self, seed: u64) -> Option<f64> {
        let by_hour = by_hour(self.workload).filter(|_| self.also.is_empty())?;
        let watched = WATCHED_DAYS * MINUTES_PER_DAY;
        let (known, price) = (self.workload.fleet(self.replicas, watched, seed), price());
        let traces = self.workload.fleet(self.replicas, self.days * MINUTES_PER_DAY, seed);
        let sizes = known.iter().map(|trace| known_sizes(trace, watched, price, by_hour));
        let cost = |(trace, sizes)| replay_by_hour(trace, self.days * MINUTES_PER_DAY, &sizes).cost(price);
        Some(traces.iter().zip(sizes).map(cost).sum::<i64>() as f64)
    }
}

/// Whether growth is the same at all hours (false), or on all days (true), as far as a size tells how it goes on.
const fn by_hour(workload: Workload) -> Option<bool> {
    match workload {
        Workload::Leaks
        | Workload::HighWater
        | Workload::Bursts
        | Workload::Mixture
        | Workload::SlowLeak
        | Workload::Leak10K
        | Workload::Leak30K
        | Workload::Leak100K
        | Workload::RareRoute => Some(false),
        Workload::Daily
        | Workload::Office
        | Workload::BusyOffice
        | Workload::NightlyBatch
        | Workload::Storage
        | Workload::Python
        | Workload::Axum => Some(true),
        _ => None,
    }
}

/// The shipped rule.
fn shipped(rhythm: DailyRhythm) -> Rule {
    rule(Policy::Renewal(Renewal { rhythm, ..Renewal::default() }))
}

/// The price of a restart in byte-minutes.
fn price() -> i64 {
    (Renewal::default().restart_price.byte_seconds() / 60.0) as i64
}

/// The cost with all replicas restarted above one size.
fn at_size(traces: &[Trace], ticks: Tick, size: i64, price: i64) -> i64 {
    traces.iter().map(|trace| replay(trace, ticks, size).cost(price)).sum()
}

/// The cost at the size that is the best for the module, in hindsight.
fn best_size(traces: &[Trace], ticks: Tick, price: i64) -> i64 {
    const STEPS: usize = 80;
    let base = traces.iter().map(|trace| trace.base).min().unwrap_or_default();
    // From a little above what an instance starts with, in steps of 1/12, to some 600 times that.
    let sizes = std::iter::successors(Some(base + base / 24), |size| Some(size + size / 12)).take(STEPS);
    let costs = sizes.chain([i64::MAX]).map(|size| at_size(traces, ticks, size, price));
    costs.min().expect("the ladder has steps")
}

/// Writes `costs.json` and `costs.md` into `folder`.
///
/// # Errors
/// [`ReportError`].
pub(crate) fn write_costs(costs: &[Costs], folder: &Path) -> Result<(), ReportError> {
    let json = serde_json::to_string_pretty(costs).expect("costs are JSON");
    write(&folder.join("costs.json"), &(json + "\n"))?;
    write(&folder.join("costs.md"), &text(costs))
}

fn text(costs: &[Costs]) -> String {
    let seeds = costs.first().map_or(0, |costs| costs.seeds);
    let mut text = format!(
        "# What does it cost?\n\nWritten by `ebb-lab costs --seeds {seeds}`; nothing in it is written by hand.\n\n\
         The shipped rule at its own price: memory over time, and {price} for each restart, in one figure. That figure over \
         the one of no restarts; of one fixed size for the whole module, the best in hindsight, each restart at once; of the \
         online bound, where growth is the same every day: the best size for each replica, by the hour where growth has a rhythm, as known \
         from {WATCHED_DAYS} days of it; and of an optimum that knows the future, where one can be computed. A scrape and a tick a minute, shipped \
         guard rails, budget and lookback. Median over {seeds} seeds that nothing was tuned on, with its 95 % bootstrap \
         interval; restarts are the fleet's. Each with `rhythm: off → auto`.\n\n\
         | workload | replicas | days | over the best fixed size | over no restarts | over the online bound | over the optimum | restarts |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |\n",
        price = Renewal::default().restart_price,
    );
    for Costs { workload, replicas, days, also, auto, off, .. } in costs {
        let also = if also.is_empty() { String::new() } else { format!(", {also}") };
        let both = |of: fn(&Cost) -> Option<Estimate>| match (of(off), of(auto)) {
            (Some(off), Some(auto)) => {
                format!("{:.3} → {:.3} [{:.3}, {:.3}]", off.median, auto.median, auto.low, auto.high)
            }
            _ => "–".to_owned(),
        };
        let _ = writeln!(
            text,
            "| `{workload}`{also} | {replicas} | {days} | {} | {} | {} | {} | {:.0} → {:.0} |",
            both(|cost| Some(cost.over_best_size)),
            both(|cost| Some(cost.over_never)),
            both(|cost| cost.over_online),
            both(|cost| cost.over_optimum),
            off.restarts.median,
            auto.restarts.median,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(workload: Workload, days: u32, faults: Faults) -> [Found; 2] {
        Case { faults, ..Case::of(workload, days) }.of_seed(1)
    }

    #[test]
    fn a_rhythm_is_found_where_traffic_has_one() {
        for (workload, at_most) in [(Workload::Office, 0.92), (Workload::Daily, 0.96)] {
            let [auto, off] = found(workload, 8, Faults::default());
            assert!(auto.never < at_most * off.never, "{workload:?}: {} {}", auto.never, off.never);
        }
    }

    #[test]
    fn a_leak_that_the_lookback_does_not_see_costs_what_it_must() {
        for replicas in [1, 12] {
            let case = Case { replicas, ..Case::of(Workload::Leak30K, 60) };
            for found in case.of_seed(1) {
                assert!((1.0..=1.02).contains(&found.optimum.unwrap()), "{replicas}: {:?}", found.optimum);
                assert!(found.never < 0.5, "{replicas}: {}", found.never);
            }
        }
    }

    #[test]
    fn a_cache_that_costs_less_than_a_restart_is_left_alone() {
        let reboots = Faults { reboots_every: Some(2000), ..Faults::default() };
        for faults in [Faults::default(), reboots] {
            for workload in [Workload::Cache, Workload::SlowCache, Workload::OfficeCache] {
                for found in found(workload, 6, faults) {
                    assert_eq!(found.restarts, 0.0, "{workload:?} {faults:?}");
                }
            }
        }
    }
}
