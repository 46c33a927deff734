//! The `http:` section (where HTTP is served) and the `http:` section of a module (what of it, and how).

use std::{borrow::Cow, fmt, net::SocketAddr, num::NonZeroU32, str::FromStr, time::Duration};

use ebb_service::schema::listen_address;
use ebb_units::ByteCount;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{duration::Positive, located};

/// The least that `header_limit` can be: what hyper needs for its buffer.
const HEADER_LIMIT_MIN: u64 = 8 * 1024;
/// The most that `header_limit` can be. Each connection may hold as much.
const HEADER_LIMIT_MAX: u64 = 16 << 20;

/// The `http:` section: the listener that modules of kind `http` share.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Where requests are taken.
    #[schemars(schema_with = "listen_address")]
    pub listen: SocketAddr,
    /// Whether every request is logged.
    pub access_log: bool,
    /// The longest request head: request line and headers.
    #[serde(deserialize_with = "header_limit")]
    #[schemars(schema_with = "header_limit_schema")]
    pub header_limit: ByteCount,
    /// How long a client may stop reading a response before its connection is closed.
    #[serde(deserialize_with = "positive", serialize_with = "as_positive")]
    #[schemars(with = "Positive")]
    pub write_timeout: Duration,
    /// How many connections may be open at once. More wait until one closes.
    pub max_connections: NonZeroU32,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            access_log: false,
            header_limit: ByteCount(64 * 1024),
            write_timeout: Duration::from_secs(60),
            max_connections: NonZeroU32::MIN.saturating_add(4095),
        }
    }
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Positive::deserialize(deserializer).map(|positive| positive.0)
}

fn as_positive<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    Positive(*duration).serialize(serializer)
}

fn header_limit_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = ByteCount::json_schema(generator);
    schema.insert("minimum".to_owned(), HEADER_LIMIT_MIN.into());
    schema.insert("maximum".to_owned(), HEADER_LIMIT_MAX.into());
    schema
}

fn header_limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteCount, D::Error> {
    located::scalar(deserializer, "a number of bytes such as 64KiB", |text| {
        let bytes: ByteCount = text.parse().map_err(|error| format!("{error}"))?;
        if (HEADER_LIMIT_MIN..=HEADER_LIMIT_MAX).contains(&bytes.0) {
            Ok(bytes)
        } else {
            Err(format!("invalid limit for a request's head {text}: expected 8KiB to 16MiB"))
        }
    })
}

/// How a module of kind `http` serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServeConfig {
    /// Which requests are this module's.
    pub routes: Vec<Route>,
    /// How many requests may wait for an instance.
    pub queue_limit: u32,
    /// How long one may wait.
    pub queue_timeout: Duration,
    /// How long an exchange may make no progress.
    pub request_timeout: Duration,
    /// How long an instance that is being replaced may go on with what it has begun.
    pub drain_timeout: Duration,
    /// The longest request body.
    pub body_limit: ByteCount,
    /// How many requests an instance may work on at once; what is usual for its version of WASI, if `None`.
    pub concurrency: Option<NonZeroU32>,
    /// Where instances may send requests.
    pub outgoing: Vec<Destination>,
}

/// The `http:` section of a module, as written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServe {
    /// Which requests are this module's. By default all.
    #[serde(deserialize_with = "some_routes")]
    #[schemars(length(min = 1))]
    routes: Vec<Route>,
    /// Requests that an instance works on at once. By default 1 with WASI 0.2, where no other number is possible, and
    /// 16 with 0.3.
    concurrency: Option<NonZeroU32>,
    /// Requests that may wait for an instance; more get 503.
    queue_limit: u32,
    /// Longest wait for an instance, then 503.
    queue_timeout: Positive,
    /// How long a request may make no progress.
    request_timeout: Positive,
    /// How long a replaced instance may take to finish the requests that it has begun.
    drain_timeout: Positive,
    /// Longest request body; a longer one gets 413.
    body_limit: ByteCount,
    /// Where guests may send requests: hosts, with or without a port.
    outgoing: Vec<Destination>,
}

impl Default for RawServe {
    fn default() -> Self {
        Self {
            routes: vec![Route { host: HostPattern::Any, path: PathPrefix(String::new()) }],
            concurrency: None,
            queue_limit: 256,
            queue_timeout: Positive(Duration::from_secs(10)),
            request_timeout: Positive(Duration::from_secs(30)),
            drain_timeout: Positive(Duration::from_secs(30)),
            body_limit: ByteCount(1 << 30),
            outgoing: Vec::new(),
        }
    }
}

impl From<RawServe> for ServeConfig {
    fn from(raw: RawServe) -> Self {
        Self {
            routes: raw.routes,
            queue_limit: raw.queue_limit,
            queue_timeout: raw.queue_timeout.0,
            request_timeout: raw.request_timeout.0,
            drain_timeout: raw.drain_timeout.0,
            body_limit: raw.body_limit,
            concurrency: raw.concurrency,
            outgoing: raw.outgoing,
        }
    }
}

fn some_routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Route>, D::Error> {
    located::sequence(deserializer, |routes: &[Route]| {
        if routes.is_empty() {
            return Err("no requests would reach this module: expected at least one route".to_owned());
        }
        Ok(())
    })
}

/// Which requests belong to a module: those for `host` whose path is `path` or below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// The host that the client asks for.
    #[serde(default)]
    pub host: HostPattern,
    /// Where the module's part of the host begins.
    #[serde(default)]
    pub path: PathPrefix,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

