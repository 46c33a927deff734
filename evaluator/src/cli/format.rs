//! How what was found is printed.

use clap::ValueEnum;

/// A format of output.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    Table,
    Json,
}
