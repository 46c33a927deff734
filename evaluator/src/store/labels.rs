//! PURE: the labels of a series, as Prometheus has them.
//!
//! A runner labels its gauges with `module`, `digest` and `replica`; whoever scrapes it adds the runner's address as
//! `instance`, and whatever else its config says. A target label that collides with one of the runner's own renames the
//! runner's to `exported_…`, which is therefore what counts where there is one.

use std::{collections::BTreeMap, fmt::Write as _};

use ebb_service::quote;

/// The labels of one series.
pub(super) type Labels<'a> = BTreeMap<&'a str, &'a str>;

/// The longest labels that are read, all names and values of a series together, in bytes. Usual ones have some hundred.
pub(super) const LABELS_BYTES_MAX: usize = 64 * 1024;

/// The name under which a runner's own label is found.
pub(super) fn own_label<'a>(labels: &Labels<'a>, label: &'a str) -> &'a str {
    let exported = match label {
        "module" => "exported_module",
        "digest" => "exported_digest",
        "replica" => "exported_replica",
        "instance" => "exported_instance",
        _ => return label,
    };
    if labels.contains_key(exported) { exported } else { label }
}

/// Some of the labels of a series that has too many of them.
pub(super) fn beginning(labels: &Labels<'_>) -> String {
    let label = |(label, value): (&&str, &&str)| {
        format!(
            "{}={:?}",
            quote::clipped_to(SHOWN_CHARS_MAX, label),
            quote::clipped_to(SHOWN_CHARS_MAX, value)
        )
    };
    labels.iter().take(10).map(label).collect::<Vec<_>>().join(",")
}

/// How much of one label is shown, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// Labels as PromQL writes them, in order.
pub(super) fn written(labels: &Labels<'_>) -> String {
    let mut text = String::new();
    for (label, value) in labels {
        let separator = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{separator}{label}={value:?}");
    }
    text
}

/// The labels in which two series differ, as `label` and what it is in each, of texts that `Naming::parse` wrote.
pub(crate) fn differences(one: &str, other: &str) -> Vec<String> {
    let (one, other) = (read(one), read(other));
    let labels: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
    let value = |labels: &BTreeMap<String, String>, label: &str| {
        labels.get(label).map_or_else(|| "none".to_owned(), |value| quote::clipped_to(SHOWN_CHARS_MAX, value))
    };
    labels
        .into_iter()
        .filter(|label| one.get(*label) != other.get(*label))
        .map(|label| format!("{label} ({} and {})", value(&one, label), value(&other, label)))
        .collect()
}

/// The labels of a series, of a text that `Naming::parse` wrote, that are named like the runner's own: the runner's were
/// renamed.
pub(crate) fn collided(labels: &str) -> Vec<String> {
    let own = |label: &String| ["module", "digest", "replica"].contains(&label.as_str());
    read(labels).into_keys().filter(own).collect()
}

/// `a="1",b="x\"y"` → each label with its value, still quoted.
fn read(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while let Some((label, value)) = rest.split_once('=') {
        let end = closing_quote(value);
        labels.insert(label.trim_start_matches(',').to_owned(), value[..end].to_owned());
        rest = &value[end..];
    }
    labels
}

/// Where a quoted text ends.
fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, char)| {
        let closes = *char == '"' && !escaped;
        escaped = *char == '\\' && !escaped;
        closes
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// Whether text can be the name of a label.
pub(crate) fn is_label_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit()) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_labels_in_which_two_series_differ_are_named() {
        let differ = |one, other| differences(one, other).join("; ");
        assert_eq!(differ(r#"host="h1",job="x""#, r#"host="h2",job="x""#), r#"host ("h1" and "h2")"#);
        assert_eq!(differ(r#"a="x\",y=",b="1""#, r#"a="x\",y=""#), r#"b ("1" and none)"#);
        assert_eq!(differ("", ""), "");
    }
}
