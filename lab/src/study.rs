//! Workloads × seeds × contenders, on all cores: every contender's sweep and the optimum's, on the same traces.

use std::collections::BTreeMap;

use ebb_core::{decide::budget::BudgetConfig, policy::Rule};
use ebb_evaluator::config::DEFAULT_LOOKBACK;
use ebb_units::Span;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    contender::{Contender, contenders},
    optimum::{Outcome, optimum},
    reference::best_size,
    score::{Frontier, Point},
    simulate::{Faults, Setup, simulate},
    trace::{Tick, Trace},
    workload::Workload,
};

/// How large the study is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Size {
    /// Replicas of the module.
    pub replicas: u32,
    /// Simulated days.
    pub days: u32,
    /// Seeds.
    pub seeds: u64,
}

/// The sweeps of one workload and seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sweeps {
    /// Which workload.
    pub workload: String,
    /// Which seed.
    pub seed: u64,
    /// The optimum's frontier.
    pub optimum: Frontier,
    /// Each contender's frontier, by its name.
    pub contenders: BTreeMap<String, Frontier>,
}

/// The row of what could be reached without knowing the future; see [`mod@crate::reference`].
pub(crate) const HINDSIGHT: &str = "(own size, in hindsight)";

/// Memory of the simulated host: more than any fleet ever holds.
pub(crate) const HOST_BYTES: i64 = 64 << 30;

/// Ticks of a day, a minute each.
pub(crate) const MINUTES_PER_DAY: Tick = 1440;

/// How `rule` is evaluated in the study: the shipped budget and lookback, one scrape and one tick a minute.
pub(crate) fn setup(rule: Rule) -> Setup {
    Setup {
        rule,
        budget: BudgetConfig::default(),
        interval: Span::secs(60),
        lookback: DEFAULT_LOOKBACK,
        host_bytes: HOST_BYTES,
        faults: Faults::default(),
    }
}

impl Size {
    /// Simulated ticks: a minute each.
    pub(crate) const fn ticks(&self) -> Tick {
        self.days * MINUTES_PER_DAY
    }

    /// Runs every contender on every workload of `workloads`, all of them on the same traces.
    pub(crate) fn run(&self, workloads: &[Workload], only: &[String]) -> Vec<Sweeps> {
        let contenders: Vec<Contender> = contenders(self.replicas, HOST_BYTES)
            .into_iter()
            .filter(|contender| only.is_empty() || only.iter().any(|name| name == contender.name))
            .collect();
        let runs: Vec<(Workload, u64)> =
            workloads.iter().flat_map(|workload| (0..self.seeds).map(|seed| (*workload, seed))).collect();
        runs.into_par_iter()
            .map(|(workload, seed)| {
                let traces = workload.fleet(self.replicas, self.ticks(), seed);
                let sweep = |contender: &Contender| {
                    let runs = contender
                        .rules
                        .iter()
                        .map(|rule| self.point(simulate(&setup(*rule), &traces, self.ticks()).outcome));
                    (contender.name.to_owned(), Frontier::new(runs.collect()))
                };
                let mut swept: BTreeMap<String, Frontier> = contenders.iter().map(sweep).collect();
                swept.insert(HINDSIGHT.to_owned(), self.frontier(&traces, best_size));
                let optimum = self.frontier(&traces, optimum);
                Sweeps { workload: workload.name().to_owned(), seed, optimum, contenders: swept }
            })
            .collect()
    }

    /// The frontier of a way to run replicas that is the cheapest at a price: the same price for all of them, as each
    /// restart counts the same.
    pub(crate) fn frontier(
        &self,
        traces: &[Trace],
        cheapest: fn(&Trace, Tick, &[i64]) -> Vec<Outcome>,
    ) -> Frontier {
        // 10 MiB·minutes to 2 TiB·minutes.
        let prices: Vec<i64> =
            std::iter::successors(Some(10_i64 << 20), |price| Some(price * 5 / 4)).take(55).collect();
        let mut totals = vec![Outcome::default(); prices.len()];
        for trace in traces {
            for (total, outcome) in totals.iter_mut().zip(cheapest(trace, self.ticks(), &prices)) {
                total.area += outcome.area;
                total.restarts += outcome.restarts;
            }
        }
        Frontier::new(totals.into_iter().map(|total| self.point(total)).collect())
    }

    /// An outcome of the whole fleet, per instance.
    pub(crate) fn point(&self, outcome: Outcome) -> Point {
        let replicas = f64::from(self.replicas);
        Point {
            mean_bytes: outcome.area as f64 / (replicas * f64::from(self.ticks() - 1)),
            restarts: outcome.restarts as f64 / (replicas * f64::from(self.days)),
        }
    }
}
