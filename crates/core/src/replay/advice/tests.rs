use ebb_units::{Elapsed, Generation, Population, SlotId};

use super::*;
use crate::{
    decide::{budget::BudgetConfig, hold::Limits as HoldLimits, tick::Settings},
    history::{History, Sample, Window},
    policy::{GuardRails, Policy, Pooling, Renewal, Rule},
    replay::{Replayed, Run, SimulatedInstance},
};

const MIB: u64 = 1 << 20;
const MINUTE: i64 = 60_000;
const BEGIN: i64 = 1_000_000 * MINUTE;
const HOURS: i64 = 96;

/// Four slots that leak 4 MiB an hour from 2 MiB on, and were restarted every `restarted` hours.
fn recording(restarted: i64) -> Recording {
    let mut recording = Recording::default();
    let population = Population { module: "leaky".into(), digest: "d".into() };
    for replica in 0..4 {
        let slot = SlotId { population: population.clone(), runner: "r:1".into(), replica };
        let samples: Vec<_> = (0..HOURS * 60)
            .map(|minute| {
                let age = (minute + i64::from(replica) * 7) % (restarted * 60);
                let at = Millis(BEGIN + minute * MINUTE);
                let generation = Generation((at.0 - age * MINUTE).unsigned_abs());
                Sample { at, generation, bytes: 2 * MIB + age.unsigned_abs() * 4 * MIB / 60 }
            })
            .collect();
        recording.observe(&slot.into(), &samples, Elapsed(5 * MINUTE));
    }
    recording
}

fn plan() -> Plan {
    let stale_after = Elapsed(15 * MINUTE);
    Plan {
        from: Millis(BEGIN + 24 * 60 * MINUTE),
        to: Millis(BEGIN + HOURS * 60 * MINUTE),
        interval: Span::secs(300),
        lookback: Span::secs(14 * 86_400),
        settings: Settings {
            budget: BudgetConfig::default(),
            limits: HoldLimits {
                stale_after,
                clock_skew: Elapsed::secs(60),
                series_drop: 0.5,
                series_drop_window: Elapsed::secs(600),
            },
            stale_after,
            verify_within: stale_after,
            dry_run: false,
        },
        undoes_restarts: true,
    }
}

fn advice(recording: &Recording) -> Advice {
    let configured = "1GiB*10m".parse().unwrap();
    let outcomes: Vec<_> = prices([configured].into_iter())
        .into_iter()
        .map(|restart_price| {
            let renewal = Renewal { restart_price, pooling: Pooling::Adaptive, ..Renewal::default() };
            let rule = Rule { policy: Policy::Renewal(renewal), guard_rails: GuardRails::default() };
            (restart_price, recording.replay(&plan(), |_| &rule))
        })
        .collect();
    Advice::new(recording, &plan(), &outcomes, Some(configured))
}

#[test]
fn a_higher_price_means_fewer_restarts_and_more_memory_as_it_must() {
    let advice = advice(&recording(8));
    for pair in advice.points.windows(2) {
        assert!(pair[0].restarts_per_day >= pair[1].restarts_per_day, "{}", advice.table(None));
        assert!(pair[0].mean_bytes <= pair[1].mean_bytes, "{}", advice.table(None));
    }
    // What leaks r and is restarted each T costs r·T/2 and price/T: T = √(2·price/r), here 9.2 hours: 10.4 restarts a day and 20.5 MiB each.
    let configured = &advice.points[advice.configured.unwrap()];
    assert!((configured.restarts_per_day / 10.4 - 1.0).abs() < 0.25, "{}", advice.table(None));
    assert!((configured.mean_bytes / (4.0 * 20.5 * MIB as f64) - 1.0).abs() < 0.15, "{}", advice.table(None));
    assert!((advice.real.restarts_per_day - 12.0).abs() < 0.6, "{}", advice.table(None));
}

#[test]
fn a_simulated_restart_holds_though_a_real_one_comes_with_the_next_sample() {
    let population = Population { module: "leaky".into(), digest: "d".into() };
    let slot = SlotId { population, runner: "r:1".into(), replica: 0 };
    let run = |minute: i64, generation: u64, bytes| Run {
        first: Millis(BEGIN + minute * MINUTE),
        last: Millis(BEGIN + minute * MINUTE),
        samples: 1,
        generation: Generation(generation),
        bytes,
    };
    let spans = [run(0, 1, 50), run(1, 2, 3), run(2, 2, 4)];
    let mut replayed = Replayed::new(&slot, &spans, true);
    let next = |replayed: &mut Replayed<'_>, minute: i64| {
        replayed.next(Millis(BEGIN + minute * MINUTE), Some(Elapsed(5 * MINUTE))).unwrap()
    };
    assert_eq!(next(&mut replayed, 0).bytes, 50);
    let generation = Generation(BEGIN.unsigned_abs() + 1);
    replayed.simulated =
        Some(SimulatedInstance { generation, real_bytes: 50, fresh_bytes: 2, adds_up: true });
    let after = next(&mut replayed, 1);
    assert_eq!((after.generation, after.bytes), (generation, 2));
    assert_eq!(next(&mut replayed, 2).bytes, 3);
}

