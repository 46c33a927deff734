//! `ebb-evaluator`: [`ebb_evaluator::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ebb_evaluator::cli::main()
}
