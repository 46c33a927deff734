//! PURE: all modules, and the newest decisions.

use maud::{Markup, html};

use super::{
    context::{PageContext, PageData, Tab},
    decisions, format,
    paging::Page,
    query::{PageQuery, module_path},
};
use crate::snapshot::PopulationSnapshot;

/// Populations of one page. A module has two while a new version takes over.
const POPULATIONS: usize = 50;

/// The first page: every module.
pub(in crate::web) fn overview(context: &PageContext<'_>, query: &PageQuery, data: PageData<'_>) -> Markup {
    let populations = &context.snapshot.populations;
    let page = Page::new(query.page, POPULATIONS, populations.len());
    let body = html! {
        h1 { "Modules" }
        // Where nothing is known, there is no 0 either.
        @if populations.is_empty() && context.snapshot.at.0 > 0 {
            p.empty {
                @if context.snapshot.hold.is_some() {
                    "Nothing is known of any module yet."
                } @else {
                    "No module has an instance that was seen within " (context.config.lookback) "."
                }
            }
        }
        @if !populations.is_empty() {
            (totals(context))
            @for (runner, found) in context.snapshot.outlook.hosts.iter().filter(|(_, found)| found.with_restarts.is_some()) {
                div.notice.hold data-host-exhausted {
                    strong { "Memory runs out: " } "the host of " (runner) " has none left " (found) "."
                }
            }
            (table(context, &populations[page.range()]))
            (page.links("/", query, "modules"))
        }
        (budget(context))
        h2 { "Newest decisions" }
        (decisions::list(context, data.decisions))
        p { a href="/decisions" { "All decisions" } }
    };
    context.document("Modules", Tab::Modules, &body)
}

fn totals(context: &PageContext<'_>) -> Markup {
    let snapshot = context.snapshot;
    let sum = |of: fn(&PopulationSnapshot) -> u64| format::bytes(snapshot.populations.iter().map(of).sum());
    html! {
        dl.totals {
            div { dt { "Instances" } dd #total-instances { (snapshot.instances.len()) } }
            div { dt { "Memory" } dd { (sum(|population| population.memory_bytes)) } }
            div { dt { "Reclaimable now" } dd { (sum(|population| population.reclaimable_bytes)) } }
            @if !snapshot.saved_byte_seconds.is_empty() {
                div { dt { "Saved since the start" } dd #total-saved { "≥ " (format::byte_hours(snapshot.saved_byte_seconds.values().sum())) } }
            }
            div { dt { "Lifetimes remembered" } dd { (snapshot.lifetimes) } }
        }
    }
}

/// What holds restarts back, whatever asks for them.
fn budget(context: &PageContext<'_>) -> Markup {
    let budget = &context.config.budget;
    html! {
        p.rule {
            "Restarts: " (budget.restarts_per_minute) " a minute, saved up to " (budget.burst) "; of one module "
            (budget.max_unavailable) " at a time; of one replica one in " (budget.cooldown) ". A module is suspended for "
            (budget.suspend_for) " after " (budget.max_ineffective) " consecutive restarts that did not reduce memory."
        }
    }
}

fn table(context: &PageContext<'_>, populations: &[PopulationSnapshot]) -> Markup {
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
                        th scope="col" { "Growth" }
                        th scope="col" { "Restarts" }
                    }
                }
                tbody {
                    @for population in populations { (row(context, population)) }
                }
            }
        }
    }
}

/// How its memory grows, and where that is told.
fn growth(population: &PopulationSnapshot) -> Markup {
    let place = format!("{}#growth", module_path(&population.population.module));
    let rate = population.growth.and_then(|growth| Some((growth.kind, growth.bytes_per_hour?)));
    html! {
        @match rate {
            Some((kind, rate)) => {
                a href=(place) { (kind.name()) }
                " " span.faint { (format::rounded(rate.mean)) " an hour" }
            }
            None => a.faint href=(place) { "not known yet" },
        }
    }
}

/// One population's figures.
fn row(context: &PageContext<'_>, population: &PopulationSnapshot) -> Markup {
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
            td.number { (format::bytes(population.memory_bytes)) }
            td.number { (format::threshold(&population.learned)) }
            td.number { (population.learned.sample_size) }
            td.number { (format::bytes(population.reclaimable_bytes)) }
            td { (growth(population)) }
            td {
                @match (&population.hold, population.suspended_until) {
                    (Some(hold), _) => span.tag.above { "held: " (format::spaced(hold.name())) },
                    (None, Some(until)) => span.tag.above {
                        "suspended until " (format::moment(until, context.now)) ": they did not help"
                    },
                    (None, None) => span.faint { "as needed" },
                }
            }
        }
    }
}
