//! Two gauges of a series → its samples, joined by their time.

use std::{collections::HashMap, sync::Arc};

use ebb_core::{
    decide::exhaustion::{MemoryLimit, MemoryLimits},
    history::Sample,
    policy::HostMemory,
};
use ebb_units::{Generation, Millis, RunnerId, SeriesId};

use super::{
    answer::{Fetched, Sink},
    gauges::{MEMORY_METRIC, START_TIME_METRIC},
    naming::{Gauge, HostGauge, Nameless},
};

/// A memory gauge's value in bytes. `None` when it is none.
pub(super) fn bytes(value: f64) -> Option<u64> {
    // 2^53: the last integer that the gauge tells exactly, and beyond every address space in use.
    (0.0..=9_007_199_254_740_992.0).contains(&value).then_some(value as u64)
}

/// Series, numbered in the order in which they were first seen, so that an answer can be sorted into
/// vectors rather than maps. Both gauges of a series have one number.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    ids: Vec<SeriesId>,
    numbers: HashMap<SeriesId, usize>,
}

impl Numbers {
    pub(super) fn of(&mut self, series: SeriesId) -> usize {
        if let Some(number) = self.numbers.get(&series) {
            return *number;
        }
        let number = self.ids.len();
        self.ids.push(series.clone());
        self.numbers.insert(series, number);
        number
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, number: usize) -> &SeriesId {
        &self.ids[number]
    }
}

/// Both gauges of every series in one answer, to be joined by the time of their samples.
#[derive(Debug, Default)]
pub(super) struct Readings {
    series: Vec<SeriesReadings>,
    /// What was refused up to this moment was counted elsewhere.
    refused_until: Option<Millis>,
}

#[derive(Clone, Debug, Default)]
struct SeriesReadings {
    memory: Vec<(Millis, u64)>,
    starts: Vec<(Millis, Generation)>,
    /// The newest sample of each gauge that was refused; answers overlap.
    refused_until: [Option<Millis>; 2],
}

impl Readings {
    /// Counts nothing as refused that was taken up to `until`: another answer told of it.
    pub(super) const fn count_refused_after(&mut self, until: Millis) {
        self.refused_until = Some(until);
    }

    /// Takes in one value, or counts why it is none.
    pub(super) fn push(
        &mut self,
        gauge: Gauge,
        number: usize,
        at: Millis,
        value: f64,
        fetched: &mut Fetched,
    ) {
        if self.series.len() <= number {
            self.series.resize(number + 1, SeriesReadings::default());
        }
        let readings = &mut self.series[number];
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
        let counted = &mut readings.refused_until[gauge as usize];
        if Some(at) > (*counted).max(self.refused_until) {
            *counted = Some(at);
            *fetched.refused_samples.entry(refused).or_default() += 1;
        }
    }

    /// Forgets what was read, not the room that a tick's answer takes.
    pub(super) fn clear(&mut self) {
        /// More than a tick's samples of a series; an hour's, of a bootstrap, are not kept room for.
        const ROOM: usize = 16;
        for series in &mut self.series {
            series.memory.clear();
            series.memory.shrink_to(ROOM);
            series.starts.clear();
            series.starts.shrink_to(ROOM);
        }
    }

    /// Gives every series' samples to `sink`: one for each moment at which both gauges were read.
    /// Series of one gauge without the other are passed over.
    pub(super) fn join(&self, numbers: &Numbers, fetched: &mut Fetched, sink: &mut Sink<'_>) {
        let mut samples = Vec::new();
        for (number, readings) in self.series.iter().enumerate() {
            samples.clear();
            // What was refused was there.
            let [no_memory, no_start] = readings.refused_until.map(|refused| refused.is_none());
            let missing = match (readings.memory.is_empty(), readings.starts.is_empty()) {
                (true, false) if no_memory => Some(MEMORY_METRIC),
                (false, true) if no_start => Some(START_TIME_METRIC),
                _ => None,
            };
            if let Some(missing) = missing {
                fetched.pass_over(Some(&Nameless::alone(numbers.id(number), missing)));
                continue;
            }
            let mut starts = readings.starts.iter().peekable();
            for (at, bytes) in &readings.memory {
                while starts.next_if(|(started, _)| started < at).is_some() {}
                if let Some((_, generation)) = starts.next_if(|(started, _)| started == at) {
                    samples.push(Sample { at: *at, generation: *generation, bytes: *bytes });
                }
            }
            if !samples.is_empty() {
                sink(numbers.id(number), &samples);
            }
        }
    }
}

/// The newest values of the runners' other gauges in one answer.
#[derive(Debug, Default)]
pub(super) struct RunnerReadings {
    hosts: HashMap<RunnerId, [Option<(Millis, u64)>; 2]>,
    memory_limits: MemoryLimits,
}

