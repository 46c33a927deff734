//! PURE: one module: what was learned of it, its replicas' memory over time, its instances.

use ebb_core::history::TRACES_MAX;
use maud::{Markup, html};

use super::{
    Asked, Frame, Listing, Shown, Tab,
    asked::module_path,
    charts::{self, Size},
    decisions, instances, words,
};
use crate::view::PopulationView;

/// The page of a module. `None` when no instance of it was seen within the lookback, and no decision on
/// it is kept.
pub(in crate::web) fn module(
    frame: &Frame<'_>,
    module: &str,
    asked: &Asked,
    listing: &Listing<'_>,
    shown: Shown<'_>,
) -> Option<Markup> {
    let of_module = |population: &&PopulationView| &*population.population.module == module;
    let populations: Vec<_> = frame.view.populations.iter().filter(of_module).collect();
    if populations.is_empty() && shown.decisions.is_empty() {
        return None;
    }
    let path = module_path(module);
    let charted = &listing.instances[..listing.instances.len().min(TRACES_MAX)];
    let asked_decisions = Asked { module: Some(module.to_owned()), ..Asked::default() };
    let body = html! {
        p.crumbs { a href="/" { "Modules" } }
        h1 { (module) }
        @if populations.is_empty() {
            p.empty { "No instance of it was seen within " (frame.config.lookback) "." }
        }
        @for population in populations { (learned(frame, population)) }
        h2 #memory { "Memory over time" }
        @if charted.len() < listing.instances.len() {
            p.faint { "Of the first " (charted.len()) " instances listed below. Every instance has a page with its own." }
        }
        (charts::charts(frame, &path, asked, charted, shown.extract, Size::Small))
        h2 #instances { "Instances" }
        (instances::table(frame, module, asked, listing))
        h2 { "Newest decisions" }
        (decisions::list(frame, shown.decisions))
        p { a href=(asked_decisions.at("/decisions")) { "All decisions on " (module) } }
    };
    Some(frame.document(module, Tab::Modules, &body))
}

/// What was learned of one population, and how it is judged.
fn learned(frame: &Frame<'_>, population: &PopulationView) -> Markup {
    let rails = &population.rule.guard_rails;
    let learned = &population.learned;
    html! {
        dl.totals {
            div { dt { "Instances" } dd { (population.instances) } }
            div { dt { "Memory" } dd { (words::bytes(population.memory_bytes)) } }
            div { dt { "Threshold" } dd { (words::threshold(learned)) } }
            div { dt { "Sample" } dd { (learned.sample_size) " lifetimes" } }
            div { dt { "Reclaimable now" } dd { (words::bytes(population.reclaimable_bytes)) } }
        }
        p.rule {
            "Digest " code { (population.population.digest) }
            ", rule: " (population.rule.policy.describe(None))
            "; min_age " (rails.min_age)
            @if let Some(max_bytes) = rails.max_bytes { ", max_bytes " (max_bytes) }
            ", min_reclaim " (rails.min_reclaim) "."
            @if let Some(estimate) = &learned.estimate {
                " Medians of the sample: mean " (words::rounded(estimate.mean_bytes))
                ", deviation " (words::rounded(estimate.stddev_bytes)) "."
            }
            @if let Some(fresh) = learned.fresh_bytes { " A start was seen with " (words::bytes(fresh)) "." }
        }
        @if let Some(hold) = &population.hold {
            div.notice.hold {
                strong { "No restart of this module is ordered: " (words::spaced(hold.name())) "." }
                " " (hold)
            }
        }
        @if let Some(until) = population.suspended_until {
            div.notice.hold {
                strong { "Restarts of this module are suspended until " (words::moment(until, frame.now)) "." }
                " The last ones did not bring memory down."
            }
        }
    }
}
