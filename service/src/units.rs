//! Quantities as operators write them in YAML: `64MiB`, `10s`.

use std::{fmt, str::FromStr, time::Duration};

use bytesize::ByteSize;
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

impl FromStr for Span {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text.trim()).map(Self)
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
}
