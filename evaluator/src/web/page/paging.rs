//! PURE: a long list → one page of it, and how to get to the others.

use std::ops::Range;

use maud::{Markup, html};

use super::query::PageQuery;

/// One page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    number: usize,
    per_page: usize,
    total: usize,
}

impl Page {
    /// Page `number`, from 1 on, of a list of `total`; the last one where there are not as many.
    pub(super) fn new(number: Option<usize>, per_page: usize, total: usize) -> Self {
        let last = total.div_ceil(per_page).max(1);
        Self { number: number.unwrap_or(1).clamp(1, last), per_page, total }
    }

    /// The places in the list that it shows.
    pub(super) fn range(self) -> Range<usize> {
        let start = (self.number - 1) * self.per_page;
        start..(start + self.per_page).min(self.total)
    }

    fn last(self) -> usize {
        self.total.div_ceil(self.per_page).max(1)
    }

    /// What is shown and what is not, with links. `things`: what is listed.
    pub(super) fn links(self, path: &str, query: &PageQuery, things: &str) -> Markup {
        let Range { start, end } = self.range();
        let to = |number: usize| PageQuery { page: Some(number), ..query.clone() }.at(path);
        html! {
            @if self.total > self.per_page {
                nav.paging aria-label={ "Pages of " (things) } {
                    span { (start + 1) "–" (end) " of " (self.total) " " (things) }
                    @if self.number > 1 {
                        a href=(to(1)) { "First" }
                        a href=(to(self.number - 1)) rel="prev" { "Previous" }
                    }
                    @if self.number < self.last() {
                        a href=(to(self.number + 1)) rel="next" { "Next" }
                        a href=(to(self.last())) { "Last" }
                    }
                }
            }
        }
    }
}
