//! What the evaluator can be asked on the command line.

mod backtest;
mod error;
mod format;

use std::{
    fmt::Write as _,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{CommandFactory as _, Parser, Subcommand};
use ebb_evaluator::{
    Service,
    client::{self, BodyError, client_builder},
    config::Config,
    live::{self, Finding, Level},
};
use ebb_service::{
    commands::{self, CommonCommand, Program, print},
    logging, quote, signals,
};
use ebb_units::{InstanceName, Millis};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{backtest::BacktestArgs, error::CliError, format::Format};

/// Learns how much memory WebAssembly instances need, and restarts those that hold more.
///
/// Without a command it runs what the config file says. SIGTERM and SIGINT stop it, SIGHUP reloads the config.
#[derive(Debug, Parser)]
#[command(name = "ebb-evaluator", version)]
pub(crate) struct Cli {
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
    /// Ask the running evaluator why an instance was restarted, or why not.
    Explain {
        /// The instance, such as leaky/3.
        #[arg(value_name = "MODULE/REPLICA")]
        instance: InstanceName,
        /// Address of the running evaluator; otherwise the config's.
        #[arg(long, value_name = "HOST:PORT")]
        evaluator: Option<String>,
    },
    #[command(flatten)]
    Common(CommonCommand),
}

impl Cli {
    pub(crate) fn execute(self) -> Result<(), CliError> {
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
                ebb_evaluator::check(&config)?;
                if live { runtime()?.block_on(check_live(&config, format)) } else { print_config(&config) }
            }
            Some(Command::Backtest(args)) => runtime()?.block_on(backtest::backtest(&load()?, args)),
            Some(Command::Explain { instance, evaluator }) => {
                let address = match evaluator {
                    Some(address) => address,
                    None => commands::reachable(load()?.listen)?,
                };
                runtime()?.block_on(explain(address, &instance))
            }
            Some(Command::Common(command)) => {
                let listens = || Ok(load()?.listen);
                let program = Program { command: Self::command(), schema: Config::schema, listens: &listens };
                Ok(command.execute(program)?)
            }
        }
    }
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
    Ok(ebb_evaluator::run(Service { config, config_path, force_dry_run, listener, stop, reload }).await?)
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

/// What `explain` shows of an instance, and of the newest decisions on it.
#[derive(Deserialize)]
struct Explained {
    instance: String,
    replica: u32,
    module: String,
    digest: String,
    generation: u64,
    verdict: String,
    explanation: String,
}

#[derive(Deserialize)]
struct Decided {
    at: i64,
    explanation: String,
    action: String,
    outcome: Option<String>,
    effect: Option<String>,
    /// Of what was postponed or held: by what.
    limit: Option<String>,
    hold: Option<String>,
    /// Of an order that failed: more than `outcome` tells.
    message: Option<String>,
}

impl Decided {
    /// What was done, and what came of it: `ordered, restarted, memory_fell`, `postponed, cooling_down`.
    fn done(&self) -> String {
        let details = [&self.outcome, &self.limit, &self.hold, &self.effect, &self.message];
        let words = std::iter::once(&self.action).chain(details.into_iter().flatten());
        words.map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// Of `/api/v1/status`, what keeps all restarts back.
#[derive(Deserialize)]
struct Status {
    hold: Option<Held>,
}

/// Of `/api/v1/modules`, what keeps the restarts of one back.
#[derive(Deserialize)]
struct Module {
    module: String,
    hold: Option<Held>,
}

#[derive(Deserialize)]
struct Held {
    reason: String,
    message: String,
}

/// Longest wait for one of the running evaluator's answers.
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// The longest answer of the running evaluator that is read.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Text of the running evaluator for a terminal.
fn plain(text: &str) -> String {
    /// More than an explanation has.
    const CHARS_MAX: usize = 4000;
    quote::clipped_to(CHARS_MAX, text)
}

async fn explain(address: String, name: &InstanceName) -> Result<(), CliError> {
    let address = address.strip_prefix("http://").unwrap_or(&address).trim_end_matches('/').to_owned();
    let ask = |path: &str| {
        format!("http://{address}/api/v1/{path}?module={}&replica={}", name.module, name.replica)
    };
    let failed = |source: BodyError| CliError::Ask { address: address.clone(), source };
    let unreadable = |source| CliError::Answer { address: address.clone(), source };
    let client =
        client_builder().no_proxy().timeout(ASK_WITHIN).build().map_err(|error| failed(error.into()))?;
    let get = async |url: String| {
        client::body(client.get(url).send().await?.error_for_status()?, ANSWER_BYTES_MAX).await
    };
    let instances = get(ask("instances")).await.map_err(failed)?;
    let decisions = get(ask("decisions")).await.map_err(failed)?;
    let status = get(format!("http://{address}/api/v1/status")).await.map_err(failed)?;
    let mut told = String::new();
    let Status { hold } = serde_json::from_slice(&status).map_err(unreadable)?;
    if let Some(Held { reason, message }) = hold {
        let _ = writeln!(told, "All restarts are held: {}: {}", plain(&reason), plain(&message));
    }
    let modules = get(format!("http://{address}/api/v1/modules")).await.map_err(failed)?;
    let modules: Vec<Module> = serde_json::from_slice(&modules).map_err(unreadable)?;
    let own = modules.into_iter().find(|found| found.module == name.module);
    if let Some(Held { reason, message }) = own.and_then(|module| module.hold) {
        let _ =
            writeln!(told, "Restarts of {} are held: {}: {}", name.module, plain(&reason), plain(&message));
    }
    let instances: Vec<Explained> = serde_json::from_slice(&instances).map_err(unreadable)?;
    let decisions: Vec<Decided> = serde_json::from_slice(&decisions).map_err(unreadable)?;
    for found in &instances {
        let _ = writeln!(
            told,
            "{}/{} on {} (digest {}, generation {}): {}: {}",
            plain(&found.module),
            found.replica,
            plain(&found.instance),
            plain(&found.digest),
            found.generation,
            plain(&found.verdict),
            plain(&found.explanation)
        );
    }
    for decision in &decisions {
        let _ = writeln!(
            told,
            "  {} {}: {}",
            Millis(decision.at).rfc3339(),
            plain(&decision.done()),
            plain(&decision.explanation)
        );
    }
    print(told.as_bytes())?;
    if instances.is_empty() && decisions.is_empty() {
        let (module, replica) = (name.module.clone(), name.replica);
        return Err(CliError::UnknownInstance { address, module, replica });
    }
    Ok(())
}
