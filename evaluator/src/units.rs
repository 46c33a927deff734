//! Names and quantities of the evaluator, parsed once at the edge.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc, time::SystemTime};

use ebb_service::units::{BYTE_COUNT_FORM, ByteCount, LONGER_THAN_ZERO, SPAN_FORM, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A moment: milliseconds since the Unix epoch, the resolution of Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// The last second that RFC 3339 can write.
    const LAST: Self = Self(253_402_300_799_000);

    /// A Prometheus timestamp or a `…_time_seconds` gauge, in seconds. `None` unless it is finite.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        seconds.is_finite().then(|| Self((seconds * 1000.0).round() as i64))
    }

    /// The moment in seconds.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The moment as RFC 3339 writes it, to the second; what it cannot write, as the first or last that it can.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let seconds = u64::try_from(self.min(Self::LAST).0 / 1000).unwrap_or(0);
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(time).to_string()
    }

    /// Milliseconds from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// `self` moved on by `millis`.
    #[must_use]
    pub const fn plus(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// `self` moved back by `millis`.
    #[must_use]
    pub const fn minus(self, millis: i64) -> Self {
        Self(self.0.saturating_sub(millis))
    }
}

impl From<SystemTime> for Millis {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// One start of an instance: its start time in Unix milliseconds, strictly increasing in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation that a `wasm_instance_start_time_seconds` sample tells. `None` when it tells none
    /// (NaN, negative, after the year 9999).
    #[must_use]
    pub fn from_start_time(seconds: f64) -> Option<Self> {
        let started = Millis::from_seconds(seconds).filter(|started| *started <= Millis::LAST)?;
        u64::try_from(started.0).ok().map(Self)
    }

    /// When the instance was started.
    #[must_use]
    pub fn started_at(self) -> Millis {
        Millis(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A module's name and the digest of its binary: what instances must share to be one population.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Population {
    /// Name of the module in the runner's config.
    pub module: Arc<str>,
    /// First 12 hexadecimal digits of the binary's SHA-256.
    pub digest: Arc<str>,
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
        (Self::is_module_name(module) && is_digest)
            .then(|| Self { module: module.into(), digest: digest.into() })
    }

    /// Whether a runner's module can have this name.
    #[must_use]
    pub fn is_module_name(name: &str) -> bool {
        const BYTES_MAX: usize = 63;
        let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
        let inner = |byte: u8| letter(byte) || byte.is_ascii_digit() || byte == b'-';
        name.len() <= BYTES_MAX && name.bytes().next().is_some_and(letter) && name.bytes().all(inner)
    }
}

/// A runner: where orders go to, and what else tells it from others.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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

/// A confidence level 1 − α, strictly between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct ConfidenceLevel(f64);

impl JsonSchema for ConfidenceLevel {
    fn schema_name() -> Cow<'static, str> {
        "ConfidenceLevel".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number strictly between 0 and 1.",
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
            "examples": [0.95, 0.99],
        })
    }
}

/// A number that is no confidence level.
#[derive(Debug, thiserror::Error)]
#[error("confidence level {0}: expected a number strictly between 0 and 1, such as 0.95")]
pub struct ConfidenceLevelError(f64);

impl ConfidenceLevel {
    /// The probability α/2 that is left above a two-sided interval of this level.
    #[must_use]
    pub fn upper_tail(self) -> f64 {
        (1.0 - self.0) / 2.0
    }

    /// The level 1 − α^`exponent`: wider for an exponent above 1, narrower below. Between 1e-9 and 1 − 1e-9, so
    /// that it stays a level.
    #[must_use]
    pub fn with_alpha_to_the(self, exponent: f64) -> Self {
        const NEAR: f64 = 1e-9;
        let level = 1.0 - (1.0 - self.0).powf(exponent);
        Self(level.clamp(NEAR.min(self.0), (1.0 - NEAR).max(self.0)))
    }

    /// The level as a number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for ConfidenceLevel {
    type Error = ConfidenceLevelError;

    fn try_from(level: f64) -> Result<Self, Self::Error> {
        if level > 0.0 && level < 1.0 { Ok(Self(level)) } else { Err(ConfidenceLevelError(level)) }
    }
}

impl From<ConfidenceLevel> for f64 {
    fn from(level: ConfidenceLevel) -> Self {
        level.0
    }
}

impl fmt::Display for ConfidenceLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A share of a population, strictly between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Coverage(f64);

impl JsonSchema for Coverage {
    fn schema_name() -> Cow<'static, str> {
        "Coverage".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        ConfidenceLevel::json_schema(generator)
    }
}

/// A number that is no share of a population.
#[derive(Debug, thiserror::Error)]
#[error("coverage {0}: expected a number strictly between 0 and 1, such as 0.99")]
pub struct CoverageError(f64);

impl Coverage {
    /// The share as a number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Coverage {
    type Error = CoverageError;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        if share > 0.0 && share < 1.0 { Ok(Self(share)) } else { Err(CoverageError(share)) }
    }
}

