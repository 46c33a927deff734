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

pub(crate) use self::{
    population::PopulationCost,
    slot::{Others, SlotCost},
};
