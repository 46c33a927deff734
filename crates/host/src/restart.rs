//! Orders to replace a lifetime, and what becomes of them.

use std::time::{Duration, Instant};

use ebb_units::{ByteCount, Generation};
use tokio::sync::oneshot;

use crate::{lifecycle::Cause, permits::Permit};

/// Why a slot got a new lifetime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// Ordered: above the module's threshold.
    Threshold,
    /// Ordered: the host is short of memory.
    Pressure,
    /// Ordered by a person.
    Operator,
    /// It trapped, left with a non-zero exit code, or could not start.
    Crash,
    /// It left with exit code 0.
    Exit,
    /// The module or its settings changed.
    Reload,
}

impl Reason {
    /// All of them, in the order of their discriminants.
    pub(crate) const ALL: [Self; 6] =
        [Self::Threshold, Self::Pressure, Self::Operator, Self::Crash, Self::Exit, Self::Reload];

    /// The label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Pressure => "pressure",
            Self::Operator => "operator",
            Self::Crash => "crash",
            Self::Exit => "exit",
            Self::Reload => "reload",
        }
    }
}

impl From<Cause> for Reason {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Crash => Self::Crash,
            Cause::Exit => Self::Exit,
        }
    }
}

/// What came of an order.
pub type Outcome = Result<Restarted, Refusal>;

/// An order to replace the live lifetime.
pub struct RestartOrder {
    /// The lifetime that is meant; any, if `None`.
    pub expected: Option<Generation>,
    /// Why.
    pub reason: Reason,
    /// When the order arrived.
    pub received: Instant,
    /// Who waits for the outcome, if still there.
    pub reply: oneshot::Sender<Outcome>,
    /// Held until the restart is done.
    pub permit: Permit,
}

/// A restart was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// The lifetime that ended.
    pub old: Generation,
    /// The lifetime that began.
    pub new: Generation,
    /// Linear memory of the old one at its end, less that of the new one at its start.
    pub reclaimed: ByteCount,
    /// Resident memory that left the process while the old one was dropped; nothing yet while it is draining.
    /// Others come and go meanwhile, and a page that a guest never touched was not resident.
    pub released: ByteCount,
    /// From the order's arrival to the new one running and the old one's memory given back.
    pub duration: Duration,
    /// The old one has requests to finish; only then is its memory given back.
    pub draining: bool,
}

/// Why a restart was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lifetime named in the order is not the live one.
    #[error("generation {expected} is not current: {current} is")]
    NotCurrent {
        /// The one that was named.
        expected: Generation,
        /// The live one.
        current: Generation,
    },
    /// No lifetime is live.
    #[error("no instance is running in this slot: it is waiting to be started again")]
    NothingRunning,
    /// Another restart of the slot is under way.
    #[error("a restart of this instance is already under way")]
    Busy,
    /// The module's limit is reached.
    #[error("{limit} restarts of this module are already under way, its max_restarting")]
    TooMany {
        /// The limit.
        limit: u32,
    },
    /// The replacement could not be started.
    #[error("could not start the new instance, so the old one stays: {0}")]
    CouldNotStart(String),
    /// The slot is being closed.
    #[error("the slot is being closed")]
    Closing,
}
