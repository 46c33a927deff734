use std::sync::Arc;

use ebb_units::{ByteCount, Elapsed, Generation, Millis, Population, RestartPrice, SlotId, Span};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::history::{History, Sample, Window};

const SECOND: i64 = 1000;

fn price() -> RestartPrice {
    RestartPrice::new(ByteCount(1000), Span::secs(100)).unwrap()
}

/// A slot whose instances each live for `lengths` seconds and grow by `rate` bytes a second from 1000.
fn history(fleet: &[(u64, &[i64])]) -> History {
    history_in(Window::ending_at(Millis(0), Elapsed(i64::MAX / 4)), fleet)
}

fn history_in(window: Window, fleet: &[(u64, &[i64])]) -> History {
    let mut history = History::default();
    for (replica, (rate, lengths)) in (0..).zip(fleet) {
        let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
        let slot = SlotId { population, runner: "r:1".into(), replica };
        let mut start = 0;
        for length in *lengths {
            let generation = Generation(u64::try_from(start).unwrap());
            let samples = (1..=*length).map(|second| Sample {
                at: Millis(start + second * SECOND),
                generation,
                bytes: 1000 + rate * u64::try_from(second).unwrap(),
            });
            history.observe(&slot.clone().into(), window, samples);
            start += length * SECOND;
        }
    }
    history
}

fn costs(fleet: &[(u64, &[i64])]) -> Vec<SlotCost<'static>> {
    costs_at(price(), fleet)
}

/// What they cost; costs borrow from a history, which is kept to the end of the tests.
fn costs_at(price: RestartPrice, fleet: &[(u64, &[i64])]) -> Vec<SlotCost<'static>> {
    let history = Box::leak(Box::new(history(fleet)));
    let (_, slots) = history.populations().next().unwrap();
    let mut slots: Vec<_> = slots.iter().collect();
    slots.sort_by_key(|(id, _)| id.replica);
    slots.iter().map(|(_, slot)| SlotCost::of(slot, price).unwrap()).collect()
}

fn average(rate: u64, lengths: &[i64]) -> f64 {
    costs(&[(rate, lengths)])[0].average_bytes(None)
}

fn assert_near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6 * expected, "{found}, expected {expected}");
}

#[test]
fn a_slot_costs_its_memory_over_time_and_its_restarts() {
    // 100 s × 1000 B and a restart of 100,000 byte-seconds; what runs now agrees with that.
    let cost = costs(&[(0, &[100, 50])])[0];
    assert_eq!((cost.seconds(), cost.memory_byte_seconds(), cost.restarts), (150.0, 150_000.0, 1));
    assert_near(cost.average_bytes(None), 2000.0);
}

#[test]
fn what_runs_counts_as_the_average_as_far_as_that_is_possible() {
    // Restarted at once or in a while: the average is that of the first.
    for running in [1, 50, 100] {
        assert_near(average(0, &[100, running]), 2000.0);
    }
    // It has run for so long that it is cheaper, even if it were restarted now: (200,000 + 400,000) / 400.
    assert_near(average(0, &[100, 300]), 1500.0);
    // It holds so much that it is dearer already: 1000 + 100 more each second for 100 s and for 300 s.
    let area =
        |seconds: f64| 1000.0 * seconds + 100.0 * seconds * (seconds + 1.0) / 2.0 - 100.0 * seconds + 100.0;
    assert_near(average(100, &[100, 300]), (area(100.0) + 100_000.0 + area(300.0)) / 400.0);
    // Nothing is over yet: the highest average that agrees, as if it were restarted now.
    assert_near(average(0, &[100]), 2000.0);
}

#[test]
fn an_average_does_not_jump_when_a_restart_leaves_the_window() {
    // The window begins at 70 s, 80 s and 90 s: in the first of three lifetimes.
    for now in [310, 320, 330] {
        let window = Window::ending_at(Millis(now * SECOND), Elapsed(240 * SECOND));
        let history = history_in(window, &[(0, &[100, 100, 100])]);
        let (_, slots) = history.populations().next().unwrap();
        let cost = SlotCost::of(slots.values().next().unwrap(), price()).unwrap();
        assert_eq!((cost.restarts, cost.lifetimes), (2, 1), "{cost:?}");
        assert_near(cost.average_bytes(None), 2000.0);
    }
}

#[test]
fn a_prior_counts_like_so_much_more_of_the_slots_own_time() {
    let cost = costs(&[(0, &[100, 50])])[0];
    let with = |average_bytes, seconds| cost.average_bytes(Some(Others { average_bytes, seconds }));
    assert_near(with(3000.0, 100.0), 2500.0);
    assert_near(with(2000.0, 100.0), 2000.0);
    // So low that what runs is dearer already: (200,000 + 50,000 + 300 · 10) / 450.
    assert_near(with(10.0, 300.0), 253_000.0 / 450.0);
}

#[test]
fn slots_that_differ_only_by_chance_are_taken_for_equal() {
    // Two slots with the same three lifetimes in another order.
    let costs = costs(&[(10, &[100, 300, 200, 1]), (10, &[300, 200, 100, 1])]);
    assert_eq!(PopulationCost::of(&costs).unwrap().weight_seconds(), None);
}

