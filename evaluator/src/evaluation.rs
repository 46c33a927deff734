//! One tick as named steps: fetch → history → verify → estimate → judge → admit → restart → record.
//! `ebb_evaluator_step_duration_seconds` tells how long the first two (`fetch`), the next two (`judge`) and
//! the rest (`restart`) take.
//!
//! Every decision is made by [`ebb_core`]; this file fetches, orders and records.

mod kinds;
mod logged_once;
mod orders;
mod sinks;

use std::{collections::BTreeMap, sync::Arc};

use ebb_core::{
    decide::{
        assessment::{Assessed, Assessment},
        clock::Now,
        exhaustion::{Growing, MemoryLimits, Obstacle, Outlook},
        hold::Hold,
        judgement::Judgement,
        order::{Action, Outcome},
        tick::{Fleet, Plan, Settings, Tick},
    },
    history::{Contradiction, Extract, Sample},
    intake::{Filling, Intake, Next, Terms, backfill::Backfill},
    policy::Hosts,
    replay::Recording,
};
use ebb_units::{Elapsed, Millis, SeriesId, SlotId};
use tracing::{debug, info, warn};

pub(crate) use self::sinks::Sinks;
use self::{
    kinds::Kinds,
    logged_once::LoggedOnce,
    orders::{Restarts, give, note_growth, record, record_effect},
};
use crate::{
    advice::SLOTS_MAX,
    config::Config,
    growth::GrowthReader,
    runners::Restarter,
    snapshot::{PopulationSnapshot, Snapshot},
    store::{ClockCheck, EarlierSize, Fetched, Sink, Store, StoreError, labels::differences},
};

/// Evaluates a fleet, tick by tick.
#[derive(Debug)]
pub(crate) struct Evaluator {
    config: Arc<Config>,
    store: Store,
    intake: Intake,
    hosts: Hosts,
    memory_limits: MemoryLimits,
    restarter: Restarter,
    tick: Tick,
    backfill: Backfill,
    nameless_logged: LoggedOnce,
    hold_logged: LoggedOnce,
    module_holds_logged: LoggedOnce,
    growth: GrowthReader,
    kinds: Kinds,
    outlook: Arc<Outlook>,
    looked_ahead_at: Option<Millis>,
    sinks: Sinks,
}

impl Evaluator {
    /// Prepares the evaluation; fetches nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Credentials`] when a certificate or key cannot be used.
    pub(crate) fn new(config: Arc<Config>, sinks: Sinks, growth: GrowthReader) -> Result<Self, StoreError> {
        Ok(Self {
            store: config.open_store()?,
            restarter: Restarter::new(&config.runners, config.runners.client()?),
            tick: Tick::default(),
            config,
            intake: Intake::default(),
            hosts: Hosts::default(),
            memory_limits: MemoryLimits::default(),
            backfill: Backfill::default(),
            nameless_logged: LoggedOnce::default(),
            hold_logged: LoggedOnce::default(),
            module_holds_logged: LoggedOnce::default(),
            growth,
            kinds: Kinds::default(),
            outlook: Arc::default(),
            looked_ahead_at: None,
            sinks,
        })
    }

    /// Goes on with another config. What was ordered stays known; what was fetched, unless the store or the
    /// lookback is another.
    ///
    /// # Errors
    /// As [`Evaluator::new`]; everything then stays as it was.
    pub(crate) fn reconfigure(&mut self, config: Arc<Config>) -> Result<(), StoreError> {
        let client = config.runners.client()?;
        let same_store = config.store == self.config.store
            && config.runners.address == self.config.runners.address
            && config.runners.scheme == self.config.runners.scheme
            && config.runners.tls_config == self.config.runners.tls_config
            && config.runners.basic_auth == self.config.runners.basic_auth
            && config.lookback == self.config.lookback;
        if !same_store {
            self.store = config.open_store()?;
            self.intake = Intake::default();
            self.hosts = Hosts::default();
            self.memory_limits = MemoryLimits::default();
            self.kinds = Kinds::default();
            self.outlook = Arc::default();
            self.tick.forget_fleet();
            self.backfill = Backfill::default();
            self.nameless_logged = LoggedOnce::default();
        }
        self.restarter = Restarter::new(&config.runners, client);
        self.config = config;
        Ok(())
    }

    /// The memory of `slots` since a moment, for charts.
    pub(crate) fn extract(&self, slots: &[SlotId], since: Millis) -> Extract {
        self.intake.history().extract(slots, since)
    }

