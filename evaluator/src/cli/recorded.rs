//! A time range on the command line, and what the store knows of it.

use std::str::FromStr;

use ebb_core::{
    history::{Sample, median},
    replay::{self, Recording},
};
use ebb_units::{Elapsed, Millis, SeriesId, Span};

use super::error::CliError;
use crate::{config::Config, store::ClockCheck};

/// A time on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    At(Millis),
    Ago(Span),
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(seconds) = text.parse::<f64>() {
            return Millis::from_seconds(seconds)
                .map(Self::At)
                .ok_or_else(|| format!("invalid time {text:?}"));
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::At(Millis(time.as_millisecond())));
        }
        if let Ok(time) = humantime::parse_rfc3339_weak(text) {
            return Ok(Self::At(Millis::from(time)));
        }
        text.parse().map(Self::Ago).map_err(|_| {
            "expected RFC 3339 such as 2026-01-31T12:00:00Z or 2026-01-31T14:00:00+02:00, Unix seconds, or how long ago such as 6h"
                .to_owned()
        })
    }
}

impl Moment {
    pub(super) const fn before(self, now: Millis) -> Millis {
        match self {
            Self::At(at) => at,
            Self::Ago(span) => now.minus(span.as_elapsed()),
        }
    }
}

/// From when to when, both in the past.
///
/// # Errors
/// [`CliError::NoTime`] when nothing lies between them.
pub(super) fn range(from: Moment, to: Moment, now: Millis) -> Result<(Millis, Millis), CliError> {
    let (from, to) = (from.before(now), to.before(now).min(now));
    if from >= to { Err(CliError::NoTime { from, to }) } else { Ok((from, to)) }
}

/// What the store knows between two moments, with the spacing of its samples.
///
/// # Errors
/// [`CliError`] when the store keeps no past, has none, or does not answer.
pub(super) async fn recorded(
    config: &Config,
    (since, to): (Millis, Millis),
) -> Result<(Recording, Option<Elapsed>), CliError> {
    let mut store = config.open_store()?;
    if !store.keeps_past() {
        return Err(CliError::NoPast);
    }
    let mut recording = Recording::default();
    let mut spacings = Vec::new();
    let mut sink = |series: &SeriesId, samples: &[Sample]| {
        let spacing = replay::spacing(samples);
        spacings.extend(spacing);
        // Where scrapes are seldom, a sample tells for longer, as when the evaluator runs.
        recording.observe(series, samples, config.stale_after(3 * spacing.unwrap_or_default()));
    };
    store.bootstrap(since, ClockCheck::unchecked(to), &mut sink).await?;
    if recording.is_empty() {
        Err(CliError::NoHistory { from: since, to })
    } else {
        Ok((recording, median(spacings)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let at = |text: &str| text.parse::<Moment>().unwrap().before(Millis(0)).0;
        let noon = 1_769_860_800_000;
        for text in [
            "2026-01-31T12:00:00Z",
            "2026-01-31T14:00:00+02:00",
            "2026-01-31T06:30:00-05:30",
            "2026-01-31t12:00:00.000z",
            "2026-01-31 12:00:00",
            "1769860800",
            "1769860800.0",
        ] {
            assert_eq!(at(text), noon, "{text}");
        }
        assert_eq!(at("6h"), -6 * 3_600_000);
        for text in ["", "noon", "2026-01-31", "2026-13-31T12:00:00Z", "2026-01-31T12:00:00+26:00", "NaN"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
