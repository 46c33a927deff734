//! Spans of time, as operators write them: `1h 30m`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{invalid::Invalid, moment::Elapsed};

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

    /// What was computed in seconds, without fractions; zero below that.
    #[must_use]
    pub const fn whole_secs(seconds: f64) -> Self {
        Self::secs(seconds.max(0.0) as u64)
    }

    /// What was computed in seconds, to a part of it that people read: `23s`, `1h 12m`, `3days 7h`.
    #[must_use]
    pub fn rounded(seconds: f64) -> Self {
        const STEPS: [(f64, f64); 3] = [(120.0, 1.0), (36_000.0, 60.0), (1_728_000.0, 3600.0)];
        let step = STEPS.iter().find(|(below, _)| seconds < *below).map_or(86_400.0, |(_, step)| *step);
        Self::whole_secs((seconds / step).round() * step)
    }

    /// The span as the time between two moments: whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_elapsed(self) -> Elapsed {
        let millis = self.0.as_millis();
        Elapsed(if millis > i64::MAX as u128 { i64::MAX } else { millis as i64 })
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
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const LONGEST: Duration = Duration::from_hours(24 * 36_525);
        match humantime::parse_duration(text.trim()).map_err(|error| Invalid(error.to_string()))? {
            // Nobody means that, and sums of such spans would overflow.
            longer if longer > LONGEST => Err(Invalid("longer than 100 years".to_owned())),
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

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::check_yaml;

    #[test]
    fn a_duration_without_a_unit_is_refused() {
        assert!(serde_yaml::from_str::<Span>("10").is_err());
        assert_eq!(serde_yaml::from_str::<Span>("10s").unwrap(), Span::secs(10));
    }

    #[test]
    fn what_is_rounded_has_as_much_precision_as_is_read() {
        for (seconds, text) in
            [(-1.0, "0s"), (7.4, "7s"), (4_332.0, "1h 12m"), (100_000.0, "1day 4h"), (2_000_000.0, "23days")]
        {
            assert_eq!(Span::rounded(seconds).to_string(), text);
        }
    }

    #[test]
    fn the_schema_of_spans_lets_through_what_is_read() {
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
            check_yaml::<Span>(yaml, true);
        }
        for yaml in ["10", "soon", "10 parsecs", "s", "-1s", "1s 5", "10S", "5minuten", "true", "\"\""] {
            check_yaml::<Span>(yaml, false);
        }
    }
}
