//! Shares of one: confidence levels, and how much of a population is covered.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::invalid::Invalid;

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
    type Error = Invalid;

    fn try_from(level: f64) -> Result<Self, Self::Error> {
        between_0_and_1(level, "confidence level", 0.95).map(Self)
    }
}

fn between_0_and_1(number: f64, what: &str, example: f64) -> Result<f64, Invalid> {
    if number > 0.0 && number < 1.0 {
        Ok(number)
    } else {
        Err(Invalid(format!(
            "{what} {number}: expected a number strictly between 0 and 1, such as {example}"
        )))
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

impl Coverage {
    /// The share as a number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Coverage {
    type Error = Invalid;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        between_0_and_1(share, "coverage", 0.99).map(Self)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confidence_level_lies_strictly_between_zero_and_one() {
        for level in [0.0, 1.0, -0.5, 95.0, f64::NAN] {
            assert!(ConfidenceLevel::try_from(level).is_err(), "{level}");
        }
        assert_eq!(ConfidenceLevel::try_from(0.95).unwrap().get(), 0.95);
    }
}
