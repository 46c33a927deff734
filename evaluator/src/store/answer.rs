//! What stores have in common: what they are asked, what they answer, why an answer cannot be relied on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ebb_core::{
    decide::{clock::disagreement, exhaustion::MemoryLimits},
    history::Sample,
    policy::Hosts,
};
use ebb_units::{Elapsed, Millis, SeriesId};

use super::naming::Nameless;

/// Takes samples of one series, oldest first.
pub(crate) type Sink<'a> = dyn FnMut(&SeriesId, &[Sample]) + Send + 'a;

/// What an answer said besides samples.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Series of either gauge in the answer.
    pub series: usize,
    /// Samples refused: values that are no sizes or no times, by the reason.
    pub refused_samples: BTreeMap<&'static str, u64>,
    /// Series of our gauges whose labels name no slot or no runner.
    pub nameless_series: usize,
    /// Some of these, and what is wrong with them: those that were not told before.
    pub nameless: Vec<String>,
    /// Memory of the runners' hosts; a bootstrap, which looks at the past, tells none.
    pub hosts: Hosts,
    /// Likewise what instances may hold.
    pub memory_limits: MemoryLimits,
}

impl Fetched {
    /// Counts a series that names nothing; `Some` if it is seen for the first time.
    pub(super) fn pass_over(&mut self, nameless: Option<&Nameless>) {
        self.nameless_series += 1;
        if let Some(nameless) = nameless.filter(|_| self.has_room_to_tell()) {
            self.nameless.push(nameless.to_string());
        }
    }

    /// Many are of one kind: an answer tells some, the next one others.
    pub(super) const fn has_room_to_tell(&self) -> bool {
        const TOLD_MAX: usize = 3;
        self.nameless.len() < TOLD_MAX
    }
}

/// Why a store has no answer that can be relied on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The request could not be made or answered.
    #[error("{attempt}")]
    Request {
        /// What was asked of whom.
        attempt: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// There was no answer in time.
    #[error("{attempt}: no answer within {}", humantime::format_duration(*timeout))]
    Timeout {
        /// What was asked of whom.
        attempt: String,
        /// How long it was waited.
        timeout: Duration,
    },
    /// The server refused.
    #[error("{attempt}: expected status 200, got {status}: {message}")]
    Refused {
        /// What was asked of whom.
        attempt: String,
        /// HTTP status.
        status: u16,
        /// What the server said.
        message: String,
    },
    /// The answer is not of the shape it must have.
    #[error("{attempt}: {problem}")]
    Malformed {
        /// What was asked of whom.
        attempt: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// The server said that its answer is not all there is.
    #[error("{attempt}: the answer may be incomplete: {warning}")]
    Partial {
        /// What was asked of whom.
        attempt: String,
        /// The server's words.
        warning: String,
    },
    /// The clock of whoever answered and this one differ too much.
    #[error(
        "{attempt}: by its Date header it is {} there, {} {} this clock: correct the one that is wrong",
        there.rfc3339(), humantime::format_duration(Duration::from_secs(ahead.0.unsigned_abs() / 1000)),
        if ahead.0 > 0 { "behind" } else { "ahead of" }
    )]
    Clock {
        /// What was asked of whom.
        attempt: String,
        /// What time it is there.
        there: Millis,
        /// By how much this clock is ahead.
        ahead: Elapsed,
    },
    /// A file with a credential or certificate cannot be used.
    #[error("{attempt}: {problem}")]
    Credentials {
        /// What was asked of whom.
        attempt: String,
        /// Which file, and why.
        problem: String,
    },
    /// No target answered.
    #[error("scraping {targets} targets: none answered; the first: {first}")]
    NoTarget {
        /// How many were asked.
        targets: usize,
        /// What the first one's problem was.
        first: String,
    },
}

impl StoreError {
    /// The name under which the hold is counted.
    pub(crate) const fn hold_reason(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Partial { .. } => "partial_answer",
            Self::Malformed { .. } => "malformed_answer",
            Self::Clock { ahead, .. } if ahead.0 > 0 => "clock_ahead",
            Self::Clock { .. } => "clock_behind",
            Self::Request { .. }
            | Self::Refused { .. }
            | Self::Credentials { .. }
            | Self::NoTarget { .. } => "query_failed",
        }
    }
}

/// Up to when a store is asked, which is now, and how far other clocks may differ from this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockCheck {
    pub(super) now: Millis,
    read_at: Instant,
    skew: Elapsed,
}

impl ClockCheck {
    /// This clock shows `now`; others may differ by `skew`.
    pub(crate) fn new(now: Millis, skew: Elapsed) -> Self {
        Self { now, read_at: Instant::now(), skew }
    }

    /// For whoever asks about the past up to `until`: other clocks may show what they like.
    pub(crate) fn unchecked(until: Millis) -> Self {
        Self::new(until, Elapsed(i64::MAX))
    }

    /// What this clock shows by now, as it goes on since it was read.
    pub(super) fn shows(self) -> Millis {
        self.now.plus(self.read_at.elapsed().into())
    }

    /// Compares this clock with that of whoever answered to `attempt`, if it said what it shows: some time between the
    /// request, when this clock showed `sent`, and now.
    pub(super) fn compare(
        self,
        attempt: &str,
        sent: Millis,
        there: Option<Millis>,
    ) -> Result<(), StoreError> {
        let Some(there) = there else { return Ok(()) };
        let here = there.clamp(sent, self.shows().max(sent));
        match disagreement(here, there, self.skew) {
            None => Ok(()),
            Some(ahead) => Err(StoreError::Clock { attempt: attempt.to_owned(), there, ahead }),
        }
    }
}

/// How much there is to ask for, so that no request is too large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EarlierSize {
    /// Series that the store has.
    pub series: usize,
    /// Time between two of their samples.
    pub spacing: Elapsed,
}
