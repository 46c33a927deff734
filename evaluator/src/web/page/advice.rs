//! PURE: what to set: restarts against memory over the price of a restart, and limits of memory.

use ebb_core::replay::advice::{Advice, Point};
use maud::{Markup, PreEscaped, html};

use super::{
    context::{PageContext, Tab},
    format,
    query::module_path,
};
use crate::advice::{Advised, CURVE_SIZE, curve};

/// The page of what to set.
pub(in crate::web) fn advice(context: &PageContext<'_>, advised: &Advised) -> Markup {
    let body = html! {
        h1 { "What to set" }
        @match advised {
            Advised::Soon => p.empty #advice-soon { "It is being worked out from what the evaluator remembers. This page shows it once it is there." },
            Advised::Nothing => p.empty { "No instance was seen for long enough yet." },
            Advised::Advice(advice) => (told(advice)),
        }
    };
    context.document("What to set", Tab::Advice, &body)
}

fn told(advice: &Advice) -> Markup {
    let drawn = curve(advice).unwrap_or_default();
    // Inside a page, a picture has a name and the size of its place.
    let (_, drawn) = drawn.split_once('>').unwrap_or_default();
    let label = "Restarts per day against mean memory of all instances, for each price of a restart";
    html! {
        p.rule {
            "What would have come of each " code { "restart_price" } " in the last "
            (format::span(advice.to.since(advice.from))) ", by " (format::count(advice.slots, "instance")) (advice.left_out())
            ". The price is what a restart is worth: at a point of the curve, one restart more saves that much memory for that long."
        }
        figure #advice-curve {
            figcaption { "Restarts per day against mean memory of all instances" }
            svg.chart viewBox={ "0 0 " (CURVE_SIZE.0) " " (CURVE_SIZE.1) } role="img" aria-label=(label) {
                (PreEscaped(drawn.trim_end().trim_end_matches("</svg>")))
            }
        }
        div.scroll {
            table #advice-points {
                thead {
                    tr {
                        th scope="col" { "Price of a restart" }
                        th.number scope="col" { "Restarts per day" }
                        th.number scope="col" { "Mean memory" }
                        th.number scope="col" { "At most" }
                        th scope="col" { "Mark" }
                    }
                }
                tbody {
                    @for (place, point) in advice.points.iter().enumerate() { (row(advice, place, point)) }
                    tr {
                        td.faint { "As it was" }
                        td.number { (figure(advice.real.restarts_per_day)) }
                        td.number { (format::rounded(advice.real.mean_bytes)) }
                        td.number { (format::bytes(advice.real.peak_bytes)) }
                        td {}
                    }
                }
            }
        }
        @if let Some(point) = advice.proposed(None) {
            h2 { "Limits at " (point.restart_price) }
            p.rule { "The fleet then needs " (format::bytes(point.peak_bytes)) " at most." }
            ul {
                @for (module, limits) in &point.modules {
                    li { a href=(module_path(module)) { (module) } ": " (limits.reason()) "." }
                }
            }
            @for warning in advice.warnings(point.restart_price) {
                div.notice.hold { (warning) "." }
            }
            h2 { "To paste" }
            pre.scroll #advice-fragment tabindex="0" role="region" aria-label="Config" { (advice.fragment(None)) }
        }
        p.faint { (advice.assumption) }
        p.faint { code { "ebb-evaluator advise" } " tells the same of a longer time, from the store, at the price that you ask for." }
    }
}

fn row(advice: &Advice, place: usize, point: &Point) -> Markup {
    html! {
        tr {
            td { code { (point.restart_price) } }
            td.number { (figure(point.restarts_per_day)) }
            td.number { (format::rounded(point.mean_bytes)) }
            td.number { (format::bytes(point.peak_bytes)) }
            td {
                @if advice.configured == Some(place) { span.tag { "configured" } " " }
                @if advice.knee == Some(place) { span.tag { "knee" } }
            }
        }
    }
}

fn figure(number: f64) -> String {
    format!("{number:.1}")
}
