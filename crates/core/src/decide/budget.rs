//! PURE: the restarts wished for → those that are done now.
//!
//! Three limits, on by default, because a threshold learned from bad data must never take a fleet down:
//! a rate for the whole evaluator, a cooldown for each slot, and a stop for a module whose restarts do not
//! bring memory down. `max_unavailable` per module is how many of the admitted run side by side.

use std::collections::{BTreeMap, HashMap};

use ebb_units::{Millis, SlotId, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `budget:` section of the config.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Restarts of one module that are under way at the same time.
    pub max_unavailable: u32,
    /// Restarts per minute, all modules together; unused ones are saved up to `burst`.
    #[schemars(range(min = 1))]
    pub restarts_per_minute: u32,
    /// Restarts that can be done at once after a quiet time.
    #[schemars(range(min = 1))]
    pub burst: u32,
    /// Pause between two restarts of one slot.
    pub cooldown: Span,
    /// A module is suspended after this many consecutive restarts that did not reduce memory.
    pub max_ineffective: u32,
    /// How long it then stays suspended.
    pub suspend_for: Span,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            max_unavailable: 1,
            restarts_per_minute: 10,
            burst: 10,
            cooldown: Span::secs(60),
            max_ineffective: 3,
            suspend_for: Span::secs(1800),
        }
    }
}

/// Whether a restart wished for is done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is done.
    Admitted,
    /// It is not.
    Postponed(Limit),
}

/// What puts a restart off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The rate is used up.
    RateLimited,
    /// Its slot was restarted a short while ago.
    CoolingDown,
    /// The module's restarts did not bring memory down.
    ModuleSuspended,
    /// Its runner did not answer another order of the same tick.
    RunnerSilent,
}

impl Limit {
    /// Every limit.
    pub const ALL: [Self; 4] =
        [Self::RateLimited, Self::CoolingDown, Self::ModuleSuspended, Self::RunnerSilent];

    /// The limit's name, as logs and metrics tell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::CoolingDown => "cooling_down",
            Self::ModuleSuspended => "module_suspended",
            Self::RunnerSilent => "runner_silent",
        }
    }
}

/// One restart, in the unit in which the rate fills the budget up: a restart per minute and millisecond.
const TOKEN: i64 = 60_000;

/// What was spent.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    /// In parts of which [`TOKEN`] make one restart.
    tokens: i64,
    refilled_at: Option<Millis>,
    ordered_at: HashMap<SlotId, Millis>,
    ineffective: BTreeMap<String, Ineffective>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ineffective {
    in_a_row: u32,
    suspended_until: Option<Millis>,
}

