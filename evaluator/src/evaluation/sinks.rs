//! What a tick leaves behind, and where.

use std::sync::Arc;

use crate::{decisions::Journal, metrics::Metrics, snapshot::SnapshotCell};

/// Where a tick's results are read.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    /// The newest snapshot.
    pub board: Arc<SnapshotCell>,
    /// The newest decisions.
    pub journal: Arc<Journal>,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
}
