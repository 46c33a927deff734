//! PURE: what a policy would have restarted in the past, and what that would have saved.
//!
//! Enters: the samples of a store, as a [`Recording`]. Leaves: an [`Outcome`] for each set of rules. The evaluator's own
//! history, rules and budget decide, tick by tick, as they would have.
//!
//! **What is assumed.** After a restart that was not really done, the instance is taken to hold what a new one starts
//! with, and to grow by what the real one grew since. That is right for leaks. For memory that one large request took
//! and left behind it is too kind: the real instance had room for the next such request and did not grow, where a new
//! one would have. Real restarts stay where they were, whoever ordered them, unless [`Plan::undoes_restarts`]: then an instance goes on
//! where it was restarted, and grows by what the new one grew, if its module leaks. Otherwise it holds what the new one holds, if
//! that is more.

pub mod advice;
pub mod report;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use ebb_units::{Elapsed, Generation, Millis, Population, SeriesId, SlotId, Span};
use serde::Serialize;

use crate::{
    decide::{
        clock::Now,
        judgement::Judgement,
        order::{Action, Outcome as OrderOutcome, Restarted},
        tick::{Fleet, Settings, Tick},
    },
    estimate::growth::{GrowthKind, GrowthTrend},
    explain::explain,
    history::{History, Lifetime, Sample, Slot, Window, median, most_complete},
    policy::{Hosts, Rule},
};

/// What a store knows of a time span: for each slot, the spans in which it held still.
#[derive(Debug, Default)]
pub struct Recording {
    slots: BTreeMap<SlotId, Vec<RecordedSeries>>,
    /// Slots that were left out.
    left_out: usize,
    growth: OnceLock<BTreeMap<Population, GrowthTrend>>,
}

/// What one series of a slot has told.
#[derive(Debug)]
struct RecordedSeries {
    labels: Arc<str>,
    spans: Vec<Run>,
}

/// A span in which one instance was seen with one size. Its samples are kept as their number: scrapes come at regular
/// times, and how many there were decides a median.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: Millis,
    last: Millis,
    samples: u32,
    generation: Generation,
    bytes: u64,
}

/// When and how rules are simulated.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first tick.
    pub from: Millis,
    /// The end.
    pub to: Millis,
    /// Time between two ticks.
    pub interval: Span,
    /// How far back lifetimes count.
    pub lookback: Span,
    /// What each tick goes by.
    pub settings: Settings,
    /// Whether instances go on that really were restarted, once it was seen what a start leaves, and are restarted by the rules that
    /// are tried before `from` as well: what comes of them in the long run.
    pub undoes_restarts: bool,
}

/// A restart that would have been done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SimulatedRestart {
    /// When.
    pub at: Millis,
    /// Of what, and why.
    #[serde(flatten)]
    pub judgement: Judgement,
    /// The same in a sentence.
    pub explanation: String,
}

/// Memory of all instances at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// When.
    pub at: Millis,
    /// As it really was.
    pub real_bytes: u64,
    /// As it would have been.
    pub bytes: u64,
}

/// What would have come of a set of rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// The restarts that would have been done.
    pub restarts: Vec<SimulatedRestart>,
    /// Restarts that were asked for and that the budget put off, counted once in each tick.
    pub postponed: u64,
    /// Memory at each tick.
    #[serde(skip)]
    pub memory: Vec<Moment>,
    /// Of each module, what lifetimes held in the end.
    #[serde(skip)]
    pub peaks: BTreeMap<Arc<str>, Peaks>,
}

/// What lifetimes held at most, as far as they are remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peaks {
    /// Of each lifetime, in bytes.
    pub bytes: Vec<u64>,
    /// The most that one grew by from one sample to the next, in bytes.
    pub rise_bytes: u64,
}

