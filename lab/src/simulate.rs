//! A fleet in virtual time, evaluated by the evaluator's own code: its history, and its tick with rules, budget and
//! what was ordered. Only what is outside of the evaluator is simulated: the instances, the scrapes and the runners' answers.
//!
//! Each tick asserts what must hold whatever happens: the budget is never exceeded, no generation is restarted twice,
//! and nobody is restarted of whom there is no young sample.

use std::{collections::BTreeMap, sync::Arc};

use ebb_core::{
    decide::{
        assessment::Assessment,
        budget::BudgetConfig,
        clock::Now,
        judgement::Judgement,
        order::{Action, Outcome as OrderOutcome, Restarted},
        pending::Eligibility,
        tick::{Fleet, Settings},
    },
    history::{History, Sample, Window},
    policy::{HostMemory, Hosts, Rule},
};
use ebb_evaluator::config::{HoldConfig, RunnersConfig};
use ebb_units::{Elapsed, Generation, Millis, Population, RunnerId, SeriesId, SlotId, Span};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    optimum::Outcome,
    trace::{Demand, Instance, Tick, Trace},
};

/// How a fleet is evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// The rule of its module.
    pub rule: Rule,
    /// The budget of restarts.
    pub budget: BudgetConfig,
    /// Time between two scrapes and between two evaluations.
    pub interval: Span,
    /// How far back lifetimes count.
    pub lookback: Span,
    /// Memory of the one host that all runners share, in bytes.
    pub host_bytes: i64,
    /// What goes wrong.
    pub faults: Faults,
}

/// What goes wrong, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Seed of what is drawn.
    pub seed: u64,
    /// Share of scrapes of a runner that are missed.
    pub missed_scrapes: f64,
    /// Share of samples that come one tick late.
    pub late_samples: f64,
    /// Share of restarts that fail: the old instance stays.
    pub failed_restarts: f64,
    /// From this tick on, no scrape succeeds.
    pub outage_from: Option<Tick>,
    /// The evaluator is killed and started anew after so many ticks, again and again.
    pub evaluator_restarts_every: Option<Tick>,
    /// All instances are started anew by somebody else after so many ticks, again and again.
    pub reboots_every: Option<Tick>,
    /// Likewise, each time with another binary.
    pub deploys_every: Option<Tick>,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Memory × time and restarts, of the whole fleet.
    pub outcome: Outcome,
    /// Restarts that were ordered and not done.
    pub failed_orders: i64,
    /// Ticks in which the evaluator held all restarts.
    pub held: u32,
    /// What the evaluator says that restarts have saved at least, in byte-ticks.
    pub saved: f64,
    /// Each restart: when, and how many ticks the instance had run.
    pub restarts: Vec<(Tick, Tick)>,
}

/// How many replicas a runner has.
const REPLICAS_PER_RUNNER: usize = 10;

/// Wall-clock time of tick 0; any would do.
const EPOCH: Millis = Millis(1_700_000_000_000);

/// A module of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct Module {
    /// Its name.
    pub name: &'static str,
    /// What each of its replicas is asked for.
    pub traces: Vec<Trace>,
}

/// Runs a fleet of one module for `ticks` ticks; what its replicas are asked for is `traces`.
///
/// # Panics
/// When something does not hold that must.
pub(crate) fn simulate(setup: &Setup, traces: &[Trace], ticks: Tick) -> Run {
    run(setup, traces.iter().map(|trace| ("simulated", trace)), ticks)
}

/// What can be seen after a tick.
#[derive(Clone, Copy)]
pub(crate) struct Watched<'a> {
    /// What the evaluator knows.
    pub history: &'a History,
    /// How it is.
    pub fleet: FleetNow<'a>,
}

/// A fleet after a tick.
#[derive(Clone, Copy)]
pub(crate) struct FleetNow<'a>(&'a [Replica<'a>]);

impl FleetNow<'_> {
    /// After how many ticks the instance of a replica will have grown by more than `bytes`, if it is left alone and that comes
    /// within its trace.
    pub(crate) fn left_alone(self, replica: u32, bytes: f64) -> Option<Tick> {
        let replica = &self.0[replica as usize];
        let mut instance = replica.instance;
        let most = instance.bytes as f64 + bytes;
        let reached = replica.ahead.iter().find(|demand| {
            instance.meet(demand);
            instance.bytes as f64 > most
        });
        reached.map(|demand| demand.at - replica.grown_until)
    }
}

