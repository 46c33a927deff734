//! Moments, the time between them, and the starts of instances that are named by theirs.

use std::{
    fmt,
    ops::{Add, AddAssign, Mul, Neg, Sub},
    time::{Duration, SystemTime},
};

use serde::Serialize;

/// A moment: milliseconds since the Unix epoch, the resolution of Prometheus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Millis(pub i64);

impl Millis {
    /// The last second that RFC 3339 can write.
    const LAST: Self = Self(253_402_300_799_000);

    /// A Prometheus timestamp or a `…_time_seconds` gauge, in seconds. `None` unless it is finite.
    #[must_use]
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        seconds.is_finite().then(|| Self((seconds * 1000.0).round() as i64))
    }

    /// The moment in seconds.
    #[must_use]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The moment as RFC 3339 writes it, to the second; what it cannot write, as the first or last that it can.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let seconds = u64::try_from(self.min(Self::LAST).0 / 1000).unwrap_or(0);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        humantime::format_rfc3339_seconds(time).to_string()
    }

    /// The time from `earlier` to `self`; negative when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Elapsed {
        Elapsed(self.0.saturating_sub(earlier.0))
    }

    /// `self` moved on by `time`.
    #[must_use]
    pub const fn plus(self, time: Elapsed) -> Self {
        Self(self.0.saturating_add(time.0))
    }

    /// `self` moved back by `time`.
    #[must_use]
    pub const fn minus(self, time: Elapsed) -> Self {
        Self(self.0.saturating_sub(time.0))
    }
}

impl From<SystemTime> for Millis {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The time from one moment to another: signed milliseconds, negative if the other was earlier. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Elapsed(pub i64);

impl Elapsed {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// `n` seconds.
    #[must_use]
    pub const fn secs(n: i64) -> Self {
        Self(n.saturating_mul(1000))
    }

    /// In seconds.
    #[must_use]
    pub const fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// As long, forward.
    #[must_use]
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }
}

impl From<Duration> for Elapsed {
    fn from(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Add for Elapsed {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Elapsed {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Elapsed {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Neg for Elapsed {
    type Output = Self;

    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Mul<Elapsed> for i64 {
    type Output = Elapsed;

    fn mul(self, time: Elapsed) -> Elapsed {
        Elapsed(self.saturating_mul(time.0))
    }
}

/// One start of an instance: its start time in Unix milliseconds, strictly increasing in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation that a `wasm_instance_start_time_seconds` sample tells. `None` when it tells none
    /// (NaN, negative, after the year 9999).
    #[must_use]
    pub fn from_start_time(seconds: f64) -> Option<Self> {
        let started = Millis::from_seconds(seconds).filter(|started| *started <= Millis::LAST)?;
        u64::try_from(started.0).ok().map(Self)
    }

    /// The generation of a lifetime that starts at `now_unix_ms` in a slot whose last one was `last`.
    ///
    /// Two starts within one millisecond, or a clock set back, still give increasing generations.
    #[must_use]
    pub fn next(last: Option<Self>, now_unix_ms: u64) -> Self {
        Self(last.map_or(now_unix_ms, |last| now_unix_ms.max(last.0 + 1)))
    }

    /// The start in Unix seconds. Milliseconds survive: an `f64` separates them until the year 140,000.
    #[must_use]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// When the instance was started.
    #[must_use]
    pub fn started_at(self) -> Millis {
        Millis(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_in_seconds_is_the_generation_in_milliseconds() {
        assert_eq!(Generation::from_start_time(1_700_000_000.123), Some(Generation(1_700_000_000_123)));
        assert_eq!(Generation::from_start_time(f64::NAN), None);
        assert_eq!(Generation::from_start_time(f64::INFINITY), None);
        assert_eq!(Generation::from_start_time(-1.0), None);
        assert_eq!(Generation::from_start_time(2.6e11), None);
    }

    #[test]
    fn every_moment_can_be_written() {
        assert_eq!(Millis(1_700_000_000_999).rfc3339(), "2023-11-14T22:13:20Z");
        assert_eq!(Millis(i64::MIN).rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Millis(i64::MAX).rfc3339(), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn every_millisecond_survives_its_way_through_a_gauge() {
        for millis in (1_700_000_000_000..1_700_000_010_000).step_by(7) {
            let text = format!("{}", millis as f64 / 1000.0);
            assert_eq!(Generation::from_start_time(text.parse().unwrap()), Some(Generation(millis)));
        }
    }

    #[test]
    fn generations_increase_even_when_the_clock_does_not() {
        let check = |last: Option<u64>, now: u64, expected: u64| {
            assert_eq!(Generation::next(last.map(Generation), now), Generation(expected));
        };
        check(None, 1000, 1000);
        check(Some(1000), 1500, 1500);
        check(Some(1000), 1000, 1001);
        check(Some(1000), 10, 1001);
    }
}
