//! YAML → a validated [`Config`]. Past this file nobody handles a bare level, size, address or path.
//!
//! | file | subject |
//! | --- | --- |
//! | `rules.rs` | `defaults:` and `modules:` → the [`Rule`](ebb_core::policy::Rule) of each module |
//! | `section.rs` | the settings of a rule, as they are written and checked one by one |
//! | `allow.rs` | `runners.allow:` → which addresses restarts may be ordered from |

mod allow;
mod rules;
mod section;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ebb_core::decide::{budget::BudgetConfig, hold::Limits};
use ebb_service::{
    config_file::{self, ConfigError, Refusal, relative_to},
    logging::LogConfig,
    schema::{self, listen_address},
};
use ebb_units::{Elapsed, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::{allow::AllowList, rules::Rules, section::RuleConfig};
use crate::{
    client::{BasicAuth, RunnerClient, Scheme, TlsConfig},
    store::{AddressTemplate, Store, StoreConfig, StoreError},
};

/// The evaluator's config file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Where the evaluator's own page, API and metrics are served.
    pub(crate) listen: SocketAddr,
    /// File with the bearer token that `POST` requests to the evaluator need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bearer_token_file: Option<PathBuf>,
    /// File with the TLS and users of that listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) web_config_file: Option<PathBuf>,
    /// Logs.
    pub(crate) log: LogConfig,
    /// Time between two evaluations.
    pub(crate) interval: Span,
    /// How far back lifetimes count.
    pub(crate) lookback: Span,
    /// Decide everything and restart nothing.
    pub(crate) dry_run: bool,
    /// Up to how many living instances each one's threshold is a series of its own.
    pub(crate) instance_series: usize,
    /// Where samples come from.
    pub(crate) store: StoreConfig,
    /// When an answer is not relied on.
    pub(crate) hold: HoldConfig,
    /// Where and how restarts are ordered.
    pub(crate) runners: RunnersConfig,
    /// How many restarts are done.
    pub(crate) budget: BudgetConfig,
    /// The rule of each module.
    #[serde(flatten)]
    pub(crate) rules: Rules,
}

/// The file as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    /// Where page, API and metrics are served. Beyond loopback it needs a token, or a web_config_file that keeps others out.
    #[serde(default = "default_listen")]
    #[schemars(schema_with = "listen_address")]
    listen: SocketAddr,
    /// File with one line: the token that POST /-/reload must carry.
    bearer_token_file: Option<PathBuf>,
    /// File with certificates and users, in the format of Prometheus' web.config.file. It is read again when it changes.
    web_config_file: Option<PathBuf>,
    /// Logs, on standard error.
    #[serde(default)]
    log: LogConfig,
    /// Time between two evaluations; at least 100ms.
    #[serde(default = "default_interval")]
    interval: Span,
    /// How far back lifetimes count; at least the interval.
    #[serde(default = "default_lookback")]
    lookback: Span,
    /// Decide everything and restart nothing.
    #[serde(default)]
    dry_run: bool,
    /// Up to this many live instances, each one's threshold is exposed as a series; with more, none is.
    #[serde(default = "default_instance_series")]
    instance_series: usize,
    /// Where samples come from: exactly one of `prometheus` and `scrape`.
    store: StoreConfig,
    /// When data is considered unreliable, so that nothing is restarted.
    #[serde(default)]
    hold: HoldConfig,
    /// Where and how restarts are ordered.
    #[serde(default)]
    runners: RunnersConfig,
    /// How many restarts are done.
    #[serde(default)]
    budget: BudgetConfig,
    /// The rule of every module.
    #[serde(default)]
    #[schemars(schema_with = "section::schema_of_defaults")]
    defaults: RuleConfig,
    /// Settings by module name. Those that are not set are taken from `defaults`.
    #[serde(default, deserialize_with = "rules::each_module_once")]
    #[schemars(with = "std::collections::BTreeMap<String, RuleConfig>")]
    modules: std::collections::BTreeMap<String, RuleConfig>,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9743))
}

/// As many as a Prometheus takes from one target without a thought.
const fn default_instance_series() -> usize {
    10_000
}

const fn default_interval() -> Span {
    Span::secs(10)
}

/// How far back lifetimes count unless configured. Three days hold several lifetimes of an instance that is restarted
/// once a day; with one day, `renewal` knows at most one of them, and restarts more often for the same memory.
pub const DEFAULT_LOOKBACK: Span = Span::secs(3 * 24 * 3600);

