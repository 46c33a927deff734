//! Why a command failed, and the exit code that says so.

use std::{io, net::SocketAddr, path::PathBuf};

use ebb_service::{
    commands::CommandError,
    config_file::{ConfigError, Refusal},
    logging::LogError,
};
use ebb_units::{Millis, Span};

use crate::{RunError, store::StoreError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Common(#[from] CommandError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("listening on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("starting")]
    Start(#[source] io::Error),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the response is not from this version of the evaluator, or from another program")]
    Answer { source: serde_json::Error },
    #[error("printing the config")]
    Print(#[source] serde_yaml::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "this needs a history: expected store.prometheus in the config; runners (store.scrape) keep none"
    )]
    NoPast,
    #[error("--from {} must be before --to {}, and in the past", from.rfc3339(), to.rfc3339())]
    NoTime { from: Millis, to: Millis },
    #[error("from {} to {} is more than {most} ticks at an interval of {interval}: expected less time, such as --from 24h", from.rfc3339(), to.rfc3339())]
    TooLong { from: Millis, to: Millis, interval: Span, most: i64 },
    #[error("the store has no samples of any instance from {} to {}", from.rfc3339(), to.rfc3339())]
    NoHistory { from: Millis, to: Millis },
    #[error("policy {policy}: {}: {}", problem.field, problem.message)]
    Policy { policy: String, problem: Refusal },
    #[error("drawing {}: {problem}", path.display())]
    Plot { path: PathBuf, problem: String },
    #[error("{problems} {}, see above", if *problems == 1 { "problem" } else { "problems" })]
    Live { problems: usize },
    #[error("the evaluator knows no live instance {module}/{replica}")]
    UnknownInstance { module: String, replica: u32 },
}

impl CliError {
    /// 2 for what the operator must mend before a start, 1 for what went wrong afterwards.
    pub(crate) const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Log(_)
            | Self::NoPast
            | Self::NoTime { .. }
            | Self::TooLong { .. }
            | Self::Policy { .. }
            | Self::Run(RunError::Store(_) | RunError::Token(_) | RunError::Web(_) | RunError::Open(_)) => 2,
            _ => 1,
        }
    }
}
