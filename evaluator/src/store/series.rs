//! Series as they are labelled → slots, and two gauges of a slot → its samples.

use std::{collections::HashMap, sync::Arc};

use super::{Fetched, HOST_AVAILABLE_METRIC, HOST_TOTAL_METRIC, MEMORY_METRIC, START_TIME_METRIC};
use crate::{
    history::Sample,
    rule::policy::{HostMemory, Hosts},
    units::{Generation, Millis, Population, SlotId},
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
    Slot(Gauge, SlotId),
    /// A gauge of the host of the runner at this address.
    Host(HostGauge, Arc<str>),
}

/// The labels that name a slot, as they are found in a series.
#[derive(Debug, Default)]
pub(super) struct Labels<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) module: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
    pub(super) replica: Option<&'a str>,
    pub(super) instance: Option<&'a str>,
}

impl<'a> Labels<'a> {
    pub(super) fn set(&mut self, label: &str, value: &'a str) {
        match label {
            "__name__" => self.name = Some(value),
            "module" => self.module = Some(value),
            "digest" => self.digest = Some(value),
            "replica" => self.replica = Some(value),
            "instance" => self.instance = Some(value),
            _ => {}
        }
    }

    /// What these labels name; `None` when they name nothing.
    pub(super) fn parse(&self) -> Option<Named> {
        let gauge = match self.name? {
            MEMORY_METRIC => Gauge::Memory,
            START_TIME_METRIC => Gauge::StartTime,
            HOST_TOTAL_METRIC => return Some(Named::Host(HostGauge::Total, self.instance?.into())),
            HOST_AVAILABLE_METRIC => return Some(Named::Host(HostGauge::Available, self.instance?.into())),
            _ => return None,
        };
        let population = Population::from_labels(self.module?, self.digest?)?;
        let replica = self.replica?.parse().ok()?;
        Some(Named::Slot(gauge, SlotId { population, runner: self.instance?.into(), replica }))
    }
}

/// A memory gauge's value in bytes. `None` when it is none.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn bytes(value: f64) -> Option<u64> {
    // 2^53: the last integer that the gauge tells exactly, and beyond every address space in use.
    (0.0..=9_007_199_254_740_992.0).contains(&value).then_some(value as u64)
}

/// Slots, numbered in the order in which they were first seen, so that an answer can be sorted into
/// vectors rather than maps.
#[derive(Debug, Default)]
pub(super) struct Slots {
    ids: Vec<SlotId>,
    numbers: HashMap<SlotId, usize>,
}

impl Slots {
    pub(super) fn number(&mut self, slot: SlotId) -> usize {
        if let Some(number) = self.numbers.get(&slot) {
            return *number;
        }
        let number = self.ids.len();
        self.ids.push(slot.clone());
        self.numbers.insert(slot, number);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, number: usize) -> &SlotId {
        &self.ids[number]
    }
}

/// Both gauges of every slot in one answer, to be joined by the time of their samples.
#[derive(Debug, Default)]
pub(super) struct Readings {
    slots: Vec<SlotReadings>,
}

#[derive(Clone, Debug, Default)]
struct SlotReadings {
    memory: Vec<(Millis, u64)>,
    starts: Vec<(Millis, Generation)>,
}

impl Readings {
    /// Takes in one value, or counts why it is none.
    pub(super) fn push(&mut self, gauge: Gauge, slot: usize, at: Millis, value: f64, fetched: &mut Fetched) {
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, SlotReadings::default());
        }
        let readings = &mut self.slots[slot];
        let refused = match gauge {
            Gauge::Memory => match bytes(value) {
                Some(bytes) => {
                    readings.memory.push((at, bytes));
                    return;
                }
                None => "not_a_size",
            },
            Gauge::StartTime => match Generation::from_start_time(value) {
                Some(generation) => {
                    readings.starts.push((at, generation));
                    return;
                }
                None => "not_a_time",
            },
        };
        *fetched.refused_samples.entry(refused).or_default() += 1;
    }

    /// Forgets what was read, not the room that a tick's answer takes.
    pub(super) fn clear(&mut self) {
        /// More than a tick's samples of a series; an hour's, of a bootstrap, are not kept room for.
        const ROOM: usize = 16;
        for slot in &mut self.slots {
            slot.memory.clear();
            slot.memory.shrink_to(ROOM);
            slot.starts.clear();
            slot.starts.shrink_to(ROOM);
        }
    }

    /// Gives every slot's samples to `sink`: one for each moment at which both gauges were read.
    pub(super) fn join(&self, slots: &Slots, sink: &mut super::Sink<'_>) {
        let mut samples = Vec::new();
        for (number, readings) in self.slots.iter().enumerate() {
            samples.clear();
            let mut starts = readings.starts.iter().peekable();
            for (at, bytes) in &readings.memory {
                while starts.next_if(|(started, _)| started < at).is_some() {}
                if let Some((_, generation)) = starts.next_if(|(started, _)| started == at) {
                    samples.push(Sample { at: *at, generation: *generation, bytes: *bytes });
                }
            }
            if !samples.is_empty() {
                sink(slots.id(number), &samples);
            }
        }
    }
}

