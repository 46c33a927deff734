//! Numbers of bytes, as operators write them: `64MiB`.

use std::{borrow::Cow, fmt, str::FromStr};

use bytesize::ByteSize;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::invalid::Invalid;

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
    pub const fn as_f64(self) -> f64 {
        self.0 as f64
    }

    /// What was computed in bytes; zero below that.
    #[must_use]
    pub const fn rounded(bytes: f64) -> Self {
        Self(bytes.max(0.0).round() as u64)
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

impl FromStr for ByteCount {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let size: Result<ByteSize, _> = text.trim().parse();
        size.map(|size| Self(size.0)).map_err(|_| {
            Invalid(format!("{text:?} is not a number of bytes: expected for example 65536, 64MiB or 1GiB"))
        })
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
pub(crate) const BYTE_COUNT_FORM: &str =
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::check_yaml;

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
    fn the_schema_of_byte_counts_lets_through_what_is_read() {
        for yaml in ["0", "65536", "64KiB", "64 MiB", "1.5GiB", ".5g", "1GB", "7b", "3Ti", "\" 8 \"", "1.k"] {
            check_yaml::<ByteCount>(yaml, true);
        }
        for yaml in ["-1", "1.5", "64 parsecs", "MiB", "64MiBs", "1,5GiB", "true", "[1]", "\"\"", "\"1.5\""] {
            check_yaml::<ByteCount>(yaml, false);
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
