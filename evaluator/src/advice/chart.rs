//! PURE: restarts against memory over the price of a restart → an SVG.

use std::error::Error;

use ebb_core::replay::advice::{Advice, Point};
use plotters::prelude::*;

use crate::chart::{AXIS, BytesAxis, GRID, INK, MEMORY, RESTART, THRESHOLD};

/// Its width and height, in pixels.
pub(crate) const CURVE_SIZE: (u32, u32) = (900, 460);

/// The curve of `advice`, with what is configured, its knee, and what really was.
///
/// # Errors
/// What it could not be drawn for.
pub(crate) fn curve(advice: &Advice) -> Result<String, String> {
    let mut svg = String::new();
    draw(advice, &mut svg).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw<'a>(advice: &Advice, svg: &'a mut String) -> Result<(), Box<dyn Error + 'a>> {
    let font = ("sans-serif", 16).into_font().color(&INK);
    let at = |point: &Point| (point.mean_bytes, point.restarts_per_day);
    let real = (advice.real.mean_bytes, advice.real.restarts_per_day);
    let all = || advice.points.iter().map(at).chain([real]);
    let most = |of: fn((f64, f64)) -> f64| all().map(of).fold(1.0, f64::max);
    let (bytes, restarts) = (1.2 * most(|point| point.0), 1.15 * most(|point| point.1));
    let area = SVGBackend::with_string(svg, CURVE_SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(46)
        .y_label_area_size(66)
        .build_cartesian_2d(BytesAxis { max: bytes }, 0.0..restarts)?;
    chart
        .configure_mesh()
        .x_desc("mean memory of all instances")
        .y_desc("restarts per day")
        .y_label_formatter(&|restarts| format!("{restarts}"))
        .x_labels(6)
        .y_labels(6)
        .label_style(font.clone())
        .axis_desc_style(font.clone())
        .axis_style(AXIS)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series(LineSeries::new(advice.points.iter().map(at), MEMORY.stroke_width(2)))?;
    for (place, point) in advice.points.iter().enumerate() {
        let (is_configured, is_knee) = (advice.configured == Some(place), advice.knee == Some(place));
        let (colour, size) = if is_configured {
            (RESTART, 6)
        } else if is_knee {
            (THRESHOLD, 6)
        } else {
            (MEMORY, 3)
        };
        let mark = match (is_configured, is_knee) {
            (true, true) => ": configured, knee",
            (true, false) => ": configured",
            (false, true) => ": knee",
            (false, false) => "",
        };
        chart.draw_series([Circle::new(at(point), size, colour.filled())])?;
        let label = format!("{}{mark}", point.restart_price);
        // Points without a mark may lie close together.
        if !mark.is_empty() || is_apart(advice, place, bytes, restarts) {
            let text = EmptyElement::at(at(point)) + Text::new(label, (9, -14), font.clone());
            chart.draw_series([text])?;
        }
    }
    chart.draw_series([Cross::new(real, 6, INK.stroke_width(2))])?;
    let text = EmptyElement::at(real) + Text::new("as it was", (-28, -24), font);
    chart.draw_series([text])?;
    area.present()?;
    Ok(())
}

/// Whether a label beside a point does not cover that of the one before.
fn is_apart(advice: &Advice, place: usize, bytes: f64, restarts: f64) -> bool {
    let Some(before) = place.checked_sub(1).and_then(|before| advice.points.get(before)) else { return true };
    let point = &advice.points[place];
    (before.restarts_per_day - point.restarts_per_day).abs() > 0.05 * restarts
        || (before.mean_bytes - point.mean_bytes).abs() > 0.15 * bytes
}
