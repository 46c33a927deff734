//! What is wrong with a web config, and in which file.

use std::path::{Path, PathBuf};

use crate::config_file::ConfigError;

/// Why the file, or what it names, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// Something that it says.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The file that is wrong: the web config, or a certificate, key or authority that it names.
        path: PathBuf,
        /// What was expected, and what was found.
        problem: String,
    },
}

impl WebConfigError {
    pub(super) fn unusable(path: &Path, problem: impl Into<String>) -> Self {
        Self::Unusable { path: path.to_owned(), problem: problem.into() }
    }
}
