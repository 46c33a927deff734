//! PURE: each replica's memory over time against its threshold, as SVG inside HTML.

use ebb_core::{
    decide::judgement::Judgement,
    history::{Extract, Trace},
};
use ebb_units::{Millis, Span};
use maud::{Markup, PreEscaped, html};

use super::{
    context::PageContext,
    format,
    query::{PageQuery, instance_path},
};
use crate::chart::{Chart, Line, MEMORY, stepped};

/// How far charts can be made to reach back.
const SPANS: [Span; 5] = [
    Span::secs(15 * 60),
    Span::secs(3600),
    Span::secs(6 * 3600),
    Span::secs(24 * 3600),
    Span::secs(7 * 24 * 3600),
];

/// How far they reach back unless asked.
const SPAN: Span = Span::secs(24 * 3600);

/// Width and height of a chart, in pixels of its own: it is drawn as wide as there is room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    /// One of several.
    Small,
    /// The only one.
    Large,
}

impl PageQuery {
    /// How far charts reach back: what was asked for, as far as anything is remembered.
    pub(in crate::web) fn chart_span(&self, lookback: Span) -> Span {
        self.since.unwrap_or(SPAN).min(lookback)
    }
}

/// Charts of `instances`, to one scale, with links to other spans of time.
pub(super) fn charts(
    context: &PageContext<'_>,
    path: &str,
    query: &PageQuery,
    instances: &[&Judgement],
    extract: Option<&Extract>,
    size: Size,
) -> Markup {
    html! {
        (spans(context, path, query))
        @match extract {
            None => p.empty { "The evaluator is busy and returns the history between two ticks. Try again in a moment." },
            Some(extract) => {
                @if extract.traces.is_empty() {
                    p.empty { "There is no history of these instances." }
                } @else {
                    (legend())
                    div.charts.large[matches!(size, Size::Large)] {
                        @let scale = Scale::of(extract, instances);
                        @for trace in &extract.traces {
                            (figure(trace, instances.iter().find(|one| one.slot == trace.slot).copied(), &scale, size))
                        }
                    }
                }
            }
        }
    }
}

fn spans(context: &PageContext<'_>, path: &str, query: &PageQuery) -> Markup {
    let lookback = context.config.lookback;
    let current = query.chart_span(lookback);
    let shorter = SPANS.into_iter().filter(|span| *span < lookback);
    html! {
        nav.filters aria-label="How far charts reach back" {
            @for span in shorter.chain([lookback]) {
                a href=(PageQuery { since: Some(span), ..query.clone() }.at(path)) aria-current=[(span == current).then_some("true")] {
                    (format::span(span.as_elapsed()))
                }
            }
        }
    }
}

fn legend() -> Markup {
    let sign = |svg: &'static str| PreEscaped(svg);
    html! {
        p.legend {
            span { (sign(r##"<svg class="chart" viewBox="0 0 24 10" aria-hidden="true"><line x1="0" y1="5" x2="24" y2="5" stroke="#1D63A8" stroke-width="2"/></svg>"##)) " memory" }
            span { (sign(r##"<svg class="chart" viewBox="0 0 24 10" aria-hidden="true"><polyline points="0,5 24,5" fill="none" stroke="#B45309" stroke-width="2"/></svg>"##)) " threshold as known now" }
            span { (sign(r##"<svg class="chart" viewBox="0 0 24 10" aria-hidden="true"><polygon points="12,1 17,9 7,9" fill="#6E40C9"/></svg>"##)) " restart" }
        }
    }
}

/// The scale that all charts of a page have in common.
struct Scale {
    from: Millis,
    until: Millis,
    bytes_max: f64,
}

impl Scale {
    fn of(extract: &Extract, instances: &[&Judgement]) -> Self {
        let points = || extract.traces.iter().flat_map(|trace| trace.runs.iter().flatten());
        let largest = points().map(|point| point.bytes).max().unwrap_or(0) as f64;
        // A threshold far above would press all lines to the ground.
        let thresholds = instances.iter().filter_map(|judgement| judgement.bound.threshold_bytes);
        let top = thresholds.filter(|bytes| *bytes < 2.5 * largest).fold(largest, f64::max);
        Self { from: extract.since, until: extract.until, bytes_max: top * 1.12 }
    }

    /// The threshold as it is known now, at each time of day; as far as it fits into the chart.
    fn threshold(&self, judgement: &Judgement) -> Vec<(Millis, f64)> {
        const POINTS: i64 = 96;
        let at = |n| Millis(self.from.0 + n * self.until.since(self.from).0 / POINTS);
        let points = (0..=POINTS).filter_map(|n| Some((at(n), judgement.bound.threshold_bytes_at(at(n))?)));
        points.filter(|(_, bytes)| *bytes <= self.bytes_max).collect()
    }
}

fn figure(trace: &Trace, judgement: Option<&Judgement>, scale: &Scale, size: Size) -> Markup {
    let slot = &trace.slot;
    let name = format!("{}/{}", slot.population.module, slot.replica);
    let threshold = judgement.and_then(|judgement| judgement.bound.threshold_bytes);
    let now = judgement.map(|judgement| format::bytes(judgement.memory_bytes));
    let restarts = format::count(trace.restarts, "restart");
    let told = threshold.map_or_else(
        || "no threshold".to_owned(),
        |bytes| {
            let above = if bytes > scale.bytes_max { " (above the chart)" } else { "" };
            format!("threshold {}{above}", format::rounded(bytes))
        },
    );
    let label = format!(
        "Memory of {name} on {} over time: {} now, {told}, {restarts} shown",
        slot.runner,
        now.as_deref().unwrap_or("nothing")
    );
    html! {
        figure data-replica=(slot.replica) {
            figcaption {
                @match size {
                    Size::Small => { a href=(instance_path(slot)) { (name) } },
                    Size::Large => strong { (name) },
                }
                " " span.faint { (slot.runner) }
                span.facts {
                    @if let Some(now) = &now { strong { (now) } ", " }
                    (told) ", " (restarts)
                }
            }
            (drawn(trace, judgement.map_or_else(Vec::new, |judgement| scale.threshold(judgement)), scale, size, &label))
        }
    }
}

fn drawn(trace: &Trace, threshold: Vec<(Millis, f64)>, scale: &Scale, size: Size, label: &str) -> Markup {
    let (width, height) = match size {
        Size::Small => (420, 170),
        Size::Large => (720, 260),
    };
    let lines = trace.runs.iter().map(|run| Line {
        name: String::new(),
        colour: MEMORY,
        points: stepped(run.iter().map(|point| (point.at, point.bytes as f64))),
    });
    let chart = Chart {
        size: (width, height),
        caption: None,
        time: scale.from..scale.until,
        bytes_max: scale.bytes_max,
        lines: lines.collect(),
        filled: true,
        legend: false,
        threshold,
        marks: trace.restarts_at.clone(),
    };
    match chart.svg() {
        Ok(document) => html! {
            // The document's own head has a fixed width, and says nothing to a screen reader.
            svg.chart viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(label) {
                (PreEscaped(document.split_once('>').map_or("", |(_, rest)| rest).trim_end().trim_end_matches("</svg>")))
            }
        },
        Err(error) => html! { p.empty { (error) } },
    }
}
