//! The config file → a validated [`Config`]. A refusal names file, line, column and field.
//!
//! What can only be seen on the host (does the module compile, is the folder there) is not judged here.

mod located;

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use ebb_service::{
    config_file::{self, ConfigError},
    logging::LogConfig,
    units::{ByteCount, Span},
};
use serde::{Deserialize, Deserializer};

use crate::{lifecycle::BackoffPolicy, units::ModuleName};

/// WebAssembly's page, in bytes.
pub const PAGE_BYTES: u64 = 65_536;

/// Environment variables that the runner itself gives to every guest start with this.
const RESERVED_ENV_PREFIX: &str = "EBB_";

/// More is a slip of the keyboard, and would otherwise only be noticed by the lack of memory.
const REPLICAS_MAX: u32 = 1_000_000;

/// A validated config file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The control listener.
    pub control: ControlConfig,
    /// Logs.
    pub log: LogConfig,
    /// How guests are compiled and run.
    pub engine: EngineConfig,
    /// How long a clean stop may take.
    pub shutdown_timeout: Duration,
    /// What to run, in the file's order.
    pub modules: Vec<ModuleConfig>,
    /// The file this was read from.
    pub file: PathBuf,
}

/// The `control:` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlConfig {
    /// Where the control API and `/metrics` listen.
    pub listen: SocketAddr,
    /// A file with the token that `POST` requests must carry.
    pub bearer_token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawControl {
    listen: SocketAddr,
    bearer_token_file: Option<PathBuf>,
}

impl Default for RawControl {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9742)), bearer_token_file: None }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        let RawControl { listen, bearer_token_file } = RawControl::default();
        Self { listen, bearer_token_file }
    }
}

impl TryFrom<RawControl> for ControlConfig {
    type Error = String;

    fn try_from(raw: RawControl) -> Result<Self, Self::Error> {
        let RawControl { listen, bearer_token_file } = raw;
        if !listen.ip().is_loopback() && bearer_token_file.is_none() {
            return Err(format!(
                "listen: {listen} is reachable from other machines: expected a loopback address, or a \
                 bearer_token_file that POST requests are checked against"
            ));
        }
        Ok(Self { listen, bearer_token_file })
    }
}

impl<'de> Deserialize<'de> for ControlConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::mapping::<RawControl, Self, D>(deserializer)
    }
}

/// The `engine:` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// How often a busy guest gives way to the others, and the longest that it takes to stop it.
    pub epoch_tick: EpochTick,
    /// Where compiled code is kept.
    pub compile_cache: CompileCache,
    /// Threads that run guests. Default: one per processor.
    pub guest_threads: Option<NonZeroU32>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            epoch_tick: EpochTick(Duration::from_millis(10)),
            compile_cache: CompileCache::Default,
            guest_threads: None,
        }
    }
}

/// A tick between 1 ms and 1 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochTick(pub Duration);

impl<'de> Deserialize<'de> for EpochTick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a duration such as 10ms", |text| {
            let tick = span(text)?;
            if (Duration::from_millis(1)..=Duration::from_secs(1)).contains(&tick) {
                Ok(Self(tick))
            } else {
                Err(format!("{text} is no tick: expected 1ms to 1s"))
            }
        })
    }
}

/// Where compiled code is kept between starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileCache {
    /// `ebb/compiled` in the user's cache folder.
    Default,
    /// This folder. Only the runner's user may write to it: what lies there is run as native code.
    Folder(PathBuf),
    /// Nowhere: every module is compiled twice at each start (once to learn what it needs).
    Off,
}

impl<'de> Deserialize<'de> for CompileCache {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a folder, or off", |text| match text {
            // YAML 1.1 readers know a bare `off` as `false`.
            "off" | "false" => Ok(Self::Off),
            "" => Err("expected a folder, or off".to_owned()),
            folder => Ok(Self::Folder(folder.into())),
        })
    }
}

/// What kind of program a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A `wasi:cli` component or a preview1 core module that runs on.
    Command,
}

impl Kind {
    /// The kind as the config file writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
        }
    }
}

