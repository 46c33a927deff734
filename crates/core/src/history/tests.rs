use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600_000;

fn slot() -> SlotId {
    let population = Population { module: Arc::from("leaky"), digest: Arc::from("0123456789ab") };
    SlotId { population, runner: "127.0.0.1:9742".into(), replica: 0 }
}

fn sample(seconds: i64, generation: u64, bytes: u64) -> Sample {
    Sample { at: Millis(seconds * 1000), generation: Generation(generation), bytes }
}

/// Long enough that nothing is forgotten.
fn everything() -> Window {
    Window::ending_at(Millis(0), Elapsed(i64::MAX / 4))
}

fn history_of(samples: &[Sample]) -> History {
    let mut history = History::default();
    history.observe(&slot().into(), everything(), samples.iter().copied());
    history
}

fn lifetimes(history: &History) -> Vec<Lifetime> {
    history.slot(&slot()).map(|slot| slot.lifetimes().cloned().collect()).unwrap_or_default()
}

#[test]
fn a_new_generation_cuts_the_series_into_lifetimes() {
    let history =
        history_of(&[sample(10, 1, 100), sample(20, 1, 200), sample(30, 2, 100), sample(40, 2, 100)]);
    let found: Vec<_> =
        lifetimes(&history).iter().map(|life| (life.generation().0, life.samples(), life.end())).collect();
    assert_eq!(found, [(1, 2, Some(End::Replaced)), (2, 2, None)]);
}

#[test]
fn memory_that_fell_is_another_lifetime_even_if_the_generation_is_the_same() {
    let history = history_of(&[sample(10, 1, 200), sample(20, 1, 100)]);
    let ends: Vec<_> = lifetimes(&history).iter().map(Lifetime::end).collect();
    assert_eq!(ends, [Some(End::Discontinued), None]);
}

#[test]
fn samples_that_come_twice_count_once() {
    let mut history = history_of(&[sample(10, 1, 100), sample(20, 1, 100)]);
    let again = [sample(10, 1, 100), sample(20, 1, 100), sample(30, 1, 300)];
    assert_eq!(history.observe(&slot().into(), everything(), again), 1);
    assert_eq!(lifetimes(&history)[0].samples(), 3);
}

#[test]
fn a_lifetime_is_live_while_its_newest_sample_is_young() {
    let history = history_of(&[sample(10, 1, 100)]);
    let live = |now: i64| history.slot(&slot()).unwrap().live(Millis(now * 1000), Elapsed(30_000)).is_some();
    assert!(live(10) && live(40));
    assert!(!live(41));
}

#[test]
fn the_median_of_an_even_number_of_samples_lies_between_two_of_them() {
    // 100 100 200 500: the median is (100 + 200) / 2 = 150, twice that is 300.
    let history =
        history_of(&[sample(10, 1, 100), sample(20, 1, 100), sample(30, 1, 200), sample(40, 1, 500)]);
    assert_eq!(lifetimes(&history)[0].doubled_median(), 300);
}

#[test]
fn the_window_forgets_whole_blocks_and_then_the_slot() {
    let day = 24 * HOUR;
    let mut history = History::default();
    // One sample every half hour, growing by 1 each.
    let series: Vec<_> = (0_u32..48).map(|n| sample(i64::from(n) * 1800, 1, u64::from(n))).collect();
    history.observe(&slot().into(), Window::ending_at(Millis(day), Elapsed(day)), series);
    // 1.9 hours later, the first whole hour is out: 2 of 48 samples.
    history.forget_before(Window::ending_at(Millis(day + 19 * HOUR / 10), Elapsed(day)));
    assert_eq!(lifetimes(&history)[0].samples(), 46);
    assert_eq!(lifetimes(&history)[0].first_bytes(), 2);
    // The samples left are 2..=47, their median 24.5.
    assert_eq!(lifetimes(&history)[0].doubled_median(), 49);
    history.forget_before(Window::ending_at(Millis(3 * day), Elapsed(day)));
    assert!(history.slot(&slot()).is_none());
    assert_eq!(history.populations().count(), 0);
}

