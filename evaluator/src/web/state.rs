//! What the handlers read, and what they ask the evaluation for.

use std::sync::{Arc, atomic::AtomicUsize};

use ebb_core::history::Extract;
use ebb_units::{Millis, SlotId};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    advice::{Adviser, RecordRequest},
    config::Config,
    evaluation::Sinks,
    growth::GrowthReader,
};

/// Asks the evaluation to reload its config; answers with the error, if any.
pub(crate) type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// Asks the evaluation for the memory of some slots over time, which it answers between two ticks.
#[derive(Debug)]
pub(crate) struct ExtractRequest {
    /// Which.
    pub slots: Vec<SlotId>,
    /// From when on.
    pub since: Millis,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Extract>,
}

/// Where the evaluation takes requests.
#[derive(Clone, Debug)]
pub(crate) struct EvaluatorHandle {
    /// For its config.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// For its history.
    pub extract: mpsc::Sender<ExtractRequest>,
    /// For all that it remembers.
    pub record: mpsc::Sender<RecordRequest>,
}

/// What the handlers read.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    pub(super) sinks: Sinks,
    pub(super) registry: Arc<Registry>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) evaluator: EvaluatorHandle,
    pub(super) growth: GrowthReader,
    pub(super) adviser: Adviser,
    pub(super) exposition_bytes: Arc<AtomicUsize>,
}

impl Web {
    /// Serves `sinks`, and asks the `evaluator` for what they do not hold.
    pub(crate) fn new(
        sinks: Sinks,
        registry: Registry,
        config: watch::Receiver<Arc<Config>>,
        evaluator: EvaluatorHandle,
        growth: GrowthReader,
    ) -> Self {
        let (exposition_bytes, adviser) = (Arc::default(), Adviser::new(evaluator.record.clone()));
        Self { sinks, registry: Arc::new(registry), config, evaluator, growth, adviser, exposition_bytes }
    }
}
