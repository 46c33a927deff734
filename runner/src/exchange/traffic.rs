//! A module's counters: requests by status, their durations, those under way.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::histogram::Histogram;

/// Buckets of request durations, in seconds.
const DURATION_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

const CODE_MIN: u16 = 100;
const CODES: usize = 500;

/// What clients were answered in a module's name.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// From a request's head to the end of its response, in seconds.
    pub durations: Histogram,
    in_flight: AtomicU64,
    truncated: AtomicU64,
    /// By status code, from 100 on.
    codes: Box<[AtomicU64]>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            durations: Histogram::new(DURATION_BUCKETS),
            in_flight: AtomicU64::new(0),
            truncated: AtomicU64::new(0),
            codes: (0..CODES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Traffic {
    /// A request has come.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over: answered with `code` after `seconds`. `truncated`: its response broke off, and
    /// not because the client left.
    pub(crate) fn end(&self, code: u16, seconds: f64, truncated: bool) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.durations.observe(seconds);
        if truncated {
            self.truncated.fetch_add(1, Ordering::Relaxed);
        }
        let index = usize::from(code.saturating_sub(CODE_MIN)).min(CODES - 1);
        self.codes[index].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests under way, those that wait included.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Responses that broke off.
    pub(crate) fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }

    /// Status codes that were answered, with how often.
    pub(crate) fn codes(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        let counts = self.codes.iter().map(|count| count.load(Ordering::Relaxed));
        (CODE_MIN..).zip(counts).filter(|(_, count)| *count > 0)
    }
}
