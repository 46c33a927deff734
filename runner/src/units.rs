//! What a module, a slot and a lifetime are called. Parsed once, at the edge.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The longest module name, in characters: it becomes a label value, a path segment and part of log lines.
const MODULE_NAME_LENGTH_MAX: usize = 63;

/// Name of a module, as the config file gives it: `[a-zA-Z_][a-zA-Z0-9_-]*`, at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleName(Arc<str>);

/// Text that cannot name a module.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} cannot name a module: expected a letter or underscore, then letters, digits, underscores and \
     hyphens, {MODULE_NAME_LENGTH_MAX} characters at most"
)]
pub struct ParseModuleNameError {
    text: String,
}

impl ModuleName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModuleName {
    type Err = ParseModuleNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = text.bytes();
        let starts_well = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        let goes_on_well = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if starts_well && goes_on_well && text.len() <= MODULE_NAME_LENGTH_MAX {
            Ok(Self(text.into()))
        } else {
            Err(ParseModuleNameError { text: text.to_owned() })
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

/// Which lifetime of a slot: its start in Unix milliseconds, strictly increasing within the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation of a lifetime that starts at `now_unix_ms` in a slot whose last one was `last`.
    ///
    /// Two starts within one millisecond, or a clock set back, still give increasing generations.
    #[must_use]
    pub fn next(last: Option<Self>, now_unix_ms: u64) -> Self {
        Self(last.map_or(now_unix_ms, |last| now_unix_ms.max(last.0 + 1)))
    }

    /// The start in Unix seconds. Milliseconds survive: an `f64` separates them until the year 140,000.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
    fn a_digest_is_the_start_of_the_sha_256() {
        // printf abc | sha256sum → ba7816bf8f01cfea…
        assert_eq!(Digest::of(b"abc").as_str(), "ba7816bf8f01");
    }

    #[test]
    fn generations_increase_even_when_the_clock_does_not() {
        let check = |last: Option<u64>, now: u64, expected: u64| {
            assert_eq!(Generation::next(last.map(Generation), now), Generation(expected));
        };
        check(None, 1000, 1000);
        check(Some(1000), 1500, 1500);
        check(Some(1000), 1000, 1001);
        check(Some(1000), 10, 1001);
    }

    #[test]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn a_start_time_in_seconds_keeps_its_milliseconds() {
        for ms in [1_763_848_000_123_u64, 1_763_848_000_999, 1_763_848_000_000, 4_102_444_800_001] {
            let printed = Generation(ms).as_seconds().to_string();
            assert_eq!((printed.parse::<f64>().unwrap() * 1000.0).round() as u64, ms, "{printed}");
        }
    }
}
