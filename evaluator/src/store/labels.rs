//! PURE: the labels of a series → what it tells of.
//!
//! A runner labels its gauges with `module`, `digest` and `replica`; whoever scrapes it adds the runner's address as
//! `instance`, and whatever else its config says. A target label that collides with one of the runner's own renames the
//! runner's to `exported_…`, which is therefore what counts where there is one.

use std::{collections::BTreeMap, fmt::Write as _, str::FromStr};

use ebb_service::quote;
use ebb_units::{Population, RunnerId, SeriesId, SlotId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HOST_AVAILABLE_METRIC, HOST_TOTAL_METRIC, MEMORY_METRIC, START_TIME_METRIC};

/// Which of the two gauges a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gauge {
    Memory,
    StartTime,
}

/// Which of the two gauges of a runner's host a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostGauge {
    Total,
    Available,
}

/// What a series tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A gauge of a slot.
    Slot(Gauge, SeriesId),
    /// A gauge of a runner's host.
    Host(HostGauge, RunnerId),
    /// Neither: it is another metric.
    Other,
}

/// The longest labels that are read, all names and values of a series together, in bytes. Usual ones have some hundred.
pub(super) const LABELS_BYTES_MAX: usize = 64 * 1024;

/// The longest address of a runner: a name of the DNS with its port.
const ADDRESS_BYTES_MAX: usize = 260;

/// The longest identity of a runner. It is shown wherever the runner is.
const IDENTITY_BYTES_MAX: usize = 1024;

/// Labels that should name a slot or a runner, and name none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{{{labels}}}: {problem}")]
pub(super) struct Nameless {
    labels: String,
    problem: String,
}

impl Nameless {
    /// A gauge of a slot without the other one, which must have the same labels.
    pub(super) fn alone(series: &SeriesId, missing: &str) -> Self {
        let SeriesId { slot, labels } = series;
        Self {
            labels: quote::clipped(labels),
            problem: format!("{slot} has no {missing} with the same labels"),
        }
    }

    /// A series with labels of `length` bytes, written as `labels`.
    pub(super) fn too_long(labels: &str, length: usize) -> Self {
        let problem = format!("{length} bytes of labels: expected at most {LABELS_BYTES_MAX}");
        Self { labels: quote::clipped(labels), problem }
    }
}

/// The labels of one series.
pub(super) type Labels<'a> = BTreeMap<&'a str, &'a str>;

/// Which labels name a runner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Further labels that tell runners from each other.
    pub identity: Vec<String>,
    /// Where the address of a runner is.
    pub address: AddressTemplate,
}

impl Naming {
    /// What `labels` name.
    ///
    /// # Errors
    /// [`Nameless`] when they are those of one of our gauges and name nothing: no runner makes them.
    pub(super) fn parse(&self, labels: &Labels<'_>) -> Result<Named, Nameless> {
        let length = labels.iter().map(|(label, value)| label.len() + value.len()).sum();
        if length > LABELS_BYTES_MAX {
            return Err(Nameless::too_long(&beginning(labels), length));
        }
        let nameless = |problem: String| Nameless { labels: quote::clipped(&written(labels)), problem };
        let gauge = match labels.get("__name__").copied() {
            Some(MEMORY_METRIC) => Gauge::Memory,
            Some(START_TIME_METRIC) => Gauge::StartTime,
            Some(HOST_TOTAL_METRIC) => {
                return Ok(Named::Host(HostGauge::Total, self.runner(labels).map_err(nameless)?));
            }
            Some(HOST_AVAILABLE_METRIC) => {
                return Ok(Named::Host(HostGauge::Available, self.runner(labels).map_err(nameless)?));
            }
            _ => return Ok(Named::Other),
        };
        let slot = self.slot(labels).map_err(nameless)?;
        let names_slot = ["__name__", "module", "digest", "replica"].map(|label| own_label(labels, label));
        let rest = labels.iter().filter(|(label, _)| !names_slot.contains(label));
        let rest: Labels<'_> = rest.map(|(label, value)| (*label, *value)).collect();
        Ok(Named::Slot(gauge, SeriesId { slot, labels: written(&rest).into() }))
    }