/// One entry of `modules:`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawModule")]
pub struct ModuleConfig {
    /// Its name, unique in the config.
    pub name: ModuleName,
    /// The `.wasm` or `.wat` file.
    pub path: PathBuf,
    /// What kind of program it is.
    pub kind: Kind,
    /// How many instances.
    pub replicas: u32,
    /// What an instance may see and use.
    pub guest: GuestConfig,
    /// How many ordered restarts may be under way at once.
    pub max_restarting: NonZeroU32,
    /// How long an instantiation may take.
    pub start_timeout: Duration,
    /// When to start again what ended by itself.
    pub backoff: BackoffPolicy,
}

/// What an instance may see and use. Two instances are alike when these and their digests are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestConfig {
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Preopened folders.
    pub dirs: Vec<DirConfig>,
    /// Whether it may use the network.
    pub inherit_network: bool,
    /// The sum of its linear memories may not exceed this.
    pub memory_limit: ByteCount,
}

/// A folder that instances see.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirConfig {
    /// The folder on the host.
    pub host: PathBuf,
    /// Its path as the guest sees it.
    pub guest: String,
    /// Whether writing is refused.
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    control: ControlConfig,
    #[serde(default)]
    log: LogConfig,
    #[serde(default)]
    engine: EngineConfig,
    #[serde(default = "default_shutdown_timeout")]
    shutdown_timeout: Span,
    #[serde(deserialize_with = "modules_with_distinct_names")]
    modules: Vec<ModuleConfig>,
}

const fn default_shutdown_timeout() -> Span {
    Span::secs(10)
}

fn modules_with_distinct_names<'de, D>(deserializer: D) -> Result<Vec<ModuleConfig>, D::Error>
where
    D: Deserializer<'de>,
{
    located::sequence(deserializer, |modules: &[ModuleConfig]| {
        let mut names = HashSet::new();
        match modules.iter().find(|module| !names.insert(&module.name)) {
            Some(twice) => Err(format!("module name \"{}\" is used twice: expected each once", twice.name)),
            None => Ok(()),
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawModule {
    #[serde(deserialize_with = "module_name")]
    name: ModuleName,
    path: PathBuf,
    kind: Kind,
    #[serde(default = "one")]
    replicas: Replicas,
    #[serde(default)]
    args: Vec<Plain>,
    #[serde(default)]
    env: BTreeMap<EnvName, Plain>,
    #[serde(default)]
    dirs: Vec<DirConfig>,
    #[serde(default)]
    inherit_network: bool,
    #[serde(default)]
    memory_limit: MemoryLimit,
    #[serde(default = "one_restarting")]
    max_restarting: NonZeroU32,
    #[serde(default = "default_start_timeout")]
    start_timeout: Positive,
    #[serde(default)]
    restart: RestartConfig,
}

fn module_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ModuleName, D::Error> {
    located::scalar(deserializer, "a module's name", |text| text.parse().map_err(|error| format!("{error}")))
}

const fn one() -> Replicas {
    Replicas(1)
}

const fn one_restarting() -> NonZeroU32 {
    NonZeroU32::MIN
}

const fn default_start_timeout() -> Positive {
    Positive(Duration::from_secs(10))
}

impl From<RawModule> for ModuleConfig {
    fn from(raw: RawModule) -> Self {
        Self {
            name: raw.name,
            path: raw.path,
            kind: raw.kind,
            replicas: raw.replicas.0,
            guest: GuestConfig {
                args: raw.args.into_iter().map(|arg| arg.0).collect(),
                env: raw.env.into_iter().map(|(name, value)| (name.0, value.0)).collect(),
                dirs: raw.dirs,
                inherit_network: raw.inherit_network,
                memory_limit: raw.memory_limit.0,
            },
            max_restarting: raw.max_restarting,
            start_timeout: raw.start_timeout.0,
            backoff: raw.restart.0,
        }
    }
}

/// The `restart:` section of a module.
struct RestartConfig(BackoffPolicy);

impl<'de> Deserialize<'de> for RestartConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::mapping::<RawRestart, Self, D>(deserializer)
    }
}

impl Default for RestartConfig {
    fn default() -> Self {
        let raw = RawRestart::default();
        Self(BackoffPolicy { min: raw.backoff_min.0, max: raw.backoff_max.0, reset_after: raw.reset_after.0 })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRestart {
    backoff_min: Positive,
    backoff_max: Positive,
    reset_after: Positive,
}

impl Default for RawRestart {
    fn default() -> Self {
        Self {
            backoff_min: Positive(Duration::from_millis(500)),
            backoff_max: Positive(Duration::from_secs(30)),
            reset_after: Positive(Duration::from_secs(60)),
        }
    }
}

impl TryFrom<RawRestart> for RestartConfig {
    type Error = String;

    fn try_from(raw: RawRestart) -> Result<Self, Self::Error> {
        let (min, max) = (raw.backoff_min.0, raw.backoff_max.0);
        if min > max {
            return Err(format!(
                "backoff_min {} is longer than backoff_max {}: expected the shorter one first",
                Span(min),
                Span(max)
            ));
        }
        Ok(Self(BackoffPolicy { min, max, reset_after: raw.reset_after.0 }))
    }
}

#[derive(Clone, Copy)]
struct Replicas(u32);

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a number of replicas", |text| match text.parse() {
            Ok(count) if count <= REPLICAS_MAX => Ok(Self(count)),
            _ => Err(format!("{text:?} is no number of replicas: expected 0 to {REPLICAS_MAX}")),
        })
    }
}

