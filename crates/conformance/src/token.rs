//! The token that orders carry. Never printed.

use std::fmt;

/// A bearer token (RFC 6750). `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A text that cannot be a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one line of visible ASCII characters without spaces")]
pub struct MalformedToken;

impl Token {
    /// The token in `text`, without the white space around it.
    ///
    /// # Errors
    /// [`MalformedToken`] if it is empty or more than one word.
    pub fn new(text: &str) -> Result<Self, MalformedToken> {
        let token = text.trim();
        let is_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_word { Ok(Self(token.to_owned())) } else { Err(MalformedToken) }
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_is_not_printed() {
        assert_eq!(Token::new(" s3cret\n").unwrap().reveal(), "s3cret");
        assert_eq!(format!("{:?}", Token::new("s3cret")), "Ok(Token(hidden))");
        for text in ["", "\n", "two words", "two\nlines", "ä"] {
            assert_eq!(Token::new(text), Err(MalformedToken), "{text:?}");
        }
    }
}
