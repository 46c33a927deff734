//! Retires instances in the host's own process, without Prometheus or evaluator: sizes in, instances to replace out, each with the
//! reason. The decisions are the evaluator's, as long as both see the same sizes at the same moments.
//!
//! ```
//! use ebb_host::retire::{Retirement, RetirementConfig};
//! use ebb_units::{Generation, Millis, Population};
//!
//! let mut retirement = Retirement::new(RetirementConfig::default());
//! let module = Population { module: "leaky".into(), digest: "9f86d081884c".into() };
//! // Each tick: module and binary, replica, generation and bytes of each instance.
//! let retired = retirement.tick([(&module, 0, Generation(1_700_000_000_000), 65_536)], Millis(1_700_000_010_000));
//! assert!(retired.is_empty(), "it has just begun");
//! ```

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Instant,
};

pub use ebb_core::{
    decide::{budget::BudgetConfig, judgement::Judgement},
    policy::{GuardRails, Policy, Rule},
};
use ebb_core::{
    decide::{
        clock::Now,
        hold::Limits,
        order::{self, Action},
        tick::{Fleet, Settings, Tick},
    },
    explain::explain,
    history::{History, Sample, Window},
    policy::Hosts,
};
use ebb_units::{Elapsed, Generation, Millis, Population, Replica, RunnerId, SeriesId, SlotId, Span};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{
    instances::Instances,
    keeper::now_unix_ms,
    restart::{Reason, Refusal, Restarted},
};

/// By what instances are retired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetirementConfig {
    /// When.
    pub rule: Rule,
    /// How many at most. Of a module, one at a time.
    pub budget: BudgetConfig,
    /// Time between two ticks.
    pub interval: Span,
    /// How far back lifetimes count.
    pub lookback: Span,
}

impl Default for RetirementConfig {
    /// The evaluator's defaults: policy `renewal` every 10 s, over a day.
    fn default() -> Self {
        Self {
            rule: Rule::default(),
            budget: BudgetConfig::default(),
            interval: Span::secs(10),
            lookback: Span::secs(86_400),
        }
    }
}

/// Learns what instances need, and says which are to be replaced.
#[derive(Debug)]
pub struct Retirement {
    config: RetirementConfig,
    settings: Settings,
    /// All instances are of one process.
    runner: RunnerId,
    history: History,
    tick: Tick,
}

/// An instance that is to be replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct Retired {
    /// What that rests on.
    pub judgement: Judgement,
    /// The reason in a sentence.
    pub why: String,
}

impl Retirement {
    /// One that knows nothing yet.
    ///
    /// # Panics
    /// When the policy is about the host's memory, which is not looked at; when `interval` is 0.
    #[must_use]
    pub fn new(config: RetirementConfig) -> Self {
        let policy = config.rule.policy;
        assert!(policy.pressure().is_none(), "{} is about the host's memory", policy.name());
        assert!(!config.interval.0.is_zero(), "expected an interval of more than 0");
        /// How long a replacement may take until the old size is gone.
        const VERIFY_WITHIN: Elapsed = Elapsed::secs(60);
        let stale_after = 3 * config.interval.as_elapsed();
        // Sizes come from this process: none is missed, and what is gone is gone.
        let limits = Limits {
            stale_after,
            clock_skew: Elapsed::ZERO,
            series_drop: 1.0,
            series_drop_window: Elapsed::ZERO,
        };
        let settings = Settings {
            budget: config.budget,
            limits,
            stale_after,
            verify_within: VERIFY_WITHIN.max(stale_after),
            dry_run: false,
        };
        Self { config, settings, runner: "self".into(), history: History::default(), tick: Tick::default() }
    }

    /// Takes in what each instance holds at `now`, as module with binary, replica, generation and bytes; tells which are to be
    /// replaced now, the most urgent first. Each is to be [concluded](Self::conclude). `now` never goes back.
    pub fn tick<'a>(
        &mut self,
        sizes: impl IntoIterator<Item = (&'a Population, u32, Generation, u64)>,
        now: Millis,
    ) -> Vec<Retired> {
        let window = Window::ending_at(now, self.config.lookback.as_elapsed());
        for (population, replica, generation, bytes) in sizes {
            let slot = SlotId { population: population.clone(), runner: self.runner.clone(), replica };
            let sample = Sample { at: now, generation, bytes };
            self.history.observe(&SeriesId::from(slot), window, [sample]);
        }
        self.history.forget_before(window);
        let fleet = Fleet {
            history: &self.history,
            hosts: &Hosts::default(),
            rule_of: |_: &str| &self.config.rule,
            may_order: |_: &SlotId| true,
            spacing: None,
            late: Elapsed::ZERO,
            fault: None,
            holds: &BTreeMap::new(),
        };
        let plan = self.tick.decide(&self.settings, fleet, Now::both(now));
        let populations = &plan.assessment.populations;
        let retired = plan.orders.into_iter().map(|judgement| {
            let of_it = populations.iter().find(|one| one.population == judgement.slot.population);
            let assessed = of_it.expect("each order is of an assessed population");
            Retired { why: explain(&assessed.rule, &assessed.learned, &judgement), judgement }
        });
        retired.collect()
    }

