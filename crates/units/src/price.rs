//! What a restart is worth, as operators write it: `1GiB*10m`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    bytes::{BYTE_COUNT_FORM, ByteCount, exact_bytes},
    invalid::Invalid,
    moment::Elapsed,
    span::{LONGER_THAN_ZERO, SPAN_FORM, Span},
};

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
            "description": "An amount of memory times a duration, more than zero: 1GiB*10m.",
            "type": "string",
            "pattern": format!(r"^(?=[^*]*[1-9]){BYTE_COUNT_FORM}\*{LONGER_THAN_ZERO}{SPAN_FORM}$"),
            "examples": ["1GiB*10m", "256MiB*10m", "512MiB*1h"],
        })
    }
}

impl RestartPrice {
    /// The price of `memory` held for `time`; both must be more than nothing.
    ///
    /// # Errors
    /// [`Invalid`] when one of them is nothing: every instance would be restarted all the time.
    pub fn new(memory: ByteCount, time: Span) -> Result<Self, Invalid> {
        let price = Self { memory, time };
        if memory.0 > 0 && time.as_elapsed() > Elapsed::ZERO {
            Ok(price)
        } else {
            Err(invalid(&price.to_string()))
        }
    }

    /// The price in byte-seconds.
    #[must_use]
    pub fn byte_seconds(self) -> f64 {
        self.memory.as_f64() * self.time.0.as_secs_f64()
    }
}

fn invalid(text: &str) -> Invalid {
    Invalid(format!(
        "invalid restart price {text:?}: expected an amount of memory times a duration, such as 1GiB*10m"
    ))
}

impl fmt::Display for RestartPrice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Exact, since it is read back.
        write!(f, "{}*{}", exact_bytes(self.memory.0), self.time)
    }
}

impl FromStr for RestartPrice {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || invalid(text);
        let (memory, time) = text.split_once('*').ok_or_else(refused)?;
        let memory = memory.trim().parse().map_err(|_| refused())?;
        let time = time.trim().parse().map_err(|_| refused())?;
        Self::new(memory, time).map_err(|_| refused())
    }
}

impl TryFrom<String> for RestartPrice {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RestartPrice> for String {
    fn from(price: RestartPrice) -> Self {
        price.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
