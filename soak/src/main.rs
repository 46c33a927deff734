//! `make soak`: two runners with guests that leak, store files and echo, clients, a Prometheus and an evaluator that restarts
//! hundreds of instances, for hours. Every ten seconds it looks at what each process holds. It ends with a table of trends,
//! and with exit code 0 only if nothing grew beyond noise, no request failed and no process ended.
//!
//! | file | subject |
//! | --- | --- |
//! | `fleet.rs` | the processes and their clients |
//! | `reading.rs` | what a process holds, read from `/proc` |
//! | `trend.rs` | PURE: readings → growth per hour, how sure that is, and whether it matters |
//! | `report.rs` | PURE: trends → a table |

#![expect(clippy::print_stdout)]

mod fleet;
mod reading;
mod report;
mod trend;

use std::{
    fs,
    path::PathBuf,
    pin::pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use ebb_testbed::paths;

use self::{
    fleet::{Fleet, WATCHED},
    report::{Progress, Report, Row, Unread},
};

/// Run the real programs for hours and see whether anything grows.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// How long, in hours; a fraction, too.
    #[arg(long, env = "SOAK_HOURS", default_value_t = 1.0, value_parser = hours)]
    hours: f64,
    /// Where the table is written, as Markdown. The readings go to target/soak.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// From three minutes, of which a trend can hardly be told, to a month.
fn hours(text: &str) -> Result<f64, String> {
    let hours: f64 = text.parse().map_err(|_| "expected a number of hours such as 2 or 0.5".to_owned())?;
    if (0.05..=720.0).contains(&hours) { Ok(hours) } else { Err("expected 0.05 to 720 hours".to_owned()) }
}

/// Time between two readings.
const READ_EVERY: Duration = Duration::from_secs(10);

/// Time between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What this share of the time begins with is no trend: caches, pools and the lookback fill up.
const WARM_UP: f64 = 0.25;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let folder = paths::root().join("target/soak");
    let path = args.report.unwrap_or_else(|| folder.join("soak.md"));
    // Better now than after hours.
    write(&path, "# Soak\n\nUnder way.\n");
    let length = Duration::from_secs_f64(args.hours * 3600.0);
    println!(
        "Starting two runners, Prometheus, an evaluator and clients for {} …",
        humantime::format_duration(length)
    );
    let report = watch(length).await;
    write(&folder.join("readings.csv"), &report.csv());
    let text = report.markdown();
    write(&path, &text);
    println!("\n{text}\nWritten to {}", path.display());
    if report.problems().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a fleet for `length`, or until one of its processes ends or Ctrl-C is pressed.
async fn watch(length: Duration) -> Report {
    let mut fleet = Fleet::start(length).await;
    let (started, begin) = (Instant::now(), jiff::Timestamp::now());
    let mut rows = Row::all(WATCHED);
    let mut unread = Unread::default();
    // One for all rounds, so that none is lost between two.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut readings = tokio::time::interval(READ_EVERY);
    readings.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut told_at, mut ended, mut progress) = (Duration::ZERO, None, Progress::default());
    while started.elapsed() < length && ended.is_none() {
        tokio::select! {
            _ = readings.tick() => {}
            _ = &mut interrupted => break,
        }
        let hours = started.elapsed().as_secs_f64() / 3600.0;
        for (process, held) in fleet.read(&mut unread).await {
            Row::add(&mut rows, process, hours, &held);
        }
        ended = fleet.ended();
        progress = fleet.progress(progress).await;
        if started.elapsed() >= told_at {
            told_at += TELL_EVERY;
            println!("{:>4} min  {progress}  {}", started.elapsed().as_secs() / 60, report::now(&rows));
        }
    }
    Report {
        begin,
        length: started.elapsed(),
        warm_up: started.elapsed().mul_f64(WARM_UP),
        rows,
        progress,
        failures: fleet.failures(),
        ended,
        unread,
    }
}

fn write(path: &PathBuf, text: &str) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let made = folder.map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text))
        .unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
}
