//! Which policy is best? A simulator on the evaluator's own rules, an optimum that knows the future, and an experiment
//! on real instances.
//!
//! | module | subject |
//! | --- | --- |
//! | `recording`, `trace`, `workload` | PURE: a seed → what each replica is asked for, whatever a policy does |
//! | `optimum` | PURE: the fewest restarts and the least memory that anyone could do with |
//! | `reference` | PURE: what could be reached if all but the future were known |
//! | `simulate` | a fleet in virtual time, evaluated by the evaluator's own code |
//! | `contender` | the policies that are compared, each as a sweep of its knob |
//! | `score` | PURE: sweeps → restarts over the optimum's at equal memory |
//! | `costs` | the shipped rule at its own price, on seeds that nobody tunes on |
//! | `versions` | how well a version is found that grows faster |
//! | `kinds` | how well the kind of growth is told, on seeds that nobody tunes on |
//! | `exhaustion` | how well it is foreseen when a limit is reached |
//! | `study` | all of it: workloads × seeds × contenders |
//! | `live` | the experiment on real instances |
//! | `record` | real apps under a day's load → what each minute asks of an instance |
//! | `report` | what was found → `scores.json`, tables, plots |

mod contender;
mod costs;
mod exhaustion;
mod kinds;
mod live;
mod optimum;
mod record;
mod recording;
mod reference;
mod report;
mod score;
mod simulate;
mod study;
mod trace;
mod versions;
mod workload;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand};
use ebb_core::{
    decide::budget::BudgetConfig,
    policy::{Adapt, IntervalKind, Rule},
};
use ebb_units::Span;
use rayon::prelude::*;

use self::{
    contender::{contenders, no_budget, paper, t_interval},
    costs::{costs, write_costs},
    exhaustion::{exhaustion, write_exhaustion},
    kinds::{kinds, write_kinds},
    live::{Live, arm::Protocol},
    recording::App,
    report::{ReportError, Simulation, Storm, read, write},
    simulate::{Setup, simulate},
    study::{HOST_BYTES, Size, setup},
    trace::Tick,
    versions::{versions, write_versions},
    workload::Workload,
};

/// Compares restart policies with each other and with an optimum that knows the future.
#[derive(Debug, Parser)]
#[command(name = "ebb-lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulate all policies on all workloads; leaves what was found for `report`.
    Simulate(SimulateArgs),
    /// Run the experiment on real instances; leaves what was found for `report`. Takes about twenty minutes.
    Live {
        /// Time between two scrapes, and between two ticks; the instances grow as much slower, and arms last as much longer.
        #[arg(long, value_name = "SECONDS", default_value_t = 1)]
        clock: u64,
        /// Only these protocols.
        #[arg(long, value_name = "NAME")]
        protocol: Vec<String>,
        /// Only these policies, by the names of their arms.
        #[arg(long, value_name = "NAME")]
        policy: Vec<String>,
        /// Where to leave what was found.
        #[arg(long, value_name = "FILE", default_value = "target/lab/live.json")]
        out: PathBuf,
    },
    /// Write scores, tables and plots of what was found.
    Report {
        /// What `simulate` left.
        #[arg(long, value_name = "FILE", default_value = "target/lab/simulation.json")]
        simulation: PathBuf,
        /// What `live` left; without it, the report is of the simulation alone.
        #[arg(long, value_name = "FILE", default_value = "target/lab/live.json")]
        live: PathBuf,
        /// What `live` left at the paper's clock; without it, the report says nothing of that.
        #[arg(long, value_name = "FILE", default_value = "target/lab/live-long.json")]
        long: PathBuf,
        /// Where to write the report.
        #[arg(long, value_name = "FOLDER", default_value = "lab/report")]
        folder: PathBuf,
    },
    /// Run the shipped rule at its own price on workloads that real fleets have; writes `costs.json` and `costs.md`.
    Costs {
        /// Seeds of each workload.
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// Where to write them.
        #[arg(long, value_name = "FOLDER", default_value = "lab/report")]
        folder: PathBuf,
    },
    /// Tell the kinds of growth of workloads whose kind is known; writes `kinds.json` and `kinds.md`.
    Kinds {
        /// Seeds of each workload.
        #[arg(long, default_value_t = 40)]
        seeds: u64,
        /// Simulated days.
        #[arg(long, default_value_t = 14)]
        days: u32,
        /// Only these workloads.
        #[arg(long)]
        workload: Vec<String>,
        /// Where to write them.
        #[arg(long, value_name = "FOLDER", default_value = "lab/report")]
        folder: PathBuf,
    },
    /// Compare versions of which it is known whether they grow faster; writes `versions.json` and `versions.md`.
    Versions {
        /// Seeds of each workload.
        #[arg(long, default_value_t = 40)]
        seeds: u64,
        /// Where to write them.
        #[arg(long, value_name = "FOLDER", default_value = "lab/report")]
        folder: PathBuf,
    },
    /// Foresee when limits are reached; writes `exhaustion.json` and `exhaustion.md`.
    Exhaustion {
        /// Seeds of each workload.
        #[arg(long, default_value_t = 40)]
        seeds: u64,
        /// Only these workloads.
        #[arg(long)]
        workload: Vec<String>,
        /// Where to write them.
        #[arg(long, value_name = "FOLDER", default_value = "lab/report")]
        folder: PathBuf,
    },
    /// Record how much memory real apps need under a day's load; writes `storage.csv`, `python.csv` and `axum.csv`. Takes minutes.
    Record {
        /// Where to write them.
        #[arg(long, value_name = "FOLDER", default_value = "lab/recorded")]
        folder: PathBuf,
    },
    /// Time how long 1,000 instances × 24 h at 10 s take, for each policy.
    Speed {
        /// Only these policies.
        #[arg(long, value_name = "NAME")]
        policy: Vec<String>,
    },
}