#[test]
fn the_curve_is_the_same_whatever_was_done_so_far() {
    let (seldom, often) = (advice(&recording(24)), advice(&recording(4)));
    for (one, other) in seldom.points.iter().zip(&often.points).filter(|(one, _)| one.restarts_per_day > 4.0)
    {
        let ratio = one.mean_bytes / other.mean_bytes;
        assert!((0.8..1.25).contains(&ratio), "{}\n{}", seldom.table(None), often.table(None));
    }
}

#[test]
fn what_a_history_remembers_gives_the_same_curve_and_some_of_its_slots_stand_for_all() {
    let recorded = recording(8);
    let mut history = History::default();
    let window = Window::ending_at(plan().to, Elapsed(HOURS * 60 * MINUTE));
    for (slot, spans) in recorded.chosen() {
        let mut replayed = Replayed::new(slot, spans, false);
        let samples = std::iter::from_fn(|| replayed.next(plan().to, None));
        history.observe(&slot.clone().into(), window, samples);
    }
    let (one, other) = (advice(&recorded), advice(&Recording::of_history(&history, 2)));
    assert_eq!((other.slots, other.scale, other.left_out().contains("of 4")), (2, 2.0, true));
    for (one, other) in one.points.iter().zip(&other.points).filter(|(one, _)| one.restarts_per_day > 4.0) {
        let ratio = one.mean_bytes / other.mean_bytes;
        assert!((0.85..1.15).contains(&ratio), "{one:?} {other:?}");
    }
    assert_eq!(recorded.of_fewer_slots(3).slots(), 2);
}

#[test]
fn limits_leave_room_above_what_was_held() {
    let peaks = Peaks { bytes: vec![30 * MIB, 40 * MIB, 50 * MIB], rise_bytes: 30 * MIB };
    let limits = Limits::of(&peaks);
    assert_eq!((limits.max_bytes, limits.memory_limit), (60 * MIB, 90 * MIB));
    let still = Limits::of(&Peaks { bytes: vec![10 * MIB; 5], rise_bytes: 0 });
    assert_eq!((still.max_bytes, still.memory_limit), (11 * MIB, 14 * MIB));
    assert!(still.reason().contains("5 lifetimes held up to 10.0 MiB"), "{}", still.reason());
}

#[test]
fn the_knee_is_where_the_curve_bends_most() {
    assert_eq!(knee(&[(100.0, 1.0), (10.0, 2.0), (1.0, 50.0), (0.0, 100.0)]), Some(1));
    assert_eq!(knee(&[(10.0, 0.0), (5.0, 50.0), (0.0, 100.0)]), None);
    assert_eq!(knee(&[(0.0, 7.0), (0.0, 7.0)]), None);
}

#[test]
fn what_is_proposed_can_be_pasted() {
    let advice = advice(&recording(8));
    let fragment = advice.fragment(None);
    assert!(fragment.contains("defaults: {policy: renewal, restart_price: "), "{fragment}");
    assert!(fragment.contains("  \"leaky\": {max_bytes: "), "{fragment}");
    assert!(fragment.contains("  - {name: \"leaky\", memory_limit: "), "{fragment}");
    assert!(advice.table(None).contains("configured"), "{}", advice.table(None));
}

#[test]
fn what_is_restarted_for_its_warm_up_is_told_with_both_numbers() {
    let mut recording = Recording::default();
    let population = Population { module: "cache".into(), digest: "d".into() };
    for replica in 0..3 {
        let slot = SlotId { population: population.clone(), runner: "r:1".into(), replica };
        let samples: Vec<_> = (0..HOURS * 60)
            .map(|minute| {
                let age = (minute + i64::from(replica) * 11) % (24 * 60);
                let at = Millis(BEGIN + minute * MINUTE);
                let mib = 2.0 + 256.0 * (1.0 - (-age as f64 / 120.0).exp());
                let generation = Generation((at.0 - age * MINUTE).unsigned_abs());
                Sample { at, generation, bytes: (mib * MIB as f64) as u64 }
            })
            .collect();
        recording.observe(&slot.into(), &samples, Elapsed(5 * MINUTE));
    }
    let advice = advice(&recording);
    assert_eq!(advice.plateaus.len(), 1, "{:?}", recording.growth());
    let warning: Vec<_> = advice.warnings("1GiB*10m".parse().unwrap()).collect();
    assert!(warning[0].contains("(170.7 MiB hours)"), "{warning:?}");
    assert_eq!(advice.warnings("64GiB*10m".parse().unwrap()).count(), 0);
}
