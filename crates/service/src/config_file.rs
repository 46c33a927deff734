//! A YAML file → a typed value. A refusal names the file, the line, the column and the field.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use serde::de::{self, DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::file;

/// The longest config that is read.
const CONFIG_BYTES_MAX: u64 = 64 << 20;

/// Why a config file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("reading config file {}", path.display())]
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file was read and is not a valid config.
    #[error("{}{position}: {message}", path.display())]
    Invalid {
        /// The file that was read.
        path: PathBuf,
        /// Where in the file, when known.
        position: Position,
        /// Which field, what was found, what was expected.
        message: String,
    },
}

/// A place in a config file, printed `:LINE:COLUMN`, or nothing when it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(Option<(usize, usize)>);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((line, column)) => write!(f, ":{line}:{column}"),
            None => Ok(()),
        }
    }
}

/// Reads the YAML file at `path`.
///
/// # Errors
/// [`ConfigError::Read`] when the file cannot be read, [`ConfigError::Invalid`] when it is not YAML of
/// `T`'s shape.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(path, &read(path)?)
}

/// Reads the text of the config file at `path`.
///
/// # Errors
/// [`ConfigError::Read`].
pub fn read(path: &Path) -> Result<String, ConfigError> {
    file::read_text(path, CONFIG_BYTES_MAX)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// A check that a parsed config failed: which field, and what was expected of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The field's path, such as `modules.leaky.min_lifetimes`.
    pub field: String,
    /// What was expected, and what was found.
    pub message: String,
}

impl Refusal {
    /// A refusal of `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// The refusal as an error that points into `text`, the content of the file at `path`: at the field, or,
    /// where it is not written, at the section that it would stand in.
    #[must_use]
    pub fn into_error(self, path: &Path, text: &str) -> ConfigError {
        let Self { field, message } = self;
        let segments: Vec<&str> = field.split('.').collect();
        let found = Locate(&segments).deserialize(serde_yaml::Deserializer::from_str(text)).err();
        let place = found.and_then(|error| error.location()).map(|at| (at.line(), at.column()));
        ConfigError::Invalid {
            path: path.to_owned(),
            position: Position(place),
            message: format!("{field}: {message}"),
        }
    }
}

/// Walks along the keys of a path and fails where it ends: the YAML parser then tells where that is.
struct Locate<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing: every visit of the path's end fails")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((segment, rest)) = self.0.split_first() {
            while let Some(key) = map.next_key::<String>()? {
                if key == *segment {
                    return map.next_value_seed(Locate(rest));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(de::Error::custom("here"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(de::Error::custom("here"))
    }
}

/// Parses `text` as the content of the file at `path`, which is only named in errors.
///
/// # Errors
/// [`ConfigError::Invalid`] when `text` is not YAML of `T`'s shape.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    if let Some(line) = too_deep(text) {
        let message = format!("more than {DEPTH_MAX} brackets are open here; is one not closed?");
        return Err(ConfigError::Invalid {
            path: path.to_owned(),
            position: Position(Some((line, 1))),
            message,
        });
    }
    serde_yaml::from_str(text).map_err(|error| {
        let position = Position(error.location().map(|at| (at.line(), at.column())));
        let mut message = error.to_string();
        // The position stands in front, as editors and compilers write it; not a second time behind.
        if let Some(at) = message.rfind(" at line ") {
            message.truncate(at);
        }
        ConfigError::Invalid { path: path.to_owned(), position, message }
    })
}

/// How deep brackets may be nested. Reading them takes the parser time with the square of that.
const DEPTH_MAX: usize = 1000;

/// The line at which more brackets are open than that. Those in text count, too, but not beyond the item or the section
/// that they stand in: there, no bracket of the block before is open.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("- ") || line.starts_with(|first: char| first.is_alphanumeric()) {
            depth = 0;
        }
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEPTH_MAX {
                return Some(number);
            }
        }
    }
    None
}

/// `relative`, taken from the folder that `config_file` lies in. Absolute paths stay as they are.
#[must_use]
pub fn relative_to(config_file: &Path, relative: &Path) -> PathBuf {
    config_file.parent().unwrap_or(Path::new("")).join(relative)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code)]
    struct Outer {
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code)]
    struct Item {
        replicas: u32,
    }

    fn refusal(text: &str) -> String {
        parse::<Outer>(Path::new("runner.yml"), text).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_file_line_and_field() {
        let error = refusal("items:\n  - replicas: 1\n    replcas: 2\n");
        assert!(error.starts_with("runner.yml:3:5: items[0]"), "{error}");
        assert!(error.contains("unknown field `replcas`, expected `replicas`"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_named_with_file_line_and_field() {
        let error = refusal("items:\n  - replicas: many\n");
        assert!(error.starts_with("runner.yml:2:15: items[0].replicas: invalid type"), "{error}");
    }

    #[test]
    fn a_refused_field_is_named_where_it_stands_or_would_stand() {
        let text = "a: 1\nmodules:\n  leaky:\n    level: 3\n    ages: [1]\n";
        let check = |field: &str, expected: &str| {
            let error = Refusal::new(field, "bad").into_error(Path::new("e.yml"), text);
            assert_eq!(error.to_string(), expected);
        };
        check("modules.leaky.level", "e.yml:4:12: modules.leaky.level: bad");
        check("modules.leaky.ages", "e.yml:5:11: modules.leaky.ages: bad");
        check("modules.leaky.missing", "e.yml:4:5: modules.leaky.missing: bad");
        check("missing", "e.yml:1:1: missing: bad");
    }

    /// It would take the parser hours.
    #[test]
    fn brackets_without_end_are_refused_at_once() {
        let error = refusal(&format!("items:\n{}", "[".repeat(3_000_000)));
        assert!(error.starts_with("runner.yml:2:1: more than 1000 brackets are open"), "{error}");
        assert_eq!(too_deep(&"[]{}".repeat(100_000)), None);
        assert_eq!(too_deep(&"{a: [\n".repeat(501)), Some(501));
        let in_text = format!("modules:\n{}", "  - {name: a, env: {PATTERN: '[[{'}}\n".repeat(5000));
        assert_eq!(too_deep(&in_text), None);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Outer>(Path::new("/nonexistent/runner.yml")).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }));
        assert_eq!(error.to_string(), "reading config file /nonexistent/runner.yml");
    }

    #[test]
    fn paths_are_taken_from_the_config_files_folder() {
        assert_eq!(relative_to(Path::new("etc/runner.yml"), Path::new("a.wasm")), Path::new("etc/a.wasm"));
        assert_eq!(relative_to(Path::new("etc/runner.yml"), Path::new("/a.wasm")), Path::new("/a.wasm"));
    }
}