/// As [`simulate`]; `watch` sees what there is to see after each tick.
///
/// # Panics
/// When something does not hold that must.
pub(crate) fn simulate_watched(
    setup: &Setup,
    traces: &[Trace],
    ticks: Tick,
    mut watch: impl FnMut(Tick, Watched<'_>),
) -> Run {
    let mut simulation = Simulation::new(setup, traces.iter().map(|trace| ("simulated", trace)));
    for tick in 1..ticks {
        simulation.tick(tick);
        let fleet = FleetNow(&simulation.replicas);
        watch(tick, Watched { history: &simulation.evaluator.history, fleet });
    }
    simulation.run
}

/// As [`simulate`], of several modules under the same rule, each a population of its own.
///
/// # Panics
/// When something does not hold that must.
pub(crate) fn simulate_modules(setup: &Setup, modules: &[Module], ticks: Tick) -> Run {
    let replicas = modules.iter().flat_map(|module| module.traces.iter().map(|trace| (module.name, trace)));
    run(setup, replicas, ticks)
}

fn run<'a>(setup: &'a Setup, replicas: impl Iterator<Item = (&'static str, &'a Trace)>, ticks: Tick) -> Run {
    let mut simulation = Simulation::new(setup, replicas);
    for tick in 1..ticks {
        simulation.tick(tick);
    }
    simulation.run
}

struct Simulation<'a> {
    setup: &'a Setup,
    settings: Settings,
    replicas: Vec<Replica<'a>>,
    random: ChaCha8Rng,
    evaluator: Evaluator,
    run: Run,
    /// Restarts so far, for the budget's invariant.
    admitted: i64,
}

struct Replica<'a> {
    slot: SlotId,
    series: SeriesId,
    trace: &'a Trace,
    /// Demands that were not met yet.
    ahead: &'a [Demand],
    instance: Instance,
    generation: Generation,
    started: Tick,
    /// The tick whose demands were met last.
    grown_until: Tick,
    /// Somebody else started the instance.
    by_others: bool,
    /// A sample that comes with the next one.
    late: Option<Sample>,
    /// All that the store has got; kept where the evaluator is to be started anew.
    stored: Vec<Sample>,
    /// When the newest sample that arrived was taken.
    last_sample: Option<Tick>,
}

/// What an evaluator has in memory.
#[derive(Default)]
struct Evaluator {
    history: History,
    tick: ebb_core::decide::tick::Tick,
    started: Tick,
}

impl<'a> Simulation<'a> {
    fn new(setup: &'a Setup, replicas: impl Iterator<Item = (&'static str, &'a Trace)>) -> Self {
        let generation = Generation(EPOCH.0.unsigned_abs());
        let (mut populations, mut runners) = (BTreeMap::new(), BTreeMap::new());
        let replicas = (0..)
            .zip(replicas)
            .map(|(replica, (module, trace))| {
                let population = populations
                    .entry(module)
                    .or_insert_with(|| Population { module: Arc::from(module), digest: Arc::from("d1") });
                let port = 9000 + replica as usize / REPLICAS_PER_RUNNER;
                let runner = runners
                    .entry(port)
                    .or_insert_with(|| RunnerId::from(format!("10.0.0.1:{port}").as_str()));
                (SlotId { population: population.clone(), runner: runner.clone(), replica }, trace)
            })
            .map(|(slot, trace)| Replica {
                series: slot.clone().into(),
                slot,
                trace,
                ahead: trace.demands(),
                instance: Instance::new(trace),
                generation,
                started: 0,
                grown_until: 0,
                by_others: false,
                late: None,
                stored: Vec::new(),
                last_sample: None,
            })
            .collect();
        let stale_after = 3 * setup.interval.as_elapsed();
        let verify_within = RunnersConfig::default().verify_within.as_elapsed();
        let settings = Settings {
            budget: setup.budget,
            limits: HoldConfig::default().limits(stale_after),
            stale_after,
            verify_within: verify_within.max(3 * setup.interval.as_elapsed()),
            dry_run: false,
        };
        Self {
            setup,
            settings,
            replicas,
            random: ChaCha8Rng::seed_from_u64(setup.faults.seed),
            evaluator: Evaluator::default(),
            run: Run::default(),
            admitted: 0,
        }
    }

