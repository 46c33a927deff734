use std::sync::Arc;

use ebb_units::{ByteCount, Population};

use super::*;
use crate::{
    decide::{budget::BudgetConfig, hold::Limits},
    policy::{GuardRails, Policy},
};

const SECOND: i64 = 1000;
const START: i64 = 1_000_000 * SECOND;

fn slot(replica: u32) -> SlotId {
    let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
    SlotId { population, runner: "r:1".into(), replica }
}

fn rule(policy: Policy, max_bytes: Option<u64>) -> Rule {
    let guard_rails = GuardRails {
        min_age: Span::secs(0),
        min_lifetimes: 2,
        max_bytes: max_bytes.map(ByteCount),
        min_reclaim: ByteCount(1),
    };
    Rule { policy, guard_rails }
}

/// A sample every 10 s from the start on; a fall is a real restart.
fn recording(sizes: &[u64]) -> Recording {
    let mut recording = Recording::default();
    let mut generation = Generation(START.unsigned_abs());
    let mut before = 0;
    let samples: Vec<Sample> = (0..)
        .zip(sizes)
        .map(|(n, bytes)| {
            let at = Millis(START + n * 10 * SECOND);
            if *bytes < before {
                generation = Generation(at.0.unsigned_abs());
            }
            before = *bytes;
            Sample { at, generation, bytes: *bytes }
        })
        .collect();
    recording.observe(&slot(0).into(), &samples, Elapsed(30 * SECOND));
    recording
}

fn plan(ticks: i64) -> Plan {
    Plan {
        from: Millis(START),
        to: Millis(START + (ticks - 1) * 10 * SECOND),
        interval: Span::secs(10),
        lookback: Span::secs(3600),
        settings: settings(BudgetConfig { cooldown: Span::secs(0), ..BudgetConfig::default() }),
        undoes_restarts: false,
    }
}

fn settings(budget: BudgetConfig) -> Settings {
    let limits = Limits {
        stale_after: Elapsed(30 * SECOND),
        clock_skew: Elapsed(5 * SECOND),
        series_drop: 0.5,
        series_drop_window: Elapsed(60 * SECOND),
    };
    Settings {
        budget,
        limits,
        stale_after: Elapsed(30 * SECOND),
        verify_within: Elapsed(60 * SECOND),
        dry_run: false,
    }
}

fn memory(outcome: &Outcome) -> Vec<(u64, u64)> {
    outcome.memory.iter().map(|moment| (moment.real_bytes, moment.bytes)).collect()
}

#[test]
fn without_restarts_everything_is_as_it_was() {
    let sizes = [10, 20, 20, 20, 30, 10, 10, 40];
    let none = rule(Policy::None, None);
    let outcome = recording(&sizes).replay(&plan(8), |_| &none);
    assert_eq!(outcome.restarts, []);
    assert_eq!(memory(&outcome), sizes.map(|size| (size, size)));
    assert_eq!(recording(&sizes).real_restarts(Millis(START), Millis(START + 3600 * SECOND)), 1);
}

#[test]
fn after_a_restart_the_instance_grows_by_what_the_real_one_grew() {
    // Above 25: at 30, seen at the third tick, back to 10. Then 10 + (35 − 30), 10 + (50 − 30) = 30: again.
    let ceiling = rule(Policy::Static, Some(25));
    let outcome = recording(&[10, 20, 30, 35, 50, 55]).replay(&plan(6), |_| &ceiling);
    assert_eq!(memory(&outcome), [(10, 10), (20, 20), (30, 30), (35, 15), (50, 30), (55, 15)]);
    let restarts: Vec<_> = outcome
        .restarts
        .iter()
        .map(|simulated| (simulated.at.since(Millis(START)).0, simulated.judgement.memory_bytes))
        .collect();
    assert_eq!(restarts, [(20 * SECOND, 30), (40 * SECOND, 30)]);
    assert!(outcome.restarts[0].explanation.contains("max_bytes"), "{outcome:?}");
}

#[test]
fn a_real_restart_stays_where_it_was() {
    let ceiling = rule(Policy::Static, Some(25));
    let outcome = recording(&[10, 30, 40, 12, 14, 16]).replay(&plan(6), |_| &ceiling);
    assert_eq!(memory(&outcome), [(10, 10), (30, 30), (40, 20), (12, 12), (14, 14), (16, 16)]);
    assert_eq!(outcome.restarts.len(), 1);
}

#[test]
fn what_was_there_before_is_learned_and_not_decided() {
    let ceiling = rule(Policy::Static, Some(25));
    let later = Plan { from: Millis(START + 40 * SECOND), ..plan(6) };
    let outcome = recording(&[10, 20, 30, 35, 50, 55]).replay(&later, |_| &ceiling);
    // It started with 10: known from before.
    assert_eq!(memory(&outcome), [(50, 50), (55, 15)]);
    assert_eq!(outcome.restarts.len(), 1);
}

