//! PURE: can what was fetched be relied on? If not, no restart is ordered: a fault of the monitoring must
//! never reach the fleet.

use std::collections::VecDeque;

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::units::Millis;

/// Why no restart is ordered.
#[derive(Clone, Debug, PartialEq)]
pub enum Hold {
    /// The store gave no answer that can be relied on.
    StoreFault {
        /// The fault's name in `ebb_evaluator_held_total`.
        fault: &'static str,
        /// What was asked of whom, and what went wrong.
        message: String,
    },
    /// The store answered, and knows no instance.
    EmptyAnswer,
    /// The newest sample is too old: the evaluator's clock is ahead, or nothing is scraped.
    ClockAhead {
        /// Age of the newest sample in milliseconds.
        newest_sample_age_millis: i64,
    },
    /// The store's own time, or a sample, lies in the future: the evaluator's clock is behind.
    ClockBehind {
        /// How far, in milliseconds.
        behind_millis: i64,
    },
    /// Many instances vanished at once: more likely a fault of the monitoring than of the fleet.
    SeriesDropped {
        /// Instances that live now.
        living: usize,
        /// Instances that lived a short while ago.
        before: usize,
    },
}

impl Hold {
    /// Every reason's name, for metrics that exist from the start.
    pub const NAMES: [&'static str; 8] = [
        "query_failed",
        "timeout",
        "partial_answer",
        "malformed_answer",
        "empty_answer",
        "clock_ahead",
        "clock_behind",
        "series_dropped",
    ];

    /// The reason's name, as the metric tells it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::StoreFault { fault, .. } => fault,
            Self::EmptyAnswer => "empty_answer",
            Self::ClockAhead { .. } => "clock_ahead",
            Self::ClockBehind { .. } => "clock_behind",
            Self::SeriesDropped { .. } => "series_dropped",
        }
    }
}

/// Its name and its sentence: `reason` and `message`.
impl Serialize for Hold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Hold", 2)?;
        object.serialize_field("reason", self.name())?;
        object.serialize_field("message", &self.to_string())?;
        object.end()
    }
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::StoreFault { message, .. } => f.write_str(message),
            Self::EmptyAnswer => f.write_str("the store answered, and knows no instance"),
            Self::ClockAhead { newest_sample_age_millis } => {
                write!(
                    f,
                    "the newest sample is {newest_sample_age_millis} ms old: this clock is ahead, or nothing is scraped"
                )
            }
            Self::ClockBehind { behind_millis } => {
                write!(f, "this clock is {behind_millis} ms behind the store's or its samples'")
            }
            Self::SeriesDropped { living, before } => {
                write!(f, "{living} instances live, {before} a short while ago")
            }
        }
    }
}

/// The limits within which data is relied on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Age from which a sample tells nothing about the present.
    pub stale_after_millis: i64,
    /// How far a sample may lie in the future.
    pub clock_skew_millis: i64,
    /// The share of living instances that may vanish within the window.
    pub series_drop: f64,
    /// How long a drop is remembered.
    pub series_drop_window_millis: i64,
}

/// What a tick has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Time of the newest sample of all.
    pub newest_sample: Option<Millis>,
    /// The store's own time, if it told.
    pub server_time: Option<Millis>,
    /// Instances that live.
    pub living: usize,
}

/// Remembers how many instances lived.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    living: VecDeque<(Millis, usize)>,
}

impl Watch {
    /// Looks for what is wrong; `None` when nothing is.
    pub fn doubt(&mut self, limits: &Limits, seen: Seen, now: Millis) -> Option<Hold> {
        self.living.retain(|(at, _)| {
            let age = now.since(*at);
            (0..limits.series_drop_window_millis).contains(&age)
        });
        let before = self.living.iter().map(|(_, living)| *living).max().unwrap_or(0);
        let living = seen.living;
        self.living.push_back((now, living));
        let Some(newest) = seen.newest_sample else { return Some(Hold::EmptyAnswer) };
        let age = now.since(newest);
        if age > limits.stale_after_millis {
            return Some(Hold::ClockAhead { newest_sample_age_millis: age });
        }
        let ahead = seen.server_time.map_or(newest, |server_time| server_time.max(newest));
        let behind = ahead.since(now);
        if behind > limits.clock_skew_millis {
            return Some(Hold::ClockBehind { behind_millis: behind });
        }
        #[allow(clippy::cast_precision_loss)]
        let dropped = (before.saturating_sub(living)) as f64 > limits.series_drop * before as f64;
        dropped.then_some(Hold::SeriesDropped { living, before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        stale_after_millis: 30_000,
        clock_skew_millis: 5_000,
        series_drop: 0.5,
        series_drop_window_millis: 60_000,
    };

    fn doubt(
        watch: &mut Watch,
        newest_seconds: i64,
        living: usize,
        now_seconds: i64,
    ) -> Option<&'static str> {
        let seen = Seen { newest_sample: Some(Millis(newest_seconds * 1000)), server_time: None, living };
        watch.doubt(&LIMITS, seen, Millis(now_seconds * 1000)).map(|hold| hold.name())
    }

    #[test]
    fn fresh_data_of_a_steady_fleet_is_relied_on() {
        let mut watch = Watch::default();
        assert_eq!(doubt(&mut watch, 95, 10, 100), None);
        assert_eq!(doubt(&mut watch, 105, 10, 110), None);
    }

    #[test]
    fn no_data_at_all_is_a_hold() {
        assert_eq!(Watch::default().doubt(&LIMITS, Seen::default(), Millis(0)), Some(Hold::EmptyAnswer));
    }

    #[test]
    fn a_clock_ahead_of_or_behind_the_data_is_a_hold() {
        assert_eq!(doubt(&mut Watch::default(), 100, 10, 130), None);
        assert_eq!(doubt(&mut Watch::default(), 100, 10, 131), Some("clock_ahead"));
        assert_eq!(doubt(&mut Watch::default(), 105, 10, 100), None);
        assert_eq!(doubt(&mut Watch::default(), 106, 10, 100), Some("clock_behind"));
    }

    #[test]
    fn a_clock_behind_the_stores_own_is_a_hold_though_no_sample_tells() {
        // Queries end at this clock's time, so that no sample lies beyond it.
        let at = |server_seconds: i64| Seen {
            newest_sample: Some(Millis(95_000)),
            server_time: Some(Millis(server_seconds * 1000)),
            living: 10,
        };
        assert_eq!(Watch::default().doubt(&LIMITS, at(105), Millis(100_000)), None);
        let hold = Watch::default().doubt(&LIMITS, at(700), Millis(100_000));
        assert_eq!(hold, Some(Hold::ClockBehind { behind_millis: 600_000 }));
    }

    #[test]
    fn a_sudden_drop_is_a_hold_until_it_is_old_news() {
        let mut watch = Watch::default();
        assert_eq!(doubt(&mut watch, 100, 10, 100), None);
        assert_eq!(doubt(&mut watch, 110, 5, 110), None);
        assert_eq!(doubt(&mut watch, 120, 4, 120), Some("series_dropped"));
        assert_eq!(doubt(&mut watch, 159, 4, 159), Some("series_dropped"));
        // The 10 that lived at 100 are 60 s ago: 4 of the 5 since then are left.
        assert_eq!(doubt(&mut watch, 160, 4, 160), None);
    }
}