impl Plan {
    /// The plan from the first sample of `recording` on: before it there is nothing to restart, nor memory that would
    /// count.
    #[must_use]
    pub fn where_recorded(self, recording: &Recording) -> Self {
        let first = recording.first_at().unwrap_or(self.from);
        Self { from: self.from.max(first), ..self }
    }
}

/// The time between two of `samples`: the median. None of fewer than two.
#[must_use]
pub fn spacing(samples: &[Sample]) -> Option<Elapsed> {
    median(samples.windows(2).map(|pair| pair[1].at.since(pair[0].at)).collect())
}

impl Recording {
    /// What a history remembers, of about `most` of its slots: evenly chosen from each population, and at least one of each.
    #[must_use]
    pub fn of_history(history: &History, most: usize) -> Self {
        let all = history.slots().count();
        let every = all.div_ceil(most.max(1)).max(1);
        let spacing = history.spacing().unwrap_or(Elapsed::secs(10)).max(Elapsed(1));
        let mut slots = BTreeMap::new();
        for (id, slot) in history.populations().flat_map(|(_, slots)| slots.iter().step_by(every)) {
            let spans = slot.lifetimes().flat_map(|lifetime| runs(lifetime, spacing)).collect();
            slots.insert(id.clone(), vec![RecordedSeries { labels: "".into(), spans }]);
        }
        Self { left_out: all - slots.len(), slots, growth: OnceLock::new() }
    }

    /// The same of about `most` of its slots, as [`Recording::of_history`] chooses them.
    #[must_use]
    pub fn of_fewer_slots(self, most: usize) -> Self {
        let all = self.slots.len();
        let every = all.div_ceil(most.max(1)).max(1);
        let mut before: Option<(Population, usize)> = None;
        let mut is_chosen = |slot: &SlotId| {
            let place = match &before {
                Some((population, place)) if *population == slot.population => place + 1,
                _ => 0,
            };
            before = Some((slot.population.clone(), place));
            place.is_multiple_of(every)
        };
        let slots: BTreeMap<_, _> = self.slots.into_iter().filter(|(slot, _)| is_chosen(slot)).collect();
        Self { left_out: self.left_out + all - slots.len(), slots, growth: OnceLock::new() }
    }

    /// How many times as many slots there are as were recorded.
    pub(crate) fn scale(&self) -> f64 {
        (self.slots.len() + self.left_out) as f64 / self.slots.len().max(1) as f64
    }

