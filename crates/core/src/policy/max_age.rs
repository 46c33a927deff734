//! `max_age`: restart at an age.

use ebb_units::{Elapsed, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::verdict::Verdict;

/// Restart at an age. Serialized as that age alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, into = "Span")]
#[schemars(inline)]
pub struct MaxAge {
    /// The age at which an instance is restarted.
    pub max_age: Span,
}

/// Never: a hundred years are the longest span that a config may name.
impl Default for MaxAge {
    fn default() -> Self {
        Self { max_age: Span::secs(100 * 31_557_600) }
    }
}

impl From<MaxAge> for Span {
    fn from(policy: MaxAge) -> Self {
        policy.max_age
    }
}

impl MaxAge {
    /// The setting that has no default, and what it is.
    pub(super) const NEEDS: (&str, &str) = ("max_age", "the age at which to restart, such as 1d");

    pub(super) fn verdict(&self, age: Elapsed) -> Verdict {
        if age >= self.max_age.as_elapsed() { Verdict::AboveMaxAge } else { Verdict::Within }
    }

    pub(super) fn summary(&self) -> String {
        self.max_age.to_string()
    }

    pub(super) fn describe(&self) -> String {
        format!("policy max_age {}", self.max_age)
    }
}
