//! One entry of `modules:` → a [`ModuleConfig`].

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use ebb_host::lifecycle::BackoffPolicy;
use ebb_units::{ByteCount, ModuleName, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    duration::Positive,
    http::{RawServe, ServeConfig},
    located,
};

/// WebAssembly's page, in bytes.
pub(crate) const PAGE_BYTES: u64 = 65_536;

/// Environment variables that the runner itself gives to every guest start with this.
const RESERVED_ENV_PREFIX: &str = "EBB_";

/// More is a slip of the keyboard, and would otherwise only be noticed by the lack of memory.
const REPLICAS_MAX: u32 = 1_000_000;

/// What kind of program a module is, and what only that kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KindConfig {
    /// A `wasi:cli` component or a preview1 core module that runs on.
    Command,
    /// A `wasi:http` component whose instances live long and serve many requests.
    Http(ServeConfig),
}

impl KindConfig {
    /// How it serves, if it does.
    pub(crate) const fn serve_config(&self) -> Option<&ServeConfig> {
        match self {
            Self::Http(serve) => Some(serve),
            Self::Command => None,
        }
    }

    /// Whether instances of both are alike, their modules and what they may see and use being the same.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Command, Self::Command) => true,
            (Self::Http(one), Self::Http(other)) => {
                one.concurrency == other.concurrency && one.outgoing == other.outgoing
            }
            (Self::Command, Self::Http(_)) | (Self::Http(_), Self::Command) => false,
        }
    }
}

/// The kind as the config file writes it.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Kind")]
enum RawKind {
    /// A `wasi:cli` component or a preview1 core module that runs on.
    Command,
    /// A `wasi:http` component whose instances live long and serve many requests.
    Http,
}

/// One entry of `modules:`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ModuleConfig {
    /// Its name, unique in the config.
    pub name: ModuleName,
    /// The `.wasm` or `.wat` file.
    pub path: PathBuf,
    /// What kind of program it is.
    pub kind: KindConfig,
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

/// What an instance may see and use, whatever its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GuestConfig {
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
    /// Whether the runner notes which functions and requests make its memory grow.
    pub growth_profile: bool,
    /// How many handles it may hold at once; what is usual for its kind, if `None`.
    pub max_handles: Option<NonZeroU32>,
}

/// A folder that instances see.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirConfig {
    /// The folder on the host.
    pub host: PathBuf,
    /// Its path as the guest sees it.
    pub guest: String,
    /// Whether writing is refused.
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("if" = {"properties": {"kind": {"const": "command"}}, "required": ["kind"]},
    "then" = {"properties": {"http": false}}))]
pub(super) struct RawModule {
    /// Its name, unique in the file: the label `module`.
    #[serde(deserialize_with = "module_name")]
    name: ModuleName,
    /// The .wasm or .wat file, taken from the config file's folder.
    path: PathBuf,
    /// What kind of program it is.
    kind: RawKind,
    /// How many instances.
    #[serde(default = "one")]
    replicas: Replicas,
    /// Arguments after the program's name, which is the module's.
    #[serde(default)]
    args: Vec<Plain>,
    /// Environment variables. `EBB_MODULE`, `EBB_REPLICA` and `EBB_GENERATION` are added.
    #[serde(default)]
    env: BTreeMap<EnvName, Plain>,
    /// Folders of the host that instances see.
    #[serde(default)]
    dirs: Vec<DirConfig>,
    /// Whether instances may use the host's network.
    #[serde(default)]
    inherit_network: bool,
    /// For the sum of an instance's linear memories; more is denied to the guest.
    #[serde(default)]
    memory_limit: MemoryLimit,
    /// Whether to note which functions and requests make memory grow.
    #[serde(default = "yes")]
    growth_profile: bool,
    /// Files, directories, sockets, bodies and header fields that an instance may hold at once; more ends it. A quarter as many
    /// outgoing requests are sent at once. By default 512, or 32 for each request that it may work on at once if that is more.
    max_handles: Option<NonZeroU32>,
    /// How many ordered restarts may be in progress at once, whatever ordered them.
    #[serde(default = "one_restarting")]
    max_restarting: NonZeroU32,
    /// Longest time for an instantiation.
    #[serde(default = "default_start_timeout")]
    start_timeout: Positive,
    /// When to start again what ended by itself.
    #[serde(default)]
    #[schemars(with = "RawRestart")]
    restart: RestartConfig,
    /// How it serves; for kind `http` only.
    http: Option<RawServe>,
}

