//! What the evaluator can be asked on the command line.

mod advise;
mod backtest;
mod error;
mod explain;
mod format;
mod recorded;

use std::{path::PathBuf, process::ExitCode, time::SystemTime};

use clap::{CommandFactory as _, Parser, Subcommand};
use ebb_service::{
    commands::{CommonCommand, Listens, Program, print},
    logging::{self, Chain},
    quote, signals,
};
use ebb_units::{InstanceName, Millis};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{advise::AdviseArgs, backtest::BacktestArgs, error::CliError, explain::explain, format::Format};
use crate::{
    Service,
    config::Config,
    live::{self, Finding, Level},
};

/// Learns how much memory WebAssembly instances need, and restarts those that hold more.
///
/// Without a command it runs what the config file says. SIGTERM and SIGINT stop it, SIGHUP reloads the config.
#[derive(Debug, Parser)]
#[command(name = "ebb-evaluator", version)]
struct Cli {
    /// Config file.
    #[arg(long, value_name = "FILE", default_value = "evaluator.yml", global = true)]
    config: PathBuf,
    /// Decide everything and restart nothing, whatever the config says, now and after reloads.
    #[arg(long, global = true)]
    dry_run: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate the config file and print it with all defaults.
    Check {
        /// Query the store and the runners instead: connectivity, credentials, clocks, series, labels. Restarts nothing.
        #[arg(long)]
        live: bool,
        /// Output format.
        #[arg(long, value_enum, default_value_t = Format::Table, requires = "live")]
        format: Format,
    },
    /// Try policies on the history in Prometheus: what they would have restarted and when, and how much that would have saved.
    Backtest(BacktestArgs),
    /// Propose what to set, from the history in Prometheus: restarts against memory over the price of a restart, and limits of memory.
    Advise(AdviseArgs),
    /// Ask the running evaluator why an instance was restarted, or why not.
    Explain {
        /// The instance, such as leaky/3.
        #[arg(value_name = "MODULE/REPLICA")]
        instance: InstanceName,
        /// Address of the running evaluator, with https:// before it for TLS; otherwise the config's.
        #[arg(long, value_name = "HOST:PORT")]
        evaluator: Option<String>,
    },
    #[command(flatten)]
    Common(CommonCommand),
}

/// Does what the command line says. The exit code tells what came of it.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
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

impl Cli {
    fn execute(self) -> Result<(), CliError> {
        let Self { config: path, dry_run, command } = self;
        let load = || Config::load(&path, dry_run);
        match command {
            None => {
                let config = load()?;
                logging::init(&config.log)?;
                runtime()?.block_on(serve(config, path.clone(), dry_run))
            }
            Some(Command::Check { live, format }) => {
                let config = load()?;
                crate::check(&config)?;
                if live { runtime()?.block_on(check_live(&config, format)) } else { print_config(&config) }
            }
            Some(Command::Backtest(args)) => runtime()?.block_on(backtest::backtest(&load()?, args)),
            Some(Command::Advise(args)) => runtime()?.block_on(advise::run(&load()?, args)),
            Some(Command::Explain { instance, evaluator }) => {
                explain(evaluator.as_deref(), &|| Ok(listens(load()?)), &instance)
            }
            Some(Command::Common(command)) => {
                let listens = || Ok(listens(load()?));
                let program = Program { command: Self::command(), schema: Config::schema, listens: &listens };
                Ok(command.execute(program)?)
            }
        }
    }
}

fn listens(config: Config) -> Listens {
    let Config { listen: address, web_config_file, bearer_token_file, .. } = config;
    Listens { address, web_config_file, bearer_token_file }
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    // One thread evaluates, another answers meanwhile.
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(CliError::Start)
}

async fn serve(config: Config, config_path: PathBuf, force_dry_run: bool) -> Result<(), CliError> {
    let address = config.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| CliError::Listen { address, source })?;
    let stop = CancellationToken::new();
    let reload = signals::listen(stop.clone()).map_err(CliError::Start)?;
    Ok(crate::run(Service { config, config_path, force_dry_run, listener, stop, reload }).await?)
}

fn print_config(config: &Config) -> Result<(), CliError> {
    let printed = config.to_yaml_without_secrets().map_err(CliError::Print)?;
    Ok(print(printed.as_bytes())?)
}

async fn check_live(config: &Config, format: Format) -> Result<(), CliError> {
    let findings = live::check(config, Millis::from(SystemTime::now())).await?;
    let printed = match format {
        Format::Json => serde_json::to_string_pretty(&findings).expect("findings are JSON") + "\n",
        Format::Table => {
            let width = findings.iter().map(|finding| finding.about.len()).max().unwrap_or(0);
            let line = |Finding { level, about, finding }: &Finding| {
                format!("{:7}  {about:width$}  {finding}\n", level.name())
            };
            findings.iter().map(line).collect()
        }
    };
    print(printed.as_bytes())?;
    match findings.iter().filter(|finding| finding.level == Level::Problem).count() {
        0 => Ok(()),
        problems => Err(CliError::Live { problems }),
    }
}
