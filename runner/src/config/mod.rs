//! The config file → a validated [`Config`]. A refusal names file, line, column and field.
//!
//! | file | subject |
//! | --- | --- |
//! | `module.rs` | one entry of `modules:` |
//! | `http.rs` | where HTTP is served, and which requests are whose |
//! | `duration.rs` | spans of time that may not be zero, or not any |
//! | `located.rs` | checks whose refusals point at the offending value |
//!
//! What can only be seen on the host (does the module compile, is the folder there) is not judged here.

mod duration;
mod http;
mod located;
mod module;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use ebb_service::{
    config_file::{self, ConfigError},
    logging::LogConfig,
    schema::{self, listen_address},
};
use ebb_units::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

pub(crate) use self::{
    duration::EpochTick,
    http::{Destination, HostPattern, HttpConfig, Route, ServeConfig},
    module::{GuestConfig, KindConfig, ModuleConfig, PAGE_BYTES},
};

/// A validated config file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The control listener.
    pub control: ControlConfig,
    /// The listener of modules of kind `http`. `None`: there is neither a module nor a section that asks
    /// for one.
    pub http: Option<HttpConfig>,
    /// Logs.
    pub(crate) log: LogConfig,
    /// How guests are compiled and run.
    pub(crate) engine: EngineConfig,
    /// Where the newest generation is kept.
    pub(crate) state_dir: OwnFolder,
    /// How long a clean stop may take.
    pub(crate) shutdown_timeout: Duration,
    /// What to run, in the file's order.
    pub(crate) modules: Vec<ModuleConfig>,
    /// The file this was read from.
    pub(crate) file: PathBuf,
}

/// The `control:` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Where the control API and `/metrics` listen.
    pub listen: SocketAddr,
    /// A file with the token that `POST` requests must carry.
    pub bearer_token_file: Option<PathBuf>,
    /// A file with its TLS and users.
    pub web_config_file: Option<PathBuf>,
}

// Serialized, here and below, for the defaults in the JSON schema.
#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
struct RawControl {
    /// Where the control API and /metrics listen. Beyond loopback only with a token, or with a web_config_file that keeps others out.
    #[schemars(schema_with = "listen_address")]
    listen: SocketAddr,
    /// File with one line: the token that POST requests must carry.
    bearer_token_file: Option<PathBuf>,
    /// File with certificates and users, in the format of Prometheus' web.config.file. It is read again when it changes.
    web_config_file: Option<PathBuf>,
}

impl Default for RawControl {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9742)),
            bearer_token_file: None,
            web_config_file: None,
        }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        let RawControl { listen, bearer_token_file, web_config_file } = RawControl::default();
        Self { listen, bearer_token_file, web_config_file }
    }
}

impl TryFrom<RawControl> for ControlConfig {
    type Error = String;

    fn try_from(raw: RawControl) -> Result<Self, Self::Error> {
        let RawControl { listen, bearer_token_file, web_config_file } = raw;
        // Whether the file keeps others out is seen when it is read.
        if !listen.ip().is_loopback() && bearer_token_file.is_none() && web_config_file.is_none() {
            return Err(format!(
                "listen: {listen} is reachable from other machines: expected a loopback address, or a \
                 bearer_token_file that POST requests are checked against"
            ));
        }
        Ok(Self { listen, bearer_token_file, web_config_file })
    }
}

impl<'de> Deserialize<'de> for ControlConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::mapping::<RawControl, Self, D>(deserializer)
    }
}

/// The `engine:` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EngineConfig {
    /// How often a busy guest yields to the others, and the longest that it can take to stop one.
    pub epoch_tick: EpochTick,
    /// Where compiled code is kept between starts. It is run as it is found there. By default ebb/compiled in the user's
    /// cache folder; with off, every module is compiled twice at each start.
    pub compile_cache: OwnFolder,
    /// Threads that run commands, and as many that serve HTTP. Default: one per processor.
    pub guest_threads: Option<NonZeroU32>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            epoch_tick: EpochTick(Duration::from_millis(10)),
            compile_cache: OwnFolder::Default,
            guest_threads: None,
        }
    }
}

/// A folder of the runner's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum OwnFolder {
    /// The usual one in the user's folders.
    #[default]
    Default,
    /// This one.
    Folder(PathBuf),
    /// None.
    Off,
}