    /// All that is remembered, of as many slots as are looked at for advice.
    pub(crate) fn recording(&self) -> Recording {
        Recording::of_history(self.intake.history(), SLOTS_MAX)
    }

    /// Evaluates the fleet as it is at `now`.
    pub(crate) async fn tick(&mut self, now: Now) {
        let timer = self.sinks.metrics.start_tick();
        let fault = self.fetch(now).await.err();
        timer.step("fetch");
        // Unless that is set, what is alive goes by the spacing of its own series.
        let late = self.config.hold.stale_after.is_none().then(|| self.intake.late());
        let stale_after = self.config.stale_after(Elapsed::ZERO);
        self.intake.history_mut().choose(now.wall, stale_after, late);
        let module_holds = self.module_holds(now.wall);
        let Plan { effects, assessment, hold, declined, orders } = self.decide(fault, &module_holds, now);
        for (restart, effect) in &effects {
            record_effect(restart, *effect, &self.sinks);
        }
        self.tell_hold(hold.as_ref());
        timer.step("judge");
        let Assessment { populations, instances } = assessment;
        let snapshot = |assessed| self.population_snapshot(assessed, &instances, &module_holds, now);
        let populations: Vec<_> = populations.into_iter().map(snapshot).collect();
        let given = give(&self.restarter, self.config.budget.max_unavailable, orders).await;
        for (order, action) in &given {
            self.tick.conclude(order, action, now);
        }
        for (wish, action) in &declined {
            record(&populations, wish, action, &self.sinks, now.wall);
        }
        let mut restarts = Restarts::new();
        for (order, action) in &given {
            let recorded = record(&populations, order, action, &self.sinks, now.wall);
            if let (Some(id), Action::Ordered(Outcome::Restarted(_))) = (recorded, action) {
                restarts.entry(order.slot.population.clone()).or_default().push(id);
            }
        }
        note_growth(&self.growth, &self.config, &instances, restarts, &self.sinks.journal);
        timer.step("restart");
        self.publish(populations, instances, hold, now.wall);
        // For the next tick: no order waits for this.
        let has_looked = self.kinds.look(self.intake.history(), now.steady);
        self.look_ahead(has_looked, now);
    }

    fn decide(&mut self, fault: Option<Hold>, holds: &BTreeMap<Arc<str>, Hold>, now: Now) -> Plan {
        let samples_take = self.samples_take();
        let settings = Settings {
            budget: self.config.budget,
            limits: self.config.hold.limits(self.config.stale_after(samples_take)),
            stale_after: self.config.stale_after(Elapsed::ZERO),
            verify_within: self.config.runners.verify_within.as_elapsed().max(samples_take),
            dry_run: self.config.dry_run,
        };
        let fleet = Fleet {
            history: self.intake.history(),
            hosts: &self.hosts,
            rule_of: |module: &str| self.config.rules.of(module),
            may_order: |slot: &SlotId| self.restarter.may_order(slot),
            spacing: self.intake.spacing(),
            late: self.intake.late(),
            fault,
            holds,
        };
        self.tick.decide(&settings, fleet, now)
    }

    /// Takes in what the store has got since the last tick; since the lookback at first, and after a step of the clock.
    async fn fetch(&mut self, now: Now) -> Result<(), Hold> {
        let terms = self.terms();
        let next = self.intake.next(&terms, now);
        if let Next::Wait(hold) = next {
            return Err(hold);
        }
        let mut filling = self.intake.begin(&terms, &next, now);
        match self.fill(&mut filling, &next, now).await {
            Ok(fetched) => {
                debug!(series = fetched.series, samples = filling.taken, "fetched");
                self.sinks.metrics.fetched(filling.taken, filling.late_samples, &fetched);
                self.tell_nameless(&fetched);
                self.take_readings(fetched.hosts, fetched.memory_limits, now.wall);
                self.intake.accept(filling).map_or(Ok(()), Err)
            }
            Err(error) => {
                self.intake.refuse(filling);
                let message = ebb_service::logging::Chain(&error).to_string();
                Err(Hold::StoreFault { fault: error.hold_reason(), message })
            }
        }
    }

    async fn fill(&mut self, filling: &mut Filling, next: &Next, now: Now) -> Result<Fetched, StoreError> {
        let begin = filling.begin();
        let clock = ClockCheck::new(now.wall, self.config.hold.clock_skew.as_elapsed());
        let mut sink = |series: &SeriesId, samples: &[_]| filling.take(series, samples);
        let fetched = ask(&mut self.store, next, begin, clock, &mut sink).await?;
        if let Some(again) = filling.reach_back() {
            let mut sink = |series: &SeriesId, samples: &[_]| filling.take_again(series, samples);
            ask(&mut self.store, &again, begin, clock, &mut sink).await?;
        }
        if !matches!(next, Next::Since(_)) {
            info!(series = fetched.series, samples = filling.taken, "bootstrapped");
        }
        self.go_back(filling, fetched.series, now).await;
        Ok(fetched)
    }

