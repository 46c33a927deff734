//! Commands that both programs have: is it ready, shell completions, manual pages, the schema of its config.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use clap::Subcommand;
use clap_complete::Shell;
use ebb_units::Span;

use crate::{
    config_file::ConfigError,
    probe::{self, Listener, ProbeError},
    secret::{BearerToken, TokenFileError},
    web_config::{WebConfigError, own_client},
};

/// What both programs can be asked on the command line.
#[derive(Debug, Subcommand)]
pub enum CommonCommand {
    /// Ask the running program whether it is ready: exit code 0 if it is, else 1.
    Healthy {
        /// Address of the running program, with https:// before it for TLS; otherwise the config's.
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
        /// Longest wait for its answer.
        #[arg(long, value_name = "DURATION", default_value = "2s")]
        timeout: Span,
    },
    /// Print a script that completes this program's command line.
    Completions {
        /// The shell to write it for.
        shell: Shell,
    },
    /// Write a manual page for each command.
    Manual {
        /// Directory to write them to. It is created if it does not exist.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Print the JSON schema of the config file. Editors use it for completion and validation.
    Schema,
}

/// What of a program its commands need to know.
pub struct Program<'a> {
    /// Its command line.
    pub command: clap::Command,
    /// The JSON schema of its config, as text.
    pub schema: fn() -> String,
    /// Its config → where it answers `probe::ready`. Called only if nobody said so on the command line.
    pub listens: &'a dyn Fn() -> Result<Listens, CommandError>,
}

/// How a program listens, by its config.
#[derive(Clone, Debug)]
pub struct Listens {
    /// Where.
    pub address: SocketAddr,
    /// Its TLS and users.
    pub web_config_file: Option<PathBuf>,
    /// With whose token others let it pass.
    pub bearer_token_file: Option<PathBuf>,
}

impl Listens {
    /// How it is asked.
    fn listener(self) -> Result<Listener, CommandError> {
        let address = reachable(self.address)?;
        let tls = self.web_config_file.as_deref().map(own_client).transpose()?.flatten();
        // Without TLS, whoever listens there could be anybody.
        let token = self.bearer_token_file.filter(|_| tls.is_some());
        let token = token.as_deref().map(BearerToken::from_file).transpose()?;
        Ok(Listener { address, tls, token })
    }
}

/// Why a command failed. All of it is exit code 1: health checks of containers know 0 and 1 only.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The config does not tell where the program listens.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The config's certificates cannot be used.
    #[error(transparent)]
    Web(#[from] WebConfigError),
    /// The config's token cannot be used.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// Nobody says which config.
    #[error("no config file: expected {0}, or --address HOST:PORT")]
    NoConfig(&'static str),
    /// The config leaves the port to the operating system.
    #[error(
        "{0}: the config leaves the port to the operating system; expected HOST:PORT on the command line"
    )]
    NoPort(SocketAddr),
    /// The program is not ready.
    #[error("not ready")]
    NotReady(#[source] ProbeError),
    /// The program did not answer.
    #[error(transparent)]
    Asked(ProbeError),
    /// There is no runtime to ask in.
    #[error("starting")]
    Start(#[source] io::Error),
    /// Standard output is closed or full.
    #[error("writing to standard output")]
    Print(#[source] io::Error),
    /// The pages could not be written.
    #[error("writing manual pages to {}", folder.display())]
    Manual {
        /// Where to.
        folder: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl CommonCommand {
    /// Does what was asked of `program`.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn execute(self, program: Program<'_>) -> Result<(), CommandError> {
        match self {
            Self::Healthy { address, timeout } => {
                let listener = match address {
                    Some(address) => Listener::at(&address),
                    None => (program.listens)()?.listener()?,
                };
                wait_for(probe::ready(&listener, timeout))?.map_err(CommandError::NotReady)?;
                print(format!("{} is ready\n", listener.address).as_bytes())
            }
            Self::Completions { shell } => print(&completions(program.command, shell)),
            Self::Manual { folder } => {
                manual(program.command, &folder).map_err(|source| CommandError::Manual { folder, source })
            }
            Self::Schema => print((program.schema)().as_bytes()),
        }
    }
}

/// Where a program whose config says that it listens at `listens` can be asked.
///
/// # Errors
/// [`CommandError::NoPort`].
fn reachable(listens: SocketAddr) -> Result<String, CommandError> {
    if listens.port() == 0 {
        return Err(CommandError::NoPort(listens));
    }
    Ok(probe::reachable(listens).to_string())
}

/// What the running program at `address`, or else the one that `listens` so, answers to `GET path`; waits for at most `within`.
///
/// # Errors
/// [`CommandError::Asked`], unless the answer is 200.
pub fn get(
    address: Option<&str>,
    listens: &dyn Fn() -> Result<Listens, CommandError>,
    path: &str,
    within: Span,
) -> Result<Bytes, CommandError> {
    let listener = match address {
        Some(address) => Listener::at(address),
        None => listens()?.listener()?,
    };
    wait_for(probe::get(&listener, path, within))?.map_err(CommandError::Asked)
}

fn wait_for<T>(asked: impl Future<Output = T>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CommandError::Start)?;
    let answer = runtime.block_on(asked);
    // A name that is still being resolved would be waited for.
    runtime.shutdown_background();
    Ok(answer)
}

/// Writes `bytes` to standard output.
///
/// # Errors
/// [`CommandError::Print`], unless it was closed by whoever has seen enough.
pub fn print(bytes: &[u8]) -> Result<(), CommandError> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        // Who reads has seen enough, as in `… | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(CommandError::Print),
    }
}

fn completions(mut command: clap::Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

fn manual(command: clap::Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}
