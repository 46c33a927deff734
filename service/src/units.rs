//! Quantities as operators write them in YAML: `64MiB`, `10s`. Each tells editors its form as a JSON schema.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number of bytes. Written `65536`, `64KiB`, `1.5GiB` (binary) or `64kB`, `1GB` (decimal).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// `n` × 1,048,576 bytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The count as a floating-point number, exact below 2^53 bytes.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub const fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// `self − other`, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&ByteSize(self.0).display().iec().to_string())
    }
}

/// Text that is not a number of bytes.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a number of bytes: expected for example 65536, 64MiB or 1GiB")]
pub struct ParseByteCountError {
    text: String,
}

impl FromStr for ByteCount {
    type Err = ParseByteCountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size: Result<ByteSize, _> = text.trim().parse();
        size.map(|size| Self(size.0)).map_err(|_| ParseByteCountError { text: text.to_owned() })
    }
}

impl<'de> Deserialize<'de> for ByteCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = ByteCount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 65536, 64MiB or 1GiB")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteCount, E> {
                Ok(ByteCount(bytes))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteCount, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl Serialize for ByteCount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}B", self.0))
    }
}

/// What a byte count looks like as text, for JSON schemas: a regular expression without anchors.
pub const BYTE_COUNT_FORM: &str =
    r"\s*([0-9]+|([0-9]+\.?[0-9]*|\.[0-9]+)\s*([bB]|[kKmMgGtTpPeE][iI]?[bB]?))\s*";

impl JsonSchema for ByteCount {
    fn schema_name() -> Cow<'static, str> {
        "ByteCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes: 65536, 64KiB, 1.5GiB (binary) or 64kB, 1GB (decimal).",
            "type": ["integer", "string"],
            "minimum": 0,
            "pattern": format!("^{BYTE_COUNT_FORM}$"),
            "examples": [65536, "64KiB", "256MiB", "1GiB"],
        })
    }
}

/// `bytes` in the largest binary unit of which they are a whole number: `64MiB`.
#[must_use]
pub fn exact_bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = |&(shift, _): &(u32, &str)| bytes > 0 && bytes.trailing_zeros() >= shift;
    let (shift, unit) = units.into_iter().find(fits).unwrap_or((0, "B"));
    format!("{}{unit}", bytes >> shift)
}

/// A span of time. Written `250ms`, `10s`, `5m`, `1h 30m`, `1d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

impl Span {
    /// `n` seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// `n` milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// The span in whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        let millis = self.0.as_millis();
        if millis > i64::MAX as u128 { i64::MAX } else { millis as i64 }
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// Why a text is no span of time.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseSpanError {
    /// It is not written as one.
    #[error(transparent)]
    Malformed(#[from] humantime::DurationError),
    /// Nobody means that, and sums of such spans would overflow.
    #[error("longer than 100 years")]
    TooLong,
}

impl FromStr for Span {
    type Err = ParseSpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const LONGEST: Duration = Duration::from_hours(24 * 36_525);
        match humantime::parse_duration(text.trim())? {
            longer if longer > LONGEST => Err(ParseSpanError::TooLong),
            duration => Ok(Self(duration)),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 250ms, 10s or 5m")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(|cause| {
                    E::custom(format_args!(
                        "{text:?} is not a duration ({cause}): expected for example 250ms, 10s or 5m"
                    ))
                })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// What a span of time looks like as text, for JSON schemas: a regular expression without anchors.
pub const SPAN_FORM: &str = concat!(
    r"\s*(0|([0-9][0-9\s]*(\.[0-9\s]+)?(",
    "nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|",
    "hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yr|y",
    r")\s*)+)\s*",
);

/// In front of [`SPAN_FORM`]: a span longer than zero.
pub const LONGER_THAN_ZERO: &str = "(?=.*[1-9])";

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A span of time: 250ms, 10s, 5m, 1h 30m, 1d.",
            "type": "string",
            "pattern": format!("^{SPAN_FORM}$"),
            "examples": ["250ms", "10s", "5m", "1h 30m", "1d"],
        })
    }
}

