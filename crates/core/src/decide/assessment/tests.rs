use std::sync::Arc;

use ebb_units::{ByteCount, Generation, SlotId, Span};
use proptest::prelude::*;

use super::*;
use crate::{
    history::{Sample, Window},
    policy::{
        Adapt, GuardRails, HostMemory, IntervalKind, MaxAge, Policy, Pooling, Pressure, Renewal, TInterval,
        Verdict,
    },
};

const SECOND: i64 = 1000;
const NOW: Millis = Millis(1000 * SECOND);
const STALE_AFTER: i64 = 30 * SECOND;

fn rule(policy: Policy) -> Rule {
    let guard_rails =
        GuardRails { min_age: Span::secs(60), min_lifetimes: 2, max_bytes: None, min_reclaim: ByteCount(1) };
    Rule { policy, guard_rails }
}

fn t_interval(interval: IntervalKind, adapt: Adapt) -> Policy {
    let (confidence_level, coverage) = (0.9.try_into().unwrap(), 0.9.try_into().unwrap());
    Policy::TInterval(TInterval { interval, confidence_level, coverage, adapt, ..TInterval::default() })
}

fn renewal(pooling: Pooling, price_bytes: u64) -> Policy {
    let price = format!("{price_bytes}B*100s");
    Policy::Renewal(Renewal { restart_price: price.parse().unwrap(), pooling, ..Renewal::default() })
}

fn slot(runner: &str, replica: u32) -> SlotId {
    let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
    SlotId { population, runner: runner.into(), replica }
}

/// Each slot's instances: a size at every 100 s up to [`NOW`], the first of them at its start; a fall is a restart.
fn history(slots: &[(SlotId, Vec<u64>)]) -> History {
    let window = Window::ending_at(NOW, Elapsed(10_000 * SECOND));
    let mut history = History::default();
    for (slot, sizes) in slots {
        let mut generation = Generation(0);
        let first = NOW.0 - 100 * SECOND * (i64::try_from(sizes.len()).unwrap() - 1);
        let mut before = u64::MAX;
        let samples: Vec<_> = (0..)
            .zip(sizes)
            .map(|(n, bytes)| {
                let at = Millis(first + n * 100 * SECOND);
                if *bytes < before {
                    generation = Generation(u64::try_from(at.0).unwrap());
                }
                before = *bytes;
                Sample { at, generation, bytes: *bytes }
            })
            .collect();
        history.observe(&slot.clone().into(), window, samples);
    }
    history
}

fn assess(policy: Policy, history: &History, hosts: &Hosts) -> Assessment {
    Assessment::new(
        history,
        |_| Box::leak(Box::new(rule(policy))),
        hosts,
        |_, _| Eligibility::Eligible,
        NOW,
        Elapsed(STALE_AFTER),
    )
}

/// The replicas that ask for a restart.
fn asking(assessment: &Assessment) -> Vec<(String, u32)> {
    let wishes = assessment.candidates();
    wishes.iter().map(|wish| (wish.slot.runner.to_string(), wish.slot.replica)).collect()
}

fn host(available_bytes: u64) -> HostMemory {
    HostMemory { at: NOW, total_bytes: 1_000_000, available_bytes }
}

fn hosts(runners: &[(&str, HostMemory)]) -> Hosts {
    runners.iter().map(|(runner, memory)| ((*runner).into(), *memory)).collect()
}

/// Three instances on one runner: the middle one is the largest, the last one the oldest.
fn three() -> History {
    history(&[
        (slot("h:1", 0), vec![100, 30_100]),
        (slot("h:1", 1), vec![100, 100, 50_100]),
        (slot("h:1", 2), vec![100, 100, 100, 20_100]),
    ])
}

#[test]
fn under_pressure_the_largest_go_until_enough_is_available() {
    let pressure = Pressure { available_below: ByteCount(100_000) };
    let asking = |available| {
        asking(&assess(Policy::LargestFirst(pressure), &three(), &hosts(&[("h:1", host(available))])))
    };
    let replica = |replica| ("h:1".to_owned(), replica);
    assert_eq!(asking(100_000), []);
    assert_eq!(asking(99_999), [replica(1)]);
    assert_eq!(asking(50_000), [replica(1)]);
    assert_eq!(asking(49_999), [replica(1), replica(0)]);
    assert_eq!(asking(0), [replica(1), replica(0), replica(2)]);
}

#[test]
fn under_pressure_the_oldest_go_until_enough_is_available() {
    let pressure = Pressure { available_below: ByteCount(100_000) };
    let hosts = hosts(&[("h:1", host(70_000))]);
    let assessment = assess(Policy::OldestFirst(pressure), &three(), &hosts);
    // 20,000 from the oldest, then 50,000 from the next.
    assert_eq!(asking(&assessment), [("h:1".to_owned(), 1), ("h:1".to_owned(), 2)]);
}

#[test]
fn runners_of_one_host_make_up_for_its_need_once() {
    let history = history(&[
        (slot("10.0.0.1:1", 0), vec![100, 50_100]),
        (slot("10.0.0.1:2", 0), vec![100, 40_100]),
        (slot("10.0.0.2:1", 0), vec![100, 60_100]),
    ]);
    let pressure = Pressure { available_below: ByteCount(100_000) };
    let hosts =
        hosts(&[("10.0.0.1:1", host(60_000)), ("10.0.0.1:2", host(60_000)), ("10.0.0.2:1", host(200_000))]);
    let assessment = assess(Policy::LargestFirst(pressure), &history, &hosts);
    assert_eq!(asking(&assessment), [("10.0.0.1:1".to_owned(), 0)]);
}

