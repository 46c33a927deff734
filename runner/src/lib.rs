//! Ebb's runner: hosts long-running WebAssembly instances, exposes what each one's linear memory holds,
//! and restarts the one it is told to.
//!
//! | module | subject |
//! | --- | --- |
//! | [`config`] | YAML → a validated config; errors name file, line, column and field |
//! | [`units`] | module names, digests, replicas, generations |
//! | [`lifecycle`] | pure: what a slot does next |
//! | [`engine`] | Wasmtime engines, their pools, the epoch clock, the compile cache |
//! | [`program`] | a module's file → something that can be instantiated |
//! | [`guest`] | one lifetime: its memory meter, its view of the host, its output |
//! | [`fleet`] | modules, slots and their supervisors; restarts and rollouts |
//! | [`reload`] | the config file, read again |
//! | [`exposition`] | the fleet → metrics |
//! | [`host`] | the host's memory and memory maps |
//! | [`control`] | the HTTP control API |
//! | [`server`] | HTTP/1.1 on a listener |
//! | [`threads`] | which code runs on which threads |
//!
//! Data flows one way: `control → fleet → guest, lifecycle → units`.

use std::{io, sync::Arc, time::Instant};

use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub mod config;
pub mod control;
pub mod engine;
pub mod exposition;
pub mod fleet;
pub mod guest;
pub mod host;
pub mod lifecycle;
pub mod program;
pub mod reload;
pub mod server;
pub mod threads;
pub mod units;

use config::Config;
use engine::Engines;
use fleet::Fleet;
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

/// Runs everything that `config` asks for, until `shutdown`. Each notification of `reload` reads the
/// config's file anew. The control API is served on `listener` from the start; `/-/ready` says when every
/// slot was started once.
///
/// # Errors
/// [`RunError`]. All instances have ended then as well.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
    reload: Arc<Notify>,
) -> Result<(), RunError> {
    let started = Instant::now();
    let address = listener.local_addr().map_err(RunError::Start)?;
    let (shutdown_timeout, modules, instances) =
        (config.shutdown_timeout, config.modules.len(), config.instances());
    let threads = Threads::start(config.engine.guest_threads).map_err(RunError::Start)?;
    let engines = Engines::new(&config.engine).map_err(RunError::Start)?;
    let fleet = Arc::new(Fleet::new(engines, threads.handles().clone()));
    let reloader = Arc::new(Reloader::new(config, !address.ip().is_loopback(), Arc::clone(&fleet)));
    reloader.read_first_token()?;

    info!(%address, modules, instances, "control API listens");
    let stop_serving = CancellationToken::new();
    let mut server = tokio::spawn(control::serve(
        listener,
        Arc::clone(&fleet),
        Arc::clone(&reloader),
        stop_serving.clone(),
    ));

    let outcome = tokio::select! {
        outcome = async {
            reloader.start().await?;
            info!(modules, instances, duration_ms = started.elapsed().as_millis(),
                "all modules compiled, instances starting");
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
    let stopped = tokio::time::timeout(shutdown_timeout, fleet.stop()).await;
    stop_serving.cancel();
    // Idle connections close at once; one that is still being answered has what is left of the time.
    let left = shutdown_timeout.saturating_sub(stopping.elapsed());
    if !server.is_finished() && tokio::time::timeout(left, &mut server).await.is_err() {
        warn!("closing control connections that are still being answered");
        server.abort();
    }
    info!(duration_ms = stopping.elapsed().as_millis(), "stopped");
    outcome.and(stopped.map_err(|_| RunError::Shutdown(shutdown_timeout)))
}

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
    fleet::rollout::check(&engines, &config.modules).map_err(ReloadError::from)?;
    Ok(())
}
