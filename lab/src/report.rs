//! Sweeps and experiments → `scores.json`, tables and plots. Every number in it can be made again by the command that
//! stands beside it.

mod files;
mod live;
mod plot;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::{
    files::{ReportError, read, write},
    live::write_long,
};
use crate::{
    live::Live,
    score::{Estimate, Frontier, LEVELS, median, ratio},
    study::{Size, Sweeps},
};

/// The score of one policy on one workload.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    /// Restarts over the optimum's at equal mean memory: median over the seeds of the geometric mean over the levels.
    pub score: f64,
    /// Lower end of the score's 95 % bootstrap interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Restarts per replica and day where the optimum needs [`REFERENCE_LEVEL`]: median.
    pub restarts: Option<f64>,
    /// Mean memory of an instance there, in bytes: median.
    pub mean_bytes: Option<f64>,
    /// Levels of the optimum that the policy's sweep reaches, of [`LEVELS`]: the fewest of any seed.
    pub levels: usize,
    /// Seeds.
    pub seeds: usize,
}

/// Restarts of the optimum per replica and day at which `restarts` and `mean_bytes` are told.
pub(crate) const REFERENCE_LEVEL: f64 = 3.0;

/// Policy → workload → score.
pub(crate) type Scores = BTreeMap<String, BTreeMap<String, Score>>;

/// What the simulator found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Simulation {
    /// How large it was.
    pub size: Size,
    /// Every sweep.
    pub sweeps: Vec<Sweeps>,
    /// Restarts of the whole fleet in 30 days without growth, by policy: the most of any setting.
    pub no_growth: BTreeMap<String, i64>,
    /// The paper's rule with and without guard rails.
    pub storm: Vec<Storm>,
}

/// Restarts of the paper's rule.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// Which rule, in words.
    pub rule: String,
    /// Restarts per instance and hour.
    pub restarts_per_hour: f64,
}

impl Simulation {
    /// The scores of all policies on all workloads.
    pub(crate) fn scores(&self) -> Scores {
        let mut scores = Scores::new();
        for workload in self.workloads() {
            let sweeps: Vec<&Sweeps> = self.of(workload).collect();
            let policies: BTreeSet<&String> =
                sweeps.iter().flat_map(|sweeps| sweeps.contenders.keys()).collect();
            for policy in policies {
                if let Some(score) = score(&sweeps, policy) {
                    scores.entry(policy.clone()).or_default().insert(workload.to_owned(), score);
                }
            }
        }
        scores
    }

    fn workloads(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for sweeps in &self.sweeps {
            if !names.contains(&sweeps.workload.as_str()) {
                names.push(&sweeps.workload);
            }
        }
        names
    }

