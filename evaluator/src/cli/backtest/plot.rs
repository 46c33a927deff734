//! Memory of all instances over time, as it was and as it would have been → SVG.

use std::path::Path;

use ebb_evaluator::{
    backtest::{Moment, Outcome, report::rfc3339},
    units::Millis,
};
use plotters::prelude::*;

const SIZE: (u32, u32) = (1000, 520);
const MIB: f64 = 1_048_576.0;

/// A plot has no more points across than this.
const POINTS_MAX: usize = 1000;

pub(super) fn memory(path: &Path, outcomes: &[(String, Outcome)]) -> Result<(), String> {
    draw(path, outcomes).map_err(|error| error.to_string())
}

#[allow(clippy::cast_precision_loss)]
fn draw(path: &Path, outcomes: &[(String, Outcome)]) -> Result<(), Box<dyn std::error::Error>> {
    let Some((_, first)) = outcomes.first() else { return Ok(()) };
    let line = |memory: &[Moment], of: fn(&Moment) -> u64| -> Vec<(i64, f64)> {
        let step = memory.len().div_ceil(POINTS_MAX).max(1);
        memory.iter().step_by(step).map(|moment| (moment.at.0, of(moment) as f64 / MIB)).collect()
    };
    let mut lines = vec![("as it was", BLACK.to_rgba(), line(&first.memory, |moment| moment.real_bytes))];
    lines.extend(outcomes.iter().enumerate().map(|(place, (name, outcome))| {
        let color = Palette99::pick(place).to_rgba();
        (name.as_str(), color, line(&outcome.memory, |moment| moment.bytes))
    }));
    let points = || lines.iter().flat_map(|(_, _, points)| points);
    let from = points().map(|(at, _)| *at).min().unwrap_or(0);
    let to = points().map(|(at, _)| *at).max().unwrap_or(1).max(from + 1);
    let most = points().map(|(_, mib)| *mib).fold(1.0, f64::max) * 1.15;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("Linear memory of all instances", ("sans-serif", 20))
        .margin(14)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(from..to, 0.0..most)?;
    chart
        .configure_mesh()
        .x_labels(5)
        .x_label_formatter(&|at| rfc3339(Millis(*at)))
        .y_desc("MiB")
        .label_style(("sans-serif", 13))
        .light_line_style(WHITE)
        .draw()?;
    for (name, color, points) in lines {
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 13))
        .draw()?;
    area.present()?;
    Ok(())
}
