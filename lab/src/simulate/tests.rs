use ebb_core::policy::{Adapt, DailyRhythm, IntervalKind, MaxAge, Policy, Pooling, Renewal};
use ebb_host::{
    restart::Restarted as Replaced,
    retire::{Retirement, RetirementConfig},
};
use ebb_units::{ByteCount, RestartPrice};

use super::*;
use crate::{
    contender::{contenders, no_budget, paper, renewal, rule, t_interval},
    optimum::optimum,
    study::{HOST_BYTES, setup},
    workload::Workload,
};

const DAY: Tick = 1440;

fn run(rule: Rule, workload: Workload, replicas: u32, ticks: Tick, faults: Faults) -> Run {
    let traces = workload.fleet(replicas, ticks, 1);
    simulate(&Setup { faults, ..setup(rule) }, &traces, ticks)
}

#[test]
fn without_restarts_memory_is_what_the_demands_make_it() {
    let traces = Workload::Mixture.fleet(8, DAY, 5);
    let run = simulate(&setup(rule(Policy::None)), &traces, DAY);
    let never: i64 = traces.iter().map(|trace| optimum(trace, DAY, &[i64::MAX / 4])[0].area).sum();
    assert_eq!(run.outcome, Outcome { area: never, restarts: 0 });
}

#[test]
fn nobody_needs_fewer_restarts_than_the_optimum() {
    let price_mib_minutes = 2000;
    for workload in [Workload::Leaks, Workload::Mixture, Workload::Daily] {
        let traces = workload.fleet(8, 3 * DAY, 2);
        let price = price_mib_minutes << 20;
        let best: i64 = traces.iter().map(|trace| optimum(trace, 3 * DAY, &[price])[0].cost(price)).sum();
        let rule = renewal(Pooling::Adaptive, price_mib_minutes.unsigned_abs());
        let found = simulate(&setup(rule), &traces, 3 * DAY).outcome.cost(price);
        assert!(best < found && found < 2 * best, "{workload:?}: {found}, optimum {best}");
    }
}

#[test]
fn what_restarts_are_said_to_have_saved_they_have_saved() {
    let ticks = 5 * DAY;
    for workload in [Workload::Leaks, Workload::HighWater, Workload::Mixture, Workload::LeakingCache] {
        let traces = workload.fleet(8, ticks, 3);
        let run = simulate(&setup(renewal(Pooling::Adaptive, 2000)), &traces, ticks);
        let never = simulate(&setup(rule(Policy::None)), &traces, ticks).outcome.area;
        let saved = (never - run.outcome.area) as f64;
        assert!(run.saved <= saved && run.saved > 0.01 * saved, "{workload:?}: {} of {saved}", run.saved);
    }
}

#[test]
fn what_does_not_grow_is_never_restarted() {
    const REPLICAS: u32 = 8;
    let ticks = 30 * DAY;
    let traces = Workload::NoGrowth.fleet(REPLICAS, ticks, 1);
    for contender in contenders(REPLICAS, HOST_BYTES) {
        // Every setting would take minutes here; the two ends and the middle of each sweep show as much.
        let rules = [0, contender.rules.len() / 2, contender.rules.len() - 1].map(|at| contender.rules[at]);
        for rule in rules {
            let restarts = simulate(&setup(rule), &traces, ticks).outcome.restarts;
            assert_eq!(restarts > 0, contender.name == "max_age", "{}: {restarts} {rule:?}", contender.name);
        }
    }
}

#[test]
fn whatever_goes_wrong_the_invariants_hold() {
    let faults = Faults {
        seed: 3,
        missed_scrapes: 0.1,
        late_samples: 0.1,
        failed_restarts: 0.2,
        evaluator_restarts_every: Some(500),
        ..Faults::default()
    };
    for policy in [
        renewal(Pooling::Adaptive, 200),
        t_interval(IntervalKind::Confidence, Adapt::Literal, 0.5),
        t_interval(IntervalKind::Prediction, Adapt::Intent, 0.8),
        rule(Policy::MaxAge(MaxAge { max_age: Span::secs(1200) })),
    ] {
        let run = run(policy, Workload::Mixture, 40, 2 * DAY, faults);
        assert!(run.outcome.restarts > 50 && run.failed_orders > 5, "{policy:?}: {run:?}");
    }
}

