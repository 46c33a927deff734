//! Ebb's runner: hosts long-running WebAssembly instances, exposes what each one's linear memory holds,
//! and restarts the one it is told to.
//!
//! | module | subject |
//! | --- | --- |
//! | [`cli`] | the command line: flags, config, signals, exit code |
//! | [`config`] | YAML → a validated config; errors name file, line, column and field |
//! | `kind` | what kind of program a module is, with what only that kind has |
//! | `code_cache` | compiled code on disk, every file with a checksum |
//! | `engine` | Wasmtime engines, their pools, the epoch clock |
//! | `program` | a module's file → something that can be instantiated |
//! | `guest` | one lifetime: its memory meter, its view of the host, its output |
//! | `fleet` | modules, slots and their supervisors; restarts and rollouts |
//! | `reload` | the config file, read again |
//! | `exposition` | the fleet → metrics |
//! | `descriptors` | pure: how file descriptors are shared out |
//! | `host` | the host's memory and memory maps |
//! | `control` | the HTTP control API |
//! | `gateway` | the HTTP data plane: listener, connections, answers |
//! | `exchange` | requests between the gateway and the guests: routes, queues, progress |
//! | `threads` | which code runs on which threads |
//!
//! Data flows one way: `control, gateway → fleet → guest → exchange`.

use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ebb_service::{
    server::{Guard, Limits},
    web_config::WebConfig,
};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub mod cli;
mod code_cache;
pub mod config;
mod control;
mod descriptors;
mod engine;
mod exchange;
mod exposition;
mod fleet;
#[cfg(test)]
mod fuzzing;
mod gateway;
mod guest;
mod host;
mod kind;
mod program;
mod reload;
mod threads;

use config::Config;
use descriptors::Descriptors;
use engine::Engines;
use fleet::Fleet;
use gateway::Gateway;
use reload::{ReloadError, Reloader};
use threads::Threads;

