//! PURE: lines over time → SVG.
//!
//! Colours are presentation attributes, which any style sheet overrides: the page's gives the dark ones, and dashes.
//! There is no `style` attribute and no script in an SVG of ours, so a strict content security policy lets it pass.

use std::{error::Error, ops::Range};

use ebb_units::{ByteCount, Millis};
use plotters::{
    coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    prelude::*,
};

/// A colour.
pub(crate) type Colour = RGBColor;

/// What text is drawn with.
pub(crate) const INK: Colour = RGBColor(0x57, 0x60, 0x6A);
/// What the grid is drawn with.
pub(crate) const GRID: Colour = RGBColor(0xE1, 0xE4, 0xE8);
/// What the axes are drawn with.
pub(crate) const AXIS: Colour = RGBColor(0xB8, 0xBF, 0xC7);
/// What an instance's memory is drawn with.
pub(crate) const MEMORY: Colour = RGBColor(0x1D, 0x63, 0xA8);
/// What a threshold is drawn with.
pub(crate) const THRESHOLD: Colour = RGBColor(0xB4, 0x53, 0x09);
/// What a restart is marked with.
pub(crate) const RESTART: Colour = RGBColor(0x6E, 0x40, 0xC9);

/// Colours of lines that stand for different things.
pub(crate) fn colour(place: usize) -> Colour {
    let (red, green, blue) = Palette99::pick(place).to_rgba().rgb();
    RGBColor(red, green, blue)
}

/// A line: sizes over time.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What it is, for the legend.
    pub name: String,
    /// How it is drawn.
    pub colour: Colour,
    /// Moments and bytes, oldest first.
    pub points: Vec<(Millis, f64)>,
}

/// A chart of memory over time.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    /// Width and height, in pixels.
    pub size: (u32, u32),
    /// What stands above it.
    pub caption: Option<&'static str>,
    /// From when to when it reaches.
    pub time: Range<Millis>,
    /// Up to which size it reaches, in bytes.
    pub bytes_max: f64,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Whether the area below its lines is tinted.
    pub filled: bool,
    /// Whether it tells which line is what.
    pub legend: bool,
    /// A threshold: moments and bytes, oldest first.
    pub threshold: Vec<(Millis, f64)>,
    /// Moments that are marked.
    pub marks: Vec<Millis>,
}

/// A chart that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("drawing a chart of {width} × {height} pixels: {problem}")]
pub(crate) struct ChartError {
    width: u32,
    height: u32,
    problem: String,
}

impl Chart {
    /// The chart as an SVG document.
    ///
    /// # Errors
    /// [`ChartError`] when it does not fit into its size.
    pub(crate) fn svg(&self) -> Result<String, ChartError> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| ChartError {
            width: self.size.0,
            height: self.size.1,
            problem: error.to_string(),
        })?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn Error + '_>> {
        // Text is drawn in 24/31 of the size that is asked for.
        let font = ("sans-serif", 16).into_font().color(&INK);
        let area = SVGBackend::with_string(svg, self.size).into_drawing_area();
        let mut builder = ChartBuilder::on(&area);
        builder.margin(6).margin_right(14).x_label_area_size(22).y_label_area_size(66);
        if let Some(caption) = self.caption {
            builder.caption(caption, ("sans-serif", 20).into_font().color(&INK));
        }
        let mut chart = builder.build_cartesian_2d(
            TimeAxis { from: self.time.start.0, to: self.time.end.0.max(self.time.start.0 + 1) },
            BytesAxis { max: self.bytes_max.max(1.0) },
        )?;
        chart
            .configure_mesh()
            .x_labels((self.size.0 as usize / 130).max(2))
            .y_labels((self.size.1 as usize / 40).max(2))
            .label_style(font.clone())
            .axis_style(AXIS)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for line in &self.lines {
            let points: Vec<_> = line.points.iter().map(|(at, bytes)| (at.0, *bytes)).collect();
            if self.filled && points.len() > 1 {
                let (first, last) = (points[0].0, points[points.len() - 1].0);
                let below = points.iter().copied().chain([(last, 0.0), (first, 0.0)]);
                let tint = line.colour.mix(0.12).filled();
                chart.draw_series([Polygon::new(below.collect::<Vec<_>>(), tint)])?;
            }
            let colour = line.colour;
            let drawn = chart.draw_series([PathElement::new(points, colour.stroke_width(2))])?;
            if self.legend {
                drawn
                    .label(&line.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
            }
        }
        if !self.threshold.is_empty() {
            let points: Vec<_> = self.threshold.iter().map(|(at, bytes)| (at.0, *bytes)).collect();
            chart.draw_series([PathElement::new(points, THRESHOLD.stroke_width(2))])?;
        }
        let marks = self.marks.iter().map(|at| TriangleMarker::new((at.0, 0.0), 5, RESTART.filled()));
        chart.draw_series(marks)?;
        if self.legend {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.85))
                .border_style(GRID)
                .label_font(font)
                .draw()?;
        }
        area.present()?;
        Ok(())
    }
}

/// Points of a line that holds each size until the next.
pub(crate) fn stepped(points: impl IntoIterator<Item = (Millis, f64)>) -> Vec<(Millis, f64)> {
    let mut drawn: Vec<(Millis, f64)> = Vec::new();
    for (at, bytes) in points {
        match drawn.last() {
            Some((_, held)) if *held != bytes => drawn.extend([(at, *held), (at, bytes)]),
            _ => drawn.push((at, bytes)),
        }
    }
    drawn
}

/// Moments, with a grid at full minutes, hours and days of UTC.
struct TimeAxis {
    from: i64,
    to: i64,
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Distances of the grid, in milliseconds.
const TIME_STEPS: [i64; 20] = [
    1000,
    2000,
    5000,
    10_000,
    15_000,
    30_000,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    7 * DAY,
    30 * DAY,
];

impl Ranged for TimeAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = i64;

