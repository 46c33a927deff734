//! Names and quantities of Ebb: each parsed once, at the edge, and shown as operators write it.

mod bytes;
mod invalid;
mod level;
mod moment;
mod names;
mod price;
mod span;

pub use bytes::{ByteCount, exact_bytes};
pub use invalid::Invalid;
pub use level::{ConfidenceLevel, Coverage};
pub use moment::{Elapsed, Generation, Millis};
pub use names::{Digest, InstanceName, ModuleName, Population, Replica, RunnerId, SeriesId, SlotId};
pub use price::RestartPrice;
pub use span::{LONGER_THAN_ZERO, SPAN_FORM, Span};

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    /// Whether `yaml` is read as a `T`, and its schema lets through the same.
    #[track_caller]
    pub(crate) fn check_yaml<T: DeserializeOwned + JsonSchema>(yaml: &str, valid: bool) {
        assert_eq!(serde_yaml::from_str::<T>(yaml).is_ok(), valid, "{yaml}");
        let value: Value = serde_yaml::from_str(yaml).unwrap();
        let schema = schemars::schema_for!(T).to_value();
        assert_eq!(jsonschema::is_valid(&schema, &value), valid, "schema: {yaml}");
    }
}