impl RunnerReadings {
    /// Takes in one value of a host's gauge. What is no size is as good as not told.
    pub(super) fn push_host(&mut self, gauge: HostGauge, runner: &RunnerId, at: Millis, value: f64) {
        let newest = &mut self.hosts.entry(runner.clone()).or_default()[gauge as usize];
        if let Some(bytes) = bytes(value).filter(|_| newest.is_none_or(|(known, _)| known <= at)) {
            *newest = Some((at, bytes));
        }
    }

    /// Takes in what a module's instances may hold.
    pub(super) fn push_limit(&mut self, runner: &RunnerId, module: &Arc<str>, at: Millis, value: f64) {
        let key = (runner.clone(), Arc::clone(module));
        let is_newest = self.memory_limits.get(&key).is_none_or(|known| known.at <= at);
        if let Some(bytes) = bytes(value).filter(|_| is_newest) {
            self.memory_limits.insert(key, MemoryLimit { at, bytes });
        }
    }

    /// The hosts of which both gauges were read, and the limits.
    pub(super) fn give(self, fetched: &mut Fetched) {
        let host = |(runner, [total, available]): (_, [Option<(Millis, u64)>; 2])| {
            let ((_, total_bytes), (at, available_bytes)) = total.zip(available)?;
            Some((runner, HostMemory { at, total_bytes, available_bytes }))
        };
        fetched.hosts = self.hosts.into_iter().filter_map(host).collect();
        fetched.memory_limits = self.memory_limits;
    }
}

#[cfg(test)]
mod tests {
    use ebb_units::{Population, SlotId};

    use super::*;

    #[test]
    fn a_sample_is_made_where_both_gauges_were_read_at_the_same_moment() {
        let mut numbers = Numbers::default();
        let population = Population { module: "leaky".into(), digest: "d".into() };
        let number = numbers.of(SlotId { population, runner: "r:1".into(), replica: 7 }.into());
        let (mut readings, mut fetched) = (Readings::default(), Fetched::default());
        for (at, value) in [(10, 65_536.0), (20, f64::NAN), (30, -1.0), (40, 131_072.0), (50, 131_072.0)] {
            readings.push(Gauge::Memory, number, Millis(at), value, &mut fetched);
        }
        for (at, value) in [(5, 1.0), (10, 1.0), (20, 1.0), (40, 2.5), (50, f64::INFINITY)] {
            readings.push(Gauge::StartTime, number, Millis(at), value, &mut fetched);
        }
        let mut joined = Vec::new();
        readings.join(&numbers, &mut fetched, &mut |series, samples| {
            assert_eq!((series.slot.replica, &*series.slot.population.module), (7, "leaky"));
            joined.extend_from_slice(samples);
        });
        let sample =
            |at, generation, bytes| Sample { at: Millis(at), generation: Generation(generation), bytes };
        assert_eq!(joined, [sample(10, 1000, 65_536), sample(40, 2500, 131_072)]);
        assert_eq!(fetched.refused_samples, [("not_a_size", 2), ("not_a_time", 1)].into());
    }

    #[test]
    fn a_refused_sample_counts_once_however_many_answers_have_it() {
        let (mut readings, mut fetched) = (Readings::default(), Fetched::default());
        readings.count_refused_after(Millis(10));
        for (at, gauge) in
            [(10, Gauge::Memory), (20, Gauge::Memory), (20, Gauge::StartTime), (20, Gauge::Memory)]
        {
            readings.push(gauge, 0, Millis(at), -1.0, &mut fetched);
            readings.clear();
        }
        assert_eq!(fetched.refused_samples, [("not_a_size", 1), ("not_a_time", 1)].into());
    }

    #[test]
    fn a_host_is_told_by_the_newest_value_of_both_gauges() {
        let (mut hosts, runner) = (RunnerReadings::default(), RunnerId::from("r:1"));
        for (at, value) in [(20, 7.0), (10, 5.0), (30, f64::NAN)] {
            hosts.push_host(HostGauge::Available, &runner, Millis(at), value);
        }
        hosts.push_host(HostGauge::Total, &runner, Millis(10), 9.0);
        hosts.push_host(HostGauge::Total, &"r:2".into(), Millis(10), 9.0);
        let host = HostMemory { at: Millis(20), total_bytes: 9, available_bytes: 7 };
        hosts.push_limit(&runner, &"m".into(), Millis(20), 512.0);
        hosts.push_limit(&runner, &"m".into(), Millis(10), 256.0);
        let mut fetched = Fetched::default();
        hosts.give(&mut fetched);
        assert_eq!(fetched.hosts, [(runner.clone(), host)].into());
        let limit = MemoryLimit { at: Millis(20), bytes: 512 };
        assert_eq!(fetched.memory_limits, [((runner, "m".into()), limit)].into());
    }
}
