//! The evaluator as a service: its clock, its listener, its reloads.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ebb_core::decide::clock::Now;
use ebb_service::{
    config_file::ConfigError,
    descriptors::raise_limit,
    logging::Chain,
    quote,
    secret::{BearerToken, TokenFileError},
    server::{self, Guard, Limits},
    web_config::{WebConfig, WebConfigError},
};
use ebb_units::{Elapsed, Millis};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    advice::RecordRequest,
    config::Config,
    decisions::Journal,
    evaluation::{Evaluator, Sinks},
    growth::GrowthReader,
    metrics::Metrics,
    snapshot::SnapshotCell,
    store::StoreError,
    web::{self, EvaluatorHandle, ExtractRequest, ReloadRequest, Web},
};

/// Everything that an evaluator needs to run.
#[derive(Debug)]
pub(crate) struct Service {
    /// Its config.
    pub config: Config,
    /// The file that the config came from, to be read again at a reload.
    pub config_path: PathBuf,
    /// Whether it is a dry run whatever the config says, also after a reload.
    pub force_dry_run: bool,
    /// Where its API is served.
    pub listener: TcpListener,
    /// Cancelled when it is to stop.
    pub stop: CancellationToken,
    /// Notified when it is to reload its config.
    pub reload: Arc<Notify>,
}

/// How long answers under way are waited for at a stop.
const GRACE: Duration = Duration::from_secs(3);

/// Why an evaluator could not start or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The store's credentials cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The token file cannot be used.
    #[error(transparent)]
    Token(#[from] TokenFileError),
    /// The listener's certificates or users cannot be used.
    #[error("web_config_file")]
    Web(#[from] WebConfigError),
    /// Others can reach it, and nothing keeps them out.
    #[error(
        "listen: {0} is reachable from other machines: expected a bearer_token_file, or a web_config_file with users or client \
         certificates"
    )]
    Open(SocketAddr),
    /// The API cannot be served.
    #[error("serving the API")]
    Serve(#[source] io::Error),
}

/// Reads the files that a config names, which a start and orders need: tokens, certificates. Asks nobody.
///
/// # Errors
/// [`RunError`], as [`run`].
pub(crate) fn check(config: &Config) -> Result<(), RunError> {
    for file in [&config.bearer_token_file, &config.runners.bearer_token_file].into_iter().flatten() {
        BearerToken::from_file(file)?;
    }
    web_config(config)?;
    config.runners.client()?;
    Ok(config.open_store()?.check_credentials()?)
}

/// The TLS and users of the evaluator's listener, if it has any.
fn web_config(config: &Config) -> Result<Option<Arc<WebConfig>>, RunError> {
    let Some(path) = &config.web_config_file else { return Ok(None) };
    let web = WebConfig::load(path, &["http/1.1"])?;
    let is_open = !config.listen.ip().is_loopback() && config.bearer_token_file.is_none();
    if is_open && !web.keeps_others_out() {
        return Err(RunError::Open(config.listen));
    }
    Ok(Some(web))
}

/// Runs an evaluator until it is told to stop.
///
/// # Errors
/// [`RunError`] when it cannot start, or its API cannot be served any more.
pub(crate) async fn run(service: Service) -> Result<(), RunError> {
    let Service { config, config_path, force_dry_run, listener, stop, reload } = service;
    let board = Arc::new(SnapshotCell::default());
    let (metrics, registry) = Metrics::new(Arc::clone(&board));
    let sinks = Sinks { board, journal: Arc::new(Journal::default()), metrics: Arc::clone(&metrics) };
    config.bearer_token_file.as_deref().map(BearerToken::from_file).transpose()?;
    let guard = web_config(&config)?.map(|web| {
        let path = config.bearer_token_file.clone();
        // Read at each request, so that it can be changed.
        let token = move || Some(Arc::new(BearerToken::from_file(path.as_deref()?).ok()?));
        Guard { web, token: Arc::new(token) }
    });
    let (config, config_seen) = watch::channel(Arc::new(config));
    let growth = GrowthReader::default();
    let evaluator = Evaluator::new(Arc::clone(&config_seen.borrow()), sinks.clone(), growth.clone())?;
    let (reload_sender, reload_requests) = mpsc::channel(1);
    let (extract_sender, extract_requests) = mpsc::channel(1);
    let (record_sender, record_requests) = mpsc::channel(1);
    let handle = EvaluatorHandle { reload: reload_sender, extract: extract_sender, record: record_sender };
    let dry_run = config_seen.borrow().dry_run;
    info!(address = %listener.local_addr().map_err(RunError::Serve)?, dry_run, "listening");
    let web = web::router(Web::new(sinks, registry, config_seen, handle, growth));
    let stopped = stop.clone();
    let server =
        tokio::spawn(server::serve(listener, web, Limits::for_descriptors(raise_limit()), guard, stopped));
    let started = (Millis::from(SystemTime::now()), Instant::now());
    let clock = Clock { evaluator, config, config_path, force_dry_run, metrics, started };
    let requests =
        Requests { reloads: reload_requests, extracts: extract_requests, records: record_requests };
    clock.run(&stop, &reload, requests).await;
    match timeout(GRACE, server).await {
        Ok(served) => served.map_err(|error| RunError::Serve(io::Error::other(error))),
        // Whoever has not finished asking by now is not waited for.
        Err(_) => Ok(()),
    }
}

