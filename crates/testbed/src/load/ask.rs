//! What is asked, and what the answer must be.

use std::time::Duration;

use bytes::Bytes;

/// A request, and what its answer must be.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The method.
    pub method: &'static str,
    /// Path and query.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// The body to send.
    pub body: Option<Pattern>,
    /// The answer's status.
    pub status: &'static [u16],
    /// The answer's body.
    pub expected: Expected,
    /// How fast both bodies move; as fast as they can, if `None`.
    pub pace: Option<Pace>,
}

/// What an answer's body must be.
#[derive(Clone, Debug)]
pub enum Expected {
    /// Anything that comes to its end.
    Anything,
    /// These bytes.
    Exactly(Bytes),
    /// This pattern.
    Pattern(Pattern),
}

/// Bytes that are known at every place: byte `i` is `(seed + i) · 31 + (i >> 8)`, modulo 256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// How many.
    pub bytes: u64,
    /// Which.
    pub seed: u64,
}

/// A slow client: so many bytes, then a pause.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes at once.
    pub piece: usize,
    /// Then this.
    pub pause: Duration,
}

impl Pattern {
    /// The byte at `i`.
    pub(crate) const fn at(self, i: u64) -> u8 {
        (self.seed.wrapping_add(i).wrapping_mul(31).wrapping_add(i >> 8) & 0xff) as u8
    }

    /// The bytes from `from` on, at most `most`.
    #[must_use]
    pub fn piece(self, from: u64, most: usize) -> Bytes {
        let to = self.bytes.min(from.saturating_add(most as u64));
        (from..to).map(|i| self.at(i)).collect()
    }
}

impl Ask {
    /// `GET path`; the answer's status is 200.
    #[must_use]
    pub fn get(path: impl Into<String>, expected: Expected) -> Self {
        Self {
            method: "GET",
            path: path.into(),
            host: "localhost".to_owned(),
            body: None,
            status: &[200],
            expected,
            pace: None,
        }
    }

    /// `PUT path`; the answer's status is 200 or 201.
    #[must_use]
    pub fn put(path: impl Into<String>, body: Pattern) -> Self {
        let get = Self::get(path, Expected::Anything);
        Self { method: "PUT", body: Some(body), status: &[200, 201], ..get }
    }

    /// `POST /echo`: what is sent comes back.
    #[must_use]
    pub fn echo(body: Pattern) -> Self {
        let get = Self::get("/echo", Expected::Pattern(body));
        Self { method: "POST", body: Some(body), ..get }
    }

    /// The same, of another host.
    #[must_use]
    pub fn of(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// The same, slowly.
    #[must_use]
    pub fn slowly(self, piece: usize, pause: Duration) -> Self {
        Self { pace: Some(Pace { piece, pause }), ..self }
    }
}