/// Why the runner stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The config asks for something that cannot be done.
    #[error(transparent)]
    Config(#[from] ReloadError),
    /// The operating system refused threads or the listener's address.
    #[error("starting threads and the control listener")]
    Start(#[source] io::Error),
    /// The control listener failed.
    #[error("serving the control API")]
    Serve(#[source] io::Error),
    /// Some instances did not end in time.
    #[error("some instances did not end within shutdown_timeout ({} ms)", .0.as_millis())]
    Shutdown(Duration),
}

/// Where a runner listens.
#[derive(Debug)]
pub struct Listeners {
    /// The control API.
    pub control: TcpListener,
    /// The data plane, if the config has one ([`Config::http`]).
    pub http: Option<TcpListener>,
}

/// Runs everything that `config` asks for, until `shutdown`. Each notification of `reload` reads the
/// config's file anew. The control API is served from the start, and requests are taken as soon as the modules
/// are compiled; `/-/ready` says when every slot was started once.
///
/// A stop lets requests finish first, and ends the instances then.
///
/// # Errors
/// [`RunError`]. All instances have ended then as well.
pub async fn run(
    config: Config,
    listeners: Listeners,
    shutdown: CancellationToken,
    reload: Arc<Notify>,
) -> Result<(), RunError> {
    let started = Instant::now();
    let address = listeners.control.local_addr().map_err(RunError::Start)?;
    let (shutdown_timeout, modules, instances) =
        (config.shutdown_timeout, config.modules.len(), config.instances());
    let threads = Threads::start(config.engine.guest_threads).map_err(RunError::Start)?;
    let engines = Engines::new(&config.engine).map_err(RunError::Start)?;
    let descriptors = descriptors(&config);
    let fleet = Arc::new(Fleet::new(engines, threads.handles().clone(), descriptors, &config));
    let gateway = listeners.http.map(|listener| {
        (
            listener,
            Arc::new(Gateway::new(
                Arc::clone(&fleet),
                &config.http.clone().unwrap_or_default(),
                descriptors.connections(),
            )),
        )
    });
    let web = web_config(&config)?;
    let is_kept = web.as_ref().is_some_and(|web| web.keeps_others_out());
    let needs_token = !address.ip().is_loopback() && !is_kept;
    let reloader = Arc::new(Reloader::new(config, needs_token, Arc::clone(&fleet)));
    reloader.read_first_token()?;
    let guard = web.map(|web| {
        let reloader = Arc::clone(&reloader);
        Guard { web, token: Arc::new(move || reloader.token()) }
    });

    info!(%address, modules, instances, "control API listens");
    let stop_control = CancellationToken::new();
    let control = control::serve(
        listeners.control,
        Arc::clone(&fleet),
        Arc::clone(&reloader),
        (Limits::for_descriptors(descriptors.limit), guard),
        stop_control.clone(),
    );
    let mut servers = Servers {
        control: tokio::spawn(control),
        stop_control,
        data_plane: None,
        stop_requests: CancellationToken::new(),
        cut_requests: CancellationToken::new(),
    };

    let outcome = tokio::select! {
        outcome = async {
            reloader.start().await?;
            info!(modules, instances, duration_ms = started.elapsed().as_millis(),
                "all modules compiled, instances starting");
            if let Some((listener, gateway)) = gateway {
                let address = listener.local_addr().map_err(RunError::Start)?;
                info!(%address, "HTTP listens");
                let (stop, cut) = (servers.stop_requests.clone(), servers.cut_requests.clone());
                servers.data_plane = Some(threads.handles().http.spawn(gateway.serve(listener, stop, cut)));
            }
            loop {
                reload.notified().await;
                // Logged, and told by a metric; the old config stays in force.
                let _ = reloader.reload().await;
            }
        } => outcome,
        served = &mut servers.control => Err(RunError::Serve(match served {
            Ok(()) => io::Error::other("the listener closed"),
            Err(error) => io::Error::other(error),
        })),
        () = shutdown.cancelled() => Ok(()),
    };

    outcome.and(servers.stop(&fleet, shutdown_timeout).await)
}

/// What serves requests, and how it is stopped.
struct Servers {
    control: JoinHandle<()>,
    stop_control: CancellationToken,
    data_plane: Option<JoinHandle<()>>,
    /// Takes no more requests.
    stop_requests: CancellationToken,
    /// Closes connections whose requests are not finished.
    cut_requests: CancellationToken,
}

impl Servers {
    /// Lets requests finish, ends the instances, and answers whoever waits for that.
    async fn stop(mut self, fleet: &Fleet, shutdown_timeout: Duration) -> Result<(), RunError> {
        /// How long instances may take to end when requests have used up all of `shutdown_timeout`.
        const STOP_AT_LEAST: Duration = Duration::from_secs(1);

        let stopping = Instant::now();
        let left = || shutdown_timeout.saturating_sub(stopping.elapsed());
        self.stop_requests.cancel();
        if let Some(mut data_plane) = self.data_plane
            && timeout(left(), &mut data_plane).await.is_err()
        {
            warn!("closing data connections whose requests were not finished within shutdown_timeout");
            self.cut_requests.cancel();
        }
        // What is cut off was cut off above; to end instances takes milliseconds.
        let stopped = timeout(left().max(STOP_AT_LEAST), fleet.stop()).await;
        self.stop_control.cancel();
        // Idle connections close at once; one that is still being answered has what is left of the time.
        if !self.control.is_finished() && timeout(left(), &mut self.control).await.is_err() {
            warn!("closing control connections that are still being answered");
            self.control.abort();
        }
        info!(duration_ms = stopping.elapsed().as_millis(), "stopped");
        stopped.map_err(|_| RunError::Shutdown(shutdown_timeout))
    }
}

/// Judges `config` as a start would, without starting anything: reads the token, compiles and links every
/// module, counts memory maps.
///
/// # Errors
/// [`RunError`].
pub(crate) fn check(config: &Config) -> Result<(), RunError> {
    use ebb_service::secret::BearerToken;

    if let Some(file) = &config.control.bearer_token_file {
        BearerToken::from_file(file).map_err(ReloadError::from)?;
    }
    web_config(config)?;
    let engines = Engines::new(&config.engine).map_err(RunError::Start)?;
    fleet::rollout::check(&engines, descriptors(config), &config.modules).map_err(ReloadError::from)?;
    Ok(())
}

/// The TLS and users of the control listener, if it has any.
fn web_config(config: &Config) -> Result<Option<Arc<WebConfig>>, ReloadError> {
    let load = |path: &PathBuf| WebConfig::load(path, &["http/1.1"]);
    Ok(config.control.web_config_file.as_ref().map(load).transpose()?)
}

/// What this process has of them, once it asked for all that it may have.
fn descriptors(config: &Config) -> Descriptors {
    Descriptors {
        limit: ebb_service::descriptors::raise_limit(),
        max_connections: config.http.as_ref().map_or(0, |http| http.max_connections.get()),
    }
}