    /// Asks the store what lifetimes held that began before the window, if there are any of which that is not known.
    async fn go_back(&mut self, filling: &mut Filling, series: usize, now: Now) {
        let Some(mut query) = self.backfill.next(filling) else { return };
        let (from, window) = (query.from, query.window);
        let size = EarlierSize { series, spacing: query.spacing.unwrap_or(Elapsed::secs(10)) };
        let mut sink = |series: &SeriesId, samples: &[Sample]| query.take(series, samples);
        if let Err(error) = self.store.earlier(from, window, size, &mut sink).await {
            let error = ebb_service::logging::Chain(&error).to_string();
            warn!(
                error,
                "for now, running instances that started before the lookback count only from its start"
            );
            self.backfill.failed(now);
            return;
        }
        let instances = self.backfill.accept(query, filling);
        if instances > 0 {
            warn!(
                instances,
                "the store has no samples from the start of some running instances: they count from their first stored sample"
            );
        }
    }

    fn terms(&self) -> Terms {
        let overlap = self.store.overlap().unwrap_or_else(|| {
            /// Two scrapes at Prometheus' usual 10 s: a scrape is stored at most its time-out, itself at most its
            /// interval, after the time it is stamped with.
            const OVERLAP: Elapsed = Elapsed::secs(20);
            let spacing = self.intake.spacing().unwrap_or_default();
            OVERLAP.max(2 * spacing).max(self.intake.late())
        });
        Terms {
            lookback: self.config.lookback.as_elapsed(),
            clock_skew: self.config.hold.clock_skew.as_elapsed(),
            overlap,
            keeps_past: self.store.keeps_past(),
        }
    }

    /// Age from which a sample tells nothing about the present: unless it is set, three intervals, and as much as samples
    /// are apart and late.
    fn stale_after(&self) -> Elapsed {
        self.config.stale_after(self.samples_take())
    }

    /// How long it takes until three samples of a series have come.
    fn samples_take(&self) -> Elapsed {
        3 * self.intake.spacing().unwrap_or_default() + self.intake.late()
    }

    /// Names the series of our gauges that name nothing, each once.
    fn tell_nameless(&mut self, fetched: &Fetched) {
        for nameless in &fetched.nameless {
            if self.nameless_logged.first_time(nameless.clone()) {
                warn!(series = nameless, "series ignored: its labels do not identify an instance");
            }
        }
        self.nameless_logged.end_tick();
    }

    /// Keeps the newest reading of each host and limit, and none that is too old to tell anything.
    fn take_readings(&mut self, hosts: Hosts, memory_limits: MemoryLimits, now: Millis) {
        for (runner, memory) in hosts {
            let newest = self.hosts.entry(runner).or_insert(memory);
            if memory.at >= newest.at {
                *newest = memory;
            }
        }
        let stale_after = self.stale_after();
        let ahead = -self.config.hold.clock_skew.as_elapsed();
        let is_fresh = |at: Millis| (ahead..=stale_after).contains(&now.since(at));
        self.hosts.retain(|_, memory| is_fresh(memory.at));
        self.memory_limits.extend(memory_limits);
        self.memory_limits.retain(|_, limit| is_fresh(limit.at));
    }

    /// Foresees when memory runs out: anew if growth was looked at, and now and then.
    fn look_ahead(&mut self, has_looked: bool, now: Now) {
        /// Limits are told from the second tick on.
        const AT_FIRST: Elapsed = Elapsed::secs(5);
        const EVERY: Elapsed = Elapsed::secs(60);
        let every = if has_looked || self.outlook.is_empty() { AT_FIRST } else { EVERY };
        if self.looked_ahead_at.is_none_or(|at| now.steady.since(at) >= every) {
            self.looked_ahead_at = Some(now.steady);
            self.outlook = Arc::new(self.outlook(now));
        }
    }

