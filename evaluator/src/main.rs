//! The evaluator's command line: flags, config, signals, exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use ebb_service::logging::Chain;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.execute() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ebb-evaluator: {}", Chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}
