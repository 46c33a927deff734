//! One tick as named steps: fetch → history → verify → estimate → judge → admit → restart → record.
//! `ebb_evaluator_step_duration_seconds` tells how long the first two (`fetch`), the next two (`judge`) and
//! the rest (`restart`) take.
//!
//! Every decision is made by `rule`; this file fetches, orders and records.

mod orders;

use std::{collections::HashMap, sync::Arc};

use tracing::{debug, info, warn};

use self::orders::Orders;
use crate::{
    config::{Config, StoreConfig},
    decisions::Journal,
    history::{Extract, History, Sample, Slot, Window},
    metrics::Metrics,
    rule::{
        assessment::{Assessed, Assessment},
        hold::{Hold, Limits, Seen, Watch},
        policy::Hosts,
        verdict::Judgement,
    },
    store::{Fetched, Scrape, Store, StoreError, prometheus::Prometheus},
    units::{Generation, Millis, SeriesId, SlotId},
    view::{Board, PopulationView, View},
};

/// Evaluates a fleet, tick by tick.
#[derive(Debug)]
pub struct Evaluator {
    config: Arc<Config>,
    store: Store,
    history: History,
    hosts: Hosts,
    watch: Watch,
    orders: Orders,
    /// Up to when samples were fetched; none before the bootstrap.
    fetched_until: Option<Millis>,
    outputs: Outputs,
}

/// Where a tick's results are read.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The newest view.
    pub board: Arc<Board>,
    /// The newest decisions.
    pub journal: Arc<Journal>,
    /// Counters and durations.
    pub metrics: Arc<Metrics>,
}

/// A gap longer than this is caught up with by a bootstrap: a tick's query over it could be refused as
/// too large.
const CATCH_UP_MILLIS: i64 = 600_000;

impl Evaluator {
    /// Prepares the evaluation; fetches nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Credentials`] when a certificate or key cannot be used.
    pub fn new(config: Arc<Config>, outputs: Outputs) -> Result<Self, StoreError> {
        Ok(Self {
            store: store(&config)?,
            orders: Orders::new(&config.runners),
            config,
            history: History::default(),
            hosts: Hosts::default(),
            watch: Watch::default(),
            fetched_until: None,
            outputs,
        })
    }

    /// Goes on with another config. What was ordered stays known; what was fetched, unless the store or the
    /// lookback is another.
    ///
    /// # Errors
    /// As [`Evaluator::new`]; everything then stays as it was.
    pub fn reconfigure(&mut self, config: Arc<Config>) -> Result<(), StoreError> {
        if config.store != self.config.store || config.lookback != self.config.lookback {
            self.store = store(&config)?;
            self.history = History::default();
            self.hosts = Hosts::default();
            self.watch = Watch::default();
            self.fetched_until = None;
        }
        self.orders.reconfigure(&config.runners);
        self.config = config;
        Ok(())
    }

    /// The memory of `slots` since a moment, for charts.
    #[must_use]
    pub fn extract(&self, slots: &[SlotId], since: Millis) -> Extract {
        self.history.extract(slots, since)
    }

    /// Evaluates the fleet as it is at `now`.
    pub async fn tick(&mut self, now: Millis) {
        let timer = self.outputs.metrics.start_tick();
        let window = Window::ending_at(now, self.config.lookback.as_millis());
        let answer = self.fetch(window, now).await;
        timer.step("fetch");
        self.history.forget_before(window);
        self.history.choose(now, self.config.stale_after_millis());
        let rule_of = |module: &str| self.config.rules.of(module);
        let stale_after = self.config.stale_after_millis();
        self.orders.verify(&self.config, &self.history, &self.outputs, now);
        let standing = |slot: &SlotId, generation| self.orders.standing(&self.config, slot, generation, now);
        let assessment = Assessment::new(&self.history, rule_of, &self.hosts, standing, now, stale_after);
        timer.step("judge");
        let wishes: Vec<Judgement> = assessment.wishes().into_iter().cloned().collect();
        let Assessment { populations, instances } = assessment;
        let hold = self.hold(answer, instances.len(), now);
        let view = |assessed| self.population_view(assessed, &instances, now);
        let populations: Vec<_> = populations.into_iter().map(view).collect();
        self.orders.decide(&self.config, &populations, wishes, hold.as_ref(), &self.outputs, now).await;
        timer.step("restart");
        self.publish(populations, instances, hold, now);
    }

    /// Takes in what the store has got since the last tick; since the lookback at first.
    async fn fetch(&mut self, window: Window, now: Millis) -> Result<Fetched, StoreError> {
        let overlap = self.store.overlap_millis();
        let from = self.fetched_until.map_or(window.start().minus(1), |until| until.minus(overlap));
        let history = &mut self.history;
        let mut samples_new = 0;
        let mut sink = |series: &SeriesId, samples: &[_]| {
            samples_new += history.observe(series, window, samples.iter().copied());
        };
        let catch_up = self.fetched_until.is_none() || now.since(from) > CATCH_UP_MILLIS;
        let answer = if catch_up {
            self.store.bootstrap(from, now, &mut sink).await
        } else {
            self.store.recent(from, now, &mut sink).await
        };
        let mut fetched = answer?;
        self.take_hosts(std::mem::take(&mut fetched.hosts), now);
        if catch_up {
            self.history.forget_before(window);
            self.go_back(window, fetched.series).await?;
            info!(series = fetched.series, samples = samples_new, from_ms = from.0, "bootstrapped");
        }
        debug!(series = fetched.series, samples = samples_new, "fetched");
        self.outputs.metrics.fetched(samples_new, &fetched);
        // Samples are stamped by the store's clock. Where this one is ahead, there are none up to `now` yet.
        self.fetched_until = Some(fetched.server_time.map_or(now, |server_time| server_time.min(now)));
        Ok(fetched)
    }

