//! `ebb-lab`: which policy is best.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use ebb_lab::{
    score::{median, ratio},
    study::Size,
    workload::Workload,
};

/// Compares restart policies with an optimum that knows the future.
#[derive(Debug, Parser)]
#[command(name = "ebb-lab", version)]
struct Cli {
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    #[arg(long, default_value_t = 14)]
    days: u32,
    #[arg(long, default_value_t = 40)]
    replicas: u32,
    #[arg(long)]
    workload: Option<String>,
    #[arg(long)]
    only: Vec<String>,
}

#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let cli = Cli::parse();
    let size = Size { replicas: cli.replicas, days: cli.days, seeds: cli.seeds };
    let started = Instant::now();
    for workload in Workload::ALL {
        if cli.workload.as_deref().is_some_and(|name| name != workload.name())
            || workload == Workload::NoGrowth
        {
            continue;
        }
        let sweeps = size.run(&[workload], &cli.only);
        println!("{} ({:.0} s)", workload.name(), started.elapsed().as_secs_f64());
        let names: Vec<_> = sweeps[0].contenders.keys().copied().collect();
        for name in names {
            let ratios: Vec<f64> = sweeps
                .iter()
                .filter_map(|sweep| ratio(&sweep.contenders[name], &sweep.optimum))
                .map(|found| found.0)
                .collect();
            let levels = sweeps
                .iter()
                .filter_map(|sweep| ratio(&sweep.contenders[name], &sweep.optimum))
                .map(|found| found.1)
                .min();
            if let Some(found) = median(&ratios) {
                println!(
                    "  {name:16} {:.3} [{:.3} {:.3}] {levels:?} {}",
                    found.median,
                    found.low,
                    found.high,
                    ratios.len()
                );
            } else {
                println!("  {name:16} -");
            }
        }
    }
    ExitCode::SUCCESS
}
