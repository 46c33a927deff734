//! What can be said of a living instance.

use serde::Serialize;

/// What is said of a living instance. Only the first four ask for a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds more than the threshold.
    AboveThreshold,
    /// It holds more than `max_bytes`.
    AboveMaxBytes,
    /// It has run longer than `max_age`.
    AboveMaxAge,
    /// Its host is short of memory, and its turn has come.
    HostShortOfMemory,
    /// Nothing speaks against it.
    Within,
    /// The policy looks at the host's memory, and no young reading of it is there.
    HostMemoryUnknown,
    /// It is younger than `min_age`.
    TooYoung,
    /// Its population has too few lifetimes for a threshold.
    TooFewLifetimes,
    /// It was not observed for long enough for a threshold.
    NotObserved,
    /// It holds more than allowed, but a restart would give back less than `min_reclaim`.
    TooLittleToReclaim,
    /// The policy has no threshold.
    NoThreshold,
}

impl Verdict {
    /// Every verdict, for metrics that exist from the start.
    pub const ALL: [Self; 11] = [
        Self::AboveThreshold,
        Self::AboveMaxBytes,
        Self::AboveMaxAge,
        Self::HostShortOfMemory,
        Self::Within,
        Self::HostMemoryUnknown,
        Self::TooYoung,
        Self::TooFewLifetimes,
        Self::NotObserved,
        Self::TooLittleToReclaim,
        Self::NoThreshold,
    ];

    /// Whether the instance should be restarted.
    #[must_use]
    pub const fn wants_restart(self) -> bool {
        matches!(
            self,
            Self::AboveThreshold | Self::AboveMaxBytes | Self::AboveMaxAge | Self::HostShortOfMemory
        )
    }

    /// The verdict's name, as metrics and the API tell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AboveThreshold => "above_threshold",
            Self::AboveMaxBytes => "above_max_bytes",
            Self::AboveMaxAge => "above_max_age",
            Self::HostShortOfMemory => "host_short_of_memory",
            Self::Within => "within",
            Self::HostMemoryUnknown => "host_memory_unknown",
            Self::TooYoung => "too_young",
            Self::TooFewLifetimes => "too_few_lifetimes",
            Self::NotObserved => "not_observed",
            Self::TooLittleToReclaim => "too_little_to_reclaim",
            Self::NoThreshold => "no_threshold",
        }
    }
}
