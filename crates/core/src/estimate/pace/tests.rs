use ebb_units::{Generation, Millis, Population, SeriesId, SlotId};

use super::*;
use crate::history::{History, Sample, Window};

const MINUTE: i64 = 60_000;
const MIB: f64 = 1_048_576.0;
const BEGIN: i64 = 1_000_000 * MINUTE;

/// Instances that are `hours` old, were seen every minute and held so many MiB at an age in hours, by slot.
fn history(slots: u32, hours: i64, mib: impl Fn(u32, f64) -> f64) -> History {
    let mut history = History::default();
    let window = Window::ending_at(Millis(BEGIN + hours * 60 * MINUTE), Elapsed(hours * 60 * MINUTE));
    let population = Population { module: "m".into(), digest: "d".into() };
    for replica in 0..slots {
        let slot = SlotId { population: population.clone(), runner: "r:1".into(), replica };
        let samples = (0..hours * 60).map(|minute| Sample {
            at: Millis(BEGIN + minute * MINUTE),
            generation: Generation(BEGIN.unsigned_abs()),
            bytes: (mib(replica, minute as f64 / 60.0) * MIB) as u64,
        });
        history.observe(&SeriesId::from(slot), window, samples);
    }
    history
}

fn times(history: &History, mib: f64) -> Vec<TimeLeft> {
    let (_, slots) = history.populations().next().unwrap();
    let pace = Pace::of(slots.values()).unwrap();
    slots.values().map(|slot| pace.of_newest(slot).unwrap().time_to_grow(mib * MIB).unwrap()).collect()
}

fn hours(time: Elapsed) -> f64 {
    time.as_seconds() / 3600.0
}

#[test]
fn what_grows_evenly_reaches_a_size_when_it_must() {
    for left in times(&history(2, 24, |slot, age| 2.0 + f64::from(slot + 1) * age), 12.0) {
        let exact = if left.median > Elapsed::secs(9 * 3600) { 12.0 } else { 6.0 };
        assert!((hours(left.median) - exact).abs() < 0.01 * exact, "{left:?}");
        assert!(left.low <= left.median && hours(left.low) > 0.97 * exact, "{left:?}");
        assert!(left.high.is_some_and(|high| high >= left.median && hours(high) < 1.03 * exact), "{left:?}");
    }
}

#[test]
fn what_grows_in_rare_steps_reaches_it_sooner_or_later() {
    // 6 MiB every six hours.
    let [left] = times(&history(1, 72, |_, age| 2.0 + 6.0 * (age / 6.0).floor()), 12.0)[..] else { panic!() };
    assert!((hours(left.median) - 12.0).abs() < 1.5, "{left:?}");
    assert!(hours(left.low) < 9.0 && hours(left.high.unwrap()) > 15.0, "{left:?}");
}

#[test]
fn a_slot_that_was_hardly_seen_grows_as_the_others_do() {
    let mut history = history(8, 48, |slot, age| 2.0 + (1.0 + f64::from(slot % 4)) * age);
    let end = BEGIN + 48 * 60 * MINUTE;
    let window = Window::ending_at(Millis(end), Elapsed(48 * 60 * MINUTE));
    let (population, _) = history.populations().next().unwrap();
    let slot = SlotId { population: population.clone(), runner: "r:1".into(), replica: 99 };
    let sample =
        |at| Sample { at: Millis(at), generation: Generation((end - MINUTE).unsigned_abs()), bytes: 2 << 20 };
    history.observe(&slot.into(), window, [sample(end - MINUTE), sample(end - 1)]);
    let all = times(&history, 25.0);
    let young = all.last().unwrap();
    assert!((hours(young.median) - 10.0).abs() < 0.5, "{young:?}");
    // From the fastest's pace up to never: it may be any of them, or slower.
    assert!(hours(young.low) < 6.5 && young.high.is_none_or(|high| hours(high) > 25.0), "{young:?}");
    // The others are known by themselves.
    assert!(hours(all[0].high.unwrap()) < 26.0 && hours(all[0].low) > 24.0, "{:?}", all[0]);
}

#[test]
fn what_does_not_grow_reaches_nothing() {
    let history = history(2, 24, |_, _| 2.0);
    let (_, slots) = history.populations().next().unwrap();
    assert_eq!(Pace::of(slots.values()), None);
}

#[test]
fn several_together_reach_it_as_much_sooner() {
    let history = history(4, 24, |_, age| 2.0 + age);
    let (_, slots) = history.populations().next().unwrap();
    let pace = Pace::of(slots.values()).unwrap();
    let all: InstancePace = slots.values().map(|slot| pace.of_newest(slot).unwrap()).sum();
    let left = all.time_to_grow(40.0 * MIB).unwrap();
    assert!((hours(left.median) - 10.0).abs() < 0.1, "{left:?}");
}