    fn now(&self, tick: Tick) -> Millis {
        EPOCH.plus(i64::from(tick) * self.setup.interval.as_elapsed())
    }

    fn tick(&mut self, tick: Tick) {
        let now = self.now(tick);
        let due = |every: Option<Tick>| every.is_some_and(|every| tick.is_multiple_of(every));
        let (reboots, deploys) = (due(self.setup.faults.reboots_every), due(self.setup.faults.deploys_every));
        for replica in &mut self.replicas {
            if reboots || deploys {
                replica.restart(tick, now);
                replica.by_others = true;
            }
            if deploys {
                replica.slot.population.digest = tick.to_string().into();
                replica.series = replica.slot.clone().into();
            }
            replica.grow(tick);
            self.run.outcome.area += replica.instance.bytes;
        }
        let window = Window::ending_at(now, self.setup.lookback.as_elapsed());
        self.scrape(tick, now, window);
        self.evaluator.history.forget_before(window);
        if self.setup.faults.evaluator_restarts_every.is_some_and(|every| tick.is_multiple_of(every)) {
            self.restart_evaluator(tick, now, window);
        }
        self.evaluate(tick, now);
    }

    fn scrape(&mut self, tick: Tick, now: Millis, window: Window) {
        let faults = self.setup.faults;
        if faults.outage_from.is_some_and(|from| tick >= from) {
            return;
        }
        for replicas in self.replicas.chunks_mut(REPLICAS_PER_RUNNER) {
            if faults.missed_scrapes > 0.0 && self.random.random::<f64>() < faults.missed_scrapes {
                continue;
            }
            for replica in replicas {
                let bytes = replica.instance.bytes.unsigned_abs();
                let sample = Sample { at: now, generation: replica.generation, bytes };
                let before = replica.late.take();
                if faults.late_samples > 0.0 && self.random.random::<f64>() < faults.late_samples {
                    replica.late = Some(sample);
                }
                let arrived = before.into_iter().chain(replica.late.is_none().then_some(sample));
                if faults.evaluator_restarts_every.is_some() {
                    replica.stored.extend(arrived.clone());
                }
                if replica.late.is_none() {
                    replica.last_sample = Some(tick);
                } else if before.is_some() {
                    replica.last_sample = Some(tick - 1);
                }
                self.evaluator.history.observe(&replica.series, window, arrived);
            }
        }
    }

    /// A new evaluator learns from the store what the old one knew.
    fn restart_evaluator(&mut self, tick: Tick, now: Millis, window: Window) {
        let mut history = History::default();
        for replica in &self.replicas {
            history.observe(&replica.series, window, replica.stored.iter().copied());
        }
        history.forget_before(window);
        for replica in &self.replicas {
            let own = replica
                .stored
                .iter()
                .filter(|sample| sample.generation == replica.generation && !window.contains(sample.at));
            // The newest sample of each block.
            let sizes: BTreeMap<_, _> =
                own.map(|sample| (window.boundary_after(sample.at), sample.bytes)).collect();
            let sizes: Vec<_> = sizes.into_iter().collect();
            history.go_back(&replica.series, replica.generation, &sizes);
        }
        // What was ordered is forgotten with the old evaluator; what is judged must be the same.
        let before = self.assess(|_, _| Eligibility::Eligible, now);
        self.evaluator = Evaluator { history, started: tick, ..Evaluator::default() };
        self.admitted = 0;
        assert_eq!(
            before,
            self.assess(|_, _| Eligibility::Eligible, now),
            "tick {tick}: the new evaluator decides otherwise than the old one"
        );
    }

    fn assess(&self, eligibility: impl Fn(&SlotId, Generation) -> Eligibility, now: Millis) -> Assessment {
        let stale_after = self.settings.stale_after;
        let rule_of = |_: &str| &self.setup.rule;
        Assessment::new(&self.evaluator.history, rule_of, &self.hosts(now), eligibility, now, stale_after)
    }

