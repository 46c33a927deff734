//! PURE: can what was fetched be relied on? If not, no restart is ordered: a fault of the monitoring must
//! never reach the fleet.

use std::collections::VecDeque;

use ebb_units::{Elapsed, Millis, Span};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use crate::decide::clock::Now;

/// Why no restart is ordered: of any module, unless it is said of one.
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
    /// The newest sample is too old: the evaluator's clock is ahead, or nothing is scraped, or seldom.
    ClockAhead {
        /// Age of the newest sample.
        newest_sample_age: Elapsed,
        /// The age that it may have.
        stale_after: Elapsed,
        /// Time between two samples of a series, as far as it was seen.
        spacing: Option<Elapsed>,
        /// The most that a sample came late.
        late: Elapsed,
    },
    /// The evaluator's clock has stepped, and nothing tells whether it is right now.
    ClockStepped {
        /// By how much; forward is positive.
        by: Elapsed,
    },
    /// A sample lies in the future.
    FutureSample {
        /// How far.
        ahead: Elapsed,
    },
    /// Many instances vanished at once: more likely a fault of the monitoring than of the fleet.
    SeriesDropped {
        /// Instances that live now.
        living: usize,
        /// Instances that lived a short while ago.
        before: usize,
    },
    /// Of one module: series of one slot contradict each other.
    AmbiguousSeries {
        /// The slot, as it is displayed.
        slot: String,
        /// The labels in which two series differ, each with what it is in both. Empty where one series contradicts itself.
        labels: Vec<String>,
    },
}

impl Hold {
    /// Every reason's name, for metrics that exist from the start.
    pub const NAMES: [&'static str; 9] = [
        "query_failed",
        "timeout",
        "partial_answer",
        "malformed_answer",
        "empty_answer",
        "clock_ahead",
        "clock_behind",
        "series_dropped",
        "ambiguous_series",
    ];

    /// The reason's name, as the metric tells it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::StoreFault { fault, .. } => fault,
            Self::EmptyAnswer => "empty_answer",
            Self::ClockAhead { .. } => "clock_ahead",
            Self::ClockStepped { by } if by.0 > 0 => "clock_ahead",
            Self::ClockStepped { .. } | Self::FutureSample { .. } => "clock_behind",
            Self::SeriesDropped { .. } => "series_dropped",
            Self::AmbiguousSeries { .. } => "ambiguous_series",
        }
    }

    /// What stays the same while the hold lasts: the reason, and the store's words. Ages and counts move.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::StoreFault { fault, message } => format!("{fault}: {message}"),
            Self::AmbiguousSeries { slot, labels } => format!("{slot}: {}", labels.join(", ")),
            _ => self.name().to_owned(),
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
            Self::EmptyAnswer => f.write_str("the store answered but knows no instances"),
            Self::ClockAhead { newest_sample_age, stale_after, spacing, late } => {
                write!(
                    f,
                    "the newest sample is {} old, more than {}: nothing is scraped, or this clock is ahead",
                    span(*newest_sample_age),
                    span(*stale_after),
                )?;
                let Some(spacing) = spacing.filter(|spacing| *spacing > Elapsed::ZERO) else {
                    return Ok(());
                };
                write!(f, ". Samples came {} apart", span(spacing))?;
                if *late > Elapsed::ZERO {
                    write!(f, " and up to {} late", span(*late))?;
                }
                let enough = 3 * spacing + *late;
                if enough > *stale_after {
                    write!(f, ": set hold.stale_after to {} or more", at_least(enough))?;
                }
                Ok(())
            }
            Self::ClockStepped { by } => {
                let direction = if *by > Elapsed::ZERO { "forward" } else { "back" };
                write!(
                    f,
                    "this clock stepped {direction} by {}: waiting until it has been steady for a minute",
                    span(by.abs())
                )
            }
            Self::FutureSample { ahead } => {
                write!(
                    f,
                    "a sample is dated {} in the future: this clock or that of the store is wrong",
                    span(*ahead)
                )
            }
            Self::SeriesDropped { living, before } => {
                write!(f, "{living} instances are live, down from {before}")
            }
            Self::AmbiguousSeries { slot, labels } if labels.is_empty() => write!(
                f,
                "one series of {slot} reports several instances alternately: give the servers or agents that write it labels \
                 that tell them apart"
            ),
            Self::AmbiguousSeries { slot, labels } => write!(
                f,
                "two series of {slot} contradict each other; they differ in {}. If these are two runners, name the label in \
                 store.prometheus.identity, or in runners.address if it tells where they are",
                labels.join(", ")
            ),
        }
    }
}

