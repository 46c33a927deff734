//! PURE: where a module's memory grows: by function, by request, and as a flame graph.

use maud::{Markup, html};

use super::{format, query::module_path};
use crate::growth::{Function, ModuleGrowth, Profile, Requests, sum};

/// Functions, and kinds of requests, that are listed.
const ROWS: usize = 10;

/// The section of a module's page.
pub(super) fn section(module: &str, growth: Option<&ModuleGrowth>) -> Markup {
    html! {
        h2 #growth { "Where memory grows" }
        @if let Some(growth) = growth {
            @for profile in &growth.profiles { (binary(module, profile)) }
            @if growth.profiles.is_empty() && growth.fault.is_none() {
                p.faint { "Its runners keep no profile: " code { "growth_profile" } " is false, or nothing has run." }
            }
            @if growth.told < growth.runners {
                p.faint {
                    @if growth.profiles.is_empty() { "No runner has reported" } @else { "Reported by " (growth.told) " of " (growth.runners) " runners" }
                    @if let Some(fault) = &growth.fault { ": " (fault) }
                }
            }
        } @else {
            p.faint { "No runner hosts it now, or none has answered in time." }
        }
    }
}

fn binary(module: &str, profile: &Profile) -> Markup {
    let lifetimes = usize::try_from(profile.lifetimes).unwrap_or(usize::MAX);
    let picture = format!("{}/growth.svg?digest={}", module_path(module), profile.digest);
    html! {
        section data-growth=(profile.digest) {
            p.rule {
                "Digest " code { (profile.digest) } ", since its runners were started: "
                (format::count(lifetimes, "instance")) " began with " (format::bytes(profile.initial_bytes)) " and grew by "
                @if profile.start_bytes > 0 { (format::bytes(profile.start_bytes)) " before they were ready, by " }
                strong { (format::bytes(profile.bytes)) } " while they ran."
            }
            @if profile.bytes == 0 {
                p.faint { "Nothing grew while they ran." }
            } @else {
                div.columns {
                    (functions(profile))
                    @if !profile.requests.is_empty() { (requests(profile)) }
                }
                details id={ "flame-" (profile.digest) } {
                    summary { "Flame graph" }
                    a href=(picture) { img src=(picture) loading="lazy" alt={ "Flame graph of where " (module) " grew" }; }
                }
            }
        }
    }
}

fn functions(profile: &Profile) -> Markup {
    let rest = sum(profile.functions.iter().skip(ROWS).map(|of| of.bytes));
    let rows =
        profile.functions.iter().take(ROWS).map(|Function { function, bytes }| (function.as_str(), *bytes));
    let others = [("Other functions", rest), ("No stack was taken", profile.unknown_bytes)];
    let others: Vec<_> = others.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    html! {
        div.scroll {
            table {
                thead { tr { th scope="col" title="Allocators are passed over; the flame graph shows whole stacks" { "Function that asked for memory" } th.number scope="col" { "Grew by" } th.number scope="col" { "Share" } } }
                tbody {
                    @for (function, bytes) in rows {
                        tr { td { code { (function) } } (size(profile, bytes)) }
                    }
                    @for (what, bytes) in others {
                        tr { td.faint { (what) } (size(profile, bytes)) }
                    }
                }
            }
        }
    }
}

fn requests(profile: &Profile) -> Markup {
    let during = sum(profile.requests.iter().map(|of| of.bytes));
    let grew = profile.requests.iter().take(ROWS).take_while(|of| of.bytes > 0);
    let others = &profile.requests[grew.clone().count()..];
    let other_requests = sum(others.iter().map(|of| of.requests));
    let outside = profile.bytes.saturating_sub(during);
    html! {
        div.scroll {
            table {
                thead { tr { th scope="col" { "Request" } th.number scope="col" { "Requests" } th.number scope="col" { "Grew by" } th.number scope="col" { "Share" } } }
                tbody {
                    @for Requests { method, route, requests, bytes } in grew {
                        tr { td { code { (method) " " (route) } } td.number { (requests) } (size(profile, *bytes)) }
                    }
                    @if !others.is_empty() {
                        tr { td.faint { "Other requests" } td.number { (other_requests) } (size(profile, sum(others.iter().map(|of| of.bytes)))) }
                    }
                    @if outside > 0 {
                        tr { td.faint { "Outside of requests, or not known" } td.number {} (size(profile, outside)) }
                    }
                }
            }
        }
    }
}

fn size(profile: &Profile, bytes: u64) -> Markup {
    html! {
        td.number { (format::bytes(bytes)) }
        td.number { (format!("{:.1} %", profile.percent(bytes))) }
    }
}
