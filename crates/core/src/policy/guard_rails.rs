//! What holds whatever the policy is.

use ebb_units::{ByteCount, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// What holds whatever the policy is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct GuardRails {
    /// Younger instances are neither restarted nor included in the sample.
    pub min_age: Span,
    /// `t_interval`: with fewer lifetimes there is no threshold.
    #[serde(deserialize_with = "two_or_more")]
    #[schemars(range(min = 2))]
    pub min_lifetimes: u64,
    /// A larger instance is restarted, whatever the policy says.
    pub max_bytes: Option<ByteCount>,
    // But for `max_age`, and for who stands above `max_bytes` while nobody knows what it started with.
    /// An instance is not restarted if that would reclaim less than this.
    pub min_reclaim: ByteCount,
}

impl Default for GuardRails {
    fn default() -> Self {
        Self { min_age: Span::secs(300), min_lifetimes: 5, max_bytes: None, min_reclaim: ByteCount::mib(1) }
    }
}

fn two_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        too_few @ 0..2 => {
            Err(D::Error::custom(format_args!("expected at least 2, got {too_few}: one value has no spread")))
        }
        enough => Ok(enough),
    }
}
