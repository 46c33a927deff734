//! The evaluator's command line: flags, config, signals, exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;
use ebb_service::{
    logging::{self, Chain},
    quote,
};

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let (code, last_words) = match cli.execute() {
        Ok(()) => (ExitCode::SUCCESS, None),
        Err(error) => (
            ExitCode::from(error.exit_code()),
            Some(format!("ebb-evaluator: {}", quote::message(&Chain(&error).to_string()))),
        ),
    };
    logging::end(last_words.as_deref());
    code
}
