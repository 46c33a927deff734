//! PURE: what instances have cost: the memory that they held over time, and what their restarts are worth.
//!
//! A restart is worth [`RestartPrice`](ebb_units::RestartPrice), so memory and restarts add up to one figure in
//! byte-seconds, and that figure over the time observed is an average in bytes: what it costs to keep a slot running.
//!
//! **Lifetimes that were not seen whole.** The newest one still runs, and of the oldest one the window may have cut off
//! the beginning. Such a lifetime has cost its memory and some share of the price of a restart; which share is not
//! known, so it counts as the average itself as far as that is possible: at least its memory, at most its memory and
//! the whole price. So an average neither jumps when a restart is done nor when one leaves the window.
//!
//! Of a lifetime between others, only samples can have been missed: its start is known, and until its first sample it
//! counts with the size of that.

mod population;
mod slot;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub(crate) use self::{
    population::PopulationCost,
    slot::{Others, SlotCost},
};

/// What the threshold of one slot rests on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct CostBasis {
    /// Time for which the slot was observed, in seconds.
    pub observed_seconds: f64,
    /// Its average memory, in bytes.
    pub average_memory_bytes: f64,
    /// Of the life of the instance that lives there now, the seconds before it was first seen: they do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub unseen_seconds: f64,
    /// Its restarts in that time.
    pub restarts: u64,
    /// How often its memory fell without a restart in that time.
    #[serde(skip_serializing_if = "is_none")]
    pub falls: u64,
    /// Average cost of the population's other slots, in bytes.
    pub others_average_bytes: Option<f64>,
    /// For how many seconds of the slot's own time that average counts.
    pub others_weight_seconds: f64,
}

const fn is_zero(seconds: &f64) -> bool {
    *seconds == 0.0
}

const fn is_none(count: &u64) -> bool {
    *count == 0
}
