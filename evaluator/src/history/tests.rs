use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600_000;

fn slot() -> SlotId {
    let population = Population { module: Arc::from("leaky"), digest: Arc::from("0123456789ab") };
    SlotId { population, runner: Arc::from("127.0.0.1:9742"), replica: 0 }
}

fn sample(seconds: i64, generation: u64, bytes: u64) -> Sample {
    Sample { at: Millis(seconds * 1000), generation: Generation(generation), bytes }
}

/// Long enough that nothing is forgotten.
fn everything() -> Window {
    Window::ending_at(Millis(0), i64::MAX / 4)
}

fn history_of(samples: &[Sample]) -> History {
    let mut history = History::default();
    history.observe(&slot(), everything(), samples.iter().copied());
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
    assert_eq!(history.observe(&slot(), everything(), again), 1);
    assert_eq!(lifetimes(&history)[0].samples(), 3);
}

#[test]
fn a_lifetime_is_live_while_its_newest_sample_is_young() {
    let history = history_of(&[sample(10, 1, 100)]);
    let live = |now: i64| history.slot(&slot()).unwrap().live(Millis(now * 1000), 30_000).is_some();
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
    history.observe(&slot(), Window::ending_at(Millis(day), day), series);
    // 1.9 hours later, the first whole hour is out: 2 of 48 samples.
    history.forget_before(Window::ending_at(Millis(day + 19 * HOUR / 10), day));
    assert_eq!(lifetimes(&history)[0].samples(), 46);
    assert_eq!(lifetimes(&history)[0].first_bytes(), 2);
    // The samples left are 2..=47, their median 24.5.
    assert_eq!(lifetimes(&history)[0].doubled_median(), 49);
    history.forget_before(Window::ending_at(Millis(3 * day), day));
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
            let mut history = History::default();
            history.observe(&slot(), Window::ending_at(now, lookback), samples.iter().copied());
            history
        };
        let mut grown = History::default();
        let mut ends: Vec<usize> = ticks.into_iter().map(|end| end.min(samples.len())).collect();
        ends.sort_unstable();
        ends.push(samples.len());
        let mut fetched = 0;
        for end in ends.into_iter().filter(|end| *end > 0) {
            let window = Window::ending_at(samples[end - 1].at, lookback);
            // Each fetch overlaps the one before.
            let first = fetched - 30.min(fetched);
            grown.observe(&slot(), window, samples[first..end].iter().copied());
            grown.forget_before(window);
            fetched = end;
        }
        let view = |history: &History| -> Vec<_> {
            lifetimes(history)
                .iter()
                .map(|life| (
                        (life.generation(), life.samples(), life.doubled_median(), life.bytes(), life.last_at()),
                        (life.first_bytes(), life.seen_from_start()),
                    ))
                .collect()
        };
        prop_assert_eq!(view(&grown), view(&at_once));
    }
}
