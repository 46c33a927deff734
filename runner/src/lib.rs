//! Ebb's runner: hosts long-running WebAssembly instances, exposes what each one's linear memory holds,
//! and restarts the one it is told to.
//!
//! | module | subject |
//! | --- | --- |
//! | [`config`] | YAML → a validated config; errors name file, line, column and field |
//! | `kind` | what kind of program a module is, with what only that kind has |
//! | [`lifecycle`] | pure: what a slot does next |
//! | `code_cache` | compiled code on disk, every file with a checksum |
//! | [`engine`] | Wasmtime engines, their pools, the epoch clock |
//! | [`program`] | a module's file → something that can be instantiated |
//! | [`guest`] | one lifetime: its memory meter, its view of the host, its output |
//! | [`fleet`] | modules, slots and their supervisors; restarts and rollouts |
//! | [`reload`] | the config file, read again |
//! | [`exposition`] | the fleet → metrics |
//! | [`descriptors`] | pure: how file descriptors are shared out |
//! | [`host`] | the host's memory and memory maps |
//! | [`control`] | the HTTP control API |
//! | [`gateway`] | the HTTP data plane: listener, connections, answers |
//! | [`exchange`] | requests between the gateway and the guests: routes, queues, progress |
//! | [`threads`] | which code runs on which threads |
//!
//! Data flows one way: `control, gateway → fleet → guest, lifecycle → exchange`.

use std::{io, sync::Arc, time::Instant};

use ebb_service::server::Limits;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

mod code_cache;
pub mod config;
pub mod control;
pub mod descriptors;
pub mod engine;
pub mod exchange;

pub mod exposition;
pub mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gateway;
pub mod guest;
pub mod host;
mod kind;
pub mod lifecycle;
pub mod program;
pub mod reload;
pub mod threads;

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
    Shutdown(std::time::Duration),
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
    let reloader = Arc::new(Reloader::new(config, !address.ip().is_loopback(), Arc::clone(&fleet)));
    reloader.read_first_token()?;

    info!(%address, modules, instances, "control API listens");
    let stop_serving = CancellationToken::new();
    let mut server = tokio::spawn(control::serve(
        listeners.control,
        Arc::clone(&fleet),
        Arc::clone(&reloader),
        Limits::for_descriptors(descriptors.limit),
        stop_serving.clone(),
    ));
    let (stop_taking_requests, cut_requests) = (CancellationToken::new(), CancellationToken::new());
    let mut data_plane = None;

    let outcome = tokio::select! {
        outcome = async {
            reloader.start().await?;
            info!(modules, instances, duration_ms = started.elapsed().as_millis(),
                "all modules compiled, instances starting");
            if let Some((listener, gateway)) = gateway {
                let address = listener.local_addr().map_err(RunError::Start)?;
                info!(%address, "HTTP listens");
                let serving = gateway.serve(listener, stop_taking_requests.clone(), cut_requests.clone());
                data_plane = Some(threads.handles().http.spawn(serving));
            }
            loop {
                reload.notified().await;
                // Logged, and told by a metric; the old config stays in force.
                let _ = reloader.reload().await;
            }
        } => outcome,
        served = &mut server => Err(RunError::Serve(match served {
            Ok(()) => io::Error::other("the listener closed"),
            Err(error) => io::Error::other(error),
        })),
        () = shutdown.cancelled() => Ok(()),
    };

    let stopping = Instant::now();
    let left = || shutdown_timeout.saturating_sub(stopping.elapsed());
    stop_taking_requests.cancel();
    if let Some(mut data_plane) = data_plane
        && tokio::time::timeout(left(), &mut data_plane).await.is_err()
    {
        warn!("closing data connections whose requests were not finished within shutdown_timeout");
        cut_requests.cancel();
    }
    // What is cut off was cut off above; to end instances takes milliseconds.
    let stopped = tokio::time::timeout(left().max(STOP_AT_LEAST), fleet.stop()).await;
    stop_serving.cancel();
    // Idle connections close at once; one that is still being answered has what is left of the time.
    if !server.is_finished() && tokio::time::timeout(left(), &mut server).await.is_err() {
        warn!("closing control connections that are still being answered");
        server.abort();
    }
    info!(duration_ms = stopping.elapsed().as_millis(), "stopped");
    outcome.and(stopped.map_err(|_| RunError::Shutdown(shutdown_timeout)))
}

/// How long instances may take to end when requests have used up all of `shutdown_timeout`.
const STOP_AT_LEAST: std::time::Duration = std::time::Duration::from_secs(1);

/// Judges `config` as a start would, without starting anything: reads the token, compiles and links every
/// module, counts memory maps.
///
/// # Errors
/// [`RunError`].
pub fn check(config: &Config) -> Result<(), RunError> {
    use ebb_service::secret::BearerToken;

    if let Some(file) = &config.control.bearer_token_file {
        BearerToken::from_file(file).map_err(ReloadError::from)?;
    }
    let engines = Engines::new(&config.engine).map_err(RunError::Start)?;
    fleet::rollout::check(&engines, descriptors(config), &config.modules).map_err(ReloadError::from)?;
    Ok(())
}

/// What this process has of them, once it asked for all that it may have.
fn descriptors(config: &Config) -> Descriptors {
    Descriptors {
        limit: ebb_service::descriptors::raise_limit(),
        max_connections: config.http.as_ref().map_or(0, |http| http.max_connections.get()),
    }
}
