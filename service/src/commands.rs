//! Commands that both programs have: is the running one ready?

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

use clap::{Args, Subcommand};

use crate::{
    config_file::ConfigError,
    probe::{self, ProbeError},
    units::Span,
};

/// What both programs can be asked on the command line.
#[derive(Debug, Subcommand)]
pub enum CommonCommand {
    /// Ask the running program whether it is ready: exit code 0 if it is, else 1.
    Healthy(Healthy),
}

/// Whom to ask, and how long to wait.
#[derive(Args, Debug)]
pub struct Healthy {
    /// Address of the running program; otherwise the config's.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Longest wait for its answer.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    timeout: Span,
}

/// Why a command failed. All of it is exit code 1: health checks of containers know 0 and 1 only.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The config does not tell where the program listens.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Nobody says which config.
    #[error("no config file: expected {0}, or --address HOST:PORT")]
    NoConfig(&'static str),
    /// The config leaves the port to the operating system.
    #[error("{0}: the config leaves the port to the operating system; expected --address HOST:PORT")]
    NoPort(SocketAddr),
    /// The program is not ready.
    #[error("not ready")]
    NotReady(#[from] ProbeError),
    /// There is no runtime to ask in.
    #[error("starting")]
    Start(#[source] io::Error),
    /// Standard output is closed or full.
    #[error("writing to standard output")]
    Print(#[source] io::Error),
}

impl CommonCommand {
    /// Does what was asked. `listens`: where the config says that the program answers [`probe::ready`]; called only if
    /// nobody said so on the command line.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn execute(self, listens: impl Fn() -> Result<SocketAddr, CommandError>) -> Result<(), CommandError> {
        match self {
            Self::Healthy(Healthy { address, timeout }) => {
                let address = match address {
                    Some(address) => address,
                    None => configured(listens()?)?,
                };
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.map_err(CommandError::Start)?.block_on(probe::ready(&address, timeout))?;
                print(format!("{address} is ready\n").as_bytes())
            }
        }
    }
}

fn configured(listens: SocketAddr) -> Result<String, CommandError> {
    if listens.port() == 0 {
        return Err(CommandError::NoPort(listens));
    }
    Ok(probe::reachable(listens).to_string())
}

fn print(bytes: &[u8]) -> Result<(), CommandError> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        // Who reads has seen enough, as in `… | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(CommandError::Print),
    }
}