    fn slot(&self, labels: &Labels<'_>) -> Result<SlotId, String> {
        let own =
            |label| labels.get(own_label(labels, label)).copied().ok_or_else(|| format!("no label {label}"));
        let (module, digest, replica) = (own("module")?, own("digest")?, own("replica")?);
        let population = Population::from_labels(module, digest).ok_or_else(|| {
            let (module, digest) = (quote::clipped(module), quote::clipped(digest));
            format!("module {module:?}, digest {digest:?}: expected a name and hexadecimal digits as a runner tells them")
        })?;
        // One form only: `+1` or `01` would be a slot of its own with the same address.
        let number = replica.parse().ok().filter(|number: &u32| number.to_string() == replica);
        let replica = number.ok_or_else(|| {
            let replica = quote::clipped(replica);
            format!("{} {replica:?}: expected a number such as 0 or 17", own_label(labels, "replica"))
        })?;
        Ok(SlotId { population, runner: self.runner(labels)?, replica })
    }

    fn runner(&self, labels: &Labels<'_>) -> Result<RunnerId, String> {
        let identity: Labels<'_> = self
            .identity
            .iter()
            .map(|label| (label.as_str(), labels.get(label.as_str()).copied().unwrap_or("")))
            .collect();
        let (address, identity) = (self.address.fill(labels)?, written(&identity));
        // Both are shown wherever the runner is.
        if address.len() > ADDRESS_BYTES_MAX || address.contains(char::is_control) {
            let address = quote::clipped(&address);
            return Err(format!(
                "address {address:?}: expected HOST:PORT of at most {ADDRESS_BYTES_MAX} bytes"
            ));
        }
        if identity.len() > IDENTITY_BYTES_MAX {
            let identity = quote::clipped(&identity);
            return Err(format!("identity {identity}: expected at most {IDENTITY_BYTES_MAX} bytes"));
        }
        Ok(RunnerId { address: address.into(), identity: identity.into() })
    }
}