/// The newest values of the hosts' gauges in one answer.
#[derive(Debug, Default)]
pub(super) struct HostReadings(HashMap<Arc<str>, [Option<(Millis, u64)>; 2]>);

impl HostReadings {
    /// Takes in one value. What is no size is as good as not told.
    pub(super) fn push(&mut self, gauge: HostGauge, runner: &Arc<str>, at: Millis, value: f64) {
        let newest = &mut self.0.entry(Arc::clone(runner)).or_default()[gauge as usize];
        if let Some(bytes) = bytes(value).filter(|_| newest.is_none_or(|(known, _)| known <= at)) {
            *newest = Some((at, bytes));
        }
    }

    /// The hosts of which both gauges were read.
    pub(super) fn hosts(self) -> Hosts {
        let host = |(runner, [total, available]): (_, [Option<(Millis, u64)>; 2])| {
            let ((_, total_bytes), (at, available_bytes)) = total.zip(available)?;
            Some((runner, HostMemory { at, total_bytes, available_bytes }))
        };
        self.0.into_iter().filter_map(host).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_made_where_both_gauges_were_read_at_the_same_moment() {
        let mut slots = Slots::default();
        let labels = Labels {
            name: Some(MEMORY_METRIC),
            module: Some("leaky"),
            digest: Some("d"),
            replica: Some("7"),
            instance: Some("127.0.0.1:9742"),
        };
        let Some(Named::Slot(Gauge::Memory, slot)) = labels.parse() else { panic!("{labels:?}") };
        let number = slots.number(slot);
        let (mut readings, mut fetched) = (Readings::default(), Fetched::default());
        for (at, value) in [(10, 65_536.0), (20, f64::NAN), (30, -1.0), (40, 131_072.0), (50, 131_072.0)] {
            readings.push(Gauge::Memory, number, Millis(at), value, &mut fetched);
        }
        for (at, value) in [(5, 1.0), (10, 1.0), (20, 1.0), (40, 2.5), (50, f64::INFINITY)] {
            readings.push(Gauge::StartTime, number, Millis(at), value, &mut fetched);
        }
        let mut joined = Vec::new();
        readings.join(&slots, &mut |slot, samples| {
            assert_eq!((slot.replica, &*slot.population.module), (7, "leaky"));
            joined.extend_from_slice(samples);
        });
        let sample =
            |at, generation, bytes| Sample { at: Millis(at), generation: Generation(generation), bytes };
        assert_eq!(joined, [sample(10, 1000, 65_536), sample(40, 2500, 131_072)]);
        assert_eq!(fetched.refused_samples, [("not_a_size", 2), ("not_a_time", 1)].into());
    }

    #[test]
    fn labels_that_name_no_slot_are_passed_over() {
        let labels = |name, replica| Labels {
            name: Some(name),
            module: Some("m"),
            digest: Some("d"),
            replica: Some(replica),
            instance: Some("i"),
        };
        assert!(labels("up", "0").parse().is_none());
        assert!(Labels { module: Some("../x"), ..labels(MEMORY_METRIC, "0") }.parse().is_none());
        assert!(labels(MEMORY_METRIC, "first").parse().is_none());
        assert!(Labels { instance: None, ..labels(MEMORY_METRIC, "0") }.parse().is_none());
        assert!(labels(START_TIME_METRIC, "0").parse().is_some());
    }

    #[test]
    fn a_host_is_told_by_the_newest_value_of_both_gauges() {
        let labels = |name| Labels { name: Some(name), instance: Some("r:1"), ..Labels::default() };
        let (mut hosts, runner) = (HostReadings::default(), Arc::from("r:1"));
        assert_eq!(
            labels(HOST_TOTAL_METRIC).parse(),
            Some(Named::Host(HostGauge::Total, Arc::clone(&runner)))
        );
        for (at, value) in [(20, 7.0), (10, 5.0), (30, f64::NAN)] {
            hosts.push(HostGauge::Available, &runner, Millis(at), value);
        }
        hosts.push(HostGauge::Total, &runner, Millis(10), 9.0);
        hosts.push(HostGauge::Total, &Arc::from("r:2"), Millis(10), 9.0);
        let host = HostMemory { at: Millis(20), total_bytes: 9, available_bytes: 7 };
        assert_eq!(hosts.hosts(), [(runner, host)].into());
    }
}
