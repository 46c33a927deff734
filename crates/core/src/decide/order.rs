//! What is done about an instance that asks for a restart, and what becomes of an order.

use ebb_units::Generation;
use serde::Serialize;

use super::budget::Limit;
use crate::policy::Verdict;

/// What was done about an instance that asked for a restart.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Its restart was ordered.
    Ordered(Outcome),
    /// Its restart would have been ordered, were it not for `dry_run`.
    DryRun,
    /// The data cannot be relied on.
    Held {
        /// Why not.
        hold: &'static str,
    },
    /// The budget put it off.
    Postponed {
        /// By which limit.
        limit: Limit,
    },
    /// A restart of it was ordered; its effect is not seen yet.
    AwaitingEffect,
}

impl Action {
    /// The order is not given: its runner has just not answered another.
    pub const RUNNER_SILENT: Self = Self::Postponed { limit: Limit::RunnerSilent };

    /// Every kind of [`Action::kind`].
    pub const KINDS: [&'static str; 5] = ["ordered", "dry_run", "held", "postponed", "awaiting_effect"];

    /// Every name that [`Action::name`] may return, for metrics that exist from the start.
    pub fn names() -> impl Iterator<Item = &'static str> {
        let limits = Limit::ALL.into_iter().map(Limit::name);
        Outcome::NAMES.into_iter().chain(limits).chain(["dry_run", "held", "awaiting_effect"])
    }

    /// What it is, without what became of it: the API's `action`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Ordered(_) => "ordered",
            Self::DryRun => "dry_run",
            Self::Held { .. } => "held",
            Self::Postponed { .. } => "postponed",
            Self::AwaitingEffect => "awaiting_effect",
        }
    }

    /// The action's name, as logs and metrics tell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ordered(outcome) => outcome.name(),
            Self::DryRun => "dry_run",
            Self::Held { .. } => "held",
            Self::Postponed { limit } => limit.name(),
            Self::AwaitingEffect => "awaiting_effect",
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The runner restarted the instance.
    Restarted(Restarted),
    /// Another generation lives there by now (412): nothing was done.
    GenerationGone,
    /// The runner knows no such replica (404).
    UnknownReplica,
    /// A restart of it is under way already (409).
    AlreadyRestarting,
    /// The runner's own limit of restarts is reached (429).
    RunnerBusy,
    /// The runner could not start a new instance and kept the old one (503).
    CouldNotStart {
        /// The runner's words.
        message: String,
    },
    /// The runner wants another token (401, 403).
    Unauthorized,
    /// The token file cannot be used; the runner was not asked.
    NoCredentials {
        /// Which file, and why.
        message: String,
    },
    /// The runner's address is not on the allow list; it was not asked.
    NotAllowed,
    /// There was no answer; the restart may or may not have happened.
    NoAnswer {
        /// What went wrong.
        message: String,
    },
    /// An answer that the contract does not know.
    Unexpected {
        /// Status and text.
        message: String,
    },
}

/// The runner's report of a restart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Restarted {
    /// The generation that lives there now.
    pub new_generation: Generation,
    /// Linear memory given back, as the runner saw it, in bytes.
    pub reclaimed_bytes: u64,
    /// From the order to the new instance's running, in seconds.
    pub duration_seconds: f64,
}

impl Outcome {
    /// Every outcome's name, for metrics that exist from the start.
    pub const NAMES: [&'static str; 11] = [
        "restarted",
        "generation_gone",
        "unknown_replica",
        "already_restarting",
        "runner_busy",
        "could_not_start",
        "unauthorized",
        "no_credentials",
        "not_allowed",
        "no_answer",
        "unexpected",
    ];

    /// The outcome's name, as metrics tell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Restarted(_) => "restarted",
            Self::GenerationGone => "generation_gone",
            Self::UnknownReplica => "unknown_replica",
            Self::AlreadyRestarting => "already_restarting",
            Self::RunnerBusy => "runner_busy",
            Self::CouldNotStart { .. } => "could_not_start",
            Self::Unauthorized => "unauthorized",
            Self::NoCredentials { .. } => "no_credentials",
            Self::NotAllowed => "not_allowed",
            Self::NoAnswer { .. } => "no_answer",
            Self::Unexpected { .. } => "unexpected",
        }
    }

    /// What went wrong, where the name does not tell all of it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::CouldNotStart { message }
            | Self::NoCredentials { message }
            | Self::NoAnswer { message }
            | Self::Unexpected { message } => Some(message),
            _ => None,
        }
    }

    /// Whether somebody must mend something: neither was it done, nor has it become needless or possible by itself.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        !matches!(
            self,
            Self::Restarted(_) | Self::GenerationGone | Self::AlreadyRestarting | Self::RunnerBusy
        )
    }

    /// Whether the runner put the order off, so that it may be given again soon.
    pub(crate) const fn is_postponed(&self) -> bool {
        matches!(self, Self::AlreadyRestarting | Self::RunnerBusy)
    }
}

/// Why a restart is ordered, as the runner counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The instance holds too much, or has run for too long.
    Threshold,
    /// Its host is short of memory.
    Pressure,
}

impl Reason {
    /// The reason, as the runner is told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Pressure => "pressure",
        }
    }

    /// Why what has this verdict is restarted.
    #[must_use]
    pub const fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::HostShortOfMemory => Self::Pressure,
            _ => Self::Threshold,
        }
    }
}
