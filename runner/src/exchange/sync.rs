//! The locks of [`state`](super::state). `tests/loom.rs` has loom's in their place.

pub(super) use std::sync::{Mutex, MutexGuard};