#[test]
fn an_evaluator_started_anew_decides_the_same_where_instances_run_for_longer_than_the_lookback() {
    let faults = Faults {
        missed_scrapes: 0.3,
        late_samples: 0.1,
        evaluator_restarts_every: Some(101),
        ..Faults::default()
    };
    for price in [2000, 8000] {
        let rule = renewal(Pooling::Adaptive, price);
        let traces = Workload::SlowLeak.fleet(12, 4 * DAY, 1);
        let setup = Setup { faults, lookback: Span::secs(6 * 3600), ..setup(rule) };
        let run = simulate(&setup, &traces, 4 * DAY);
        let longest = run.restarts.iter().map(|(_, age)| *age).max().unwrap();
        assert!(longest > 7 * 60, "{longest} min");
    }
}

#[test]
fn an_evaluator_started_anew_decides_the_same_where_thresholds_follow_the_day() {
    let faults = Faults { missed_scrapes: 0.1, evaluator_restarts_every: Some(499), ..Faults::default() };
    let rule = |rhythm| {
        let restart_price = RestartPrice::new(ByteCount::mib(2000), Span::secs(60)).unwrap();
        rule(Policy::Renewal(Renewal { restart_price, rhythm, ..Renewal::default() }))
    };
    let [auto, off] = [DailyRhythm::Auto, DailyRhythm::Off]
        .map(|rhythm| run(rule(rhythm), Workload::Daily, 12, 5 * DAY, faults).outcome);
    let price = 2000 << 20;
    assert!(auto.cost(price) < off.cost(price) * 97 / 100, "{auto:?} {off:?}");
}

#[test]
fn replicas_that_are_all_alike_are_restarted_one_after_the_other_in_the_quiet_hours() {
    const REPLICAS: usize = 150;
    let budget = BudgetConfig { restarts_per_minute: 1, burst: 1, ..BudgetConfig::default() };
    let alike = vec![Workload::Office.fleet(1, 6 * DAY, 1).remove(0); REPLICAS];
    let quiet = |rhythm| {
        let rule = rule(Policy::Renewal(Renewal { rhythm, ..Renewal::default() }));
        let mut by_hour = [0; 6 * 24];
        for (at, _) in simulate(&Setup { budget, ..setup(rule) }, &alike, 6 * DAY).restarts {
            by_hour[(at / 60) as usize] += 1;
        }
        assert!(by_hour.iter().max() <= Some(&61), "{rhythm:?}: {by_hour:?}");
        // A rhythm takes a few days to find.
        let later = || by_hour.iter().enumerate().skip(4 * 24);
        let quiet = later().filter(|(hour, _)| !(9..17).contains(&(hour % 24)));
        let sum =
            |hours: &mut dyn Iterator<Item = (usize, &i32)>| hours.map(|(_, restarts)| restarts).sum::<i32>();
        f64::from(sum(&mut { quiet })) / f64::from(sum(&mut later()))
    };
    let [auto, off] = [DailyRhythm::Auto, DailyRhythm::Off].map(quiet);
    assert!(auto > 0.7 && off < 0.1, "{auto} {off} of the restarts fall into quiet hours");
}

#[test]
fn an_outage_of_all_scrapes_holds_every_restart_however_much_was_learned() {
    let faults = Faults { outage_from: Some(DAY), ..Faults::default() };
    for policy in
        [renewal(Pooling::Adaptive, 200), rule(Policy::MaxAge(MaxAge { max_age: Span::secs(1200) }))]
    {
        let until = |ticks| run(policy, Workload::Leaks, 10, ticks, faults);
        // The last samples stay young for three ticks.
        let (before, after) = (until(DAY + 3), until(2 * DAY));
        assert!(before.outcome.restarts > 50 && before.held == 0, "{policy:?}: {before:?}");
        assert_eq!(after.outcome.restarts, before.outcome.restarts, "{policy:?}");
        assert_eq!(after.held, DAY - 3, "{policy:?}");
    }
}

