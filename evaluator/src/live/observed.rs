//! What store and runners answered.

use ebb_core::history::History;
use ebb_units::{Elapsed, Millis};

use crate::store::{About, Fetched};

/// What was answered.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) now: Millis,
    pub(super) history: History,
    pub(super) store: Result<StoreAnswer, String>,
    pub(super) runners: Vec<(String, Result<RunnerAnswer, String>)>,
}

/// What the store answered.
#[derive(Debug)]
pub(super) struct StoreAnswer {
    pub(super) fetched: Fetched,
    pub(super) about: About,
}

/// What a runner answered.
#[derive(Debug)]
pub(super) struct RunnerAnswer {
    pub(super) instances: usize,
    /// By how much this clock is ahead of the runner's.
    pub(super) ahead: Option<Elapsed>,
    pub(super) token: Token,
}

/// Whether a runner takes orders.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Token {
    Accepted,
    Refused,
    /// It was not shown: orders may not go there.
    NotAllowed,
    Unusable(String),
    Unexpected(u16),
}