    fn outlook(&self, now: Now) -> Outlook {
        let growing = Growing {
            history: self.intake.history(),
            growth: self.kinds.all(),
            limits: &self.memory_limits,
            hosts: &self.hosts,
            restart_takes: self.samples_take() + self.config.interval.as_elapsed(),
        };
        let snapshot = self.sinks.board.newest();
        let obstacle = |slot: &SlotId| {
            let population = snapshot.population(&slot.population);
            let is_held = snapshot.hold.is_some() || population.is_some_and(|own| own.hold.is_some());
            if self.config.dry_run {
                Some(Obstacle::DryRun)
            } else if !self.restarter.may_order(slot) {
                Some(Obstacle::NotAllowed)
            } else if is_held {
                Some(Obstacle::Held)
            } else if self.tick.suspended_until(&slot.population.module, now).is_some() {
                Some(Obstacle::Suspended)
            } else {
                None
            }
        };
        growing.outlook(&snapshot.instances, |module| self.config.rules.of(module), obstacle)
    }

    /// The modules of which series contradict each other.
    fn module_holds(&mut self, now: Millis) -> BTreeMap<Arc<str>, Hold> {
        let skew = self.config.hold.clock_skew.as_elapsed();
        let mut holds = BTreeMap::new();
        for (slot, contradiction) in
            self.intake.history().contradictions(now, self.config.stale_after(Elapsed::ZERO), skew)
        {
            let labels = match contradiction {
                Contradiction::Between(one, other) => differences(&one, &other),
                Contradiction::Within(_) => Vec::new(),
            };
            let hold = Hold::AmbiguousSeries { slot: slot.to_string(), labels };
            holds.entry(Arc::clone(&slot.population.module)).or_insert(hold);
        }
        for (module, hold) in &holds {
            if self.module_holds_logged.first_time(format!("{module}: {}", hold.key())) {
                warn!(module = &**module, reason = hold.name(), "holding restarts of a module: {hold}");
            }
        }
        self.module_holds_logged.end_tick();
        if let Some(hold) = holds.values().next() {
            self.sinks.metrics.held(hold.name());
        }
        holds
    }

    /// One population as the API shows it.
    fn population_snapshot(
        &self,
        assessed: Assessed,
        instances: &[Judgement],
        holds: &BTreeMap<Arc<str>, Hold>,
        now: Now,
    ) -> PopulationSnapshot {
        let instances = &instances[assessed.instances];
        let above = instances.iter().filter(|instance| instance.verdict.wants_restart());
        let module = &assessed.population.module;
        PopulationSnapshot {
            rule: assessed.rule,
            learned: assessed.learned,
            growth: self.kinds.of(&assessed.population),
            comparison: self.kinds.comparison(&assessed.population),
            instances: instances.len(),
            memory_bytes: instances.iter().map(|instance| instance.memory_bytes).sum(),
            reclaimable_bytes: above.map(|instance| instance.reclaimable_bytes).sum(),
            suspended_until: self.tick.suspended_until(module, now),
            hold: holds.get(module).cloned(),
            population: assessed.population,
        }
    }

    fn tell_hold(&mut self, hold: Option<&Hold>) {
        if let Some(hold) = hold {
            if self.hold_logged.first_time(hold.key()) {
                warn!(reason = hold.name(), "holding all restarts: {hold}");
            }
            self.sinks.metrics.held(hold.name());
        }
        if self.hold_logged.end_tick() {
            info!("restarts are not held any more");
        }
    }

    fn publish(
        &self,
        populations: Vec<PopulationSnapshot>,
        instances: Vec<Judgement>,
        hold: Option<Hold>,
        now: Millis,
    ) {
        self.sinks.metrics.judged(&instances);
        if hold.is_none() {
            self.sinks.metrics.succeeded(now);
        }
        let lifetimes = self.intake.history().populations().flat_map(|(_, slots)| slots.values());
        self.sinks.board.publish(Snapshot {
            at: now,
            hold,
            dry_run: self.config.dry_run,
            instance_series: self.config.instance_series,
            restarts_available: self.tick.budget().available(),
            lifetimes: lifetimes.map(|slot| slot.lifetimes().count()).sum(),
            saved_byte_seconds: self.tick.saved_byte_seconds().clone(),
            outlook: Arc::clone(&self.outlook),
            populations,
            instances,
        });
    }
}

/// What `next` says, of `store`; everything after `begin` for a history that is filled anew.
async fn ask(
    store: &mut Store,
    next: &Next,
    begin: Millis,
    clock: ClockCheck,
    sink: &mut Sink<'_>,
) -> Result<Fetched, StoreError> {
    match next {
        Next::Since(from) => store.recent(*from, clock, sink).await,
        Next::CatchUp(from) => store.bootstrap(*from, clock, sink).await,
        Next::Anew | Next::Wait(_) => store.bootstrap(begin, clock, sink).await,
    }
}