/// What the web asks the evaluation for.
struct Requests {
    reloads: mpsc::Receiver<ReloadRequest>,
    extracts: mpsc::Receiver<ExtractRequest>,
    records: mpsc::Receiver<RecordRequest>,
}

/// Calls the evaluation once per interval.
struct Clock {
    evaluator: Evaluator,
    config: watch::Sender<Arc<Config>>,
    config_path: PathBuf,
    force_dry_run: bool,
    metrics: Arc<Metrics>,
    /// One moment by both clocks.
    started: (Millis, Instant),
}

impl Clock {
    fn now(&self) -> Now {
        let (wall, instant) = self.started;
        let passed = Elapsed::from(instant.elapsed());
        Now { wall: Millis::from(SystemTime::now()), steady: wall.plus(passed) }
    }

    async fn run(mut self, stop: &CancellationToken, reload: &Notify, mut requests: Requests) {
        let mut ticks = self.ticks();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.tick(stop).await,
                () = reload.notified() => {
                    let _ = self.reload(&mut ticks);
                }
                // Whoever asked may be gone by now.
                Some(answer) = requests.reloads.recv() => {
                    let _ = answer.send(self.reload(&mut ticks));
                }
                Some(request) = requests.extracts.recv() => {
                    let _ = request.answer.send(self.evaluator.extract(&request.slots, request.since));
                }
                Some(answer) = requests.records.recv() => {
                    let _ = answer.send(self.evaluator.recording());
                }
            }
        }
    }

    fn ticks(&self) -> tokio::time::Interval {
        let mut ticks = interval(self.config.borrow().interval.into());
        // A tick that took too long delays nothing but itself.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks
    }

    async fn tick(&mut self, stop: &CancellationToken) {
        let started = Instant::now();
        let now = self.now();
        tokio::select! {
            () = self.evaluator.tick(now) => {}
            // An order under way is carried out by the runner all the same.
            () = stop.cancelled() => return,
        }
        let interval = self.config.borrow().interval.as_elapsed().0.max(1);
        let missed = (Elapsed::from(started.elapsed()).0 / interval).unsigned_abs();
        if missed > 0 {
            warn!(missed, took_ms = started.elapsed().as_millis(), "a tick took longer than the interval");
            self.metrics.missed_ticks(missed);
        }
    }

    /// Reads the config again; keeps the old one on any error.
    fn reload(&mut self, ticks: &mut tokio::time::Interval) -> Result<(), String> {
        let reloaded = Config::load(&self.config_path, self.force_dry_run)
            .map_err(|error: ConfigError| quote::message(&Chain(&error).to_string()))
            .and_then(|config| self.replace(config));
        self.metrics.reloaded(reloaded.is_ok());
        match &reloaded {
            Ok(()) => {
                *ticks = self.ticks();
                info!(path = %self.config_path.display(), "config reloaded");
            }
            Err(message) => error!("config not reloaded, the old one stays: {message}"),
        }
        reloaded
    }

    fn replace(&mut self, config: Config) -> Result<(), String> {
        let old = Arc::clone(&self.config.borrow());
        let kept = |config: &Config| {
            (config.listen, config.bearer_token_file.clone(), config.web_config_file.clone())
        };
        if kept(&config) != kept(&old) {
            return Err("listen, bearer_token_file, web_config_file: cannot be changed while running; restart the evaluator"
                .to_owned());
        }
        if config.log != old.log {
            warn!("log: a change takes effect when the evaluator is restarted");
        }
        let config = Arc::new(config);
        self.evaluator.reconfigure(Arc::clone(&config)).map_err(|error| Chain(&error).to_string())?;
        self.config.send_replace(config);
        Ok(())
    }
}
