//! PURE: times, sizes, policies and outcomes in words.

use ebb_core::{
    decide::{
        order::{Action, Outcome},
        pending::Effect,
    },
    policy::{Learned, Threshold, Verdict},
};
use ebb_units::{ByteCount, Elapsed, Millis, Span};
use maud::{Markup, html};

/// A moment to the second; with its date, unless that is today's.
pub(super) fn moment(at: Millis, now: Millis) -> Markup {
    let text = at.rfc3339();
    let (date, time) = (text.get(..10).unwrap_or(""), text.get(11..19).unwrap_or(""));
    let today = now.rfc3339().get(..10) == Some(date);
    html! {
        time datetime=(text) { @if !today { (date) " " } (time) }
    }
}

/// How long ago something was.
pub(super) fn ago(time: Elapsed) -> String {
    if time < Elapsed::secs(1) { "just now".to_owned() } else { format!("{} ago", span(time)) }
}

/// A span of time in its two largest units.
pub(super) fn span(time: Elapsed) -> String {
    let text = Span::whole_secs(time.as_seconds()).to_string();
    let units: Vec<&str> = text.split(' ').take(2).collect();
    units.join(" ")
}

/// A size.
pub(super) fn bytes(bytes: u64) -> String {
    ByteCount(bytes).to_string()
}

/// A size that was computed.
pub(super) fn rounded(size: f64) -> String {
    bytes(size.max(0.0).round() as u64)
}

/// Memory times time, given in byte-seconds.
pub(super) fn byte_hours(byte_seconds: f64) -> String {
    format!("{} hours", rounded(byte_seconds / 3600.0))
}

/// `too_young` → `too young`.
pub(super) fn spaced(name: &str) -> String {
    name.replace('_', " ")
}

/// A number and what it counts, with an s unless it is one.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A population's threshold, or why there is none.
pub(super) fn threshold(learned: &Learned) -> String {
    match learned.threshold {
        Threshold::Bytes(bytes) => rounded(bytes),
        Threshold::Unavailable(reason) => reason.to_string(),
        Threshold::NotSought => "none".to_owned(),
    }
}

/// A verdict with a sign, so that colour alone tells nothing.
pub(super) fn verdict(verdict: Verdict) -> Markup {
    let (class, sign) = match verdict {
        _ if verdict.wants_restart() => ("tag above", "▲"),
        Verdict::Within => ("tag within", "✓"),
        _ => ("tag", "–"),
    };
    html! { span class=(class) { span aria-hidden="true" { (sign) " " } (spaced(verdict.name())) } }
}

/// What was done, with a sign, and what became of it.
pub(super) fn action(action: &Action) -> Markup {
    let (class, sign, text) = match action {
        Action::Ordered(Outcome::Restarted(restarted)) => (
            "tag done",
            "↻",
            format!(
                "restarted in {:.0} ms, {} given back",
                restarted.duration_seconds * 1000.0,
                bytes(restarted.reclaimed_bytes)
            ),
        ),
        Action::Ordered(outcome) => ("tag above", "✕", format!("order failed: {}", spaced(outcome.name()))),
        Action::DryRun => ("tag dry", "○", "dry run: not restarted".to_owned()),
        Action::Held { hold } => ("tag held", "‖", format!("held: {}", spaced(hold))),
        Action::Postponed { limit } => ("tag", "…", format!("postponed: {}", spaced(limit.name()))),
        Action::AwaitingEffect => ("tag", "…", "restarted, effect not seen yet".to_owned()),
    };
    html! { span class=(class) { span aria-hidden="true" { (sign) " " } (text) } }
}

/// What was seen of a restart's effect.
pub(super) fn effect(effect: &Effect) -> Markup {
    let (class, sign, text) = match effect {
        Effect::MemoryFell { memory_bytes_after } => {
            ("tag within", "↓", format!("memory fell to {}", bytes(*memory_bytes_after)))
        }
        Effect::MemoryDidNotFall { memory_bytes_after } => {
            ("tag above", "▲", format!("memory did not fall: {}", bytes(*memory_bytes_after)))
        }
        Effect::NotSeen => ("tag", "?", "effect not seen".to_owned()),
    };
    html! { span class=(class) { span aria-hidden="true" { (sign) " " } (text) } }
}
