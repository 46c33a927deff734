//! PURE: a module's instances as a table: each with its verdict and the sentence that explains it.

use std::collections::BTreeMap;

use ebb_core::{decide::judgement::Judgement, policy::Verdict};
use maud::{Markup, PreEscaped, html};

use super::{
    context::PageContext,
    format,
    paging::Page,
    query::{PageQuery, Sort, instance_path, module_path},
};
use crate::snapshot::Snapshot;

/// Instances of one page.
const INSTANCES: usize = 50;

/// The instances of one module that are asked for.
#[derive(Debug)]
pub(in crate::web) struct Listing<'a> {
    /// Those of this page.
    pub(in crate::web) instances: Vec<&'a Judgement>,
    page: Page,
    verdicts: BTreeMap<Verdict, usize>,
}

impl<'a> Listing<'a> {
    /// What `query` wants to see of `module`.
    pub(in crate::web) fn new(snapshot: &'a Snapshot, module: &str, query: &PageQuery) -> Self {
        let of_module = |judgement: &&Judgement| &*judgement.slot.population.module == module;
        let all: Vec<_> = snapshot.instances.iter().filter(of_module).collect();
        let mut verdicts = BTreeMap::new();
        for judgement in &all {
            *verdicts.entry(judgement.verdict).or_default() += 1;
        }
        let wanted = |judgement: &&Judgement| {
            query.verdict.as_deref().is_none_or(|verdict| verdict == judgement.verdict.name())
        };
        let mut wanted: Vec<_> = all.into_iter().filter(wanted).collect();
        match query.sort.unwrap_or_default() {
            Sort::Name => {}
            Sort::Memory => wanted.sort_by_key(|judgement| std::cmp::Reverse(judgement.memory_bytes)),
            Sort::Age => wanted.sort_by_key(|judgement| std::cmp::Reverse(judgement.age)),
            Sort::Reclaimable => {
                wanted.sort_by_key(|judgement| std::cmp::Reverse(judgement.reclaimable_bytes));
            }
        }
        let page = Page::new(query.page, INSTANCES, wanted.len());
        Self { instances: wanted[page.range()].to_vec(), page, verdicts }
    }
}

/// The table, with links to other orders and verdicts.
pub(super) fn table(
    context: &PageContext<'_>,
    module: &str,
    query: &PageQuery,
    listing: &Listing<'_>,
) -> Markup {
    let path = module_path(module);
    let largest = listing.instances.iter().map(|judgement| judgement.memory_bytes).max().unwrap_or(0);
    html! {
        (filters(&path, query, listing))
        @if listing.instances.is_empty() { p.empty { "There is none now." } }
        div.scroll #instances-scroll tabindex="0" role="region" aria-label="Instances" {
            table {
                thead {
                    tr {
                        (head(&path, query, Sort::Name, "Instance", false))
                        (head(&path, query, Sort::Memory, "Memory", true))
                        th.number scope="col" { "Threshold" }
                        (head(&path, query, Sort::Reclaimable, "Reclaimable", true))
                        (head(&path, query, Sort::Age, "Age", true))
                        th scope="col" { "Verdict" }
                        th scope="col" { "Why" }
                    }
                }
                tbody {
                    @for judgement in &listing.instances { (row(context, judgement, largest)) }
                }
            }
        }
        (listing.page.links(&path, query, "instances"))
    }
}

fn head(path: &str, query: &PageQuery, sort: Sort, name: &str, number: bool) -> Markup {
    let current = query.sort.unwrap_or_default() == sort;
    let order = if sort == Sort::Name { "ascending" } else { "descending" };
    let to = PageQuery { sort: Some(sort), page: None, ..query.clone() }.at(path);
    html! {
        th.number[number] scope="col" aria-sort=[current.then_some(order)] {
            a href=(to) { (name) }
            @if current {
                span aria-hidden="true" { @if sort == Sort::Name { " ↑" } @else { " ↓" } }
            }
        }
    }
}

fn filters(path: &str, query: &PageQuery, listing: &Listing<'_>) -> Markup {
    let to = |verdict: Option<&str>| {
        PageQuery { verdict: verdict.map(str::to_owned), page: None, ..query.clone() }.at(path)
    };
    let current = |verdict: Option<&str>| (query.verdict.as_deref() == verdict).then_some("true");
    html! {
        nav.filters aria-label="Verdicts" {
            a href=(to(None)) aria-current=[current(None)] {
                "all " (listing.verdicts.values().sum::<usize>())
            }
            @for (verdict, count) in &listing.verdicts {
                a href=(to(Some(verdict.name()))) aria-current=[current(Some(verdict.name()))] {
                    (format::spaced(verdict.name())) " " (count)
                }
            }
        }
    }
}

fn row(context: &PageContext<'_>, judgement: &Judgement, largest: u64) -> Markup {
    let slot = &judgement.slot;
    html! {
        tr data-replica=(slot.replica) {
            th scope="row" {
                a href=(instance_path(slot)) { (slot.population.module) "/" (slot.replica) }
                " " span.faint { (slot.runner) }
            }
            td.number { (format::bytes(judgement.memory_bytes)) (bar(judgement, largest)) }
            td.number { (threshold(judgement)) }
            td.number { (format::bytes(judgement.reclaimable_bytes)) }
            td.number { (format::span(judgement.age)) }
            td { (format::verdict(judgement.verdict)) }
            td.why { (context.snapshot.explanation(judgement)) }
        }
    }
}

/// What an instance is compared with.
pub(super) fn threshold(judgement: &Judgement) -> String {
    judgement.bound.threshold_bytes.map_or_else(|| "–".to_owned(), format::rounded)
}

/// Memory against threshold, for the eye; the figures stand beside it.
fn bar(judgement: &Judgement, largest: u64) -> Markup {
    let threshold = judgement.bound.threshold_bytes.unwrap_or(0.0);
    let (memory, largest) = (judgement.memory_bytes as f64, largest.max(1) as f64);
    // A threshold far away must not make all bars stubs.
    let whole = if threshold < 2.0 * largest { largest.max(threshold) } else { largest };
    let x = |bytes: f64| (bytes / whole * 100.0).clamp(0.0, 100.0);
    let class = if judgement.verdict.wants_restart() { "bar above" } else { "bar" };
    html! {
        svg class=(class) viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect.track width="100" height="6" {}
            rect.memory width=(format!("{:.1}", x(memory))) height="6" {}
            @if threshold > 0.0 && threshold <= whole {
                (PreEscaped(format!(r#"<rect class="threshold" x="{:.1}" width="1.5" height="6"/>"#, x(threshold).min(98.5))))
            }
        }
    }
}
