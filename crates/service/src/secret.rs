//! Bearer tokens: read from a file, compared in constant time, never printed.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use subtle::ConstantTimeEq as _;

use crate::file::{self, SECRET_BYTES_MAX};

/// A bearer token (RFC 6750). `Debug` hides it.
#[derive(Clone)]
pub struct BearerToken(String);

/// Why a token file was refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The file could not be read.
    #[error("reading bearer token file {}", path.display())]
    Read {
        /// The file that was asked for.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file holds no usable token.
    #[error(
        "bearer token file {}: expected one line of visible ASCII characters without spaces",
        path.display()
    )]
    Malformed {
        /// The file that was read.
        path: PathBuf,
    },
}

impl BearerToken {
    /// Reads a token from a file, without the white space around it.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, or holds more than one word.
    pub fn from_file(path: &Path) -> Result<Self, TokenFileError> {
        let text = file::read_text(path, SECRET_BYTES_MAX)
            .map_err(|source| TokenFileError::Read { path: path.to_owned(), source })?;
        let token = text.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenFileError::Malformed { path: path.to_owned() });
        }
        Ok(Self(token.to_owned()))
    }

    /// The token itself, for a request's `Authorization` header.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether an `Authorization` header carries this token. Takes the same time for every wrong token
    /// of the right length.
    pub(crate) fn is_carried_by(&self, authorization: &str) -> bool {
        let Some((scheme, token)) = authorization.split_once(' ') else { return false };
        scheme.eq_ignore_ascii_case("bearer") && token.trim().as_bytes().ct_eq(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn token_in(content: &str) -> Result<BearerToken, TokenFileError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        BearerToken::from_file(file.path())
    }

    #[test]
    fn only_the_same_token_in_a_bearer_header_is_accepted() {
        let token = token_in("s3cret\n").unwrap();
        let check =
            |header: &str, accepted: bool| assert_eq!(token.is_carried_by(header), accepted, "{header:?}");
        check("Bearer s3cret", true);
        check("bearer s3cret", true);
        check("Bearer s3cres", false);
        check("Bearer s3cret2", false);
        check("Bearer ", false);
        check("Basic s3cret", false);
        check("s3cret", false);
        check("", false);
    }

    #[test]
    fn an_empty_or_broken_token_file_is_refused() {
        for content in ["", " \n", "two words", "two\nlines"] {
            assert!(matches!(token_in(content), Err(TokenFileError::Malformed { .. })), "{content:?}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        assert_eq!(format!("{:?}", token_in("s3cret").unwrap()), "BearerToken(hidden)");
    }
}
