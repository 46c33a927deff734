//! Frontiers and lines → SVG.

use std::{collections::BTreeMap, path::Path};

use plotters::{coord::ranged1d::Ranged, prelude::*};

use super::files::ReportError;
use crate::score::Frontier;

const SIZE: (u32, u32) = (900, 560);
const MIB: f64 = 1_048_576.0;

/// Draws restarts against mean memory, both on logarithmic axes: one line a policy, the optimum in black.
pub(super) fn frontiers(
    path: &Path,
    title: &str,
    optimum: &Frontier,
    contenders: &BTreeMap<String, Frontier>,
) -> Result<(), ReportError> {
    draw_frontiers(path, title, optimum, contenders)
        .map_err(|problem| ReportError::Plot { path: path.to_owned(), problem: problem.to_string() })
}

fn draw_frontiers(
    path: &Path,
    title: &str,
    optimum: &Frontier,
    contenders: &BTreeMap<String, Frontier>,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = |frontier: &Frontier| -> Vec<(f64, f64)> {
        let seen = |point: &&crate::score::Point| (0.5..=40.0).contains(&point.restarts);
        frontier.0.iter().filter(seen).map(|point| (point.mean_bytes / MIB, point.restarts)).collect()
    };
    let best = points(optimum);
    let (least, most) = match (best.first(), best.last()) {
        (Some(first), Some(last)) => (first.0 * 0.9, last.0 * 1.5),
        _ => (1.0, 100.0),
    };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{title}: restarts against memory"), ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d((least..most).log_scale(), (0.5..40.0_f64).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("mean memory of an instance (MiB)")
        .y_desc("restarts per replica and day")
        .label_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .draw()?;
    for (place, (name, frontier)) in contenders.iter().enumerate() {
        let color = Palette99::pick(place).to_rgba();
        let inside = points(frontier).into_iter().filter(|(memory, _)| (least..=most).contains(memory));
        chart
            .draw_series(LineSeries::new(inside, color.stroke_width(2)))?
            .label(name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .draw_series(LineSeries::new(best, BLACK.stroke_width(3)))?
        .label("optimum")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], BLACK.stroke_width(3)));
    legend(&mut chart, SeriesLabelPosition::UpperRight)?;
    area.present()?;
    Ok(())
}

/// Names the lines that were drawn.
fn legend<'a, X: Ranged, Y: Ranged>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
) -> Result<(), Box<dyn std::error::Error>> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    Ok(())
}

/// Named lines, each of (x, y).
pub(super) type Lines<'a> = Vec<(&'a str, Vec<(f64, f64)>)>;

/// Draws lines on linear axes that begin at zero.
pub(super) fn lines(
    path: &Path,
    title: &str,
    (x, y): (&str, &str),
    lines: Lines<'_>,
) -> Result<(), ReportError> {
    draw_lines(path, title, (x, y), lines)
        .map_err(|problem| ReportError::Plot { path: path.to_owned(), problem: problem.to_string() })
}

fn draw_lines(
    path: &Path,
    title: &str,
    (x, y): (&str, &str),
    lines: Lines<'_>,
) -> Result<(), Box<dyn std::error::Error>> {
    let most = |of: fn(&(f64, f64)) -> f64| {
        lines.iter().flat_map(|(_, points)| points).map(of).fold(f64::MIN_POSITIVE, f64::max)
    };
    let (width, height) = (most(|point| point.0), most(|point| point.1) * 1.05);
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..width, 0.0..height)?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc(y)
        .label_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .draw()?;
    for (place, (name, points)) in lines.into_iter().enumerate() {
        let color = Palette99::pick(place).to_rgba();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    legend(&mut chart, SeriesLabelPosition::UpperLeft)?;
    area.present()?;
    Ok(())
}