    /// What runs since before the window counts from its start: asks the store for what it held by then.
    async fn go_back(&mut self, window: Window, series: usize) -> Result<(), StoreError> {
        /// Further back nobody looks: more than three years at the default lookback.
        const BLOCKS_MAX: i64 = 10_000;
        let begun: HashMap<SeriesId, Generation> = self.history.begun_earlier().collect();
        let Some(oldest) = begun.values().min() else { return Ok(()) };
        let reach = window.start().minus(BLOCKS_MAX.saturating_mul(window.block_millis()));
        let from = oldest.started_at().max(reach);
        let mut sizes: HashMap<SeriesId, Vec<(Millis, u64)>> = HashMap::new();
        let mut sink = |series: &SeriesId, samples: &[Sample]| {
            let Some(generation) = begun.get(series) else { return };
            let own = samples.iter().filter(|sample| sample.generation == *generation);
            let at_boundaries = own.map(|sample| (Millis(sample.at.0 + 1), sample.bytes));
            sizes.entry(series.clone()).or_default().extend(at_boundaries);
        };
        self.store.earlier(from, window, series, &mut sink).await?;
        for (series, sizes) in &sizes {
            self.history.go_back(series, begun[series], sizes);
        }
        let not_from_start = begun.keys().filter(|series| {
            let newest = self.history.slot(&series.slot).and_then(Slot::newest);
            newest.is_some_and(|newest| newest.counts_since() > newest.generation().started_at())
        });
        let instances = not_from_start.count();
        if instances > 0 {
            warn!(
                instances,
                "the store does not reach back to the start of instances that run: they count since it does"
            );
        }
        Ok(())
    }

    /// Keeps the newest reading of each host, and none that is too old to tell anything.
    fn take_hosts(&mut self, readings: Hosts, now: Millis) {
        for (runner, memory) in readings {
            let newest = self.hosts.entry(runner).or_insert(memory);
            if memory.at >= newest.at {
                *newest = memory;
            }
        }
        let stale_after = self.config.stale_after_millis();
        self.hosts.retain(|_, memory| now.since(memory.at) <= stale_after);
    }

    /// One population as the API shows it.
    fn population_view(&self, assessed: Assessed, instances: &[Judgement], now: Millis) -> PopulationView {
        let instances = &instances[assessed.instances];
        let above = instances.iter().filter(|instance| instance.verdict.asks_for_restart());
        PopulationView {
            rule: assessed.rule,
            learned: assessed.learned,
            instances: instances.len(),
            memory_bytes: instances.iter().map(|instance| instance.memory_bytes).sum(),
            reclaimable_bytes: above.map(|instance| instance.reclaimable_bytes).sum(),
            suspended_until: self.orders.suspended_until(&assessed.population.module, now),
            population: assessed.population,
        }
    }

    fn hold(&mut self, answer: Result<Fetched, StoreError>, living: usize, now: Millis) -> Option<Hold> {
        let limits = Limits {
            stale_after_millis: self.config.stale_after_millis(),
            clock_skew_millis: self.config.hold.clock_skew.as_millis(),
            series_drop: self.config.hold.series_drop.0,
            series_drop_window_millis: self.config.hold.series_drop_window.as_millis(),
        };
        let server_time = answer.as_ref().ok().and_then(|fetched| fetched.server_time);
        let seen = Seen { newest_sample: self.history.newest_sample(), server_time, living };
        let doubt = self.watch.doubt(&limits, seen, now);
        let hold = match answer {
            Err(error) => {
                let message = ebb_service::logging::Chain(&error).to_string();
                Some(Hold::StoreFault { fault: error.hold_reason(), message })
            }
            Ok(_) => doubt,
        };
        if let Some(hold) = &hold {
            warn!(reason = hold.name(), "holding all restarts: {hold}");
            self.outputs.metrics.held(hold.name());
        }
        hold
    }

    fn publish(
        &self,
        populations: Vec<PopulationView>,
        instances: Vec<Judgement>,
        hold: Option<Hold>,
        now: Millis,
    ) {
        self.outputs.metrics.judged(&instances);
        if hold.is_none() {
            self.outputs.metrics.succeeded(now);
        }
        let lifetimes = self.history.populations().flat_map(|(_, slots)| slots.values());
        self.outputs.board.publish(View {
            at: now,
            hold,
            dry_run: self.config.dry_run,
            restarts_available: self.orders.available(),
            lifetimes: lifetimes.map(|slot| slot.lifetimes().count()).sum(),
            populations,
            instances,
        });
    }
}

/// The store that `config` names. Reads certificates, asks nobody.
pub(crate) fn store(config: &Config) -> Result<Store, StoreError> {
    Ok(match &config.store {
        StoreConfig::Prometheus(store) => Store::Prometheus(Box::new(Prometheus::new(store, config.runners.address.clone())?)),
        StoreConfig::Scrape(store) => Store::Scrape(Scrape::new(store)),
    })
}