/// Lifetimes as they occur: each a nondecreasing series, one after another, at irregular times.
fn some_samples() -> impl Strategy<Value = Vec<Sample>> {
    let growth = prop_oneof![6 => Just(0_u64), 3 => 1..100_u64, 1 => Just(1_u64 << 24)];
    prop::collection::vec((1..20_000_i64, growth, prop::bool::weighted(0.05)), 1..200).prop_map(|rows| {
        let (mut at, mut bytes, mut generation) = (1_000_000, 1, 1);
        let mut samples = Vec::new();
        for (pause, growth, restarted) in rows {
            at += pause;
            bytes += growth * 65_536;
            if restarted {
                generation = at as u64;
                bytes = 65_536;
            }
            samples.push(Sample { at: Millis(at), generation: Generation(generation), bytes });
        }
        samples
    })
}

/// What a store answers to `last_over_time(…[block])` at the boundaries before the window, of one generation.
fn last_of_each_block(window: Window, samples: &[Sample], generation: Generation) -> Vec<(Millis, u64)> {
    let mut sizes = BTreeMap::new();
    for sample in samples.iter().filter(|sample| !window.contains(sample.at)) {
        sizes.insert(window.boundary_after(sample.at), (sample.generation, sample.bytes));
    }
    sizes.retain(|_, (found, _)| *found == generation);
    sizes.into_iter().map(|(boundary, (_, bytes))| (boundary, bytes)).collect()
}

/// Twice the median, by sorting.
fn naive_doubled_median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values[(values.len() - 1) / 2] + values[values.len() / 2]
}

proptest! {
    #[test]
    fn the_median_of_a_lifetime_is_the_naive_median_of_its_samples(samples in some_samples()) {
        for lifetime in lifetimes(&history_of(&samples)) {
            let mut values: Vec<u64> = samples
                .iter()
                .filter(|sample| sample.generation == lifetime.generation())
                .map(|sample| sample.bytes)
                .collect();
            prop_assert_eq!(lifetime.doubled_median(), naive_doubled_median(&mut values));
            prop_assert_eq!(lifetime.samples() as usize, values.len());
        }
    }

    #[test]
    fn a_history_grown_tick_by_tick_equals_one_filled_at_once(
        samples in some_samples(),
        ticks in prop::collection::vec(0..200_usize, 1..20),
        lookback in 1_000..2_000_000_i64,
    ) {
        let now = samples.last().unwrap().at;
        let at_once = {
            let window = Window::ending_at(now, Elapsed(lookback));
            let mut history = History::default();
            history.observe(&slot().into(), window, samples.iter().copied());
            history.forget_before(window);
            let begun: Vec<_> = history.begun_earlier().collect();
            for (series, generation) in begun {
                history.go_back(&series, generation, &last_of_each_block(window, &samples, generation));
            }
            history
        };
        let mut grown = History::default();
        let mut ends: Vec<usize> = ticks.into_iter().map(|end| end.min(samples.len())).collect();
        ends.sort_unstable();
        ends.push(samples.len());
        let mut fetched = 0;
        // After a longer pause than the lookback, an evaluator starts anew; here it ticks at each sample instead.
        let window_of = |end: usize| Window::ending_at(samples[end - 1].at, Elapsed(lookback));
        let ticks = ends.into_iter().flat_map(|end| {
            let first = (fetched..end).find(|n| window_of(end).contains(samples[*n].at));
            let alone = fetched..first.unwrap_or(end);
            fetched = end;
            alone.map(|n| n + 1).chain([end])
        });
        let ticks: Vec<_> = ticks.collect();
        fetched = 0;
        for end in ticks.into_iter().filter(|end| *end > 0) {
            let window = window_of(end);
            // Each fetch overlaps the one before.
            let first = fetched - 30.min(fetched);
            grown.observe(&slot().into(), window, samples[first..end].iter().copied());
            grown.forget_before(window);
            fetched = end;
        }
        let view = |history: &History| -> Vec<_> {
            lifetimes(history)
                .iter()
                .map(|life| (
                        (life.generation(), life.samples(), life.doubled_median(), life.bytes(), life.last_at()),
                        (life.first_bytes(), life.seen_from_start(), life.start_bytes(), life.least_bytes()),
                        (life.counts_since(), life.area()),
                    ))
                .collect()
        };
        prop_assert_eq!(view(&grown), view(&at_once));
        let ended = |history: &History| history.slot(&slot()).map(|slot| *slot.ended());
        prop_assert_eq!(ended(&grown), ended(&at_once));
    }

    #[test]
    fn a_history_that_was_moved_equals_one_of_moved_samples(samples in some_samples(), by in 0..100_000_000_i64) {
        let mut moved = history_of(&samples);
        moved.shift(Elapsed(by));
        let samples: Vec<_> = samples
            .into_iter()
            .map(|sample| Sample {
                at: sample.at.plus(Elapsed(by)),
                generation: Generation(sample.generation.0 + by.unsigned_abs()),
                ..sample
            })
            .collect();
        let ended = |history: &History| *history.slot(&slot()).unwrap().ended();
        prop_assert_eq!(ended(&moved), ended(&history_of(&samples)));
    }
}