    fn of<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = &'a Sweeps> {
        self.sweeps.iter().filter(move |sweeps| sweeps.workload == workload)
    }

    /// Writes `scores.json`, the plots and `README.md` of the simulation, and of the experiment on real instances if it was
    /// run, into `folder`.
    ///
    /// # Errors
    /// [`ReportError`].
    pub(crate) fn write(&self, live: Option<&Live>, folder: &Path) -> Result<(), ReportError> {
        let scores = self.scores();
        let json = serde_json::to_string_pretty(&scores).expect("scores are JSON");
        write(&folder.join("scores.json"), &(json + "\n"))?;
        for workload in self.workloads() {
            let path = folder.join(format!("frontier-{workload}.svg"));
            let Some(first) = self.of(workload).next() else { continue };
            plot::frontiers(&path, workload, &first.optimum, &first.contenders)?;
        }
        let mut text = self.text(&scores);
        if let Some(live) = live {
            text += &live::write(live, folder)?;
        }
        write(&folder.join("README.md"), &text)
    }

    fn text(&self, scores: &Scores) -> String {
        let Size { replicas, days, seeds } = self.size;
        let mut text = format!(
            "# Which policy is best?\n\nWritten by `make lab`; nothing in it is written by hand.\n\n## Simulated\n\n\
             `ebb-lab simulate --seeds {seeds} --days {days} --replicas {replicas}`, then `ebb-lab report`.\n\n\
             Restarts over those of an optimum that knows the future, at equal mean memory; 1 is the optimum. {replicas} \
             replicas, {days} days, a scrape and a tick a minute, shipped guard rails, budget and lookback. Geometric mean \
             over the rates of {levels} restarts a day and replica (the optimum's), as far as the policy's sweep reaches, \
             between its settings on logarithmic scales; median over {seeds} seeds with its 95 % bootstrap interval. `*`: the sweep does not reach every rate. `static` \
             is the best size for the whole module, chosen in hindsight for each amount of memory; `(own size, in \
             hindsight)` is no policy and no bound: the best size for each replica, fitted to the very run that it is measured on, \
             chance included. What a policy could reach is in [costs](costs.md).\n\n",
            levels = LEVELS.map(|level| level.to_string()).join(", ")
        );
        text += &self.tables(scores);
        text += "\n### Without growth\n\nRestarts of 20 replicas in 30 days, the most of any setting of the policy:\n\n\
                 | policy | restarts |\n| --- | --- |\n";
        for (policy, restarts) in &self.no_growth {
            let _ = writeln!(text, "| `{policy}` | {restarts} |");
        }
        text += "\n### The paper's rule, taken literally\n\n32 leaking instances, a day, a scrape and a tick every 10 s:\n\n\
                 | rule | restarts per instance and hour |\n| --- | --- |\n";
        for storm in &self.storm {
            let _ = writeln!(text, "| {} | {:.2} |", storm.rule, storm.restarts_per_hour);
        }
        text
    }

    fn tables(&self, scores: &Scores) -> String {
        let mut text = String::new();
        let workloads = self.workloads();
        let line = |text: &mut String, name: &str, cells: Vec<String>| {
            let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
        };
        line(&mut text, "policy", workloads.iter().map(|name| format!("`{name}`")).collect());
        line(&mut text, "---", vec!["---".to_owned(); workloads.len()]);
        for (policy, of_workload) in ranked(scores) {
            let cell = |workload: &&str| {
                of_workload.get(*workload).map_or_else(
                    || "–".to_owned(),
                    |score| {
                        let partly = if score.levels < self.reachable(workload) { "*" } else { "" };
                        format!("{:.3}{partly} [{:.3}, {:.3}]", score.score, score.low, score.high)
                    },
                )
            };
            line(&mut text, &format!("`{policy}`"), workloads.iter().map(cell).collect());
        }
        for workload in
            workloads.iter().filter(|workload| scores.values().any(|of| of.contains_key(**workload)))
        {
            let _ = writeln!(text, "\n### `{workload}`, by level\n");
            let _ = writeln!(text, "![Restarts against mean memory](frontier-{workload}.svg)\n");
            line(
                &mut text,
                "policy \\ optimum's restarts a day",
                LEVELS.iter().map(|level| format!("{level}")).collect(),
            );
            line(&mut text, "---", vec!["---".to_owned(); LEVELS.len()]);
            for (policy, _) in ranked(scores) {
                let cell = |level: &f64| {
                    self.ratio_at(workload, policy, *level)
                        .map_or_else(|| "–".to_owned(), |ratio| format!("{:.2}", ratio.median))
                };
                line(&mut text, &format!("`{policy}`"), LEVELS.iter().map(cell).collect());
            }
        }
        text
    }

    /// Levels that the optimum itself reaches on a workload, in every seed.
    fn reachable(&self, workload: &str) -> usize {
        let reached = |sweeps: &Sweeps| {
            LEVELS.iter().filter(|level| sweeps.optimum.mean_bytes_at(**level).is_some()).count()
        };
        self.of(workload).map(reached).min().unwrap_or(0)
    }

    fn ratio_at(&self, workload: &str, policy: &str, level: f64) -> Option<Estimate> {
        let ratios: Vec<f64> = self
            .of(workload)
            .filter_map(|sweeps| {
                let restarts =
                    sweeps.contenders.get(policy)?.restarts_at(sweeps.optimum.mean_bytes_at(level)?)?;
                Some(restarts / level)
            })
            .collect();
        median(&ratios)
    }
}

/// Policies, the best on the mixture first.
fn ranked(scores: &Scores) -> Vec<(&String, &BTreeMap<String, Score>)> {
    let mut policies: Vec<_> = scores.iter().collect();
    let on_mixture =
        |of: &BTreeMap<String, Score>| of.get("mixture").map_or(f64::INFINITY, |score| score.score);
    policies.sort_by(|a, b| on_mixture(a.1).total_cmp(&on_mixture(b.1)));
    policies
}

fn score(sweeps: &[&Sweeps], policy: &str) -> Option<Score> {
    let of = |sweeps: &Sweeps| -> Option<(Frontier, Frontier)> {
        Some((sweeps.contenders.get(policy)?.clone(), sweeps.optimum.clone()))
    };
    let ratios: Vec<(f64, usize)> = sweeps
        .iter()
        .filter_map(|sweeps| of(sweeps))
        .filter_map(|(frontier, optimum)| ratio(&frontier, &optimum))
        .collect();
    let estimate = median(&ratios.iter().map(|(ratio, _)| *ratio).collect::<Vec<_>>())?;
    let at_reference = |sweeps: &&Sweeps| {
        let mean_bytes = sweeps.optimum.mean_bytes_at(REFERENCE_LEVEL)?;
        Some((sweeps.contenders.get(policy)?.restarts_at(mean_bytes)?, mean_bytes))
    };
    let reference: Vec<(f64, f64)> = sweeps.iter().filter_map(at_reference).collect();
    let middle = |of: fn(&(f64, f64)) -> f64| {
        median(&reference.iter().map(of).collect::<Vec<_>>()).map(|found| found.median)
    };
    Some(Score {
        score: estimate.median,
        low: estimate.low,
        high: estimate.high,
        restarts: middle(|found| found.0),
        mean_bytes: middle(|found| found.1),
        levels: ratios.iter().map(|(_, levels)| *levels).min().unwrap_or(0),
        seeds: ratios.len(),
    })
}