    fn hosts(&self, now: Millis) -> Hosts {
        if self.setup.rule.policy.pressure().is_none() {
            return Hosts::default();
        }
        let used: i64 = self.replicas.iter().map(|replica| replica.instance.bytes).sum();
        let memory = HostMemory {
            at: now,
            total_bytes: self.setup.host_bytes.unsigned_abs(),
            available_bytes: (self.setup.host_bytes - used).max(0).unsigned_abs(),
        };
        let runners = self.replicas.iter().step_by(REPLICAS_PER_RUNNER);
        runners.map(|replica| (replica.slot.runner.clone(), memory)).collect()
    }

    fn evaluate(&mut self, tick: Tick, now: Millis) {
        let now = Now::both(now);
        let plan = {
            let hosts = self.hosts(now.wall);
            let Evaluator { history, tick, .. } = &mut self.evaluator;
            let fleet = Fleet {
                history,
                hosts: &hosts,
                rule_of: |_: &str| &self.setup.rule,
                may_order: |_: &SlotId| true,
                spacing: None,
                late: Elapsed::ZERO,
                fault: None,
                holds: &BTreeMap::new(),
            };
            tick.decide(&self.settings, fleet, now)
        };
        self.run.held += u32::from(plan.hold.is_some());
        let saved: f64 = self.evaluator.tick.saved_byte_seconds().values().sum();
        self.run.saved = saved / self.setup.interval.as_elapsed().as_seconds();
        let mut admitted = 0;
        for order in plan.orders {
            let outcome = self.order(&order, tick, now.wall);
            admitted += i64::from(matches!(outcome, OrderOutcome::Restarted(_)));
            self.evaluator.tick.conclude(&order, &Action::Ordered(outcome), now);
        }
        self.admitted += admitted;
        let budget = &self.setup.budget;
        let minutes = now.wall.since(self.now(self.evaluator.started)).0 / 60_000;
        let allowed = i64::from(budget.burst) + i64::from(budget.restarts_per_minute) * (minutes + 1);
        assert!(admitted <= i64::from(budget.burst), "tick {tick}: {admitted} restarts at once");
        assert!(self.admitted <= allowed, "tick {tick}: {} restarts, {allowed} allowed", self.admitted);
    }

    /// Gives an order to the simulated runner.
    fn order(&mut self, order: &Judgement, tick: Tick, now: Millis) -> OrderOutcome {
        let replica = &mut self.replicas[order.slot.replica as usize];
        let sampled = replica.last_sample.expect("a sample of a judged instance has arrived");
        assert!(
            i64::from(tick - sampled) * self.setup.interval.as_elapsed()
                <= 3 * self.setup.interval.as_elapsed(),
            "tick {tick}: {} has no young sample and is restarted",
            order.slot
        );
        // What was restarted is not ordered again; only an evaluator that knows nothing of it may, and is refused.
        assert!(
            order.generation == replica.generation
                || replica.by_others
                || self.evaluator.started > replica.started,
            "tick {tick}: generation {} of {} is restarted twice",
            order.generation,
            order.slot
        );
        let fails = self.setup.faults.failed_restarts > 0.0
            && self.random.random::<f64>() < self.setup.faults.failed_restarts;
        if fails || order.generation != replica.generation {
            self.run.failed_orders += 1;
            return if fails {
                OrderOutcome::CouldNotStart { message: "simulated".to_owned() }
            } else {
                OrderOutcome::GenerationGone
            };
        }
        self.run.restarts.push((tick, tick - replica.started));
        self.run.outcome.restarts += 1;
        replica.restart(tick, now);
        OrderOutcome::Restarted(Restarted {
            new_generation: replica.generation,
            reclaimed_bytes: order.reclaimable_bytes,
            duration_seconds: 0.0,
        })
    }
}

impl Replica<'_> {
    /// Meets what is asked for at `tick`.
    fn grow(&mut self, tick: Tick) {
        while let Some((demand, ahead)) = self.ahead.split_first().filter(|(demand, _)| demand.at <= tick) {
            self.instance.meet(demand);
            self.ahead = ahead;
        }
        self.grown_until = tick;
    }

    fn restart(&mut self, tick: Tick, now: Millis) {
        self.instance = Instance::new(self.trace);
        self.generation = Generation(now.0.unsigned_abs());
        self.started = tick;
        self.by_others = false;
    }
}

#[cfg(test)]
mod tests;
