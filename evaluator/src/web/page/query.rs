//! PURE: what an address asks for, and the address that asks for it.

use ebb_units::{SlotId, Span};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// The query of an address. Each page reads what concerns it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::web) struct PageQuery {
    /// Which page of a long list, from 1 on.
    pub(in crate::web) page: Option<usize>,
    /// What comes first.
    pub(in crate::web) sort: Option<Sort>,
    /// How far charts reach back.
    pub(in crate::web) since: Option<Span>,
    /// Of which module.
    pub(in crate::web) module: Option<String>,
    /// Of which runner.
    pub(in crate::web) instance: Option<String>,
    /// Of which replica.
    pub(in crate::web) replica: Option<u32>,
    /// What is said of an instance.
    pub(in crate::web) verdict: Option<String>,
    /// What was done.
    pub(in crate::web) action: Option<String>,
}

/// The order of instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::web) enum Sort {
    /// By digest, runner and replica.
    #[default]
    Name,
    /// What holds most first.
    Memory,
    /// What has run longest first.
    Age,
    /// What gives back most first.
    Reclaimable,
}

impl Sort {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Memory => "memory",
            Self::Age => "age",
            Self::Reclaimable => "reclaimable",
        }
    }
}

/// All but what RFC 3986 leaves unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Text as a part of an address.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

impl PageQuery {
    /// The address of `path` that asks for this.
    pub(super) fn at(&self, path: &str) -> String {
        let pairs = [
            ("module", self.module.clone()),
            ("instance", self.instance.clone()),
            ("replica", self.replica.map(|replica| replica.to_string())),
            ("verdict", self.verdict.clone()),
            ("action", self.action.clone()),
            ("sort", self.sort.map(|sort| sort.name().to_owned())),
            ("since", self.since.map(|since| since.to_string().replace(' ', ""))),
            ("page", self.page.filter(|page| *page > 1).map(|page| page.to_string())),
        ];
        let set =
            pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_deref()?))));
        let query: Vec<_> = set.collect();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
    }
}

/// The address of a module's page.
pub(super) fn module_path(module: &str) -> String {
    format!("/modules/{}", escaped(module))
}

/// The address of an instance's page.
pub(super) fn instance_path(slot: &SlotId) -> String {
    let path = format!("{}/{}", module_path(&slot.population.module), slot.replica);
    PageQuery { instance: Some(slot.runner.to_string()), ..PageQuery::default() }.at(&path)
}