    /// Takes in samples of one series, oldest first. Two samples that are further apart than `gap` leave a gap, in
    /// which the instance was not seen.
    pub fn observe(&mut self, series: &SeriesId, samples: &[Sample], gap: Elapsed) {
        if samples.is_empty() {
            return;
        }
        let slot = self.slots.entry(series.slot.clone()).or_default();
        let place = slot.partition_point(|known| known.labels < series.labels);
        if slot.get(place).is_none_or(|known| known.labels != series.labels) {
            slot.insert(place, RecordedSeries { labels: Arc::clone(&series.labels), spans: Vec::new() });
        }
        let spans = &mut slot[place].spans;
        for sample in samples {
            match spans.last_mut() {
                Some(last) if sample.at <= last.last => {}
                Some(last)
                    if (last.generation, last.bytes) == (sample.generation, sample.bytes)
                        && sample.at.since(last.last) <= gap =>
                {
                    last.last = sample.at;
                    last.samples += 1;
                }
                _ => spans.push(Run {
                    first: sample.at,
                    last: sample.at,
                    samples: 1,
                    generation: sample.generation,
                    bytes: sample.bytes,
                }),
            }
        }
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Slots of which something was recorded.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Time of the first sample of all.
    #[must_use]
    pub fn first_at(&self) -> Option<Millis> {
        self.chosen().filter_map(|(_, spans)| spans.first()).map(|span| span.first).min()
    }

    /// Restarts between two moments that were really done, whoever ordered them.
    pub(crate) fn real_restarts(&self, from: Millis, to: Millis) -> usize {
        let began = |pair: &[Run]| pair[0].generation != pair[1].generation;
        let inside = |pair: &[Run]| from <= pair[1].first && pair[1].first <= to;
        self.chosen()
            .map(|(_, spans)| spans.windows(2).filter(|pair| began(pair) && inside(pair)).count())
            .sum()
    }

    /// Of each slot, the spans of the series that is believed, as the evaluator would choose it.
    fn chosen(&self) -> impl Iterator<Item = (&SlotId, &[Run])> {
        self.slots.iter().map(|(slot, series)| {
            let samples: Vec<u64> = series.iter().map(RecordedSeries::samples).collect();
            (slot, &series[most_complete(&samples)].spans[..])
        })
    }

    /// Tries the rules that `rule_of` gives for each module.
    pub fn replay<'a>(&self, plan: &Plan, rule_of: impl Fn(&str) -> &'a Rule) -> Outcome {
        let mut replay = self.begin(plan);
        let mut now = plan.from.minus(plan.lookback.as_elapsed());
        // Before the first sample there is nothing to learn from.
        if let Some(first) = self.first_at().filter(|_| plan.undoes_restarts) {
            now = now.max(first).min(plan.from);
        }
        // Before the first tick nothing is decided, it is what the evaluator would have learned by then: unless it is to have learned
        // from what its own rules made of it.
        while now < plan.from {
            replay.observe(now);
            if plan.undoes_restarts {
                replay.decide(&rule_of, now);
            }
            now = now.plus(plan.interval.as_elapsed());
        }
        replay.outcome = Outcome::default();
        now = plan.from;
        while now <= plan.to {
            replay.observe(now);
            replay.decide(&rule_of, now);
            now = now.plus(plan.interval.as_elapsed());
        }
        replay.end()
    }

    /// The modules of which something was recorded.
    pub fn modules(&self) -> impl Iterator<Item = &Arc<str>> {
        let modules: BTreeSet<_> = self.slots.keys().map(|slot| &slot.population.module).collect();
        modules.into_iter()
    }

    /// How the memory of each population grows.
    fn growth(&self) -> &BTreeMap<Population, GrowthTrend> {
        self.growth.get_or_init(|| self.sought_growth())
    }

    fn sought_growth(&self) -> BTreeMap<Population, GrowthTrend> {
        let mut history = History::default();
        for (slot, spans) in self.chosen() {
            let Some((first, last)) = spans.first().zip(spans.last()) else { continue };
            let window = Window::ending_at(last.last, last.last.since(first.first) + Elapsed(1));
            let mut replayed = Replayed::new(slot, spans, false);
            history.observe(
                &slot.clone().into(),
                window,
                std::iter::from_fn(|| replayed.next(last.last, None)),
            );
        }
        let trend = |(population, slots): (&Population, &BTreeMap<_, Slot>)| {
            (population.clone(), GrowthTrend::of(slots.values()))
        };
        history.populations().map(trend).collect()
    }