impl From<Coverage> for f64 {
    fn from(coverage: Coverage) -> Self {
        coverage.0
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a restart is worth: an amount of memory, held for a span of time. Written `1GiB*10m`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct RestartPrice {
    memory: ByteCount,
    time: Span,
}

impl JsonSchema for RestartPrice {
    fn schema_name() -> Cow<'static, str> {
        "RestartPrice".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount of memory times a span of time: 1GiB*10m. More than nothing.",
            "type": "string",
            "pattern": format!(r"^(?=[^*]*[1-9]){BYTE_COUNT_FORM}\*{LONGER_THAN_ZERO}{SPAN_FORM}$"),
            "examples": ["1GiB*10m", "256MiB*10m", "512MiB*1h"],
        })
    }
}

/// Text that is no price of a restart.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no price of a restart: expected an amount of memory times a span of time, such as 1GiB*10m"
)]
pub struct RestartPriceError(String);

impl RestartPrice {
    /// The price of `memory` held for `time`; both must be more than nothing.
    ///
    /// # Errors
    /// [`RestartPriceError`] when one of them is nothing: every instance would be restarted all the time.
    pub fn new(memory: ByteCount, time: Span) -> Result<Self, RestartPriceError> {
        let price = Self { memory, time };
        if memory.0 > 0 && time.as_millis() > 0 {
            Ok(price)
        } else {
            Err(RestartPriceError(price.to_string()))
        }
    }

    /// The price in byte-seconds.
    #[must_use]
    pub fn byte_seconds(self) -> f64 {
        self.memory.as_f64() * self.time.0.as_secs_f64()
    }
}

impl fmt::Display for RestartPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Exact, since it is read back: in the largest unit that leaves no fraction.
        let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let bytes = self.memory.0;
        let whole = units.into_iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
        let (unit, size): (_, u64) = whole.unwrap_or(("B", 1));
        write!(f, "{}{unit}*{}", bytes / size, self.time)
    }
}

impl FromStr for RestartPrice {
    type Err = RestartPriceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || RestartPriceError(text.to_owned());
        let (memory, time) = text.split_once('*').ok_or_else(refused)?;
        let memory = memory.trim().parse().map_err(|_| refused())?;
        let time = time.trim().parse().map_err(|_| refused())?;
        Self::new(memory, time).map_err(|_| refused())
    }
}

impl TryFrom<String> for RestartPrice {
    type Error = RestartPriceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RestartPrice> for String {
    fn from(price: RestartPrice) -> Self {
        price.to_string()
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

/// Text that names no instance.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} names no instance: expected MODULE/REPLICA, such as leaky/3")]
pub struct InstanceNameError(String);

impl FromStr for InstanceName {
    type Err = InstanceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text
            .rsplit_once('/')
            .and_then(|(module, replica)| Some((module, replica.parse().ok()?)))
            .filter(|(module, _)| !module.is_empty());
        match parsed {
            Some((module, replica)) => Ok(Self { module: module.to_owned(), replica }),
            None => Err(InstanceNameError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_in_seconds_is_the_generation_in_milliseconds() {
        assert_eq!(Generation::from_start_time(1_700_000_000.123), Some(Generation(1_700_000_000_123)));
        assert_eq!(Generation::from_start_time(f64::NAN), None);
        assert_eq!(Generation::from_start_time(f64::INFINITY), None);
        assert_eq!(Generation::from_start_time(-1.0), None);
        assert_eq!(Generation::from_start_time(2.6e11), None);
    }

    #[test]
    fn every_moment_can_be_written() {
        assert_eq!(Millis(1_700_000_000_999).rfc3339(), "2023-11-14T22:13:20Z");
        assert_eq!(Millis(i64::MIN).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Millis(i64::MAX).rfc3339(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn every_millisecond_survives_its_way_through_a_gauge() {
        for millis in (1_700_000_000_000..1_700_000_010_000).step_by(7) {
            #[allow(clippy::cast_precision_loss)]
            let text = format!("{}", millis as f64 / 1000.0);
            assert_eq!(Generation::from_start_time(text.parse().unwrap()), Some(Generation(millis)));
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
    fn a_confidence_level_lies_strictly_between_zero_and_one() {
        for level in [0.0, 1.0, -0.5, 95.0, f64::NAN] {
            assert!(ConfidenceLevel::try_from(level).is_err(), "{level}");
        }
        assert_eq!(ConfidenceLevel::try_from(0.95).unwrap().get(), 0.95);
    }

    #[test]
    fn a_restart_is_worth_memory_times_time() {
        let price: RestartPrice = "1GiB*10m".parse().unwrap();
        assert_eq!(price.byte_seconds(), 600.0 * 1024.0 * 1024.0 * 1024.0);
        for text in ["1GiB*10m", "1536MiB*10m", "3KiB*1s", "1025B*1s"] {
            let price: RestartPrice = text.parse().unwrap();
            assert_eq!(price.to_string(), text);
            assert_eq!(price.to_string().parse::<RestartPrice>().unwrap(), price);
        }
        assert_eq!("64MiB * 1h".parse::<RestartPrice>().unwrap().byte_seconds(), 3600.0 * 64.0 * 1_048_576.0);
        for text in ["", "1GiB", "10m*1GiB", "0B*10m", "1GiB*0s", "1GiB*10m*2"] {
            let error = text.parse::<RestartPrice>().unwrap_err().to_string();
            assert!(error.contains("such as 1GiB*10m"), "{error}");
        }
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
}
