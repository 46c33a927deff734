//! Chance, where nothing depends on it being hard to foresee.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A number between 0 and 1.
pub(crate) fn chance() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}