#[derive(Args, Debug)]
struct SimulateArgs {
    /// Seeds, from 0 on.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// Simulated days.
    #[arg(long, default_value_t = 10)]
    days: u32,
    /// Replicas of the module.
    #[arg(long, default_value_t = 12)]
    replicas: u32,
    /// Only these workloads.
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Only these policies.
    #[arg(long, value_name = "NAME")]
    policy: Vec<String>,
    /// Where to leave what was found.
    #[arg(long, value_name = "FILE", default_value = "target/lab/simulation.json")]
    out: PathBuf,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Simulate(args) => run_simulation(&args),
        Command::Report { simulation, live, long, folder } => report(&simulation, &live, &long, &folder),
        Command::Live { clock, protocol, policy, out } => live(clock, &protocol, &policy, &out),
        Command::Costs { seeds, folder } => write_costs(&costs(seeds), &folder),
        Command::Kinds { seeds, days, workload, folder } => {
            write_kinds(&kinds(seeds, days, &workload), &folder)
        }
        Command::Versions { seeds, folder } => write_versions(&versions(seeds), &folder),
        Command::Exhaustion { seeds, workload, folder } => {
            write_exhaustion(&exhaustion(seeds, &workload), &folder)
        }
        Command::Record { folder } => record(&folder),
        Command::Speed { policy } => {
            speed(&policy);
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ebb-lab: {}", ebb_service::logging::Chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run_simulation(args: &SimulateArgs) -> Result<(), ReportError> {
    let size = Size { replicas: args.replicas, days: args.days, seeds: args.seeds };
    let wanted = |workload: &Workload| {
        workload.is_scored()
            && (args.workload.is_empty() || args.workload.iter().any(|name| name == workload.name()))
    };
    let mut sweeps = Vec::new();
    for workload in Workload::ALL.into_iter().filter(wanted) {
        let started = Instant::now();
        sweeps.extend(size.run(&[workload], &args.policy));
        eprintln!("{}: {:.0} s", workload.name(), started.elapsed().as_secs_f64());
    }
    let simulation = Simulation { size, sweeps, no_growth: no_growth(), storm: storm() };
    write(&args.out, &serde_json::to_string(&simulation).expect("a simulation is JSON"))
}

/// Restarts in 30 days without growth, the most of any setting of each policy.
fn no_growth() -> BTreeMap<String, i64> {
    const REPLICAS: u32 = 20;
    const TICKS: Tick = 30 * 1440;
    let traces = Workload::NoGrowth.fleet(REPLICAS, TICKS, 0);
    contenders(REPLICAS, HOST_BYTES)
        .into_par_iter()
        .map(|contender| {
            let restarts = |rule: &Rule| simulate(&setup(*rule), &traces, TICKS).outcome.restarts;
            let most = contender.rules.par_iter().map(restarts).max().unwrap_or(0);
            (contender.name.to_owned(), most)
        })
        .collect()
}

/// The paper's rule on 32 leaking instances for a day of 10 s ticks, without and with guard rails.
fn storm() -> Vec<Storm> {
    const REPLICAS: u32 = 32;
    const TICKS: Tick = 24 * 360;
    let shipped = BudgetConfig::default();
    let guarded = |level| t_interval(IntervalKind::Confidence, Adapt::Off, level);
    let prediction = |level| t_interval(IntervalKind::Prediction, Adapt::Off, level);
    let rules = [
        ("the paper's, level 0.95, nothing else", paper(0.95), no_budget()),
        ("the paper's, level 0.999, nothing else", paper(0.999), no_budget()),
        ("the paper's, level 0.95, shipped guard rails and budget", guarded(0.95), shipped),
        ("the paper's, level 0.999, shipped guard rails and budget", guarded(0.999), shipped),
        ("prediction interval, level 0.95, shipped guard rails and budget", prediction(0.95), shipped),
    ];
    let traces = Workload::Leaks.fleet(REPLICAS, TICKS, 0);
    rules
        .into_par_iter()
        .map(|(name, rule, budget)| {
            let setup = Setup { budget, interval: Span::secs(10), ..setup(rule) };
            let restarts = simulate(&setup, &traces, TICKS).outcome.restarts;
            Storm { rule: name.to_owned(), restarts_per_hour: restarts as f64 / (f64::from(REPLICAS) * 24.0) }
        })
        .collect()
}

fn live(clock: u64, protocols: &[String], policies: &[String], out: &Path) -> Result<(), ReportError> {
    /// Of each arm.
    const TICKS: u64 = 90;
    let runtime = runtime(out)?;
    let mut found = Live { protocols: Vec::new() };
    let wanted = |only: &[String], name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    for mut protocol in Protocol::all(clock).into_iter().filter(|one| wanted(protocols, one.name)) {
        protocol.arms.retain(|arm| wanted(policies, arm.name));
        found.protocols.push(runtime.block_on(live::run(&protocol, TICKS)));
    }
    write(out, &serde_json::to_string(&found).expect("figures are JSON"))
}

fn record(folder: &Path) -> Result<(), ReportError> {
    let runtime = runtime(folder)?;
    App::ALL.into_iter().try_for_each(|app| runtime.block_on(app.record(folder)))
}

/// For what waits for real programs, and leaves something at `out`.
fn runtime(out: &Path) -> Result<tokio::runtime::Runtime, ReportError> {
    tokio::runtime::Runtime::new().map_err(|source| ReportError::File {
        action: "starting threads for",
        path: out.to_owned(),
        source,
    })
}

fn report(simulation: &Path, live: &Path, long: &Path, folder: &Path) -> Result<(), ReportError> {
    let simulation: Simulation = read(simulation)?;
    let live: Option<Live> = if live.exists() { Some(read(live)?) } else { None };
    simulation.write(live.as_ref(), folder)?;
    if long.exists() {
        report::write_long(&read(long)?, folder)?;
    }
    Ok(())
}

/// The slowest setting of each policy, on one core.
#[expect(clippy::print_stdout)]
fn speed(policies: &[String]) {
    const REPLICAS: u32 = 1000;
    const TICKS: Tick = 24 * 360;
    println!("1,000 instances x 24 h at 10 s, seconds on one core, the slowest setting of each policy:");
    let traces = Workload::Mixture.fleet(REPLICAS, TICKS, 0);
    let is_wanted = |name: &str| policies.is_empty() || policies.iter().any(|wanted| wanted == name);
    for contender in
        contenders(REPLICAS, HOST_BYTES).into_iter().filter(|contender| is_wanted(contender.name))
    {
        let ends = [contender.rules[0], contender.rules[contender.rules.len() / 2]];
        let time = |rule: &Rule| {
            let started = Instant::now();
            let run = simulate(&Setup { interval: Span::secs(10), ..setup(*rule) }, &traces, TICKS);
            (started.elapsed(), run.outcome.restarts)
        };
        let (slowest, restarts): (Duration, i64) = ends.iter().map(time).max().unwrap_or_default();
        println!("  {:16} {:6.2}  ({restarts} restarts)", contender.name, slowest.as_secs_f64());
    }
}
