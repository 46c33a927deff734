//! PURE: what every page rests on, and what stands around it: navigation, and the state of the evaluation.

use ebb_core::history::Extract;
use ebb_units::{Elapsed, Millis};
use maud::{DOCTYPE, Markup, html};

use super::format;
use crate::{config::Config, decisions::Decision, growth::ModuleGrowth, snapshot::Snapshot};

/// What every page rests on.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct PageContext<'a> {
    /// The newest tick.
    pub(in crate::web) snapshot: &'a Snapshot,
    /// The config in force.
    pub(in crate::web) config: &'a Config,
    /// The time.
    pub(in crate::web) now: Millis,
}

/// What a page shows beyond the newest tick.
#[derive(Clone, Copy, Debug)]
pub(in crate::web) struct PageData<'a> {
    /// Decisions, newest first.
    pub(in crate::web) decisions: &'a [Decision],
    /// Memory over time; none while the evaluation is too busy to tell.
    pub(in crate::web) extract: Option<&'a Extract>,
    /// Where memory grows, for the page of a module.
    pub(in crate::web) growth: Option<&'a ModuleGrowth>,
}

/// The pages that the navigation leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Modules,
    Decisions,
    Advice,
    Config,
}

const TABS: [(Tab, &str, &str); 4] = [
    (Tab::Modules, "/", "Modules"),
    (Tab::Decisions, "/decisions", "Decisions"),
    (Tab::Advice, "/advice", "What to set"),
    (Tab::Config, "/config", "Config"),
];

/// Memory that ebbs away.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath \
    d='M1 2.5l4.5 6.500 3-2.500 6.500 7' fill='none' stroke='%231d63a8' stroke-width='2.200' \
    stroke-linecap='round' stroke-linejoin='round'/%3E%3C/svg%3E";

impl PageContext<'_> {
    /// A whole page with `body` below the state of the evaluation. `tab`: where it belongs.
    pub(super) fn document(&self, title: &str, tab: Tab, body: &Markup) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Ebb" }
                    link rel="icon" href=(ICON);
                    link rel="stylesheet" href="/assets/page.css";
                    script src="/assets/page.js" defer {}
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    header.top {
                        a.brand href="/" { "Ebb" }
                        nav aria-label="Pages" {
                            @for (this, path, name) in TABS {
                                a href=(path) aria-current=[(this == tab).then_some("page")] { (name) }
                            }
                        }
                        // Both are the script's, which keeps the page up to date.
                        span #connection role="status" {}
                        button #live type="button" hidden { "Pause" }
                    }
                    main #main tabindex="-1" data-interval-ms=(self.config.interval.as_elapsed().0) {
                        (self.state())
                        (body)
                    }
                    footer {
                        span { "Ebb evaluator " (env!("CARGO_PKG_VERSION")) }
                        a href="/metrics" { "Metrics" }
                        a href="/api/v1/status" { "API" }
                        span { "All times are UTC" }
                    }
                }
            }
        }
    }

    /// A page that says why there is no other.
    pub(in crate::web) fn problem(&self, title: &str, message: &str) -> Markup {
        let body = html! {
            h1 { (title) }
            p { (message) }
            p { a href="/" { "All modules" } }
        };
        self.document(title, Tab::Modules, &body)
    }

    /// Whether restarts are done, and if not, why not.
    fn state(&self) -> Markup {
        let snapshot = self.snapshot;
        html! {
            div.state {
                @if self.config.dry_run {
                    span.badge.dry { "Dry run" }
                } @else if snapshot.hold.is_some() {
                    span.badge.held { "Holding" }
                } @else if snapshot.at.0 > 0 {
                    span.badge.on { "Restarts on" }
                }
                @if snapshot.at.0 > 0 {
                    span {
                        "Newest tick " (format::moment(snapshot.at, self.now)) ", "
                        (format::ago(self.now.since(snapshot.at)))
                    }
                    @if self.is_late() {
                        strong.late { "late: one is due every " (self.config.interval) }
                    }
                    (self.budget())
                }
            }
            @if let Some(hold) = &snapshot.hold {
                div.notice.hold {
                    strong { "No restart is ordered: " (format::spaced(hold.name())) "." }
                    " " (hold)
                }
            }
            @if self.config.dry_run {
                div.notice.dry {
                    strong { "Dry run." }
                    " Everything is decided, nothing is restarted."
                }
            }
            @if snapshot.at.0 == 0 {
                div.notice {
                    strong { "The first evaluation is under way." }
                    " It reads the samples of the last " (self.config.lookback) " from the store."
                }
            }
        }
    }

    /// A tick is late when the next one should be over, too.
    fn is_late(&self) -> bool {
        self.now.since(self.snapshot.at) > 2 * self.config.interval.as_elapsed() + Elapsed::secs(1)
    }

    fn budget(&self) -> Markup {
        let budget = &self.config.budget;
        html! {
            span {
                "Budget: " strong { (self.snapshot.restarts_available.max(0)) } " of " (budget.burst)
                " restarts available, " (budget.restarts_per_minute) " a minute"
            }
        }
    }
}