#[test]
fn who_was_not_seen_is_neither_counted_nor_restarted() {
    let mut recording = Recording::default();
    let sample = |seconds, bytes| Sample {
        at: Millis(START + seconds * SECOND),
        generation: Generation(START.unsigned_abs()),
        bytes,
    };
    recording.observe(
        &slot(0).into(),
        &[sample(0, 10), sample(10, 30), sample(100, 30)],
        Elapsed(30 * SECOND),
    );
    let ceiling = rule(Policy::Static, Some(25));
    let outcome = recording.replay(&Plan { from: Millis(START + 50 * SECOND), ..plan(11) }, |_| &ceiling);
    let seen: Vec<_> = outcome.memory.iter().map(|moment| moment.real_bytes).collect();
    assert_eq!(seen, [0, 0, 0, 0, 0, 30]);
    assert_eq!(
        outcome.restarts.iter().map(|simulated| simulated.at.0).collect::<Vec<_>>(),
        [START + 100 * SECOND]
    );
}

#[test]
fn the_sample_is_what_was_scraped_however_often_it_is_evaluated() {
    // 20 samples of 10, one of 30 at the end: the median is 10, seen every 2 s, 10 s or 40 s.
    let mut sizes = [10; 21];
    sizes[20] = 30;
    let end = START + 200 * SECOND;
    let learned = |interval: u64| {
        let plan = Plan { interval: Span::secs(interval), ..plan(1) };
        let recorded = recording(&sizes);
        let mut replay = recorded.begin(&plan);
        let mut now = START;
        while now <= end {
            replay.observe(Millis(now));
            now += plan.interval.as_elapsed().0;
        }
        let lifetime = replay.history.slot(&slot(0)).unwrap().newest().unwrap().clone();
        (lifetime.samples(), lifetime.doubled_median(), lifetime.last_at(), lifetime.area())
    };
    let expected = (21, 20, Millis(end), (10 * 200_000, Elapsed(200_000)));
    for interval in [2, 10, 40] {
        assert_eq!(learned(interval), expected, "{interval} s");
    }
}

#[test]
fn only_real_starts_count_as_seen() {
    // It ran for long before the first sample: nobody knows what it starts with. A restart that is only tried tells it no
    // more than before, however often.
    let mut recording = Recording::default();
    let samples: Vec<_> = (0..30)
        .map(|n| Sample {
            at: Millis(START + n * 10 * SECOND),
            generation: Generation((START - 3600 * SECOND).unsigned_abs()),
            bytes: 100 + 10 * u64::try_from(n).unwrap(),
        })
        .collect();
    recording.observe(&slot(0).into(), &samples, Elapsed(30 * SECOND));
    let ceiling = rule(Policy::Static, Some(150));
    let plan = plan(30);
    let mut replay = recording.begin(&plan);
    for n in 0..30 {
        let now = Millis(START + n * 10 * SECOND);
        replay.observe(now);
        replay.decide(&|_: &str| &ceiling, now);
    }
    assert!(replay.outcome.restarts.len() > 2, "{:?}", replay.outcome.restarts.len());
    let seen = replay.history.slot(&slot(0)).unwrap();
    assert!(seen.lifetimes().count() > 2);
    assert_eq!(seen.fresh_bytes(), None);
}

#[test]
fn of_several_series_of_a_slot_one_is_replayed() {
    let mut both = recording(&[10, 20, 30, 35, 50, 55]);
    let samples: Vec<_> = (0..3)
        .map(|n| Sample {
            at: Millis(START + n * 10 * SECOND + 5000),
            generation: Generation(START.unsigned_abs()),
            bytes: 1000,
        })
        .collect();
    let id = SeriesId { slot: slot(0), labels: "a=\"1\"".into() };
    both.observe(&id, &samples, Elapsed(30 * SECOND));
    let ceiling = rule(Policy::Static, Some(25));
    let of = |recording: &Recording| recording.replay(&plan(6), |_| &ceiling);
    assert_eq!(of(&both), of(&recording(&[10, 20, 30, 35, 50, 55])));
    assert_eq!((both.slots(), both.real_restarts(Millis(0), Millis(i64::MAX))), (1, 0));
}

#[test]
fn the_budget_holds_as_it_would_have() {
    let ceiling = rule(Policy::Static, Some(25));
    let tight = BudgetConfig { restarts_per_minute: 1, burst: 1, ..BudgetConfig::default() };
    let outcome = recording(&[10, 30, 60, 90, 120, 150])
        .replay(&Plan { settings: settings(tight), ..plan(6) }, |_| &ceiling);
    assert_eq!((outcome.restarts.len(), outcome.postponed), (1, 4));
}

#[test]
fn time_before_the_first_sample_does_not_count() {
    let recorded = recording(&[10, 20]);
    let begins = |from: i64| Plan { from: Millis(from), ..plan(2) }.where_recorded(&recorded).from.0;
    assert_eq!(begins(START - 3600 * SECOND), START);
    assert_eq!(begins(START + SECOND), START + SECOND);
    assert_eq!(plan(2).where_recorded(&Recording::default()).from, plan(2).from);
}