/// A host, all hosts below a domain, or any. Hosts are compared in lower case and without their port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum HostPattern {
    /// `*`
    #[default]
    Any,
    /// `*.example.org`, kept as `.example.org`.
    Subdomains(String),
    /// `files.example.org`
    Exact(String),
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = text.to_ascii_lowercase();
        let is_name = |name: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match bracketed {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => !name.is_empty() && name.chars().all(allowed),
            }
        };
        match host.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(domain) if domain.len() > 1 && domain.starts_with('.') && is_name(domain) => {
                Ok(Self::Subdomains(domain.to_owned()))
            }
            None if is_name(&host) => Ok(Self::Exact(host)),
            _ => Err(format!(
                "invalid host {text:?}: expected for example files.example.org, *.example.org or *, without a port"
            )),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Subdomains(domain) => write!(f, "*{domain}"),
            Self::Exact(host) => f.write_str(host),
        }
    }
}

impl HostPattern {
    /// Whether `host` (lower case, no port) is meant.
    pub(crate) fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Subdomains(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
            Self::Exact(exact) => host == exact,
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a host looks like, for JSON schemas: a regular expression without anchors.
const HOST_FORM: &str = r"(\*|(\*\.)?[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])";

impl JsonSchema for HostPattern {
    fn schema_name() -> Cow<'static, str> {
        "HostPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A host without a port; *.example.org: all hosts below it; *: any.",
            "type": "string",
            "pattern": format!("^{HOST_FORM}$"),
            "examples": ["files.example.org", "*.example.org", "*"],
        })
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a host", str::parse)
    }
}

/// A path and everything below it, without the closing slash: `/files` matches `/files` and `/files/a`,
/// and not `/filesystem`. The empty one matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PathPrefix(String);

impl PathPrefix {
    /// Whether `path` is meant.
    pub(crate) fn matches(&self, path: &str) -> bool {
        path.strip_prefix(self.0.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || self.0.is_empty()
    }

    /// The longer, the more specific.
    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }
}

impl FromStr for PathPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') || text.contains(['?', '#', '*', ' ']) {
            return Err(format!("invalid path {text:?}: expected for example / or /files"));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "/" } else { &self.0 })
    }
}

impl Serialize for PathPrefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for PathPrefix {
    fn schema_name() -> Cow<'static, str> {
        "PathPrefix".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A path, and everything below it.",
            "type": "string",
            "pattern": "^/[^?#* ]*$",
            "examples": ["/", "/files"],
        })
    }
}

impl<'de> Deserialize<'de> for PathPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a path", str::parse)
    }
}

/// Where guests may send requests: a host, and a port if only that one is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// Which host.
    pub host: HostPattern,
    /// Which port; any, if `None`.
    pub port: Option<u16>,
}

impl Destination {
    /// Whether `host` (lower case) at `port` is meant.
    pub(crate) fn matches(&self, host: &str, port: u16) -> bool {
        self.host.matches(host) && self.port.is_none_or(|own| own == port)
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => {
                let port = port.parse().map_err(|_| {
                    format!("{text:?}: invalid port {port:?}: expected for example api.example.org:443")
                })?;
                (host, Some(port))
            }
            _ => (text, None),
        };
        Ok(Self { host: host.parse()?, port })
    }
}

impl JsonSchema for Destination {
    fn schema_name() -> Cow<'static, str> {
        "Destination".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A host, or a host and a port.",
            "type": "string",
            "pattern": format!("^{HOST_FORM}(:[0-9]{{1,5}})?$"),
            "examples": ["api.example.org:443", "*.internal"],
        })
    }
}

impl<'de> Deserialize<'de> for Destination {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a host, or host:port", str::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_prefix_ends_at_a_segment() {
        let files: PathPrefix = "/files/".parse().unwrap();
        assert!(files.matches("/files") && files.matches("/files/") && files.matches("/files/a"));
        assert!(!files.matches("/filesystem") && !files.matches("/") && !files.matches(""));
        let root: PathPrefix = "/".parse().unwrap();
        assert!(root.matches("/") && root.matches("/files") && root.matches("*"));
    }

    #[test]
    fn hosts_are_exact_below_a_domain_or_any() {
        let below: HostPattern = "*.Example.org".parse().unwrap();
        assert!(below.matches("a.example.org") && below.matches("a.b.example.org"));
        assert!(
            !below.matches("example.org")
                && !below.matches(".example.org")
                && !below.matches("badexample.org")
        );
        assert_eq!("FILES.example.org".parse(), Ok(HostPattern::Exact("files.example.org".to_owned())));
        assert_eq!("[::1]".parse(), Ok(HostPattern::Exact("[::1]".to_owned())));
        for text in ["", "*example.org", "*.", "a b", "a:80", "http://a", "[::g]"] {
            assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_destination_may_name_a_port() {
        let any: Destination = "api.example.org".parse().unwrap();
        assert!(any.matches("api.example.org", 1) && !any.matches("example.org", 1));
        let one: Destination = "127.0.0.1:8080".parse().unwrap();
        assert!(one.matches("127.0.0.1", 8080) && !one.matches("127.0.0.1", 80));
        let v6: Destination = "[::1]:80".parse().unwrap();
        assert!(v6.matches("[::1]", 80) && !v6.matches("[::1]", 81));
        assert!("[::1]".parse::<Destination>().is_ok());
        assert!("a:b".parse::<Destination>().is_err() && "a:70000".parse::<Destination>().is_err());
    }
}