    /// Says what became of one that was to be replaced.
    pub fn conclude(&mut self, retired: &Retired, outcome: &Result<Restarted, Refusal>, now: Millis) {
        self.tick.conclude(&retired.judgement, &Action::Ordered(outcome_of(outcome)), Now::both(now));
    }

    /// Ticks for ever: reads what the instances of `instances` hold, and has their slots replace those that hold too much.
    /// `on_retired` hears of each.
    pub async fn run<L: Send + Sync + 'static>(
        mut self,
        instances: Arc<Instances<L>>,
        mut on_retired: impl FnMut(&Retired, &Result<Restarted, Refusal>),
    ) {
        let (begun, begun_unix_ms) = (Instant::now(), now_unix_ms());
        // The wall clock may be set; this one only moves on.
        let now = || {
            let passed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            Millis(i64::try_from(begun_unix_ms.saturating_add(passed)).unwrap_or(i64::MAX))
        };
        let mut ticks = tokio::time::interval(self.config.interval.0);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Of each module at most one task, so that a start that hangs holds up nobody else.
        let mut under_way: JoinSet<(Arc<str>, Vec<Concluded>)> = JoinSet::new();
        let mut busy: HashSet<Arc<str>> = HashSet::new();
        loop {
            tokio::select! {
                biased;
                Some(done) = under_way.join_next() => {
                    // Had it panicked, its module would stay busy: nothing is known of its instances then.
                    let Ok((module, concluded)) = done else { continue };
                    busy.remove(&module);
                    for (retired, outcome) in concluded {
                        on_retired(&retired, &outcome);
                        self.conclude(&retired, &outcome, now());
                    }
                }
                _ = ticks.tick() => {
                    let sizes = sizes(&instances);
                    let sizes = sizes.iter().map(|(population, replica, generation, bytes)| {
                        (population, *replica, *generation, *bytes)
                    });
                    let mut by_module: BTreeMap<Arc<str>, Vec<Retired>> = BTreeMap::new();
                    for retired in self.tick(sizes, now()) {
                        by_module.entry(Arc::clone(&retired.judgement.slot.population.module)).or_default().push(retired);
                    }
                    for (module, retired) in by_module {
                        if !busy.insert(Arc::clone(&module)) {
                            retired.iter().for_each(|one| self.conclude(one, &Err(Refusal::Busy), now()));
                            continue;
                        }
                        let instances = Arc::clone(&instances);
                        under_way.spawn(async move {
                            let mut concluded = Vec::new();
                            for one in retired {
                                let outcome = replace(&instances, &one.judgement).await;
                                concluded.push((one, outcome));
                            }
                            (module, concluded)
                        });
                    }
                }
            }
        }
    }
}

/// An order, and what became of it.
type Concluded = (Retired, Result<Restarted, Refusal>);

fn sizes<L>(instances: &Instances<L>) -> Vec<(Population, u32, Generation, u64)> {
    let mut sizes = Vec::new();
    for module in instances.modules().iter() {
        let name: Arc<str> = module.name.as_str().into();
        for slot in module.slots().iter() {
            sizes.extend(slot.with_live(|live| {
                let digest = live.version.digest.as_str().into();
                let population = Population { module: Arc::clone(&name), digest };
                (population, slot.replica.0, live.generation, live.meter.bytes().0)
            }));
        }
    }
    sizes
}

async fn replace<L>(instances: &Instances<L>, judgement: &Judgement) -> Result<Restarted, Refusal> {
    let found = instances.find(&judgement.slot.population.module, Replica(judgement.slot.replica));
    let (module, slot) = found.ok_or(Refusal::Closing)?;
    let outcome =
        module.order_restart(&slot, Some(judgement.generation), Reason::Threshold, Instant::now())?;
    outcome.await.unwrap_or(Err(Refusal::Closing))
}

fn outcome_of(outcome: &Result<Restarted, Refusal>) -> order::Outcome {
    match outcome {
        Ok(done) => order::Outcome::Restarted(order::Restarted {
            new_generation: done.new,
            reclaimed_bytes: done.reclaimed.0,
            duration_seconds: done.duration.as_secs_f64(),
        }),
        Err(Refusal::NotCurrent { .. } | Refusal::NothingRunning) => order::Outcome::GenerationGone,
        Err(Refusal::Busy) => order::Outcome::AlreadyRestarting,
        Err(Refusal::TooMany { .. }) => order::Outcome::RunnerBusy,
        Err(refusal @ (Refusal::CouldNotStart(_) | Refusal::Closing)) => {
            order::Outcome::CouldNotStart { message: refusal.to_string() }
        }
    }
}