/// The JSON schema of an address to listen on.
#[must_use]
pub fn listen_address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$",
        "examples": ["127.0.0.1:9742", "0.0.0.0:9742", "[::1]:9742"],
    })
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_are_read_in_binary_and_decimal_units() {
        let check =
            |text: &str, bytes: u64| assert_eq!(text.parse::<ByteCount>().unwrap().0, bytes, "{text}");
        check("65536", 65_536);
        check("64KiB", 65_536);
        check("64 MiB", 67_108_864);
        check("1.5GiB", 1_610_612_736);
        check("1GB", 1_000_000_000);
    }

    #[test]
    fn text_that_is_no_byte_count_is_refused_with_examples() {
        for text in ["", "many", "-1", "64 parsecs"] {
            let error = text.parse::<ByteCount>().unwrap_err().to_string();
            assert!(error.contains("expected for example"), "{text}: {error}");
        }
    }

    #[test]
    fn a_byte_count_survives_yaml() {
        for bytes in [0, 1, 65_537, u64::from(u32::MAX) * 7] {
            let text = serde_yaml::to_string(&ByteCount(bytes)).unwrap();
            assert_eq!(serde_yaml::from_str::<ByteCount>(&text).unwrap().0, bytes);
        }
    }

    #[test]
    fn a_duration_without_a_unit_is_refused() {
        assert!(serde_yaml::from_str::<Span>("10").is_err());
        assert_eq!(serde_yaml::from_str::<Span>("10s").unwrap(), Span::secs(10));
    }

    /// Whether the schema of `T` lets through what stands in `yaml`.
    fn is_valid<T: JsonSchema>(yaml: &str) -> bool {
        let schema: serde_json::Value = serde_json::from_str(&crate::schema::of::<T>("")).unwrap();
        let value: serde_json::Value = serde_yaml::from_str(yaml).unwrap();
        jsonschema::is_valid(&schema, &value)
    }

    #[test]
    fn the_schema_of_byte_counts_lets_through_what_is_read() {
        let check = |yaml: &str, valid: bool| {
            assert_eq!(serde_yaml::from_str::<ByteCount>(yaml).is_ok(), valid, "{yaml}");
            assert_eq!(is_valid::<ByteCount>(yaml), valid, "schema: {yaml}");
        };
        for yaml in ["0", "65536", "64KiB", "64 MiB", "1.5GiB", ".5g", "1GB", "7b", "3Ti", "\" 8 \"", "1.k"] {
            check(yaml, true);
        }
        for yaml in ["-1", "1.5", "64 parsecs", "MiB", "64MiBs", "1,5GiB", "true", "[1]", "\"\"", "\"1.5\""] {
            check(yaml, false);
        }
    }

    #[test]
    fn the_schema_of_spans_lets_through_what_is_read() {
        let check = |yaml: &str, valid: bool| {
            assert_eq!(serde_yaml::from_str::<Span>(yaml).is_ok(), valid, "{yaml}");
            assert_eq!(is_valid::<Span>(yaml), valid, "schema: {yaml}");
        };
        for yaml in [
            "250ms",
            "10s",
            "5m",
            "1h 30m",
            "1h30m",
            "1d",
            "1.5h",
            "20 min 17 nsec",
            "2 weeks",
            "1M",
            "\"0\"",
        ] {
            check(yaml, true);
        }
        for yaml in ["10", "soon", "10 parsecs", "s", "-1s", "1s 5", "10S", "5minuten", "true", "\"\""] {
            check(yaml, false);
        }
    }

    #[test]
    fn exact_bytes_lose_none() {
        let check = |bytes: u64, text: &str| {
            assert_eq!(exact_bytes(bytes), text);
            assert_eq!(text.parse::<ByteCount>().unwrap().0, bytes);
        };
        check(0, "0B");
        check(65_536, "64KiB");
        check(65_537, "65537B");
        check(3 << 29, "1536MiB");
        check(1 << 60, "1048576TiB");
    }
}
