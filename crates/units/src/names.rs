//! What modules, runners, slots and series are called. Parsed once, at the edge.

use std::{borrow::Cow, cmp::Ordering, fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::invalid::Invalid;

/// The longest module name, in characters: it becomes a label value, a path segment and part of log lines.
const MODULE_NAME_LENGTH_MAX: usize = 63;

/// Name of a module, as the config file gives it: `[a-zA-Z_][a-zA-Z0-9_-]*`, at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName(Arc<str>);

impl ModuleName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModuleName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = text.bytes();
        let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let goes_on_well = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if starts_well && goes_on_well && text.len() <= MODULE_NAME_LENGTH_MAX {
            Ok(Self(text.into()))
        } else {
            Err(Invalid(format!(
                "{text:?} cannot name a module: expected a letter or underscore, then letters, digits, underscores and \
                 hyphens, {MODULE_NAME_LENGTH_MAX} characters at most"
            )))
        }
    }
}

impl JsonSchema for ModuleName {
    fn schema_name() -> Cow<'static, str> {
        "ModuleName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[A-Za-z_][A-Za-z0-9_-]*$",
            "maxLength": MODULE_NAME_LENGTH_MAX,
            "examples": ["leaky"],
        })
    }
}

impl fmt::Display for ModuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for ModuleName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The first 12 hexadecimal digits of the SHA-256 of a WebAssembly binary. Text (`.wat`) is hashed after
/// its translation, so that a comment does not make a new population.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest(Arc<str>);

impl Digest {
    /// The digest of `binary`.
    #[must_use]
    pub fn of(binary: &[u8]) -> Self {
        let hash = Sha256::digest(binary);
        Self(hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }

    /// The twelve digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Digest {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 12 && text.bytes().all(is_digit) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid(format!(
                "{text:?} is no digest: expected the first 12 hexadecimal digits of a SHA-256, such as ba7816bf8f01"
            )))
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A slot of a module, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Replica(pub u32);

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A module's name and the digest of its binary: what instances must share to be one population.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Population {
    /// Name of the module in the runner's config.
    pub module: Arc<str>,
    /// First 12 hexadecimal digits of the binary's SHA-256.
    pub digest: Arc<str>,
}

impl Ord for Population {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.module, &other.module).then_with(|| compare(&self.digest, &other.digest))
    }
}

impl PartialOrd for Population {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Names are shared by all that bear them: most often, two are the same text at the same place.
fn compare(a: &Arc<str>, b: &Arc<str>) -> Ordering {
    if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) }
}

impl fmt::Display for Population {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.module, self.digest)
    }
}

impl Population {
    /// The population of a module and a digest as labels tell them. `None` unless they are what a runner
    /// accepts and makes: a module's name goes into the path of an order, where another character could turn
    /// the order into a different one.
    #[must_use]
    pub fn from_labels(module: &str, digest: &str) -> Option<Self> {
        let is_digest =
            (1..=64).contains(&digest.len()) && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        (module.parse::<ModuleName>().is_ok() && is_digest)
            .then(|| Self { module: module.into(), digest: digest.into() })
    }
}

/// A runner: where orders go to, and what else tells it from others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct RunnerId {
    /// Its address, `host:port`: Prometheus' `instance` label, unless the config makes it of others.
    #[serde(rename = "instance")]
    pub address: Arc<str>,
    /// The labels that the config names as identity, as PromQL writes them: `host="a"`. Empty where it names none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub identity: Arc<str>,
}

impl RunnerId {
    /// Whether a reader means this one: by its address, or as it is displayed.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        *self.address == *name || (!self.identity.is_empty() && self.to_string() == name)
    }
}

impl Ord for RunnerId {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.address, &other.address).then_with(|| compare(&self.identity, &other.identity))
    }
}

impl PartialOrd for RunnerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for RunnerId {
    fn from(address: &str) -> Self {
        Self { address: address.into(), identity: Arc::default() }
    }
}

impl fmt::Display for RunnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        if self.identity.is_empty() { Ok(()) } else { write!(f, " ({})", self.identity) }
    }
}

/// One series of a slot's gauges: what one source tells of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId {
    /// The slot that it tells of.
    pub slot: SlotId,
    /// Its labels that do not name the slot, as PromQL writes them, in order: `job="a",prometheus="b"`.
    pub labels: Arc<str>,
}

impl From<SlotId> for SeriesId {
    /// The series of a slot without further labels.
    fn from(slot: SlotId) -> Self {
        Self { slot, labels: Arc::default() }
    }
}

/// A place where instances of one population live one after another: a replica on one runner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SlotId {
    /// The population of the instances that live here.
    #[serde(flatten)]
    pub population: Population,
    /// The runner that hosts it.
    #[serde(flatten)]
    pub runner: RunnerId,
    /// The replica's number, as the runner's `replica` label tells it.
    pub replica: u32,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} on {}", self.population.module, self.replica, self.runner)
    }
}

/// `MODULE/REPLICA`, as an operator names an instance on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceName {
    /// Name of the module.
    pub module: String,
    /// Number of the replica.
    pub replica: u32,
}

impl FromStr for InstanceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text
            .rsplit_once('/')
            .and_then(|(module, replica)| Some((module, replica.parse().ok()?)))
            .filter(|(module, _)| !module.is_empty());
        match parsed {
            Some((module, replica)) => Ok(Self { module: module.to_owned(), replica }),
            None => {
                Err(Invalid(format!("{text:?} is not an instance: expected MODULE/REPLICA, such as leaky/3")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_are_safe_as_labels_paths_and_log_fields() {
        let check = |text: &str, accepted: bool| {
            assert_eq!(text.parse::<ModuleName>().is_ok(), accepted, "{text:?}");
        };
        check("leaky", true);
        check("_a-b_9", true);
        check(&"a".repeat(63), true);
        check(&"a".repeat(64), false);
        for text in ["", "9lives", "-a", "a b", "a/b", "ä", "a\"b", "a\n"] {
            check(text, false);
        }
    }

    #[test]
    fn only_labels_that_a_runner_makes_name_a_population() {
        let check = |module: &str, digest: &str, named: bool| {
            assert_eq!(Population::from_labels(module, digest).is_some(), named, "{module:?} {digest:?}");
        };
        check("leaky", "0123456789ab", true);
        check("_a-1", "d", true);
        check(&"a".repeat(63), "d", true);
        check(&"a".repeat(64), "d", false);
        for module in
            ["", "1a", "-a", "a/b", "../../../-/reload?", "victim/3/restart?", "a b", "a%2f", "a\"b", "ä"]
        {
            check(module, "d", false);
        }
        check("leaky", "", false);
        check("leaky", "not hex", false);
    }

    #[test]
    fn an_instance_is_named_by_module_and_replica() {
        assert_eq!(
            "leaky/3".parse::<InstanceName>().unwrap(),
            InstanceName { module: "leaky".into(), replica: 3 }
        );
        for text in ["leaky", "leaky/", "/3", "leaky/x", ""] {
            assert!(text.parse::<InstanceName>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_is_the_start_of_the_sha_256() {
        // printf abc | sha256sum → ba7816bf8f01cfea…
        assert_eq!(Digest::of(b"abc").as_str(), "ba7816bf8f01");
        assert_eq!("ba7816bf8f01".parse(), Ok(Digest::of(b"abc")));
        for text in ["", "ba7816bf8f0", "ba7816bf8f011", "BA7816BF8F01", "ba7816bf8f0g"] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
