//! Signals → wishes: SIGTERM and SIGINT ask to stop, SIGHUP asks to reload the config.

use std::{io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Listens to the process' signals for as long as the runtime lives. A SIGHUP is never lost: it is
/// remembered until somebody waits for it.
///
/// # Errors
/// When the operating system refuses a signal handler.
pub fn listen(stop: CancellationToken) -> io::Result<Arc<Notify>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let reload = Arc::new(Notify::new());
    let notify = Arc::clone(&reload);
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
                _ = hang_up.recv() => {
                    notify.notify_one();
                    continue;
                }
            };
            info!(signal = name, "stopping");
            stop.cancel();
        }
    });
    Ok(reload)
}