const fn default_lookback() -> Span {
    DEFAULT_LOOKBACK
}

/// The `hold:` section: when data is considered unreliable, so that no restart is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldConfig {
    /// An older sample says nothing about the present. Default: three intervals, or three times the scrape
    /// interval plus the longest delay of a sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stale_after: Option<Span>,
    /// How much the clocks of evaluator, store and runners, and the timestamps of samples, may differ.
    pub(crate) clock_skew: Span,
    /// Hold restarts when more than this share of the live instances disappeared within `series_drop_window`.
    pub(crate) series_drop: Share,
    /// How long a drop is remembered. After that, instances that disappeared are considered gone.
    pub(crate) series_drop_window: Span,
}

impl HoldConfig {
    /// When restarts are held. `stale_after`: from when on a sample tells nothing about the present.
    #[must_use]
    pub const fn limits(&self, stale_after: Elapsed) -> Limits {
        Limits {
            stale_after,
            clock_skew: self.clock_skew.as_elapsed(),
            series_drop: self.series_drop.0,
            series_drop_window: self.series_drop_window.as_elapsed(),
        }
    }
}

impl Default for HoldConfig {
    fn default() -> Self {
        Self {
            stale_after: None,
            clock_skew: Span::secs(5),
            series_drop: Share(0.5),
            series_drop_window: Span::secs(60),
        }
    }
}

/// A share of a whole, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, JsonSchema, Serialize)]
#[serde(try_from = "f64")]
#[schemars(!try_from)]
pub(crate) struct Share(#[schemars(range(min = 0, max = 1))] pub f64);

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(format!("invalid share {share}: expected a number from 0 to 1"))
        }
    }
}

/// The `runners:` section: where and how restarts are ordered.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunnersConfig {
    /// Addresses to which restart orders may be sent. All others are rejected.
    #[serde(skip_serializing_if = "AllowList::is_empty")]
    pub(crate) allow: AllowList,
    /// Template for a runner's address, from the labels of its series, if `instance` is not the address: `{{host}}:9742`.
    #[serde(skip_serializing_if = "AddressTemplate::is_default")]
    pub(crate) address: AddressTemplate,
    /// File with the bearer token of the runners' control API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bearer_token_file: Option<PathBuf>,
    /// How they are asked: orders, scrapes, growth.
    pub(crate) scheme: Scheme,
    /// Certificates, for `https`.
    pub(crate) tls_config: TlsConfig,
    /// A user of the runners. Orders carry the bearer token instead, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) basic_auth: Option<BasicAuth>,
    /// Longest wait for a restart.
    pub(crate) timeout: Span,
    /// How long after a restart its effect on memory must be seen.
    pub verify_within: Span,
}

impl Default for RunnersConfig {
    fn default() -> Self {
        Self {
            allow: AllowList::default(),
            address: AddressTemplate::default(),
            bearer_token_file: None,
            scheme: Scheme::Http,
            tls_config: TlsConfig::default(),
            basic_auth: None,
            timeout: Span::secs(5),
            verify_within: Span::secs(60),
        }
    }
}

impl RunnersConfig {
    /// What asks them.
    ///
    /// # Errors
    /// [`StoreError::Credentials`] when a certificate or key cannot be used.
    pub(crate) fn client(&self) -> Result<RunnerClient, StoreError> {
        RunnerClient::new(self.scheme, &self.tls_config, self.basic_auth.as_ref()).map_err(|problem| {
            StoreError::Credentials { attempt: "preparing requests to runners".to_owned(), problem }
        })
    }
}

