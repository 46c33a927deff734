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
    logging::{Chain, LogConfig},
    secret::{BearerToken, TokenFileError},
    web_config::WebConfigError,
};
use ebb_units::ModuleName;
use tracing::{error, info, warn};

use crate::{
    config::{Config, ControlConfig, EngineConfig, HttpConfig},
    fleet::{
        Fleet,
        rollout::{Rollout, RolloutError},
    },
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
    /// The runner already listens beyond loopback, where it must ask for a token or keep others out otherwise.
    #[error(
        "control.bearer_token_file: required, because this runner listens beyond loopback until it is restarted"
    )]
    TokenNeeded,
    /// Its certificates or users cannot be used.
    #[error("control.web_config_file")]
    Web(#[from] WebConfigError),
    /// A module asks for requests, and there is no listener to take them.
    #[error(
        "module \"{0}\" is of kind `http`, but this runner was started without a module of that kind or a section \
         `http`, so it takes no requests: restart the runner"
    )]
    NoHttpListener(ModuleName),
    /// A module cannot be run.
    #[error(transparent)]
    Rollout(#[from] RolloutError),
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Reloaded {
    /// What became of the modules.
    #[serde(flatten)]
    pub rollout: Rollout,
    /// Keys whose values in the file differ from those that the runner was started with, and stay without effect until
    /// it is started anew.
    pub needs_restart: Vec<&'static str>,
}

/// How the last reload went.
#[derive(Debug, Default)]
pub(crate) struct ReloadStatus {
    successful: AtomicBool,
    last_success_unix_ms: AtomicU64,
}

impl ReloadStatus {
    /// Whether the last attempt succeeded.
    pub(crate) fn was_successful(&self) -> bool {
        self.successful.load(Ordering::Relaxed)
    }

    /// When an attempt last succeeded, in Unix seconds; 0 if none has.
    pub(crate) fn last_success_seconds(&self) -> f64 {
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
pub(crate) struct Reloader {
    file: PathBuf,
    /// The config that this process was started with: some of it cannot change any more.
    first: Config,
    /// Others can reach it, and nothing else keeps them out.
    needs_token: bool,
    fleet: Arc<Fleet>,
    token: ArcSwapOption<BearerToken>,
    status: Arc<ReloadStatus>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// A reloader of `config`'s file. `needs_token`: others can reach it, and nothing else keeps them out.
    pub(crate) fn new(config: Config, needs_token: bool, fleet: Arc<Fleet>) -> Self {
        Self {
            file: config.file.clone(),
            first: config,
            needs_token,
            fleet,
            token: ArcSwapOption::empty(),
            status: Arc::default(),
            one_at_a_time: tokio::sync::Mutex::new(()),
        }
    }

    /// The token that `POST` requests must carry, if any.
    pub(crate) fn token(&self) -> Option<Arc<BearerToken>> {
        self.token.load_full()
    }

    /// How the last reload went.
    pub(crate) const fn status(&self) -> &Arc<ReloadStatus> {
        &self.status
    }

    /// Reads the token of the config that the process was started with. Before anything is served.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub(crate) fn read_first_token(&self) -> Result<(), ReloadError> {
        self.token.store(self.read_token(&self.first)?.map(Arc::new));
        Ok(())
    }

    /// Opens the slots that the first config asks for. The instances in them start from then on.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub(crate) async fn start(&self) -> Result<Rollout, ReloadError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let rollout = self.fleet.roll_out(&self.first.modules).await?;
        self.status.record(true);
        Ok(rollout)
    }

    /// Reads the file and makes it so, or leaves everything as it is.
    ///
    /// # Errors
    /// [`ReloadError`] names the file, and where in it.
    pub(crate) async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let _one_at_a_time = self.one_at_a_time.lock().await;
        let outcome = self.try_reload().await;
        self.status.record(outcome.is_ok());
        match &outcome {
            Ok(Reloaded { rollout, needs_restart }) => {
                info!(
                    added = rollout.added.len(),
                    removed = rollout.removed.len(),
                    changed = rollout.changed.len(),
                    scaled = rollout.scaled.len(),
                    unchanged = rollout.unchanged.len(),
                    "config reloaded"
                );
                for field in needs_restart {
                    warn!(field, "changed in the config file, takes effect after a restart of the runner");
                }
            }
            Err(cause) => error!(error = %Chain(cause), "config not reloaded, the old one stays in force"),
        }
        outcome
    }

    async fn try_reload(&self) -> Result<Reloaded, ReloadError> {
        let file = self.file.clone();
        // A large one takes seconds, in which other requests are answered.
        let loaded = tokio::task::spawn_blocking(move || Config::load(&file)).await;
        let config = loaded.expect("reading a config does not panic")?;
        let token = self.read_token(&config)?;
        let serves = config.modules.iter().find(|module| module.kind.serve_config().is_some());
        if let (Some(module), None) = (serves, &self.first.http) {
            return Err(ReloadError::NoHttpListener(module.name.clone()));
        }
        let rollout = self.fleet.roll_out(&config.modules).await?;
        self.token.store(token.map(Arc::new));
        Ok(Reloaded { rollout, needs_restart: needs_restart(&self.first, &config) })
    }

    fn read_token(&self, config: &Config) -> Result<Option<BearerToken>, ReloadError> {
        match &config.control.bearer_token_file {
            Some(file) => Ok(Some(BearerToken::from_file(file)?)),
            None if self.needs_token => Err(ReloadError::TokenNeeded),
            None => Ok(None),
        }
    }
}

