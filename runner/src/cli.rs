//! The command line: flags, config, signals, exit code.

mod growth;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};
use ebb_service::{
    commands::{CommandError, CommonCommand, Listens, Program, print},
    logging::{self, Chain},
    quote, signals,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::growth::GrowthArgs;
use crate::{
    Listeners, RunError,
    config::{Config, ControlConfig},
};

/// The runner failed while running.
const FAILURE: u8 = 1;
/// Flags or config are wrong. clap uses the same code.
const USAGE: u8 = 2;

/// Threads for the control API, scrapes and supervisors. They never run guest code, and rest most of the
/// time: two, so that a scrape of ten thousand instances does not delay a restart.
const CONTROL_THREADS: usize = 2;

/// Wasmtime makes a span for every WASI call at level info: work at each call, for nothing that is
/// printed. In front of the configured level, so that a directive there takes precedence.
const QUIET_TARGETS: &str = "wasmtime_wasi=warn,wasmtime_wasi_io=warn,";

/// Hosts long-running WebAssembly instances, exposes their linear memory, and restarts them on request.
///
/// Without a command it runs what the config file says. SIGTERM and SIGINT stop it, SIGHUP reloads the config.
#[derive(Parser)]
#[command(name = "ebb-runner", version)]
struct Flags {
    /// Config file.
    #[arg(long, env = "EBB_RUNNER_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Validate the config file, compile and link its modules; start nothing.
    Check,
    /// Show which functions have made a module's memory grow since the runner started.
    Growth(GrowthArgs),
    #[command(flatten)]
    Common(CommonCommand),
}

/// Does what the command line says. The exit code tells what came of it.
pub fn main() -> ExitCode {
    let Flags { config, command } = Flags::parse();
    let outcome = match command {
        Some(Command::Common(command)) => common(command, config.as_deref()),
        Some(Command::Check) => with_config(config, true),
        Some(Command::Growth(args)) => growth::show(&args, &listens(config.as_deref()))
            .map_err(|error| (FAILURE, Chain(&error).to_string())),
        None => with_config(config, false),
    };
    let (code, last_words) = match outcome {
        Ok(()) => (ExitCode::SUCCESS, None),
        Err((code, message)) => {
            (ExitCode::from(code), Some(format!("ebb-runner: {}", quote::message(&message))))
        }
    };
    logging::end(last_words.as_deref());
    code
}

/// The exit code, and what is to be said about it.
type Failed = (u8, String);

fn common(command: CommonCommand, config: Option<&Path>) -> Result<(), Failed> {
    let listens = listens(config);
    let program = Program { command: Flags::command(), schema: Config::schema, listens: &listens };
    command.execute(program).map_err(|error| (FAILURE, Chain(&error).to_string()))
}

/// Where the runner listens that the config file is of.
fn listens(config: Option<&Path>) -> impl Fn() -> Result<Listens, CommandError> {
    move || {
        let file = config.ok_or(CommandError::NoConfig("--config FILE, EBB_RUNNER_CONFIG"))?;
        let ControlConfig { listen: address, bearer_token_file, web_config_file } =
            Config::load(file)?.control;
        Ok(Listens { address, web_config_file, bearer_token_file })
    }
}

/// Runs what the config file says, or only judges it.
fn with_config(file: Option<PathBuf>, check: bool) -> Result<(), Failed> {
    let Some(file) = file else {
        return Err((USAGE, "no config file: expected --config FILE, or EBB_RUNNER_CONFIG".to_owned()));
    };
    let config = Config::load(&file).map_err(|error| (USAGE, Chain(&error).to_string()))?;
    let mut log = config.log.clone();
    log.level.insert_str(0, QUIET_TARGETS);
    logging::init(&log).map_err(|error| (USAGE, format!("{}: log: {}", file.display(), Chain(&error))))?;
    let valid = format!(
        "{}: valid, {} modules, {} instances\n",
        file.display(),
        config.modules.len(),
        config.instances()
    );
    let outcome = if check { crate::check(&config) } else { run(config) };
    outcome.map_err(|error| {
        let code = if matches!(error, RunError::Config(_)) { USAGE } else { FAILURE };
        (code, format!("{}: {}", file.display(), Chain(&error)))
    })?;
    if !check {
        return Ok(());
    }
    print(valid.as_bytes()).map_err(|error| (FAILURE, Chain(&error).to_string()))
}

fn run(config: Config) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("ebb-control")
        .worker_threads(CONTROL_THREADS)
        .enable_all()
        .build()
        .map_err(RunError::Start)?;
    let outcome = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let reload = signals::listen(shutdown.clone()).map_err(RunError::Start)?;
        let control = bind("control.listen", config.control.listen).await?;
        let http = match &config.http {
            Some(http) => Some(bind("http.listen", http.listen).await?),
            None => None,
        };
        crate::run(config, Listeners { control, http }, shutdown, reload).await
    });
    // What is left are threads that the operating system keeps busy; the process ends without them.
    runtime.shutdown_background();
    outcome
}

async fn bind(field: &str, address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|error| {
        RunError::Start(io::Error::new(error.kind(), format!("{field}: {address}: {error}")))
    })
}