impl Budget {
    /// Decides about `wishes`, worst first, and takes what is admitted out of the budget.
    pub(crate) fn admit<'a>(
        &mut self,
        config: &BudgetConfig,
        wishes: impl IntoIterator<Item = &'a SlotId>,
        now: Millis,
    ) -> Vec<Admission> {
        self.refill(config, now);
        let cooldown = config.cooldown.as_elapsed();
        self.ordered_at.retain(|_, ordered_at| now.since(*ordered_at) < cooldown);
        wishes.into_iter().map(|slot| self.admit_one(slot, now)).collect()
    }

    /// Takes back what was admitted and restarted nothing. The slot's cooldown stays, so that an order that is
    /// refused is not given again at every tick.
    pub(crate) fn refund(&mut self) {
        self.tokens += TOKEN;
    }

    /// As [`Budget::refund`], without the cooldown: it was a dry run, or the runner put the order off.
    pub(crate) fn forget(&mut self, slot: &SlotId) {
        self.refund();
        self.ordered_at.remove(slot);
    }

    /// Learns whether a restart of `module` brought memory down.
    pub(crate) fn verified(&mut self, config: &BudgetConfig, module: &str, memory_fell: bool, now: Millis) {
        let entry = self.ineffective.entry(module.to_owned()).or_default();
        entry.in_a_row = if memory_fell { 0 } else { entry.in_a_row + 1 };
        if entry.in_a_row >= config.max_ineffective.max(1) {
            *entry =
                Ineffective { in_a_row: 0, suspended_until: Some(now.plus(config.suspend_for.as_elapsed())) };
        }
    }

    /// Until when `module` is suspended, if it is at `now`.
    pub(crate) fn suspended_until(&self, module: &str, now: Millis) -> Option<Millis> {
        self.ineffective.get(module)?.suspended_until.filter(|until| now < *until)
    }

    /// Whether a restart of `slot` would be put off at `now` whatever the rate allows.
    pub(crate) fn bars(&self, config: &BudgetConfig, slot: &SlotId, now: Millis) -> bool {
        let cools_down =
            self.ordered_at.get(slot).is_some_and(|then| now.since(*then) < config.cooldown.as_elapsed());
        cools_down || self.suspended_until(&slot.population.module, now).is_some()
    }

    /// Restarts that could be admitted at once.
    #[must_use]
    pub const fn available(&self) -> i64 {
        self.tokens / TOKEN
    }

    /// Fills the budget up to `now`.
    pub(crate) fn refill(&mut self, config: &BudgetConfig, now: Millis) {
        let burst = i64::from(config.burst) * TOKEN;
        let tokens = match self.refilled_at {
            None => burst,
            Some(then) => {
                let refill = now.since(then).0.max(0).saturating_mul(i64::from(config.restarts_per_minute));
                self.tokens.saturating_add(refill)
            }
        };
        self.tokens = tokens.min(burst);
        self.refilled_at = Some(now);
    }

    fn admit_one(&mut self, slot: &SlotId, now: Millis) -> Admission {
        if self.suspended_until(&slot.population.module, now).is_some() {
            return Admission::Postponed(Limit::ModuleSuspended);
        }
        if self.ordered_at.contains_key(slot) {
            return Admission::Postponed(Limit::CoolingDown);
        }
        if self.tokens < TOKEN {
            return Admission::Postponed(Limit::RateLimited);
        }
        self.tokens -= TOKEN;
        self.ordered_at.insert(slot.clone(), now);
        Admission::Admitted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebb_units::Population;

    use super::*;

    const ADMITTED: Admission = Admission::Admitted;
    const RATE_LIMITED: Admission = Admission::Postponed(Limit::RateLimited);
    const COOLING_DOWN: Admission = Admission::Postponed(Limit::CoolingDown);
    const MODULE_SUSPENDED: Admission = Admission::Postponed(Limit::ModuleSuspended);

    fn slot(replica: u32) -> SlotId {
        let population = Population { module: Arc::from("leaky"), digest: Arc::from("d") };
        SlotId { population, runner: "127.0.0.1:9742".into(), replica }
    }

    fn admit(budget: &mut Budget, replicas: std::ops::Range<u32>, seconds: i64) -> Vec<Admission> {
        let config = BudgetConfig { burst: 2, restarts_per_minute: 6, ..BudgetConfig::default() };
        let slots: Vec<_> = replicas.map(slot).collect();
        budget.admit(&config, &slots, Millis(seconds * 1000))
    }

    #[test]
    fn no_more_than_the_burst_is_admitted_at_once_and_the_rate_fills_it_up() {
        let mut budget = Budget::default();
        assert_eq!(admit(&mut budget, 0..4, 0), [ADMITTED, ADMITTED, RATE_LIMITED, RATE_LIMITED]);
        // 6 a minute is one every 10 s.
        assert_eq!(admit(&mut budget, 2..4, 9), [RATE_LIMITED, RATE_LIMITED]);
        assert_eq!(admit(&mut budget, 2..4, 10), [ADMITTED, RATE_LIMITED]);
        // However long it is quiet, no more than the burst.
        assert_eq!(admit(&mut budget, 10..13, 9999), [ADMITTED, ADMITTED, RATE_LIMITED]);
    }

    #[test]
    fn a_slot_is_left_alone_during_its_cooldown() {
        let mut budget = Budget::default();
        assert_eq!(admit(&mut budget, 0..1, 0), [ADMITTED]);
        assert_eq!(admit(&mut budget, 0..1, 59), [COOLING_DOWN]);
        assert_eq!(admit(&mut budget, 0..1, 60), [ADMITTED]);
    }

    #[test]
    fn an_order_that_was_put_off_is_given_back_with_its_cooldown() {
        let mut budget = Budget::default();
        assert_eq!(admit(&mut budget, 0..2, 0), [ADMITTED, ADMITTED]);
        budget.forget(&slot(1));
        assert_eq!(admit(&mut budget, 1..3, 0), [ADMITTED, RATE_LIMITED]);
    }

    #[test]
    fn an_order_that_was_refused_is_given_back_and_cools_down_all_the_same() {
        let mut budget = Budget::default();
        assert_eq!(admit(&mut budget, 0..2, 0), [ADMITTED, ADMITTED]);
        budget.refund();
        assert_eq!(admit(&mut budget, 1..3, 0), [COOLING_DOWN, ADMITTED]);
    }

    #[test]
    fn a_module_whose_restarts_do_not_help_is_suspended_for_a_while() {
        let config =
            BudgetConfig { max_ineffective: 2, suspend_for: Span::secs(100), ..BudgetConfig::default() };
        let mut budget = Budget::default();
        budget.verified(&config, "leaky", false, Millis(0));
        budget.verified(&config, "leaky", true, Millis(0));
        budget.verified(&config, "leaky", false, Millis(0));
        assert_eq!(budget.suspended_until("leaky", Millis(0)), None);
        budget.verified(&config, "leaky", false, Millis(0));
        assert_eq!(admit(&mut budget, 0..1, 99), [MODULE_SUSPENDED]);
        assert_eq!(admit(&mut budget, 0..1, 100), [ADMITTED]);
    }

    #[test]
    fn a_clock_that_jumps_back_fills_nothing_up() {
        let mut budget = Budget::default();
        assert_eq!(admit(&mut budget, 0..2, 100), [ADMITTED, ADMITTED]);
        assert_eq!(admit(&mut budget, 2..3, 50), [RATE_LIMITED]);
    }
}
