//! Placeholder of the crate's code map.