/// A time for readers.
pub fn span(time: Elapsed) -> Span {
    let millis = time.0.unsigned_abs();
    // Below a minute, tenths of seconds tell something.
    Span::millis(if millis < 60_000 { millis - millis % 100 } else { millis - millis % 1000 })
}

/// A time for readers who are to set as much: whole seconds, rounded up.
pub fn at_least(time: Elapsed) -> Span {
    Span::secs(time.0.unsigned_abs().div_ceil(1000))
}

/// The limits within which data is relied on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Age from which a sample tells nothing about the present.
    pub stale_after: Elapsed,
    /// How far a sample may lie in the future.
    pub clock_skew: Elapsed,
    /// The share of living instances that may vanish within the window.
    pub series_drop: f64,
    /// How long a drop is remembered.
    pub series_drop_window: Elapsed,
}

/// What a tick has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Time of the newest sample of all.
    pub newest_sample: Option<Millis>,
    /// Time between two samples of a series.
    pub spacing: Option<Elapsed>,
    /// The most that a sample came late.
    pub late: Elapsed,
    /// Instances that live.
    pub living: usize,
}

/// Remembers how many instances lived.
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthGate {
    living: VecDeque<(Millis, usize)>,
}

impl HealthGate {
    /// Looks for what is wrong; `None` when nothing is.
    pub(crate) fn check(&mut self, limits: &Limits, seen: Seen, now: Now) -> Option<Hold> {
        self.living.retain(|(at, _)| {
            let age = now.steady.since(*at);
            (Elapsed::ZERO..limits.series_drop_window).contains(&age)
        });
        let before = self.living.iter().map(|(_, living)| *living).max().unwrap_or(0);
        let living = seen.living;
        self.living.push_back((now.steady, living));
        let Some(newest) = seen.newest_sample else { return Some(Hold::EmptyAnswer) };
        let age = now.wall.since(newest);
        if age > limits.stale_after {
            return Some(Hold::ClockAhead {
                newest_sample_age: age,
                stale_after: limits.stale_after,
                spacing: seen.spacing,
                late: seen.late,
            });
        }
        if -age > limits.clock_skew {
            return Some(Hold::FutureSample { ahead: -age });
        }
        let dropped = (before.saturating_sub(living)) as f64 > limits.series_drop * before as f64;
        dropped.then_some(Hold::SeriesDropped { living, before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        stale_after: Elapsed(30_000),
        clock_skew: Elapsed(5_000),
        series_drop: 0.5,
        series_drop_window: Elapsed(60_000),
    };

    fn doubt(
        gate: &mut HealthGate,
        newest_seconds: i64,
        living: usize,
        now_seconds: i64,
    ) -> Option<&'static str> {
        let newest_sample = Some(Millis(newest_seconds * 1000));
        let seen = Seen { newest_sample, living, ..Seen::default() };
        let now = Now::both(Millis(now_seconds * 1000));
        gate.check(&LIMITS, seen, now).map(|hold| hold.name())
    }

    #[test]
    fn fresh_data_of_a_steady_fleet_is_relied_on() {
        let mut gate = HealthGate::default();
        assert_eq!(doubt(&mut gate, 95, 10, 100), None);
        assert_eq!(doubt(&mut gate, 105, 10, 110), None);
    }

    #[test]
    fn no_data_at_all_is_a_hold() {
        assert_eq!(
            HealthGate::default().check(&LIMITS, Seen::default(), Now::both(Millis(0))),
            Some(Hold::EmptyAnswer)
        );
    }

    #[test]
    fn a_clock_ahead_of_or_behind_the_data_is_a_hold() {
        assert_eq!(doubt(&mut HealthGate::default(), 100, 10, 130), None);
        assert_eq!(doubt(&mut HealthGate::default(), 100, 10, 131), Some("clock_ahead"));
        assert_eq!(doubt(&mut HealthGate::default(), 105, 10, 100), None);
        assert_eq!(doubt(&mut HealthGate::default(), 106, 10, 100), Some("clock_behind"));
    }

    #[test]
    fn samples_that_come_seldom_or_late_explain_themselves() {
        let hold = |spacing, late| {
            let seen = Seen { newest_sample: Some(Millis(0)), spacing, late, living: 1 };
            HealthGate::default().check(&LIMITS, seen, Now::both(Millis(31_400))).unwrap().to_string()
        };
        assert_eq!(
            hold(None, Elapsed::ZERO),
            "the newest sample is 31s 400ms old, more than 30s: nothing is scraped, or this clock is ahead"
        );
        assert!(
            hold(Some(Elapsed(10_000)), Elapsed::ZERO).ends_with(". Samples came 10s apart"),
            "{}",
            hold(Some(Elapsed(10_000)), Elapsed::ZERO)
        );
        let told = hold(Some(Elapsed(60_000)), Elapsed(45_000));
        let told = told.split_once(". ").unwrap().1;
        assert_eq!(told, "Samples came 1m apart and up to 45s late: set hold.stale_after to 3m 45s or more");
    }

    #[test]
    fn a_step_of_the_wall_clock_does_not_age_a_drop() {
        let mut gate = HealthGate::default();
        let mut doubt = |wall, steady, living| {
            let seen = Seen { newest_sample: Some(Millis(wall)), living, ..Seen::default() };
            let now = Now { wall: Millis(wall), steady: Millis(steady) };
            gate.check(&LIMITS, seen, now).map(|hold| hold.name())
        };
        assert_eq!(doubt(0, 0, 10), None);
        assert_eq!(doubt(7_200_000, 10_000, 4), Some("series_dropped"));
        assert_eq!(doubt(20_000, 20_000, 4), Some("series_dropped"));
        assert_eq!(doubt(90_000, 90_000, 4), None);
    }

    #[test]
    fn a_sudden_drop_is_a_hold_until_it_is_old_news() {
        let mut gate = HealthGate::default();
        assert_eq!(doubt(&mut gate, 100, 10, 100), None);
        assert_eq!(doubt(&mut gate, 110, 5, 110), None);
        assert_eq!(doubt(&mut gate, 120, 4, 120), Some("series_dropped"));
        assert_eq!(doubt(&mut gate, 159, 4, 159), Some("series_dropped"));
        // The 10 that lived at 100 are 60 s ago: 4 of the 5 since then are left.
        assert_eq!(doubt(&mut gate, 160, 4, 160), None);
    }

    #[test]
    fn a_hold_that_lasts_keeps_its_key_while_its_figures_move() {
        let stale = |age| Hold::ClockAhead {
            newest_sample_age: age,
            stale_after: Elapsed(30_000),
            spacing: Some(Elapsed(10_000)),
            late: Elapsed::ZERO,
        };
        assert_ne!(stale(Elapsed(31_000)).to_string(), stale(Elapsed(41_000)).to_string());
        assert_eq!(stale(Elapsed(31_000)).key(), stale(Elapsed(41_000)).key());
        let dropped = |living| Hold::SeriesDropped { living, before: 10 };
        assert_eq!(dropped(1).key(), dropped(2).key());
        assert_eq!(
            Hold::FutureSample { ahead: Elapsed(1) }.key(),
            Hold::FutureSample { ahead: Elapsed(2) }.key()
        );
        let failed = |message: &str| Hold::StoreFault { fault: "query_failed", message: message.to_owned() };
        assert_ne!(failed("refused").key(), failed("reset").key());
    }
}