#[test]
fn a_higher_restart_price_means_fewer_restarts() {
    let restarts = |price| -> i64 {
        (0..4)
            .map(|seed| {
                let traces = Workload::Mixture.fleet(20, 3 * DAY, seed);
                simulate(&setup(renewal(Pooling::Adaptive, price)), &traces, 3 * DAY).outcome.restarts
            })
            .sum()
    };
    let found = [300, 1000, 3000, 10_000].map(restarts);
    assert!(found.windows(2).all(|pair| pair[0] > pair[1]), "{found:?}");
}

#[test]
fn the_papers_rule_storms_and_the_guard_rails_bound_it() {
    const REPLICAS: u32 = 32;
    const HOURS: u32 = 8;
    // A tick of 10 s each, as in the paper.
    const TICKS: Tick = HOURS * 360;
    let traces = Workload::Leaks.fleet(REPLICAS, TICKS, 1);
    let hourly = |rule, budget| {
        let setup = Setup { rule, budget, interval: Span::secs(10), ..setup(rule) };
        let restarts = simulate(&setup, &traces, TICKS).outcome.restarts;
        restarts / (i64::from(REPLICAS) * i64::from(HOURS))
    };
    let confidence = t_interval(IntervalKind::Confidence, Adapt::Off, 0.95);
    let (storm, guarded) = (hourly(paper(0.95), no_budget()), hourly(confidence, BudgetConfig::default()));
    assert!(storm >= 20, "{storm} restarts an hour of each instance");
    assert!(guarded * 5 <= storm, "{guarded} restarts an hour with the guard rails, {storm} without");
}

/// As [`simulate`], where a host retires its instances itself: each restart.
fn retired_in_process(setup: &Setup, traces: &[Trace], ticks: Tick) -> Vec<(Tick, Tick)> {
    let Setup { rule, budget, interval, lookback, .. } = *setup;
    let mut retirement = Retirement::new(RetirementConfig { rule, budget, interval, lookback });
    let population = Population { module: "simulated".into(), digest: "d1".into() };
    let at = |tick: Tick| EPOCH.plus(i64::from(tick) * interval.as_elapsed());
    let generation = |tick: Tick| Generation(at(tick).0.unsigned_abs());
    let mut living: Vec<_> = traces.iter().map(|trace| (Instance::new(trace), trace.demands(), 0)).collect();
    let mut restarts = Vec::new();
    for tick in 1..ticks {
        for (instance, ahead, _) in &mut living {
            while let Some((demand, rest)) = ahead.split_first().filter(|(demand, _)| demand.at <= tick) {
                instance.meet(demand);
                *ahead = rest;
            }
        }
        let sizes = (0..).zip(&living).map(|(replica, (instance, _, started))| {
            (&population, replica, generation(*started), instance.bytes.unsigned_abs())
        });
        for retired in retirement.tick(sizes, at(tick)) {
            let replica = retired.judgement.slot.replica as usize;
            let (instance, _, started) = &mut living[replica];
            let old = *started;
            (*instance, *started) = (Instance::new(&traces[replica]), tick);
            restarts.push((tick, tick - old));
            let replaced = Replaced {
                old: generation(old),
                new: generation(tick),
                reclaimed: ByteCount(retired.judgement.reclaimable_bytes),
                released: ByteCount(0),
                duration: std::time::Duration::ZERO,
                draining: false,
            };
            retirement.conclude(&retired, &Ok(replaced), at(tick));
        }
    }
    restarts
}

#[test]
fn a_host_that_retires_instances_itself_does_as_the_evaluator() {
    let ticks = 4 * DAY;
    let rules = [Rule::default(), t_interval(IntervalKind::Prediction, Adapt::Intent, 0.8)];
    for workload in Workload::ALL.into_iter().filter(|workload| workload.is_scored()) {
        let traces = workload.fleet(12, ticks, 4);
        for rule in rules {
            let setup = setup(rule);
            let evaluated = simulate(&setup, &traces, ticks).restarts;
            assert!(evaluated.len() > 5, "{workload:?}: {evaluated:?}");
            assert_eq!(retired_in_process(&setup, &traces, ticks), evaluated, "{workload:?}");
        }
    }
}
