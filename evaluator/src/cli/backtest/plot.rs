//! Memory of all instances over time, as it was and as it would have been → an SVG file.

use std::{fs, path::Path};

use ebb_core::replay::{Moment, Outcome};
use ebb_units::Millis;

use crate::chart::{Chart, Colour, Line, colour};

/// What really was.
const REAL: Colour = plotters::style::BLACK;

/// A plot has no more points across than this.
const POINTS_MAX: usize = 1000;

pub(super) fn memory(path: &Path, outcomes: &[(String, Outcome)]) -> Result<(), String> {
    let Some(chart) = chart(outcomes) else { return Ok(()) };
    let svg = chart.svg().map_err(|error| error.to_string())?;
    fs::write(path, svg).map_err(|error| error.to_string())
}

fn chart(outcomes: &[(String, Outcome)]) -> Option<Chart> {
    let (_, first) = outcomes.first()?;
    let points = |memory: &[Moment], of: fn(&Moment) -> u64| -> Vec<(Millis, f64)> {
        let step = memory.len().div_ceil(POINTS_MAX).max(1);
        memory.iter().step_by(step).map(|moment| (moment.at, of(moment) as f64)).collect()
    };
    let real = points(&first.memory, |moment| moment.real_bytes);
    let mut lines = vec![Line { name: "as it was".to_owned(), colour: REAL, points: real }];
    lines.extend(outcomes.iter().enumerate().map(|(place, (name, outcome))| Line {
        name: name.clone(),
        colour: colour(place),
        points: points(&outcome.memory, |moment| moment.bytes),
    }));
    let points = || lines.iter().flat_map(|line| &line.points);
    let from = points().map(|(at, _)| *at).min()?;
    let to = points().map(|(at, _)| *at).max()?;
    let most = points().map(|(_, bytes)| *bytes).fold(1.0, f64::max) * 1.15;
    Some(Chart {
        size: (1000, 520),
        caption: Some("Linear memory of all instances"),
        time: from..to,
        bytes_max: most,
        lines,
        filled: false,
        legend: true,
        threshold: Vec::new(),
        marks: Vec::new(),
    })
}
