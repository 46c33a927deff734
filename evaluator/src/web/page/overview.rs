//! PURE: all modules, and the newest decisions.

use maud::{Markup, html};

use super::{Asked, Frame, Shown, Tab, asked::module_path, decisions, paging::Page, words};
use crate::view::PopulationView;

/// Populations of one page. A module has two while a new version takes over.
const POPULATIONS: usize = 50;

/// The first page: every module.
pub(in crate::web) fn overview(frame: &Frame<'_>, asked: &Asked, shown: Shown<'_>) -> Markup {
    let populations = &frame.view.populations;
    let page = Page::new(asked.page, POPULATIONS, populations.len());
    let body = html! {
        h1 { "Modules" }
        // Where nothing is known, there is no 0 either.
        @if populations.is_empty() && frame.view.at.0 > 0 {
            p.empty {
                @if frame.view.hold.is_some() {
                    "Nothing is known of any module yet."
                } @else {
                    "No module has an instance that was seen within " (frame.config.lookback) "."
                }
            }
        }
        @if !populations.is_empty() {
            (totals(frame))
            (table(frame, &populations[page.range()]))
            (page.links("/", asked, "modules"))
        }
        (budget(frame))
        h2 { "Newest decisions" }
        (decisions::list(frame, shown.decisions))
        p { a href="/decisions" { "All decisions" } }
    };
    frame.document("Modules", Tab::Modules, &body)
}

fn totals(frame: &Frame<'_>) -> Markup {
    let view = frame.view;
    let sum = |of: fn(&PopulationView) -> u64| words::bytes(view.populations.iter().map(of).sum());
    html! {
        dl.totals {
            div { dt { "Instances" } dd #total-instances { (view.instances.len()) } }
            div { dt { "Memory" } dd { (sum(|population| population.memory_bytes)) } }
            div { dt { "Reclaimable now" } dd { (sum(|population| population.reclaimable_bytes)) } }
            div { dt { "Lifetimes remembered" } dd { (view.lifetimes) } }
        }
    }
}

/// What holds restarts back, whatever asks for them.
fn budget(frame: &Frame<'_>) -> Markup {
    let budget = &frame.config.budget;
    html! {
        p.rule {
            "Restarts: " (budget.restarts_per_minute) " a minute, saved up to " (budget.burst) "; of one module "
            (budget.max_unavailable) " at a time; of one replica one in " (budget.cooldown) ". A module is suspended for "
            (budget.suspend_for) " after " (budget.max_ineffective) " in a row that did not bring memory down."
        }
    }
}

fn table(frame: &Frame<'_>, populations: &[PopulationView]) -> Markup {
    html! {
        div.scroll #modules-scroll tabindex="0" role="region" aria-label="Modules" {
            table {
                thead {
                    tr {
                        th scope="col" { "Module" }
                        th scope="col" { "Policy" }
                        th.number scope="col" { "Instances" }
                        th.number scope="col" { "Memory" }
                        th.number scope="col" { "Threshold" }
                        th.number scope="col" { "Sample" }
                        th.number scope="col" { "Reclaimable" }
                        th scope="col" { "Restarts" }
                    }
                }
                tbody {
                    @for population in populations { (row(frame, population)) }
                }
            }
        }
    }
}

/// One population's figures.
fn row(frame: &Frame<'_>, population: &PopulationView) -> Markup {
    let policy = population.rule.policy;
    let module = &population.population.module;
    html! {
        tr data-module=(module) {
            th scope="row" {
                a href=(module_path(module)) { (module) }
                " " span.faint { (population.population.digest) }
            }
            td { (policy.name()) " " span.faint { (policy.summary()) } }
            td.number { (population.instances) }
            td.number { (words::bytes(population.memory_bytes)) }
            td.number { (words::threshold(&population.learned)) }
            td.number { (population.learned.sample_size) }
            td.number { (words::bytes(population.reclaimable_bytes)) }
            td {
                @match (&population.hold, population.suspended_until) {
                    (Some(hold), _) => span.tag.above { "held: " (words::spaced(hold.name())) },
                    (None, Some(until)) => span.tag.above {
                        "suspended until " (words::moment(until, frame.now)) ": they did not help"
                    },
                    (None, None) => span.faint { "as needed" },
                }
            }
        }
    }
}
