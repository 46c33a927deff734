//! PURE: the labels of a series → what it tells of.

use std::sync::Arc;

use ebb_service::quote;
use ebb_units::{Population, RunnerId, SeriesId, SlotId};

use super::{
    address::AddressTemplate,
    gauges::{HOST_AVAILABLE_METRIC, HOST_TOTAL_METRIC, LIMIT_METRIC, MEMORY_METRIC, START_TIME_METRIC},
    labels::{LABELS_BYTES_MAX, Labels, beginning, own_label, written},
};

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
    /// What the instances of a module on a runner may hold.
    Limit(RunnerId, Arc<str>),
    /// Neither: it is another metric.
    Other,
}

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

/// Which labels name a runner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Naming {
    /// Further labels that tell runners from each other.
    pub(super) identity: Vec<String>,
    /// Where the address of a runner is.
    pub(super) address: AddressTemplate,
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
            Some(LIMIT_METRIC) => {
                let module = labels.get(own_label(labels, "module")).copied().unwrap_or_default();
                return Ok(Named::Limit(
                    self.runner(labels).map_err(nameless)?,
                    quote::clipped(module).into(),
                ));
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
}