/// The keys in which `now` differs from what the process was started with, and which cannot change any more.
fn needs_restart(first: &Config, now: &Config) -> Vec<&'static str> {
    // Taken apart, so that a new key cannot be forgotten here.
    let Config { control, http, log, engine, state_dir, shutdown_timeout, modules: _, file: _ } = first;
    let ControlConfig { listen, bearer_token_file: _, web_config_file } = control;
    let LogConfig { format, level } = log;
    let EngineConfig { epoch_tick, compile_cache, guest_threads } = engine;
    let http = http_differences(http.as_ref(), now.http.as_ref());
    let others = [
        ("control.listen", now.control.listen != *listen),
        ("control.web_config_file", now.control.web_config_file != *web_config_file),
        ("log.format", now.log.format != *format),
        ("log.level", now.log.level != *level),
        ("engine.epoch_tick", now.engine.epoch_tick != *epoch_tick),
        ("engine.compile_cache", now.engine.compile_cache != *compile_cache),
        ("engine.guest_threads", now.engine.guest_threads != *guest_threads),
        ("state_dir", now.state_dir != *state_dir),
        ("shutdown_timeout", now.shutdown_timeout != *shutdown_timeout),
    ];
    let changed = others.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field);
    http.into_iter().chain(changed).collect()
}

fn http_differences(first: Option<&HttpConfig>, now: Option<&HttpConfig>) -> Vec<&'static str> {
    let (first, now) = match (first, now) {
        (None, None) => return Vec::new(),
        // A listener that is not there yet, or one that nobody asks for any more.
        (None, Some(_)) | (Some(_), None) => return vec!["http"],
        (Some(first), Some(now)) => (first, now),
    };
    let HttpConfig { listen, access_log, header_limit, write_timeout, max_connections } = first;
    let fields = [
        ("http.listen", now.listen != *listen),
        ("http.access_log", now.access_log != *access_log),
        ("http.header_limit", now.header_limit != *header_limit),
        ("http.write_timeout", now.write_timeout != *write_timeout),
        ("http.max_connections", now.max_connections != *max_connections),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check(first: &str, now: &str, expected: &[&str]) {
        let config =
            |text: &str| Config::parse(Path::new("runner.yml"), &format!("{text}\nmodules: []\n")).unwrap();
        assert_eq!(needs_restart(&config(first), &config(now)), expected, "{first} → {now}");
    }

    #[test]
    fn each_key_that_waits_for_a_new_start_is_named() {
        check("", "", &[]);
        check("", "control: {listen: \"127.0.0.1:1\"}", &["control.listen"]);
        check("", "log: {format: json, level: warn}", &["log.format", "log.level"]);
        check(
            "",
            "engine: {epoch_tick: 1ms, compile_cache: off, guest_threads: 1}",
            &["engine.epoch_tick", "engine.compile_cache", "engine.guest_threads"],
        );
        check("", "shutdown_timeout: 1s", &["shutdown_timeout"]);
        check("http: {access_log: false}", "http: {access_log: true}", &["http.access_log"]);
        check(
            "http: {}",
            "http: {listen: \"127.0.0.1:1\", header_limit: 8KiB, write_timeout: 1s, max_connections: 1}",
            &["http.listen", "http.header_limit", "http.write_timeout", "http.max_connections"],
        );
        check("http: {}", "", &["http"]);
        check("", "http: {}", &["http"]);
        // Read anew at each reload.
        check("", "control: {bearer_token_file: t}", &[]);
    }
}
