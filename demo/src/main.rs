//! `make demo`: two runners whose guests leak, an evaluator that learns and restarts, and a table that shows
//! it live. Ends by itself; exit code 0 only if an instance above its threshold was restarted and its memory
//! was seen to fall, and no request to the storage service failed.

#![expect(clippy::print_stdout)]

mod fleet;
mod progress;
mod story;

use std::{
    io::IsTerminal as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use self::{
    fleet::{Fleet, StoreKind},
    progress::Screen,
    story::Story,
};

/// Watch real WebAssembly instances leak, and exactly those above a learned threshold being restarted.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where the evaluator gets its samples from.
    #[arg(long, value_enum, default_value_t = StoreKind::Scrape)]
    store: StoreKind,
    /// How long to watch.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(20..))]
    seconds: u64,
}

/// Time between two pictures.
const REFRESH: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    println!(
        "Starting two runners, an evaluator{} …",
        match args.store {
            StoreKind::Scrape => "",
            StoreKind::Prometheus => " and Prometheus 3",
        }
    );
    let fleet = Fleet::start(args.store).await;
    println!("{}", fleet.addresses());
    let mut screen = Screen::new(std::io::stdout().is_terminal());
    let mut story = Story::default();
    let started = Instant::now();
    let watch_for = Duration::from_secs(args.seconds);
    let mut ticks = tokio::time::interval(REFRESH);
    while started.elapsed() < watch_for {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = tokio::signal::ctrl_c() => break,
        }
        story.read(&fleet.evaluator).await;
        story.served = fleet.clients.served();
        story.failed = fleet.clients.failed();
        screen.show(&story, started.elapsed(), watch_for);
    }
    println!("\n{}", story.summary(started.elapsed()));
    for failure in fleet.clients.failures() {
        println!("  failed: {failure}");
    }
    if !story.memory_fell_somewhere() {
        println!("No instance above its threshold was restarted and seen to fall: something is wrong.");
        return ExitCode::FAILURE;
    }
    if story.failed > 0 {
        println!("Requests failed: something is wrong.");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