#[test]
fn one_slot_with_a_past_says_nothing_of_how_slots_differ() {
    let past: &[i64] = &[3600, 3602, 3598, 3601, 3599, 60];
    let mut fleet = vec![(100_000, past)];
    fleet.extend([(100_000, &[60_i64][..]); 9]);
    let price = RestartPrice::new(ByteCount::mib(1024), Span::secs(600)).unwrap();
    assert_eq!(PopulationCost::of(&costs_at(price, &fleet)).unwrap().weight_seconds(), None);
}

#[test]
fn what_was_missed_of_a_lifetime_counts_with_the_first_size_seen() {
    // 1000 bytes for 100 s, then an hour of which the first half was not seen, then what runs.
    let slot = |missed: i64| {
        let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
        let id = SlotId { population, runner: "r:1".into(), replica: 0 };
        let history = Box::leak(Box::<History>::default());
        let lifetimes = [(0, 1, 100), (100, 100 + missed, 3700), (3700, 3701, 3710)];
        let samples = lifetimes.into_iter().flat_map(|(start, first, last)| {
            (first..=last).map(move |second| Sample {
                at: Millis(second * SECOND),
                generation: Generation(u64::try_from(start * SECOND).unwrap()),
                bytes: 1000,
            })
        });
        history.observe(&id.clone().into(), Window::ending_at(Millis(0), Elapsed(i64::MAX / 4)), samples);
        SlotCost::of(history.slot(&id).unwrap(), price()).unwrap()
    };
    assert_eq!(slot(1800), slot(1));
}

#[test]
fn memory_that_fell_without_a_start_is_no_restart() {
    let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
    let id = SlotId { population, runner: "r:1".into(), replica: 0 };
    let mut history = History::default();
    let sizes =
        [(1, 0, 1000), (100, 0, 2000), (101, 0, 500), (200, 0, 500), (201, 200, 500), (300, 200, 500)];
    let samples = sizes.map(|(second, start, bytes)| Sample {
        at: Millis(second * SECOND),
        generation: Generation(start * 1000),
        bytes,
    });
    history.observe(&id.clone().into(), Window::ending_at(Millis(0), Elapsed(i64::MAX / 4)), samples);
    let cost = SlotCost::of(history.slot(&id).unwrap(), price()).unwrap();
    assert_eq!((cost.restarts, cost.falls, cost.lifetimes), (1, 1, 2));
}

#[test]
fn the_more_slots_differ_the_less_the_module_weighs() {
    let weight = |rate| {
        let lengths: &[i64] = &[200, 210, 190, 205, 195, 200];
        let costs = costs(&[(10, lengths), (10, lengths), (rate, lengths), (rate, lengths)]);
        PopulationCost::of(&costs).unwrap().weight_seconds().unwrap()
    };
    assert!(weight(1000) < weight(100), "{} {}", weight(1000), weight(100));
    assert!(weight(100) < weight(20), "{} {}", weight(100), weight(20));
}

#[test]
fn a_slot_that_is_new_does_not_make_the_others_differ() {
    let lengths: [&[i64]; 3] = [&[200, 210, 190, 205], &[205, 190, 200, 210], &[195, 205, 210, 190]];
    let old = lengths.map(|lengths| (10, lengths));
    let population = |fleet: &[(u64, &[i64])]| PopulationCost::of(&costs(fleet)).unwrap();
    let with_young = [&old[..], &[(10, &[2])]].concat();
    assert_eq!(population(&old).weight_seconds(), None);
    assert_eq!(population(&with_young).weight_seconds(), None);
    assert_near(population(&with_young).average_bytes(), population(&old).average_bytes());
}

proptest! {
    /// The definition: it agrees with what was seen, and nothing above it does.
    #[test]
    fn the_average_of_a_population_is_the_highest_that_agrees(
        fleet in vec((0_u64..200, vec(1_i64..400, 1..5)), 1..6),
    ) {
        let fleet: Vec<_> = fleet.iter().map(|(rate, lengths)| (*rate, &lengths[..])).collect();
        let costs = costs(&fleet);
        let average = PopulationCost::of(&costs).unwrap().average_bytes();
        let excess = |average: f64| {
            costs.iter().map(|slot| slot.cost_given(average) - average * slot.seconds()).sum::<f64>()
        };
        let seconds: f64 = costs.iter().map(SlotCost::seconds).sum();
        let rounding = 1e-8 * average * seconds + 1.0;
        prop_assert!(excess(average) >= -rounding, "{average}: {}", excess(average));
        prop_assert!(excess(1.01 * average) < 0.0, "{average}: {}", excess(1.01 * average));
    }
}

#[test]
fn a_slot_is_compared_with_the_others_not_with_itself() {
    let costs = costs(&[(0, &[100, 100]), (10, &[100, 100])]);
    let population = PopulationCost::of(&costs).unwrap();
    let others =
        [1, 0].map(|other| costs[other].cost_given(population.average_bytes()) / costs[other].seconds());
    for (own, expected) in costs.iter().zip(others) {
        assert_near(population.without(own).unwrap().average_bytes, expected);
    }
    let alone = PopulationCost::of(&costs[..1]).unwrap();
    assert_eq!(alone.without(&costs[0]), None);
}
