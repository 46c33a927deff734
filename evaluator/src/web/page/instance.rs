//! PURE: one instance: why it is, or was, restarted, and why not. What `ebb-evaluator explain` tells, with a chart.

use ebb_core::decide::judgement::Judgement;
use maud::{Markup, html};

use super::{
    charts::{self, Size},
    context::{PageContext, PageData, Tab},
    decisions::{self, inputs},
    format, instances,
    query::{PageQuery, module_path},
};

/// The page of what lives in the replicas `replica` of `module`, on one runner or on several.
pub(in crate::web) fn instance(
    context: &PageContext<'_>,
    (module, replica): (&str, u32),
    query: &PageQuery,
    instances: &[&Judgement],
    data: PageData<'_>,
) -> Option<Markup> {
    if instances.is_empty() && data.decisions.is_empty() {
        return None;
    }
    let name = format!("{module}/{replica}");
    let path = format!("{}/{replica}", module_path(module));
    let every = PageQuery {
        module: Some(module.to_owned()),
        replica: Some(replica),
        instance: query.instance.clone(),
        ..PageQuery::default()
    };
    let body = html! {
        p.crumbs { a href="/" { "Modules" } " / " a href=(module_path(module)) { (module) } }
        h1 { (name) }
        @if instances.is_empty() {
            p.empty { "It is not live: its newest sample is too old, or there is none." }
        }
        @for judgement in instances { (judged(context, judgement)) }
        @if !instances.is_empty() {
            h2 { "Memory over time" }
            (charts::charts(context, &path, query, instances, data.extract, Size::Large))
        }
        h2 { "Decisions on it" }
        (decisions::list(context, data.decisions))
        p { a href=(every.at("/decisions")) { "All decisions on " (name) } }
    };
    Some(context.document(&name, Tab::Modules, &body))
}

/// What is said of an instance now, and on what that rests.
fn judged(context: &PageContext<'_>, judgement: &Judgement) -> Markup {
    let slot = &judgement.slot;
    html! {
        section.card data-verdict=(judgement.verdict.name()) {
            p.what {
                (format::verdict(judgement.verdict))
                " " span.faint { "on " (slot.runner) ", digest " (slot.population.digest) }
            }
            p.sentence { (context.snapshot.explanation(judgement)) }
            dl.totals {
                div { dt { "Memory" } dd { (format::bytes(judgement.memory_bytes)) } }
                div { dt { "Threshold" } dd { (instances::threshold(judgement)) } }
                div { dt { "Reclaimable" } dd { (format::bytes(judgement.reclaimable_bytes)) } }
                div { dt { "Age" } dd { (format::span(judgement.age)) } }
            }
            details id={ "inputs-" (slot.runner) "-" (slot.population.digest) } {
                summary { "All inputs" }
                (inputs(judgement))
            }
        }
    }
}
