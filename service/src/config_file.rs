//! A YAML file → a typed value. A refusal names the file, the line, the column and the field.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

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
    let text =
        fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Parses `text` as the content of the file at `path`, which is only named in errors.
///
/// # Errors
/// [`ConfigError::Invalid`] when `text` is not YAML of `T`'s shape.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
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
    #[allow(dead_code)]
    struct Outer {
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
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