fn module_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ModuleName, D::Error> {
    located::scalar(deserializer, "a module's name", |text| text.parse().map_err(|error| format!("{error}")))
}

const fn yes() -> bool {
    true
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

impl<'de> Deserialize<'de> for ModuleConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::mapping::<RawModule, Self, D>(deserializer)
    }
}

impl TryFrom<RawModule> for ModuleConfig {
    type Error = String;

    fn try_from(raw: RawModule) -> Result<Self, String> {
        let kind = match (raw.kind, raw.http) {
            (RawKind::Command, None) => KindConfig::Command,
            (RawKind::Command, Some(_)) => {
                return Err("http: only allowed for kind `http`, this is kind `command`".to_owned());
            }
            (RawKind::Http, http) => KindConfig::Http(http.unwrap_or_default().into()),
        };
        let mut seen = HashSet::new();
        if let Some(twice) = raw.dirs.iter().find(|dir| !seen.insert(&dir.guest)) {
            return Err(format!("dirs: duplicate guest path {:?}", twice.guest));
        }
        Ok(Self {
            name: raw.name,
            path: raw.path,
            kind,
            replicas: raw.replicas.0,
            guest: GuestConfig {
                args: raw.args.into_iter().map(|arg| arg.0).collect(),
                env: raw.env.into_iter().map(|(name, value)| (name.0, value.0)).collect(),
                dirs: raw.dirs,
                inherit_network: raw.inherit_network,
                memory_limit: raw.memory_limit.0,
                growth_profile: raw.growth_profile,
                max_handles: raw.max_handles,
            },
            max_restarting: raw.max_restarting,
            start_timeout: raw.start_timeout.0,
            backoff: raw.restart.0,
        })
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

#[derive(Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
struct RawRestart {
    /// Wait after a first trap, exit or failed start; it doubles each time.
    backoff_min: Positive,
    /// Longest wait.
    backoff_max: Positive,
    /// If a lifetime was at least this long, its end counts as a first failure again.
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

/// A number of instances.
#[derive(Clone, Copy, JsonSchema, Serialize)]
struct Replicas(#[schemars(range(max = REPLICAS_MAX))] u32);

impl<'de> Deserialize<'de> for Replicas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a number of replicas", |text| match text.parse() {
            Ok(count) if count <= REPLICAS_MAX => Ok(Self(count)),
            _ => Err(format!("invalid replicas {text:?}: expected 0 to {REPLICAS_MAX}")),
        })
    }
}

/// A limit of linear memory: at least a page, at most the 4 GiB that a slot of the pool spans.
#[derive(Serialize)]
struct MemoryLimit(ByteCount);

impl JsonSchema for MemoryLimit {
    fn schema_name() -> Cow<'static, str> {
        "MemoryLimit".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ByteCount::json_schema(generator);
        schema.insert("description".to_owned(), "A number of bytes from 64KiB to 4GiB.".into());
        schema.insert("minimum".to_owned(), PAGE_BYTES.into());
        schema.insert("maximum".to_owned(), (1_u64 << 32).into());
        schema
    }
}

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
                Err(format!("invalid memory limit {text}: expected 64KiB to 4GiB"))
            }
        })
    }
}

/// Text for a guest: an argument, or an environment variable's value. Numbers need no quotes.
#[derive(Serialize)]
struct Plain(String);

impl JsonSchema for Plain {
    fn schema_name() -> Cow<'static, str> {
        "Plain".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "Text; numbers need no quotes.", "type": ["string", "number", "boolean"]})
    }
}

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

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct EnvName(String);

impl JsonSchema for EnvName {
    fn schema_name() -> Cow<'static, str> {
        "EnvName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": format!("^(?!{RESERVED_ENV_PREFIX})[^=]+$")})
    }
}

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