    fn map(&self, at: &i64, limit: (i32, i32)) -> i32 {
        pixel((at - self.from) as f64 / (self.to - self.from) as f64, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<i64> {
        let points_max = i64::try_from(hint.max_num_points()).unwrap_or(i64::MAX).max(1);
        let fits = |step: &&i64| (self.to - self.from) / **step < points_max;
        let step = TIME_STEPS.iter().find(fits).copied().unwrap_or(365 * DAY);
        let first =
            self.from.div_euclid(step) * step + if self.from.rem_euclid(step) == 0 { 0 } else { step };
        (0..points_max).map(|n| first + n * step).take_while(|at| *at <= self.to).collect()
    }

    fn range(&self) -> Range<i64> {
        self.from..self.to
    }
}

impl ValueFormatter<i64> for TimeAxis {
    /// `16:40`; with seconds where minutes are long, with the date where days are short.
    fn format_ext(&self, at: &i64) -> String {
        let text = Millis(*at).rfc3339();
        // 2026-11-25T16:40:00Z
        let (date, time) = (text.get(5..10).unwrap_or(""), text.get(11..19).unwrap_or(""));
        let minutes = time.get(..5).unwrap_or("");
        match self.to - self.from {
            ..=180_000 => time.to_owned(),
            180_001..=DAY => minutes.to_owned(),
            span if span <= 5 * DAY => format!("{date} {minutes}"),
            _ => date.to_owned(),
        }
    }
}

/// Sizes from nothing on, with a grid at powers of two.
pub(crate) struct BytesAxis {
    pub max: f64,
}

impl Ranged for BytesAxis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, bytes: &f64, limit: (i32, i32)) -> i32 {
        pixel(bytes / self.max, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let points_max = f64::from(u32::try_from(hint.max_num_points()).unwrap_or(u32::MAX).max(2));
        let step = (self.max / points_max).max(1.0).log2().ceil().exp2();
        let number = |n: u32| f64::from(n) * step;
        (0..64).map(number).take_while(|bytes| *bytes <= self.max).collect()
    }

    fn range(&self) -> Range<f64> {
        0.0..self.max
    }
}

impl ValueFormatter<f64> for BytesAxis {
    fn format_ext(&self, bytes: &f64) -> String {
        if *bytes == 0.0 { "0".to_owned() } else { ByteCount(*bytes as u64).to_string().replace(".0 ", " ") }
    }
}

/// The pixel at a share of the way.
fn pixel(share: f64, limit: (i32, i32)) -> i32 {
    limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_521_600_000;

    fn chart() -> Chart {
        Chart {
            size: (400, 170),
            caption: None,
            time: Millis(NOON)..Millis(NOON + HOUR),
            bytes_max: 5.0 * 1_048_576.0,
            lines: vec![Line {
                name: "<script>alert(1)</script>".to_owned(),
                colour: MEMORY,
                points: stepped([(Millis(NOON), 1e6), (Millis(NOON + 60_000), 4e6)]),
            }],
            filled: true,
            legend: true,
            threshold: vec![(Millis(NOON), 3e6), (Millis(NOON + HOUR), 3e6)],
            marks: vec![Millis(NOON + 60_000)],
        }
    }

    #[test]
    fn a_chart_shows_lines_threshold_marks_and_round_figures() {
        let svg = chart().svg().unwrap();
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"), "{svg}");
        for expected in
            ["12:00", "12:30", "2 MiB", "4 MiB", "#1D63A8", "#B45309", "#6E40C9", "opacity=\"0.12\""]
        {
            assert!(svg.contains(expected), "{expected}: {svg}");
        }
    }

    #[test]
    fn what_a_line_is_called_is_text_not_markup() {
        let svg = chart().svg().unwrap();
        assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script"), "{svg}");
    }

    #[test]
    fn a_chart_passes_a_strict_content_security_policy() {
        let svg = chart().svg().unwrap();
        for refused in ["style=", "<style", "<script", "href", "onload"] {
            assert!(!svg.contains(refused), "{refused}: {svg}");
        }
    }

    #[test]
    fn a_chart_of_nothing_is_a_chart() {
        let nothing = Chart { lines: vec![], marks: vec![], threshold: vec![], bytes_max: 0.0, ..chart() };
        let svg = Chart { time: Millis(5)..Millis(5), ..nothing }.svg().unwrap();
        assert!(svg.contains("</svg>"));
    }

    #[test]
    fn the_time_axis_has_round_figures_whatever_it_spans() {
        let check = |span: i64, expected: &[&str]| {
            let axis = TimeAxis { from: NOON + 1, to: NOON + span };
            let points = axis.key_points(plotters::coord::ranged1d::BoldPoints(4));
            let labels: Vec<_> = points.iter().map(|at| axis.format_ext(at)).collect();
            assert_eq!(labels, expected, "{span}");
        };
        check(60_000, &["12:00:15", "12:00:30", "12:00:45", "12:01:00"]);
        check(HOUR, &["12:15", "12:30", "12:45", "13:00"]);
        check(DAY, &["18:00", "00:00", "06:00", "12:00"]);
        check(3 * DAY, &["11-25 00:00", "11-26 00:00", "11-27 00:00"]);
    }

    #[test]
    fn sizes_are_held_until_the_next() {
        let drawn = stepped([(Millis(0), 1.0), (Millis(5), 1.0), (Millis(9), 2.0)]);
        assert_eq!(drawn, [(Millis(0), 1.0), (Millis(5), 1.0), (Millis(9), 1.0), (Millis(9), 2.0)]);
    }
}