/// The name under which a runner's own label is found.
fn own_label<'a>(labels: &Labels<'a>, label: &'a str) -> &'a str {
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
fn beginning(labels: &Labels<'_>) -> String {
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
fn written(labels: &Labels<'_>) -> String {
    let mut text = String::new();
    for (label, value) in labels {
        let separator = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{separator}{label}={value:?}");
    }
    text
}

/// The labels in which two series differ, as `label` and what it is in each, of texts that `Naming::parse` wrote.
#[must_use]
pub fn differences(one: &str, other: &str) -> Vec<String> {
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
#[must_use]
pub fn collided(labels: &str) -> Vec<String> {
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

/// A runner's address, made of labels: `{{host}}:9742`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(try_from = "String", into = "String")]
#[schemars(!try_from)]
pub struct AddressTemplate(#[schemars(regex(pattern = r"\{\{ *[A-Za-z_][A-Za-z0-9_]* *\}\}"))] String);

impl Default for AddressTemplate {
    fn default() -> Self {
        Self("{{instance}}".to_owned())
    }
}

impl AddressTemplate {
    /// Whether it is the address as Prometheus tells it.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    fn fill(&self, labels: &Labels<'_>) -> Result<String, String> {
        let mut address = String::new();
        let mut rest = self.0.as_str();
        while let Some((text, (label, behind))) = split(rest) {
            let value = labels.get(own_label(labels, label)).filter(|value| !value.is_empty());
            address += text;
            address += value.ok_or_else(|| format!("no label {label}, which the runner's address needs"))?;
            rest = behind;
        }
        Ok(address + rest)
    }
}

/// `text{{label}}behind` → its parts.
fn split(template: &str) -> Option<(&str, (&str, &str))> {
    let (text, rest) = template.split_once("{{")?;
    let (label, behind) = rest.split_once("}}")?;
    Some((text, (label.trim(), behind)))
}

/// Text that makes no address.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} makes no address: expected HOST:PORT with labels in double braces, such as {{{{host}}}}:9742")]
pub struct AddressTemplateError(String);

impl FromStr for AddressTemplate {
    type Err = AddressTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || AddressTemplateError(text.to_owned());
        let mut rest = text;
        let mut labels = 0;
        while let Some((before, (label, behind))) = split(rest) {
            if !is_label_name(label) || before.contains(['{', '}']) {
                return Err(refused());
            }
            (rest, labels) = (behind, labels + 1);
        }
        if labels == 0 || rest.contains(['{', '}']) || !leads_to_address(text) {
            Err(refused())
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

/// Whether a template can make HOST:PORT of labels that fit.
fn leads_to_address(template: &str) -> bool {
    let (mut filled, mut rest) = (String::new(), template);
    while let Some((before, (_, behind))) = split(rest) {
        filled += before;
        filled += "9";
        rest = behind;
    }
    filled += rest;
    let sane =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let port_fits = match filled.rsplit_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok(),
        // The label alone tells all of it, as `instance` does.
        None => filled == "9",
    };
    port_fits && filled.bytes().all(sane)
}

impl TryFrom<String> for AddressTemplate {
    type Error = AddressTemplateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AddressTemplate> for String {
    fn from(template: AddressTemplate) -> Self {
        template.0
    }
}

/// Whether text can be the name of a label.
#[must_use]
pub fn is_label_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit()) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: [(&str, &str); 5] = [
        ("__name__", MEMORY_METRIC),
        ("module", "leaky"),
        ("digest", "d"),
        ("replica", "7"),
        ("instance", "127.0.0.1:9742"),
    ];

    fn parsed(naming: &Naming, more: &[(&'static str, &'static str)]) -> Result<SeriesId, String> {
        let labels: Labels<'_> = OWN.iter().chain(more).copied().collect();
        match naming.parse(&labels) {
            Ok(Named::Slot(Gauge::Memory, series)) => Ok(series),
            Ok(other) => panic!("{other:?}"),
            Err(nameless) => Err(nameless.to_string()),
        }
    }

    fn slot_of(more: &[(&'static str, &'static str)]) -> String {
        parsed(&Naming::default(), more).unwrap().slot.to_string()
    }

    #[test]
    fn a_slot_is_named_by_four_labels_and_the_rest_tells_series_apart() {
        let series = parsed(&Naming::default(), &[("job", "ebb"), ("host", "a\"b")]).unwrap();
        assert_eq!(series.slot.to_string(), "leaky/7 on 127.0.0.1:9742");
        assert_eq!(&*series.labels, r#"host="a\"b",instance="127.0.0.1:9742",job="ebb""#);
    }

    #[test]
    fn what_a_scrape_has_renamed_is_the_runners_own() {
        let collided = [("module", "checkout"), ("exported_module", "leaky")];
        assert_eq!(slot_of(&collided), "leaky/7 on 127.0.0.1:9742");
        assert_eq!(slot_of(&[("exported_replica", "3"), ("replica", "a")]), "leaky/3 on 127.0.0.1:9742");
        assert_eq!(slot_of(&[("exported_instance", "10.0.0.1:9742")]), "leaky/7 on 10.0.0.1:9742");
        let digest = parsed(&Naming::default(), &[("exported_digest", "e"), ("digest", "prod")]).unwrap();
        assert_eq!(&*digest.slot.population.digest, "e");
    }

    #[test]
    fn further_labels_are_part_of_a_runners_identity_where_the_config_says_so() {
        let naming = Naming { identity: vec!["zone".into(), "host".into()], ..Naming::default() };
        let slot = parsed(&naming, &[("host", "h1")]).unwrap().slot;
        assert_eq!(slot.to_string(), r#"leaky/7 on 127.0.0.1:9742 (host="h1",zone="")"#);
        assert_ne!(slot, parsed(&naming, &[("host", "h2")]).unwrap().slot);
    }

    #[test]
    fn an_address_can_be_made_of_labels() {
        let address = |template: &str, more: &[(&'static str, &'static str)]| {
            let naming = Naming { address: template.parse().unwrap(), ..Naming::default() };
            parsed(&naming, more).map(|series| series.slot.runner.to_string())
        };
        assert_eq!(address("{{host}}:9742", &[("host", "h1")]), Ok("h1:9742".into()));
        assert_eq!(address("{{ host }}.{{zone}}:1", &[("host", "h"), ("zone", "z")]), Ok("h.z:1".into()));
        let problem = address("{{host}}:9742", &[]).unwrap_err();
        assert!(problem.contains("no label host") && problem.contains("replica=\"7\""), "{problem}");
        for text in [
            "",
            "h:9742",
            "{{}}:1",
            "{{a b}}:1",
            "{{host:1",
            "{{host}}:{1}",
            "}}{{host}}",
            "http://{{host}}:1",
            "{{host}}:99999",
            "{{host}}:1/x",
            "a.{{host}}",
        ] {
            assert!(text.parse::<AddressTemplate>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_that_no_runner_makes_name_nothing_and_say_why() {
        let check = |label: &'static str, value: &'static str, why: &str| {
            let problem = parsed(&Naming::default(), &[(label, value)]).unwrap_err();
            assert!(problem.contains(why) && problem.contains("module="), "{problem}");
        };
        check("module", "../x", "expected a name");
        check("digest", "", "hexadecimal");
        check("instance", "", "no label instance");
        check("instance", "a\u{1b}[31m:1", "expected HOST:PORT");
        for replica in ["first", "+1", "01", "", "-1", "4294967296"] {
            check("replica", replica, "expected a number");
        }
        assert_eq!(Naming::default().parse(&[("__name__", "up")].into()), Ok(Named::Other));
    }

    #[test]
    fn labels_that_are_too_long_name_nothing_and_are_quoted_in_a_few_words() {
        let check = |label: &str, bytes: usize, why: &str| {
            let value = "x".repeat(bytes);
            let labels: Labels<'_> = OWN.into_iter().chain([(label, &*value)]).collect();
            let problem = Naming::default().parse(&labels).unwrap_err().to_string();
            assert!(problem.contains(why) && problem.len() < 3000, "{} {problem:.500}", problem.len());
        };
        check("module", 50_000, "expected a name");
        check("digest", 50_000, "expected a name");
        check("replica", 50_000, "expected a number");
        check("instance", ADDRESS_BYTES_MAX + 1, "expected HOST:PORT");
        check("further", 20_000_000, "bytes of labels: expected at most 65536");
        let naming = Naming { identity: vec!["zone".into()], ..Naming::default() };
        let zone = "z".repeat(2000);
        let labels: Labels<'_> = OWN.into_iter().chain([("zone", &*zone)]).collect();
        let problem = naming.parse(&labels).unwrap_err().to_string();
        assert!(problem.contains("expected at most 1024 bytes"), "{problem}");
    }

    #[test]
    fn a_hosts_gauges_are_named_by_the_runner() {
        let labels: Labels<'_> = [("__name__", HOST_TOTAL_METRIC), ("instance", "r:1")].into();
        assert_eq!(Naming::default().parse(&labels), Ok(Named::Host(HostGauge::Total, "r:1".into())));
    }

    #[test]
    fn the_labels_in_which_two_series_differ_are_named() {
        let differ = |one, other| differences(one, other).join("; ");
        assert_eq!(differ(r#"host="h1",job="x""#, r#"host="h2",job="x""#), r#"host ("h1" and "h2")"#);
        assert_eq!(differ(r#"a="x\",y=",b="1""#, r#"a="x\",y=""#), r#"b ("1" and none)"#);
        assert_eq!(differ("", ""), "");
    }
}
