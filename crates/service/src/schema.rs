//! JSON schemas of config files, by which editors complete and check them. Derived from the types that the files are
//! read into, so that they cannot tell of other keys than those.

use ebb_units::{Span, exact_bytes};
use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema,
    transform::transform_subschemas,
};
use serde_json::{Value, json};

/// The schema of config files of the shape of `T`, as text.
///
/// Draft 7: the newest that all editors understand.
///
/// # Panics
/// Never: a schema is JSON.
#[must_use]
pub fn of<T: JsonSchema>(title: &str) -> String {
    let settings = SchemaSettings::draft07().with_transform(tidy);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    // That of the type is for readers of the source.
    schema.remove("description");
    // The same text whether or not another crate of the build has serde_json keep the order of keys.
    let mut schema = schema.to_value();
    schema.sort_all_objects();
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text + "\n"
}

/// Defaults as an operator would write them, none where nothing is the default; and no choice between a value and nothing:
/// editors would blame the section around for a mistake in the value.
fn tidy(schema: &mut Schema) {
    match schema.get_mut("default") {
        // The keys of a section each tell their own.
        Some(Value::Null | Value::Object(_)) => drop(schema.remove("default")),
        Some(Value::String(text)) => *text = readable(text),
        _ => {}
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| *choice != json!({"type": "null"}));
        if let [_] = choices.as_slice()
            && let Some(value) = schema.remove("anyOf")
        {
            schema.insert("allOf".to_owned(), value);
        }
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = types.as_slice() {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
    }
    transform_subschemas(&mut tidy, schema);
}

/// `67108864B` → `64MiB`, also in front of `*10m`; `3days` → `3d`.
fn readable(text: &str) -> String {
    if text.parse::<Span>().is_ok() {
        return text.replace("days", "d").replace("day", "d");
    }
    let (bytes, rest) = text.split_once('*').map_or((text, None), |(bytes, rest)| (bytes, Some(rest)));
    let Some(bytes) = bytes.strip_suffix('B').and_then(|bytes| bytes.parse().ok()) else {
        return text.to_owned();
    };
    let bytes = exact_bytes(bytes);
    rest.map_or_else(|| bytes.clone(), |rest| format!("{bytes}*{rest}"))
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

#[cfg(test)]
mod tests {
    use ebb_units::ByteCount;

    use super::*;

    /// A section.
    #[derive(JsonSchema, serde::Serialize, Default)]
    #[serde(default)]
    struct Section {
        /// How long.
        span: Option<Span>,
        /// How many.
        count: Option<u32>,
        /// How much.
        bytes: ByteCount,
    }

    #[test]
    fn a_mistake_in_a_value_is_marked_at_the_value() {
        let schema: Value = serde_json::from_str(&of::<Section>("Test")).unwrap();
        assert_eq!(schema["properties"]["span"]["allOf"][0]["$ref"], "#/definitions/Span");
        assert_eq!(schema["properties"]["count"]["type"], "integer");
        assert_eq!(schema["properties"]["count"].get("default"), None);
        assert_eq!(schema["properties"]["bytes"]["default"], "0B");
        let place = |value: Value| {
            let validator = jsonschema::validator_for(&schema).unwrap();
            let errors: Vec<_> =
                validator.iter_errors(&value).map(|error| error.instance_path().to_string()).collect();
            errors
        };
        assert_eq!(place(json!({"span": "10s", "count": 1, "bytes": "1KiB"})), [""; 0]);
        assert_eq!(place(json!({"span": "10"})), ["/span"]);
        assert_eq!(place(json!({"count": "1"})), ["/count"]);
    }

    #[test]
    fn defaults_are_written_as_operators_write_them() {
        let check = |text: &str, expected: &str| assert_eq!(readable(text), expected);
        check("67108864B", "64MiB");
        check("65537B", "65537B");
        check("1073741824B*10m", "1GiB*10m");
        check("10s", "10s");
        check("3days", "3d");
        check("1day 12h", "1d 12h");
        check("127.0.0.1:9742", "127.0.0.1:9742");
    }
}
