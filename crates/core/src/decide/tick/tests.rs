use ebb_units::{ByteCount, Population, Span};

use super::*;
use crate::{
    decide::order::Restarted,
    history::{Sample, Window},
    policy::{GuardRails, Policy, Verdict},
};

const MINUTE: i64 = 60_000;

fn slot(replica: u32) -> SlotId {
    let population = Population { module: "leaky".into(), digest: "d".into() };
    SlotId { population, runner: "r:1".into(), replica }
}

/// Three instances of 500 bytes, of which 100 are allowed, and what a tick goes by: two restarts at once, one a minute.
struct Case {
    tick: Tick,
    history: History,
    settings: Settings,
    rule: Rule,
    fault: Option<Hold>,
    holds: BTreeMap<Arc<str>, Hold>,
    foreign: Vec<SlotId>,
}

impl Case {
    fn new() -> Self {
        let guard_rails = GuardRails {
            min_age: Span::secs(0),
            min_lifetimes: 2,
            max_bytes: Some(ByteCount(100)),
            min_reclaim: ByteCount(1),
        };
        let limits = Limits {
            stale_after: Elapsed(MINUTE),
            clock_skew: Elapsed(5000),
            series_drop: 0.5,
            series_drop_window: Elapsed(MINUTE),
        };
        let budget = BudgetConfig {
            burst: 2,
            restarts_per_minute: 1,
            cooldown: Span::secs(600),
            ..BudgetConfig::default()
        };
        let mut case = Self {
            tick: Tick::default(),
            history: History::default(),
            settings: Settings {
                budget,
                limits,
                stale_after: Elapsed(MINUTE),
                verify_within: Elapsed(MINUTE),
                dry_run: false,
            },
            rule: Rule { policy: Policy::Static, guard_rails },
            fault: None,
            holds: BTreeMap::new(),
            foreign: Vec::new(),
        };
        for replica in 0..3 {
            case.sees(replica, 1, 0, 10);
            case.sees(replica, 1, 1000, 500);
        }
        case
    }

    fn sees(&mut self, replica: u32, generation: u64, at: i64, bytes: u64) {
        let sample = Sample { at: Millis(at), generation: Generation(generation), bytes };
        self.history.observe(
            &slot(replica).into(),
            Window::ending_at(Millis(at), Elapsed(MINUTE * 60)),
            [sample],
        );
    }

    fn decide(&mut self, at: i64) -> Plan {
        let fleet = Fleet {
            history: &self.history,
            hosts: &Hosts::default(),
            rule_of: |_: &str| &self.rule,
            may_order: |slot: &SlotId| !self.foreign.contains(slot),
            spacing: None,
            late: Elapsed::ZERO,
            fault: self.fault.clone(),
            holds: &self.holds,
        };
        self.tick.decide(&self.settings, fleet, Now::both(Millis(at)))
    }

    fn conclude(&mut self, order: &Judgement, action: &Action, at: i64) {
        self.tick.conclude(order, action, Now::both(Millis(at)));
    }
}

fn ordered(plan: &Plan) -> Vec<u32> {
    plan.orders.iter().map(|order| order.slot.replica).collect()
}

fn declined(plan: &Plan) -> Vec<(u32, &'static str)> {
    plan.declined.iter().map(|(wish, action)| (wish.slot.replica, action.name())).collect()
}

fn restarted(generation: u64) -> Action {
    let new_generation = Generation(generation);
    Action::Ordered(Outcome::Restarted(Restarted {
        new_generation,
        reclaimed_bytes: 490,
        duration_seconds: 0.1,
    }))
}

#[test]
fn what_the_budget_allows_is_ordered_and_the_rest_is_put_off() {
    let mut case = Case::new();
    let plan = case.decide(1000);
    assert_eq!((ordered(&plan), declined(&plan)), (vec![0, 1], vec![(2, "rate_limited")]));
    assert_eq!((plan.hold, plan.assessment.instances.len(), case.tick.budget().available()), (None, 3, 0));
}

