//! What Ebb learns of memory, and decides about restarts: data and `now` in, decisions out. No I/O, no clock.
//!
//! | module | question |
//! | --- | --- |
//! | [`intake`] | what to ask a store for, and which samples enter the history? |
//! | [`history`] | which lifetimes were there, and how did each grow? |
//! | [`estimate`] | how much memory do instances of a population need, and what do they cost? |
//! | [`policy`] | above which size is an instance restarted? |
//! | [`decide`] | what is said of each instance, and which are restarted now? |
//! | [`explain`] | a verdict as a sentence |
//! | [`replay`] | what would a policy have done with a past? |

pub mod decide;
pub mod estimate;
pub mod explain;
pub mod history;
pub mod intake;
pub mod policy;
#[cfg(test)]
mod reference;
pub mod replay;