#[test]
fn without_a_fresh_reading_of_the_host_nobody_is_restarted() {
    let pressure = Pressure { available_below: ByteCount(100_000) };
    let stale = HostMemory { at: Millis(NOW.0 - STALE_AFTER - 1), ..host(0) };
    for hosts in [Hosts::default(), hosts(&[("h:1", stale)]), hosts(&[("other:1", host(0))])] {
        let assessment = assess(Policy::LargestFirst(pressure), &three(), &hosts);
        assert_eq!(asking(&assessment), []);
        assert!(assessment.instances.iter().all(|found| found.verdict == Verdict::HostMemoryUnknown));
    }
}

#[test]
fn who_cannot_be_restarted_shields_nobody_and_who_was_gives_back_already() {
    let policy = Policy::LargestFirst(Pressure { available_below: ByteCount(100_000) });
    let asking = |largest| {
        let rule = rule(policy);
        let eligibility = |slot: &SlotId, _| if slot.replica == 1 { largest } else { Eligibility::Eligible };
        let hosts = hosts(&[("h:1", host(60_000))]);
        asking(&Assessment::new(&three(), |_| &rule, &hosts, eligibility, NOW, Elapsed(STALE_AFTER)))
    };
    let replica = |replica| ("h:1".to_owned(), replica);
    // 40,000 are lacking; the largest gives back 50,000, the others 30,000 and 20,000.
    assert_eq!(asking(Eligibility::Eligible), [replica(1)]);
    assert_eq!(asking(Eligibility::Blocked), [replica(0), replica(2)]);
    assert_eq!(asking(Eligibility::AwaitingEffect), []);
}

#[test]
fn an_instance_whose_samples_are_old_is_not_judged() {
    let history = three();
    let at = Millis(NOW.0 + STALE_AFTER + 1);
    let rule = rule(Policy::MaxAge(MaxAge { max_age: Span::secs(100) }));
    let eligibility = |_: &SlotId, _| Eligibility::Eligible;
    let assessment =
        Assessment::new(&history, |_| &rule, &Hosts::default(), eligibility, at, Elapsed(STALE_AFTER));
    assert_eq!(assessment.instances, []);
    assert_eq!(assessment.populations.len(), 1);
}

/// Sizes of some slots over time. Values stay below 2^40, so that scaling them stays below 2^53.
fn fleets() -> impl Strategy<Value = Vec<Vec<u64>>> {
    prop::collection::vec(prop::collection::vec(0..1_u64 << 40, 1..10), 1..12)
}

fn policies() -> Vec<Policy> {
    let mut policies = vec![renewal(Pooling::Off, 1 << 30), renewal(Pooling::Adaptive, 1 << 30)];
    for interval in [IntervalKind::Confidence, IntervalKind::Prediction, IntervalKind::Tolerance] {
        policies.extend([Adapt::Off, Adapt::Intent, Adapt::Literal].map(|adapt| t_interval(interval, adapt)));
    }
    policies
}

fn fleet(sizes: &[Vec<u64>]) -> Vec<(SlotId, Vec<u64>)> {
    (0..).zip(sizes).map(|(replica, sizes)| (slot("r:1", replica), sizes.clone())).collect()
}

fn bounds(assessment: &Assessment) -> Vec<Option<f64>> {
    assessment.instances.iter().map(|instance| instance.bound.threshold_bytes).collect()
}

proptest! {
    #[test]
    fn permuting_replicas_changes_nothing(sizes in fleets()) {
        for policy in policies() {
            let plain = assess(policy, &history(&fleet(&sizes)), &Hosts::default());
            let mut reversed = sizes.clone();
            reversed.reverse();
            let permuted = assess(policy, &history(&fleet(&reversed)), &Hosts::default());
            let mut expected = bounds(&plain);
            expected.reverse();
            prop_assert_eq!(bounds(&permuted), expected, "{:?}", policy);
        }
    }

    #[test]
    fn scaling_all_memory_scales_every_bound(sizes in fleets(), scale in 1..1000_u64) {
        let scaled: Vec<Vec<u64>> =
            sizes.iter().map(|sizes| sizes.iter().map(|size| size * scale).collect()).collect();
        for (policy, scaled_policy) in policies().into_iter().zip(policies()) {
            // What a restart is worth is memory too.
            let scaled_policy = match scaled_policy {
                Policy::Renewal(Renewal { pooling, .. }) => renewal(pooling, scale << 30),
                other => other,
            };
            let plain = assess(policy, &history(&fleet(&sizes)), &Hosts::default());
            let scaled = assess(scaled_policy, &history(&fleet(&scaled)), &Hosts::default());
            for (plain, scaled) in bounds(&plain).into_iter().zip(bounds(&scaled)) {
                prop_assert_eq!(plain.is_some(), scaled.is_some());
                let (Some(plain), Some(scaled)) = (plain, scaled) else { continue };
                let expected = plain * scale as f64;
                prop_assert!(
                    (scaled - expected).abs() <= 1e-6 * expected.abs() + 1.0,
                    "{policy:?}: {scaled} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_higher_restart_price_never_lowers_a_slots_own_bound(sizes in fleets(), price in 1..1_u64 << 40) {
        let bounds_at = |price| {
            bounds(&assess(renewal(Pooling::Off, price), &history(&fleet(&sizes)), &Hosts::default()))
        };
        for (low, high) in bounds_at(price).into_iter().zip(bounds_at(2 * price)) {
            prop_assert!(high >= low, "{high:?} {low:?}");
        }
    }
}