impl ConfigFile {
    /// Checks what concerns more than one field, and fills in what is not set.
    fn validate(self, force_dry_run: bool) -> Result<Config, Refusal> {
        let dry_run = self.dry_run || force_dry_run;
        if self.interval < Span::millis(100) {
            return Err(Refusal::new("interval", format!("expected at least 100ms, got {}", self.interval)));
        }
        if self.lookback < self.interval {
            let message = format!("expected at least the interval {}, got {}", self.interval, self.lookback);
            return Err(Refusal::new("lookback", message));
        }
        if self.budget.burst == 0 || self.budget.restarts_per_minute == 0 {
            let field = if self.budget.burst == 0 { "budget.burst" } else { "budget.restarts_per_minute" };
            return Err(Refusal::new(field, "expected at least 1; to restart nothing, set dry_run: true"));
        }
        let mut runners = self.runners;
        self.store.validate()?;
        if let Some(targets) = self.store.targets() {
            if !runners.address.is_default() {
                let message = "only with store.prometheus: of a target that is scraped, the address is known";
                return Err(Refusal::new("runners.address", message));
            }
            if runners.allow.is_empty() {
                let exactly = AllowList::exactly(targets);
                runners.allow = exactly.map_err(|problem| Refusal::new("store.scrape.targets", problem))?;
            }
        }
        if runners.allow.is_empty() && !dry_run {
            let message = "expected the addresses to which restart orders may be sent, such as runner:9742 or \
                           10.0.0.0/8:9742 (or set dry_run: true)";
            return Err(Refusal::new("runners.allow", message));
        }
        if let Some(message) = runners.tls_config.refusal() {
            return Err(Refusal::new("runners.tls_config", message));
        }
        // Whether a web config keeps others out is seen when it is read.
        if !self.listen.ip().is_loopback()
            && self.bearer_token_file.is_none()
            && self.web_config_file.is_none()
        {
            let message = format!(
                "needed to listen on {}, beyond loopback: POST /-/reload would be open to all",
                self.listen
            );
            return Err(Refusal::new("bearer_token_file", message));
        }
        Ok(Config {
            listen: self.listen,
            bearer_token_file: self.bearer_token_file,
            web_config_file: self.web_config_file,
            log: self.log,
            interval: self.interval,
            lookback: self.lookback,
            dry_run,
            instance_series: self.instance_series,
            store: self.store,
            hold: self.hold,
            runners,
            budget: self.budget,
            rules: Rules::new(&self.defaults, &self.modules)?,
        })
    }
}

impl Config {
    /// Reads and validates a config file. Paths in it are taken from its folder. With `force_dry_run`, it is a
    /// dry run whatever the file says.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line, column and field.
    pub(crate) fn load(path: &Path, force_dry_run: bool) -> Result<Self, ConfigError> {
        let text = config_file::read(path)?;
        Self::parse(path, &text, force_dry_run)
    }

    /// As `Config::load`, of `text` as the content of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] names file, line, column and field.
    pub fn parse(path: &Path, text: &str, force_dry_run: bool) -> Result<Self, ConfigError> {
        let file: ConfigFile = config_file::parse(path, text)?;
        let mut config = file.validate(force_dry_run).map_err(|refusal| refusal.into_error(path, text))?;
        config.resolve_paths(path);
        Ok(config)
    }

    /// The JSON schema of config files, as text.
    pub(crate) fn schema() -> String {
        schema::of::<ConfigFile>("Config of ebb-evaluator")
    }

    /// The store that it names; nothing is asked yet.
    ///
    /// # Errors
    /// [`StoreError::Credentials`] when a certificate or key cannot be used.
    pub(crate) fn open_store(&self) -> Result<Store, StoreError> {
        Store::new(&self.store, &self.runners.address, self.runners.client()?)
    }

    /// Age from which a sample tells nothing about the present: as it is set, else three intervals, or
    /// what the samples that were seen call for.
    pub(crate) fn stale_after(&self, called_for: Elapsed) -> Elapsed {
        let unset = || called_for.max(3 * self.interval.as_elapsed());
        self.hold.stale_after.map_or_else(unset, Span::as_elapsed)
    }

    /// The config as YAML, as `check` prints it, without what may be secret: the values of further headers. Passwords
    /// and tokens stand in files of their own, whose paths it tells.
    ///
    /// # Errors
    /// When it cannot be written as YAML.
    pub(crate) fn to_yaml_without_secrets(&self) -> Result<String, serde_yaml::Error> {
        let mut config = self.clone();
        config.store.hide_secrets();
        serde_yaml::to_string(&config)
    }

    fn resolve_paths(&mut self, config_path: &Path) {
        let RunnersConfig { bearer_token_file, tls_config, basic_auth, .. } = &mut self.runners;
        let own = [&mut self.bearer_token_file, &mut self.web_config_file, bearer_token_file];
        let certificates = tls_config.files();
        let passwords = basic_auth.iter_mut().map(|auth| &mut auth.password_file);
        let own = own.into_iter().flatten().chain(certificates).chain(passwords);
        for file in own.chain(self.store.files()) {
            *file = relative_to(config_path, file);
        }
    }
}

#[cfg(test)]
mod tests;