/// What each outcome costs: how many restarts may be ordered at once afterwards, and what is said of the same instance.
#[test]
fn what_restarted_nothing_costs_no_budget_and_only_what_was_put_off_is_asked_for_again_at_once() {
    let message = || "why".to_owned();
    let check = |action: Action, available: i64, next: &str| {
        let mut case = Case::new();
        case.settings.budget.burst = 1;
        let plan = case.decide(1000);
        assert_eq!(ordered(&plan), [0]);
        case.conclude(&plan.orders[0], &action, 1000);
        assert_eq!(case.tick.budget().available(), available, "{action:?}");
        case.foreign = vec![slot(1), slot(2)];
        let again = case.decide(1100);
        let said = declined(&again).into_iter().find(|(replica, _)| *replica == 0).map(|(_, said)| said);
        assert_eq!(said.unwrap_or("ordered"), next, "{action:?}");
    };
    check(restarted(1000), 0, "awaiting_effect");
    check(Action::Ordered(Outcome::NoAnswer { message: message() }), 0, "cooling_down");
    for refused in [
        Outcome::GenerationGone,
        Outcome::UnknownReplica,
        Outcome::CouldNotStart { message: message() },
        Outcome::Unauthorized,
        Outcome::NoCredentials { message: message() },
        Outcome::Unexpected { message: message() },
    ] {
        check(Action::Ordered(refused), 1, "cooling_down");
    }
    for put_off in [Outcome::AlreadyRestarting, Outcome::RunnerBusy] {
        check(Action::Ordered(put_off), 1, "ordered");
    }
    check(Action::RUNNER_SILENT, 1, "ordered");
}

#[test]
fn a_hold_stops_all_orders_or_those_of_its_module_and_costs_nothing() {
    let mut case = Case::new();
    case.fault = Some(Hold::EmptyAnswer);
    let plan = case.decide(1000);
    assert_eq!((ordered(&plan).len(), plan.hold), (0, Some(Hold::EmptyAnswer)));
    assert!(plan.declined.iter().all(|(_, action)| *action == Action::Held { hold: "empty_answer" }));
    assert_eq!((plan.declined.len(), case.tick.budget().available()), (3, 2));

    case.fault = None;
    let of_module = Hold::AmbiguousSeries { slot: String::new(), labels: Vec::new() };
    case.holds.insert("leaky".into(), of_module);
    let plan = case.decide(2000);
    assert_eq!((ordered(&plan).len(), plan.hold), (0, None));
    case.holds.clear();
    assert_eq!(ordered(&case.decide(3000)).len(), 2);
    // Samples that are too old hold by themselves.
    case.settings.stale_after = Elapsed(10 * MINUTE);
    let plan = case.decide(5 * MINUTE);
    assert_eq!(plan.hold.map(|hold| hold.name()), Some("clock_ahead"));
}

#[test]
fn series_of_others_take_no_budget() {
    let mut case = Case::new();
    case.foreign = vec![slot(0), slot(1)];
    let plan = case.decide(1000);
    assert_eq!((ordered(&plan), declined(&plan)), (vec![2], vec![(0, "not_allowed"), (1, "not_allowed")]));
    assert_eq!(case.tick.budget().available(), 1);
}

#[test]
fn a_dry_run_orders_nothing_of_anybody_and_spends_nothing() {
    let mut case = Case::new();
    case.settings.dry_run = true;
    case.foreign = vec![slot(0)];
    for at in [1000, 2000] {
        let plan = case.decide(at);
        assert_eq!((ordered(&plan).len(), case.tick.budget().available()), (0, 2));
        let expected = [(0, "dry_run"), (1, "dry_run"), (2, "rate_limited")];
        assert_eq!(declined(&plan), expected);
    }
}

#[test]
fn an_effect_is_awaited_seen_and_remembered_by_the_module() {
    let mut case = Case::new();
    case.settings.budget.max_ineffective = 1;
    case.foreign = vec![slot(1), slot(2)];
    let plan = case.decide(1000);
    case.conclude(&plan.orders[0], &restarted(1000), 1000);
    let waiting = case.decide(2000);
    assert_eq!(waiting.effects, []);
    assert_eq!(declined(&waiting)[0], (0, "awaiting_effect"));
    // The new one holds no less: the module is suspended.
    case.sees(0, 1000, 3000, 500);
    let plan = case.decide(3000);
    let [(restart, effect)] = &plan.effects[..] else { panic!("{:?}", plan.effects) };
    assert_eq!((restart.verdict, restart.bytes_before), (Verdict::AboveMaxBytes, 500));
    assert_eq!(*effect, Effect::MemoryDidNotFall { memory_bytes_after: 500 });
    assert!(declined(&plan).contains(&(0, "module_suspended")), "{:?}", declined(&plan));
    assert!(case.tick.suspended_until("leaky", Now::both(Millis(3000))).is_some());
}
