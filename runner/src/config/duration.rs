//! Spans of time that may not be zero, or not any.

use std::{borrow::Cow, time::Duration};

use ebb_units::{LONGER_THAN_ZERO, SPAN_FORM, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::located;

/// A span longer than zero.
#[derive(Clone, Copy)]
pub(super) struct Positive(pub(super) Duration);

impl Serialize for Positive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Span(self.0).serialize(serializer)
    }
}

impl JsonSchema for Positive {
    fn schema_name() -> Cow<'static, str> {
        "Positive".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A span of time longer than zero: 250ms, 10s, 5m, 1h 30m, 1d.",
            "type": "string",
            "pattern": format!("^{LONGER_THAN_ZERO}{SPAN_FORM}$"),
            "examples": ["250ms", "10s", "5m", "1h 30m", "1d"],
        })
    }
}

impl<'de> Deserialize<'de> for Positive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a duration such as 10s", |text| match span(text)? {
            Duration::ZERO => Err("expected a duration longer than zero".to_owned()),
            span => Ok(Self(span)),
        })
    }
}

/// A tick between 1 ms and 1 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochTick(pub Duration);

impl Serialize for EpochTick {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Positive(self.0).serialize(serializer)
    }
}

impl JsonSchema for EpochTick {
    fn schema_name() -> Cow<'static, str> {
        "EpochTick".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Positive::json_schema(generator);
        schema.insert("description".to_owned(), "A span of time from 1ms to 1s.".into());
        schema.insert("examples".to_owned(), ["1ms", "10ms", "100ms"].as_slice().into());
        schema
    }
}

impl<'de> Deserialize<'de> for EpochTick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        located::scalar(deserializer, "a duration such as 10ms", |text| {
            let tick = span(text)?;
            if (Duration::from_millis(1)..=Duration::from_secs(1)).contains(&tick) {
                Ok(Self(tick))
            } else {
                Err(format!("invalid tick {text}: expected 1ms to 1s"))
            }
        })
    }
}

fn span(text: &str) -> Result<Duration, String> {
    text.parse().map(|span: Span| span.0).map_err(|cause| {
        format!("{text:?} is not a duration ({cause}): expected for example 250ms, 10s or 5m")
    })
}
