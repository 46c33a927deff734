use ebb_units::{Generation, Millis, Population, SeriesId, SlotId};

use super::*;
use crate::history::{History, Sample, Window};

const MINUTE: i64 = 60_000;
const MIB: f64 = 1_048_576.0;

/// Some time, later than any restart is before.
const BEGIN: i64 = 1_000_000 * MINUTE;

/// The kind of growth of `slots` instances that ran for `hours`, were restarted every `restarted` hours, and held so many MiB at an
/// age in hours, by slot.
fn grown(slots: u32, hours: i64, restarted: i64, mib: impl Fn(u32, f64) -> f64) -> GrowthTrend {
    let mut history = History::default();
    let window = Window::ending_at(Millis(BEGIN + hours * 60 * MINUTE), Elapsed(hours * 60 * MINUTE));
    let population = Population { module: "m".into(), digest: "d".into() };
    for replica in 0..slots {
        let slot = SlotId { population: population.clone(), runner: "r:1".into(), replica };
        // Not all at the same time.
        let ahead = i64::from(replica) * 7 * MINUTE;
        let samples = (0..hours * 60).map(|minute| {
            let at = BEGIN + minute * MINUTE;
            let age = (minute * MINUTE + ahead) % (restarted * 60 * MINUTE);
            let bytes = mib(replica, age as f64 / (60 * MINUTE) as f64) * MIB;
            Sample { at: Millis(at), generation: Generation((at - age).unsigned_abs()), bytes: bytes as u64 }
        });
        history.observe(&SeriesId::from(slot), window, samples);
    }
    GrowthTrend::of(history.populations().flat_map(|(_, slots)| slots.values()))
}

fn is(growth: &GrowthTrend, kind: GrowthKind) {
    assert_eq!(growth.kind, kind, "{growth} {growth:?}");
}

#[test]
fn a_leak_goes_on_and_its_pace_is_told() {
    let growth = grown(3, 72, 12, |_, age| 2.0 + 4.0 * age);
    is(&growth, GrowthKind::Leak);
    let rate = growth.bytes_per_hour.unwrap();
    assert!(
        (rate.mean / MIB - 4.0).abs() < 0.1 && rate.low <= rate.mean && rate.mean <= rate.high,
        "{rate:?}"
    );
    assert!((growth.younger_bytes_per_hour.unwrap() / MIB - 4.0).abs() < 0.2, "{growth:?}");
    assert!(growth.to_string().ends_with(": it goes on"), "{growth}");
}

#[test]
fn what_leaks_at_different_paces_leaks() {
    is(&grown(4, 72, 12, |slot, age| 2.0 + 4.0_f64.powi(slot as i32) * age), GrowthKind::Leak);
}

#[test]
fn a_cache_that_fills_up_is_a_plateau_and_with_a_leak_behind_it_a_leak() {
    let cache = |age: f64| 2.0 + 36.0 * (1.0 - (-age / 0.5).exp());
    let growth = grown(3, 72, 24, |_, age| cache(age));
    is(&growth, GrowthKind::Plateau);
    let plateau = growth.plateau.unwrap();
    assert!((plateau.bytes / MIB - 36.0).abs() < 2.0, "{plateau}");
    assert!((plateau.time_constant.as_seconds() / 1800.0 - 1.0).abs() < 0.2, "{plateau}");
    is(&grown(3, 72, 24, |_, age| cache(age) + age), GrowthKind::Leak);
}

#[test]
fn of_a_cache_that_is_restarted_while_it_fills_up_nothing_is_claimed() {
    is(&grown(3, 72, 2, |_, age| 2.0 + 256.0 * (1.0 - (-age / 2.0).exp())), GrowthKind::Unknown);
}

#[test]
fn what_grows_with_the_root_of_time_goes_on() {
    is(&grown(3, 72, 24, |_, age| 2.0 + 16.0 * age.sqrt()), GrowthKind::Leak);
}

#[test]
fn what_does_not_grow_is_steady() {
    is(&grown(3, 72, 24, |slot, _| 2.0 + f64::from(slot)), GrowthKind::Steady);
    is(&grown(1, 72, 100, |_, age| 20.0 + 0.001 * age), GrowthKind::Steady);
}

#[test]
fn a_large_request_now_and_then_makes_steps() {
    is(
        &grown(4, 72, 24, |slot, age| if age > 2.0 + f64::from(slot) { 40.0 } else { 2.0 }),
        GrowthKind::Steps,
    );
}

#[test]
fn a_leak_in_rare_large_steps_is_a_leak() {
    // Every five hours, at other times in each slot.
    is(&grown(8, 96, 48, |slot, age| 2.0 + 8.0 * ((age + f64::from(slot)) / 5.0).floor()), GrowthKind::Leak);
}

#[test]
fn a_day_is_waited_for_and_nothing_is_said_of_nothing() {
    is(&grown(3, 12, 6, |_, age| 2.0 + 4.0 * age), GrowthKind::Unknown);
    let nothing = GrowthTrend::of(std::iter::empty());
    is(&nothing, GrowthKind::Unknown);
    assert_eq!(nothing.to_string(), "too little was seen of instances at different ages");
}

#[test]
fn where_no_start_was_seen_what_grows_ever_slower_is_not_called_a_leak() {
    let mut history = History::default();
    let window = Window::ending_at(Millis(BEGIN + 48 * 60 * MINUTE), Elapsed(48 * 60 * MINUTE));
    for replica in 0..3 {
        let population = Population { module: "m".into(), digest: "d".into() };
        let slot = SlotId { population, runner: "r:1".into(), replica };
        // Each was forty hours old when it was seen first.
        let generation = Generation((BEGIN - 40 * 60 * MINUTE).unsigned_abs());
        let samples = (0..48 * 60).map(|minute| {
            let age = 40.0 + minute as f64 / 60.0;
            let bytes = (MIB * (2.0 + 100.0 * (1.0 - (-age / 20.0).exp()))) as u64;
            Sample { at: Millis(BEGIN + minute * MINUTE), generation, bytes }
        });
        history.observe(&SeriesId::from(slot), window, samples);
    }
    let growth = GrowthTrend::of(history.populations().flat_map(|(_, slots)| slots.values()));
    assert_ne!(growth.kind, GrowthKind::Leak, "{growth} {growth:?}");
}