impl JsonSchema for OwnFolder {
    fn schema_name() -> Cow<'static, str> {
        "OwnFolder".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A folder that only the runner's user may write to, or off.",
            "anyOf": [{"type": "string", "minLength": 1}, {"const": false}],
            "examples": ["/var/cache/ebb", "off"],
        })
    }
}

impl<'de> Deserialize<'de> for OwnFolder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a folder, or off", |text| match text {
            // YAML 1.1 readers know a bare `off` as `false`.
            "off" | "false" => Ok(Self::Off),
            "on" | "true" => Err(format!("{text} is not a directory: omit the key to use the default")),
            "" => Err("expected a folder, or off".to_owned()),
            folder => Ok(Self::Folder(folder.into())),
        })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    /// The control listener: metrics, health, instances, restarts, reload.
    #[serde(default)]
    #[schemars(with = "RawControl")]
    control: ControlConfig,
    /// The listener that modules of kind `http` share.
    http: Option<HttpConfig>,
    /// Logs, on standard error.
    #[serde(default)]
    log: LogConfig,
    /// How guests are compiled and run.
    #[serde(default)]
    engine: EngineConfig,
    /// Where the newest generation is kept, so that generations increase across starts though the clock is set back. By
    /// default the service's state folder under systemd, else ebb in the user's state folder.
    #[serde(default)]
    state_dir: OwnFolder,
    /// How long a clean stop may take, requests that finish included.
    #[serde(default = "default_shutdown_timeout")]
    shutdown_timeout: Span,
    /// What to run.
    #[serde(deserialize_with = "modules_that_agree")]
    #[schemars(with = "Vec<module::RawModule>")]
    modules: Vec<ModuleConfig>,
}

const fn default_shutdown_timeout() -> Span {
    Span::secs(10)
}

fn modules_that_agree<'de, D>(deserializer: D) -> Result<Vec<ModuleConfig>, D::Error>
where
    D: Deserializer<'de>,
{
    located::sequence(deserializer, |modules: &[ModuleConfig]| {
        let mut names = HashSet::new();
        if let Some(twice) = modules.iter().find(|module| !names.insert(&module.name)) {
            return Err(format!("duplicate module \"{}\"", twice.name));
        }
        let mut owners = HashMap::new();
        for module in modules {
            let Some(serve) = module.kind.serve_config() else { continue };
            for route in &serve.routes {
                if let Some(owner) = owners.insert(route, &module.name) {
                    return Err(format!(
                        "route {route} belongs to both \"{owner}\" and \"{}\": expected each route once; set \
                         http.routes",
                        module.name
                    ));
                }
            }
        }
        Ok(())
    })
}

impl Config {
    /// Reads and validates the file at `path`. Paths in it are taken from its folder.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read or is no valid config.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        config_file::load(path).map(|raw: RawConfig| raw.resolved(path))
    }

    /// Parses and validates `text` as the content of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] when it is no valid config.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        config_file::parse(path, text).map(|raw: RawConfig| raw.resolved(path))
    }

    /// The JSON schema of config files, as text.
    pub(crate) fn schema() -> String {
        schema::of::<RawConfig>("Config of ebb-runner")
    }

    /// Instances of all modules together.
    pub(crate) fn instances(&self) -> u64 {
        self.modules.iter().map(|module| u64::from(module.replicas)).sum()
    }
}

impl RawConfig {
    fn resolved(mut self, file: &Path) -> Config {
        let resolve = |path: &mut PathBuf| *path = config_file::relative_to(file, path);
        let control = &mut self.control;
        control.bearer_token_file.iter_mut().chain(&mut control.web_config_file).for_each(resolve);
        for choice in [&mut self.engine.compile_cache, &mut self.state_dir] {
            if let OwnFolder::Folder(folder) = choice {
                resolve(folder);
            }
        }
        for module in &mut self.modules {
            resolve(&mut module.path);
            module.guest.dirs.iter_mut().map(|dir| &mut dir.host).for_each(resolve);
        }
        let serves = self.modules.iter().any(|module| module.kind.serve_config().is_some());
        Config {
            control: self.control,
            http: self.http.or_else(|| serves.then(HttpConfig::default)),
            log: self.log,
            engine: self.engine,
            state_dir: self.state_dir,
            shutdown_timeout: self.shutdown_timeout.0,
            modules: self.modules,
            file: file.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
