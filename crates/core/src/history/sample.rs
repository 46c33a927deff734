//! PURE: one reading of a slot's memory.

use ebb_units::{Generation, Millis};

/// One reading of one slot: how much memory which instance held when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was scraped.
    pub at: Millis,
    /// Which start of the slot's instance it belongs to.
    pub generation: Generation,
    /// Linear memory in bytes.
    pub bytes: u64,
}
