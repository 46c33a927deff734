//! PURE: what was decided, newest first, each with its inputs, its reason, what was done and what came of it.

use ebb_core::decide::order::Action;
use ebb_units::{Elapsed, Millis};
use maud::{Markup, html};
use serde::Serialize;
use serde_json::Value;

use super::{
    context::{PageContext, Tab},
    format,
    paging::Page,
    query::{PageQuery, instance_path},
};
use crate::decisions::Decision;

/// Decisions of one page.
const DECISIONS: usize = 50;

/// Whether `query` wants to see a decision.
pub(in crate::web) fn wants(query: &PageQuery, decision: &Decision) -> bool {
    let slot = &decision.judgement.slot;
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
    is(&query.module, &slot.population.module)
        && query.instance.as_deref().is_none_or(|name| slot.runner.is_named(name))
        && query.replica.is_none_or(|replica| replica == slot.replica)
        && is(&query.verdict, decision.judgement.verdict.name())
        && (is(&query.action, decision.action.kind()) || is(&query.action, decision.action.name()))
}

/// The page of all decisions that are wanted and still kept.
pub(in crate::web) fn decisions(context: &PageContext<'_>, query: &PageQuery, found: &[Decision]) -> Markup {
    let page = Page::new(query.page, DECISIONS, found.len());
    let of: Vec<String> = [
        query.module.clone().map(|module| format!("of module {module}")),
        query.replica.map(|replica| format!("of replica {replica}")),
        query.instance.clone().map(|runner| format!("on {runner}")),
        query.verdict.clone().map(|verdict| format!("for {}", format::spaced(&verdict))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let body = html! {
        h1 { "Decisions" }
        p.faint {
            "Decisions on instances that asked for a restart. A repeated decision is counted, not listed again."
        }
        @if !of.is_empty() {
            p { "Only " (of.join(", ")) ". " a href="/decisions" { "Show all" } }
        }
        (filters(query))
        (list(context, &found[page.range()]))
        (page.links("/decisions", query, "decisions"))
    };
    context.document("Decisions", Tab::Decisions, &body)
}

fn filters(query: &PageQuery) -> Markup {
    let to = |action: Option<&str>| {
        PageQuery { action: action.map(str::to_owned), page: None, ..query.clone() }.at("/decisions")
    };
    let current = |action: Option<&str>| (query.action.as_deref() == action).then_some("true");
    html! {
        nav.filters aria-label="What was done" {
            a href=(to(None)) aria-current=[current(None)] { "all" }
            @for action in Action::KINDS {
                a href=(to(Some(action))) aria-current=[current(Some(action))] { (format::spaced(action)) }
            }
        }
    }
}

/// Decisions in a list.
pub(super) fn list(context: &PageContext<'_>, decisions: &[Decision]) -> Markup {
    html! {
        @if decisions.is_empty() {
            p.empty { "None since the evaluator was started." }
        } @else {
            ol.decisions {
                @for decision in decisions { (item(context, decision)) }
            }
        }
    }
}

fn item(context: &PageContext<'_>, decision: &Decision) -> Markup {
    let slot = &decision.judgement.slot;
    html! {
        li data-decision=(decision.id) data-action=(decision.action.name()) {
            p.what {
                (format::moment(decision.at, context.now))
                " " a href=(instance_path(slot)) { (slot.population.module) "/" (slot.replica) }
                " " span.faint { (slot.runner) }
                " " (format::action(&decision.action))
                @if let Some(effect) = &decision.effect { " " (format::effect(effect)) }
            }
            p.sentence {
                (decision.explanation)
                @if decision.repeated > 1 {
                    " " span.faint {
                        "(decided " (decision.repeated) " times, last at " (format::moment(decision.last_at, context.now)) ")"
                    }
                }
            }
            @if let Some(growth) = &decision.growth { p.faint.growth { (growth) } }
            @if let Some(message) = message(&decision.action) { p.faint { (message) } }
            details id={ "decision-" (decision.id) } {
                summary { "All inputs" }
                (inputs(decision))
            }
        }
    }
}

/// What the runner said, where it said something.
fn message(action: &Action) -> Option<&str> {
    use ebb_core::decide::order::Outcome::{CouldNotStart, NoAnswer, NoCredentials, Unexpected};
    match action {
        Action::Ordered(
            CouldNotStart { message }
            | NoCredentials { message }
            | NoAnswer { message }
            | Unexpected { message },
        ) => Some(message),
        _ => None,
    }
}

/// Every field under the name that the API gives it; sizes and spans of time also as people read them.
pub(super) fn inputs(of: &impl Serialize) -> Markup {
    let fields = match serde_json::to_value(of) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    html! {
        dl.inputs {
            @for (name, value) in fields.iter().filter(|(name, value)| !value.is_null() && *name != "explanation") {
                div {
                    dt { (name) }
                    dd {
                        (plain(value))
                        @if let Some(read) = as_read(name, value) { " " span.faint { "(" (read) ")" } }
                    }
                }
            }
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            let text = format!("{:.3}", number.as_f64().unwrap_or(f64::NAN));
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        other => other.to_string(),
    }
}

fn as_read(name: &str, value: &Value) -> Option<String> {
    let number = value.as_f64()?;
    let millis = |factor: f64| format::span(Elapsed((number * factor) as i64));
    match name {
        _ if name.contains("bytes") => Some(format::rounded(number)),
        "slope" => Some(format!("{} per hour", format::rounded(number * 3600.0))),
        "at" | "last_at" | "generation" | "new_generation" => Some(Millis(value.as_i64()?).rfc3339()),
        _ if name.ends_with("_millis") => Some(millis(1.0)),
        _ if name.ends_with("_seconds") && number >= 1.0 => Some(millis(1000.0)),
        _ => None,
    }
}