/// A span longer than zero.
#[derive(Clone, Copy)]
struct Positive(Duration);

impl<'de> Deserialize<'de> for Positive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a duration such as 10s", |text| match span(text)? {
            Duration::ZERO => Err("expected a duration longer than zero".to_owned()),
            span => Ok(Self(span)),
        })
    }
}

fn span(text: &str) -> Result<Duration, String> {
    Span::from_str(text).map(|span| span.0).map_err(|cause| {
        format!("{text:?} is not a duration ({cause}): expected for example 250ms, 10s or 5m")
    })
}

/// A limit of linear memory: at least a page, at most the 4 GiB that a slot of the pool spans.
struct MemoryLimit(ByteCount);

impl Default for MemoryLimit {
    fn default() -> Self {
        Self(ByteCount::mib(256))
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a number of bytes such as 64MiB", |text| {
            let bytes: ByteCount = text.parse().map_err(|error| format!("{error}"))?;
            if (PAGE_BYTES..=1 << 32).contains(&bytes.0) {
                Ok(Self(bytes))
            } else {
                Err(format!("{text} is no memory limit: expected 64KiB to 4GiB"))
            }
        })
    }
}

/// Text for a guest: an argument, or an environment variable's value. Numbers need no quotes.
struct Plain(String);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "text", |text| {
            if text.contains('\0') {
                return Err("expected text without NUL characters".to_owned());
            }
            Ok(Self(text.to_owned()))
        })
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct EnvName(String);

impl<'de> Deserialize<'de> for EnvName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "the name of an environment variable", |text| {
            if text.is_empty() || text.contains(['=', '\0']) {
                return Err(format!("{text:?} cannot name an environment variable"));
            }
            if text.starts_with(RESERVED_ENV_PREFIX) {
                return Err(format!("{text}: names with {RESERVED_ENV_PREFIX} are set by the runner"));
            }
            Ok(Self(text.to_owned()))
        })
    }
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

    /// Instances of all modules together.
    #[must_use]
    pub fn instances(&self) -> u64 {
        self.modules.iter().map(|module| u64::from(module.replicas)).sum()
    }
}

impl RawConfig {
    fn resolved(mut self, file: &Path) -> Config {
        let resolve = |path: &mut PathBuf| *path = config_file::relative_to(file, path);
        self.control.bearer_token_file.iter_mut().for_each(resolve);
        if let CompileCache::Folder(folder) = &mut self.engine.compile_cache {
            resolve(folder);
        }
        for module in &mut self.modules {
            resolve(&mut module.path);
            module.guest.dirs.iter_mut().map(|dir| &mut dir.host).for_each(resolve);
        }
        Config {
            control: self.control,
            log: self.log,
            engine: self.engine,
            shutdown_timeout: self.shutdown_timeout.0,
            modules: self.modules,
            file: file.to_owned(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests;
