//! Thresholds → verdicts → admitted restarts.
//!
//! | step | module | question |
//! | --- | --- | --- |
//! | hold | [`hold`], [`clock`] | can what was fetched be relied on at all? |
//! | judge | [`judgement`], [`assessment`] | what is said of each instance, and why? |
//! | admit | [`budget`], [`pending`] | which of the restarts wished for are done now, and what came of those before? |
//! | order | [`order`] | what is done about an instance, and what becomes of an order? |
//!
//! [`tick`] goes through all of it. [`exhaustion`]: when memory runs out, if that goes on or not.

pub mod assessment;
mod baselines;
pub mod budget;
pub mod clock;
pub mod exhaustion;
pub mod hold;
pub mod judgement;
pub mod order;
pub mod pending;
mod savings;
pub mod tick;