#[test]
fn what_runs_counts_from_its_start_and_what_is_over_inside_the_window() {
    // Blocks of an hour. Started at 10 min, seen each 10 min from then on; 6 B more each hour, 1 B each sample.
    let day = 24 * HOUR;
    let grows = |n: u32| sample(600 + i64::from(n) * 600, 600_000, u64::from(n));
    let mut history = History::default();
    let window = |hours: i64| Window::ending_at(Millis(hours * HOUR), Elapsed(day));
    for n in 0..=6 * 26 {
        let sample = grows(n);
        history.observe(&slot().into(), Window::ending_at(sample.at, Elapsed(day)), [sample]);
        history.forget_before(Window::ending_at(sample.at, Elapsed(day)));
    }
    history.forget_before(window(26));
    let life = lifetimes(&history).remove(0);
    // The first boundary, at an hour: the sample at 50 min is the 4th after the first.
    assert_eq!((life.counts_since(), life.start_bytes(), life.first_bytes()), (Millis(600_000), Some(4), 11));
    // 4 B for 50 min; then, hour by hour, from 4 B to 10 B: 7 B on average. In the window, from 10 B at its begin.
    let minute = 60_000;
    let inside: u128 = (11..156).map(|bytes| bytes * 10 * minute).sum();
    assert_eq!(life.area().0, 4 * 50 * minute + 7 * 60 * minute + inside);
    // Over, it counts inside the window alone.
    history.observe(&slot().into(), window(26), [sample(27 * 3600, 97_000_000, 0)]);
    let life = lifetimes(&history).remove(0);
    assert_eq!((life.counts_since(), life.start_bytes(), life.area().0), (Millis(2 * HOUR), None, inside));
}

#[test]
fn going_back_takes_nothing_in_that_the_instance_cannot_have_held() {
    let window = Window::ending_at(Millis(30 * HOUR), Elapsed(24 * HOUR));
    let mut history = History::default();
    history.observe(&slot().into(), window, [sample(7 * 3600, 3_600_000, 20)]);
    history.forget_before(window);
    assert_eq!(history.begun_earlier().count(), 1);
    // The store does not reach back to the start at 1 h, and another instance held 30 B under the same start.
    let hour = |hours: i64, bytes| (Millis(hours * HOUR), bytes);
    history.go_back(&slot().into(), Generation(3_600_000), &[hour(3, 30), hour(4, 10), hour(5, 20)]);
    let life = lifetimes(&history).remove(0);
    assert_eq!((life.counts_since(), life.start_bytes(), life.least_bytes()), (Millis(4 * HOUR), None, 10));
    assert_eq!(life.area(), (u128::from(15_u64 + 20 + 20) * HOUR as u128, Elapsed(3 * HOUR)));
    // What is known stays.
    history.go_back(&slot().into(), Generation(3_600_000), &[hour(2, 1)]);
    assert_eq!(lifetimes(&history), [life]);
}

#[test]
fn a_slot_is_never_observed_for_longer_than_it_is_old() {
    // Memory falls twice within the first minute, and a new instance's clock is a little behind.
    let samples = [
        sample(5, 0, 30),
        sample(10, 0, 20),
        sample(20, 0, 10),
        sample(30, 28_000, 5),
        sample(40, 28_000, 5),
    ];
    let history = history_of(&samples);
    let area = lifetimes(&history)
        .iter()
        .map(Lifetime::area)
        .fold((0, 0), |sum, (area, millis)| (sum.0 + area, sum.1 + millis.0));
    // 30 B for 5 s, then 20 B from the 5th to the 10th second, 10 B to the 20th, and 5 B from the 28th on.
    assert_eq!(area, (1000 * (30 * 5 + 20 * 5 + 10 * 10 + 5 * 12), 1000 * (5 + 5 + 10 + 12)));
    let late = history_of(&[sample(5, 0, 30), sample(30, 28_000, 30), sample(40, 20_000, 5)]);
    let seen: i64 = lifetimes(&late).iter().map(|lifetime| lifetime.area().1.0).sum();
    assert!(seen <= 40_000, "{seen} ms of 40 s");
}
