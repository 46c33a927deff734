//! The config file, read again: all of it or nothing.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use ebb_service::{
    config_file::ConfigError,
    logging::Chain,
    secret::{BearerToken, TokenFileError},
};
use tracing::{error, info, warn};

use crate::{
    config::{Config, Kind},
    fleet::{
        Fleet,
        rollout::{Rollout, RolloutError},
    },
    units::ModuleName,
};

/// Why a config was not taken. What ran before goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file is no valid config.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The token's file cannot be used.
    #[error("control.bearer_token_file")]
    Token(#[from] TokenFileError),
    /// The runner already listens beyond loopback, where it must ask for a token.
    #[error(
        "control.bearer_token_file: expected one, since this runner listens beyond loopback until it is started anew"
    )]
    TokenNeeded,
    /// A module asks for requests, and there is no listener to take them.
    #[error(
        "module \"{0}\" is of kind `http`, but this runner was started without a module of that kind or a section \
         `http`, so it takes no requests: start it anew"
    )]
    NoHttpListener(ModuleName),
    /// A module cannot be run.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
}

/// How the last reload went.
#[derive(Debug, Default)]
pub struct ReloadStatus {
    successful: AtomicBool,
    last_success_unix_ms: AtomicU64,
}

impl ReloadStatus {
    /// Whether the last attempt succeeded.
    #[must_use]
    pub fn was_successful(&self) -> bool {
        self.successful.load(Ordering::Relaxed)
    }

    /// When an attempt last succeeded, in Unix seconds; 0 if none has.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn last_success_seconds(&self) -> f64 {
        self.last_success_unix_ms.load(Ordering::Relaxed) as f64 / 1000.0
    }

    fn record(&self, successful: bool) {
        self.successful.store(successful, Ordering::Relaxed);
        if successful {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.last_success_unix_ms.store(now, Ordering::Relaxed);
        }
    }
}

/// Reads the config file anew and makes it so.
pub struct Reloader {
    file: PathBuf,
    /// The config that this process was started with: some of it cannot change any more.
    first: Config,
    listens_beyond_loopback: bool,
    fleet: Arc<Fleet>,
    token: ArcSwapOption<BearerToken>,
    status: Arc<ReloadStatus>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// A reloader of `config`'s file. `listens_beyond_loopback`: as it is, not as configured.
    #[must_use]
    pub fn new(config: Config, listens_beyond_loopback: bool, fleet: Arc<Fleet>) -> Self {
        Self {
            file: config.file.clone(),
            first: config,
            listens_beyond_loopback,
            fleet,
            token: ArcSwapOption::empty(),
            status: Arc::default(),
            one_at_a_time: tokio::sync::Mutex::new(()),
        }
    }

    /// The token that `POST` requests must carry, if any.
    #[must_use]
    pub fn token(&self) -> Option<Arc<BearerToken>> {
        self.token.load_full()
    }

    /// How the last reload went.
    #[must_use]
    pub const fn status(&self) -> &Arc<ReloadStatus> {
        &self.status
    }

    /// Reads the token of the config that the process was started with. Before anything is served.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub fn read_first_token(&self) -> Result<(), ReloadError> {
        self.token.store(self.read_token(&self.first)?.map(Arc::new));
        Ok(())
    }

    /// Opens the slots that the first config asks for. The instances in them start from then on.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub async fn start(&self) -> Result<Rollout, ReloadError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let rollout = self.fleet.roll_out(&self.first.modules).await?;
        self.status.record(true);
        Ok(rollout)
    }

    /// Reads the file and makes it so, or leaves everything as it is.
    ///
    /// # Errors
    /// [`ReloadError`] names the file, and where in it.
    pub async fn reload(&self) -> Result<Rollout, ReloadError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let outcome = self.try_reload().await;
        self.status.record(outcome.is_ok());
        match &outcome {
            Ok(rollout) => info!(
                added = rollout.added.len(),
                removed = rollout.removed.len(),
                changed = rollout.changed.len(),
                scaled = rollout.scaled.len(),
                unchanged = rollout.unchanged.len(),
                "config reloaded"
            ),
            Err(cause) => error!(error = %Chain(cause), "config not reloaded, the old one stays in force"),
        }
        outcome
    }

    async fn try_reload(&self) -> Result<Rollout, ReloadError> {
        let config = Config::load(&self.file)?;
        let token = self.read_token(&config)?;
        let serves = config.modules.iter().find(|module| module.kind == Kind::Http);
        if let (Some(module), None) = (serves, &self.first.http) {
            return Err(ReloadError::NoHttpListener(module.name.clone()));
        }
        let rollout = self.fleet.roll_out(&config.modules).await?;
        self.token.store(token.map(Arc::new));
        self.warn_of_what_needs_a_new_start(&config);
        Ok(rollout)
    }

    fn read_token(&self, config: &Config) -> Result<Option<BearerToken>, ReloadError> {
        match &config.control.bearer_token_file {
            Some(file) => Ok(Some(BearerToken::from_file(file)?)),
            None if self.listens_beyond_loopback => Err(ReloadError::TokenNeeded),
            None => Ok(None),
        }
    }

    fn warn_of_what_needs_a_new_start(&self, config: &Config) {
        let fields = [
            ("control.listen", config.control.listen != self.first.control.listen),
            ("http", config.http.as_ref().is_some_and(|http| Some(http) != self.first.http.as_ref())),
            ("log", config.log != self.first.log),
            ("engine", config.engine != self.first.engine),
            ("shutdown_timeout", config.shutdown_timeout != self.first.shutdown_timeout),
        ];
        for (field, _) in fields.iter().filter(|(_, changed)| *changed) {
            warn!(field, "changed in the config file, takes effect when the runner is started anew");
        }
    }
}