    fn begin<'a>(&'a self, plan: &'a Plan) -> Replay<'a> {
        let leaks = |population: &Population| {
            let is_leak = |trend: &GrowthTrend| trend.kind == GrowthKind::Leak;
            plan.undoes_restarts && self.growth().get(population).is_some_and(is_leak)
        };
        let replayed =
            |(slot, spans): (&SlotId, &'a [Run])| Replayed::new(slot, spans, leaks(&slot.population));
        Replay {
            plan,
            slots: self.chosen().map(replayed).collect(),
            places: self.slots.keys().enumerate().map(|(place, slot)| (slot.clone(), place)).collect(),
            history: History::default(),
            tick: Tick::default(),
            outcome: Outcome::default(),
        }
    }
}

/// The spans in which a lifetime held still, as if it had been sampled each `spacing`.
fn runs(lifetime: &Lifetime, spacing: Elapsed) -> Vec<Run> {
    let steps = lifetime.steps();
    let ends = steps.iter().skip(1).map(|next| next.at.minus(spacing));
    steps
        .iter()
        .zip(ends.chain([lifetime.last_at()]))
        .map(|(step, end)| {
            let last = end.max(step.at);
            let samples = u32::try_from(last.since(step.at).0 / spacing.0 + 1).unwrap_or(u32::MAX);
            let (generation, bytes) = (lifetime.generation(), step.bytes);
            Run { first: step.at, last, samples, generation, bytes }
        })
        .collect()
}

impl RecordedSeries {
    fn samples(&self) -> u64 {
        self.spans.iter().map(|span| u64::from(span.samples)).sum()
    }
}

impl Run {
    /// Time of its `n`-th sample.
    fn at(&self, n: u32) -> Millis {
        let between = i64::from(self.samples - 1).max(1);
        Millis(self.first.0 + self.last.since(self.first).0 * i64::from(n) / between)
    }
}

/// An instance that was not seen for so long was not only restarted.
const GAP: Elapsed = Elapsed::secs(600);

struct Replay<'a> {
    plan: &'a Plan,
    slots: Vec<Replayed<'a>>,
    places: HashMap<SlotId, usize>,
    history: History,
    tick: Tick,
    outcome: Outcome,
}

/// A slot on its way through time.
struct Replayed<'a> {
    id: SeriesId,
    /// Spans of which not every sample was told yet.
    ahead: &'a [Run],
    /// Samples of the first of them that were.
    emitted: u32,
    /// The restart that was tried in the lifetime that really lives.
    simulated: Option<SimulatedInstance>,
    /// The newest sample as it really was, and as it would have been.
    newest: Option<(Sample, Sample)>,
    leaks: bool,
}

/// A lifetime that would have been cut.
#[derive(Clone, Copy)]
struct SimulatedInstance {
    generation: Generation,
    /// What the real instance held then.
    real_bytes: u64,
    /// What the new one would have started with.
    fresh_bytes: u64,
    /// Whether it grows by what the real one grows; else it holds what that holds, if that is more.
    adds_up: bool,
}

impl<'a> Replayed<'a> {
    fn new(slot: &SlotId, spans: &'a [Run], leaks: bool) -> Self {
        Self { id: slot.clone().into(), ahead: spans, emitted: 0, simulated: None, newest: None, leaks }
    }

    /// The next sample up to `now` that was not told yet; as if the instance had gone on at a real restart, if that took no longer
    /// than it `goes_on`.
    fn next(&mut self, now: Millis, goes_on: Option<Elapsed>) -> Option<Sample> {
        let span = self.ahead.first()?;
        let at = Some(span.at(self.emitted)).filter(|at| *at <= now)?;
        self.emitted += 1;
        if self.emitted == span.samples {
            (self.ahead, self.emitted) = (&self.ahead[1..], 0);
        }
        let real = Sample { at, generation: span.generation, bytes: span.bytes };
        self.simulated = match self.newest {
            Some((before, held)) if before.generation != real.generation => {
                // What was restarted since the sample before begins again, whatever really was.
                let restarted = self.simulated.filter(|simulated| simulated.generation > held.generation);
                let (generation, fresh_bytes) = restarted
                    .map_or((held.generation, held.bytes), |simulated| {
                        (simulated.generation, simulated.fresh_bytes)
                    });
                goes_on.filter(|gap| at.since(before.at) <= *gap).map(|_| SimulatedInstance {
                    generation,
                    real_bytes: real.bytes,
                    fresh_bytes,
                    adds_up: self.leaks,
                })
            }
            _ => self.simulated,
        };
        let sample = self.simulated.map_or(real, |simulated| {
            let SimulatedInstance { generation, real_bytes, fresh_bytes, adds_up } = simulated;
            let grown = fresh_bytes + span.bytes.saturating_sub(real_bytes);
            Sample { at, generation, bytes: if adds_up { grown } else { fresh_bytes.max(span.bytes) } }
        });
        self.newest = Some((real, sample));
        Some(sample)
    }
}

