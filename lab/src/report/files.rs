//! What is written and read again, and what can go wrong with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// A file could not be read or written.
    #[error("{action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A plot could not be drawn.
    #[error("drawing {}: {problem}", path.display())]
    Plot {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        problem: String,
    },
    /// What an earlier command left is of another version.
    #[error("reading {}: run `ebb-lab simulate` anew", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What went wrong.
        source: serde_json::Error,
    },
}

/// Writes text to a file.
///
/// # Errors
/// [`ReportError::File`].
pub(crate) fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    let failed = |action| move |source| ReportError::File { action, path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed("making the folder of"))?;
    }
    fs::write(path, text).map_err(failed("writing"))
}

/// Reads what an earlier command wrote.
///
/// # Errors
/// [`ReportError::File`], [`ReportError::Format`].
pub(crate) fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, ReportError> {
    let failed = |source| ReportError::File { action: "reading", path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(failed)?;
    serde_json::from_str(&text).map_err(|source| ReportError::Format { path: path.to_owned(), source })
}
