//! PURE: lifetimes → threshold → verdicts → admitted restarts. No I/O, no clock: `now` is an argument.
//!
//! | step | module | question |
//! | --- | --- | --- |
//! | estimate | [`estimate`], [`quantile`], [`cost`] | how much memory do instances of this population need, and what do they cost? |
//! | policy | [`policy`] | above which size is an instance restarted? |
//! | judge | [`verdict`], [`assessment`] | what is said of each instance, and why? |
//! | hold | [`hold`], [`clock`] | can what was fetched be relied on at all? |
//! | admit | [`budget`], [`ledger`] | which of the restarts wished for are done now, and what came of those before? |

pub mod assessment;
pub mod budget;
pub mod clock;
pub mod cost;
pub mod estimate;
pub mod hold;
pub mod ledger;
pub mod policy;
pub mod quantile;
pub mod verdict;