impl Replay<'_> {
    fn observe(&mut self, now: Millis) {
        let window = Window::ending_at(now, self.plan.lookback.as_elapsed());
        for slot in &mut self.slots {
            let id = slot.id.clone();
            let seen = self.history.slot(&id.slot);
            let knows_start = seen.is_some_and(|seen| seen.fresh_bytes().is_some());
            let gap = GAP.max(self.plan.settings.stale_after);
            let goes_on = (self.plan.undoes_restarts && knows_start).then_some(gap);
            self.history.observe(&id, window, std::iter::from_fn(|| slot.next(now, goes_on)));
        }
        self.history.forget_before(window);
    }

    fn decide<'r>(&mut self, rule_of: &impl Fn(&str) -> &'r Rule, now: Millis) {
        let now = Now::both(now);
        let fleet = Fleet {
            history: &self.history,
            // What hosts held is not recorded.
            hosts: &Hosts::default(),
            rule_of,
            may_order: |_: &SlotId| true,
            spacing: None,
            late: Elapsed::ZERO,
            fault: None,
            holds: &BTreeMap::new(),
        };
        let plan = self.tick.decide(&self.plan.settings, fleet, now);
        let is_postponed = |action: &Action| matches!(action, Action::Postponed { .. });
        self.outcome.postponed +=
            plan.declined.iter().filter(|(_, action)| is_postponed(action)).count() as u64;
        for order in plan.orders {
            let restarted = self.restart(&order, now.wall);
            self.tick.conclude(&order, &Action::Ordered(restarted), now);
            let populations = &plan.assessment.populations;
            let found = populations.iter().find(|found| found.population == order.slot.population);
            let explanation =
                found.map_or_else(String::new, |found| explain(&found.rule, &found.learned, &order));
            self.outcome.restarts.push(SimulatedRestart { at: now.wall, judgement: order, explanation });
        }
        self.outcome.memory.push(self.memory(now.wall));
    }

    /// What the slot's instance would have been from now on.
    fn restart(&mut self, order: &Judgement, now: Millis) -> OrderOutcome {
        let slot = &mut self.slots[self.places[&order.slot]];
        let (real, _) = slot.newest.expect("what is judged was seen");
        let generation = Generation(now.0.unsigned_abs());
        self.history.imagine_start(&slot.id, generation);
        slot.simulated = Some(SimulatedInstance {
            generation,
            real_bytes: real.bytes,
            fresh_bytes: order.memory_bytes - order.reclaimable_bytes,
            adds_up: true,
        });
        OrderOutcome::Restarted(Restarted {
            new_generation: generation,
            reclaimed_bytes: order.reclaimable_bytes,
            duration_seconds: 0.0,
        })
    }

    fn end(mut self) -> Outcome {
        for (population, slots) in self.history.populations() {
            let peaks = self.outcome.peaks.entry(Arc::clone(&population.module)).or_default();
            for lifetime in slots.values().flat_map(Slot::lifetimes) {
                peaks.bytes.push(lifetime.bytes());
                let rises = lifetime.steps().windows(2).map(|pair| pair[1].bytes - pair[0].bytes);
                peaks.rise_bytes = rises.fold(peaks.rise_bytes, u64::max);
            }
        }
        self.outcome
    }

    fn memory(&self, now: Millis) -> Moment {
        let mut moment = Moment { at: now, real_bytes: 0, bytes: 0 };
        for slot in &self.slots {
            if let Some((real, sample)) = slot.newest
                && now.since(real.at) <= self.plan.settings.stale_after
            {
                moment.real_bytes += real.bytes;
                // What was restarted in this tick is counted as it was when the tick began.
                moment.bytes += sample.bytes;
            }
        }
        moment
    }
}

#[cfg(test)]
mod tests;
