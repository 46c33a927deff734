use ebb_units::{Population, SeriesId, SlotId};
use proptest::prelude::*;

use super::*;
use crate::history::{History, Lifetime, Slot};

const SECOND: i64 = 1000;

fn slot() -> SlotId {
    let population = Population { module: Arc::from("m"), digest: Arc::from("d") };
    SlotId { population, runner: "r:1".into(), replica: 0 }
}

fn id(labels: &str) -> SeriesId {
    SeriesId { slot: slot(), labels: labels.into() }
}

/// What lives in the slot at a moment: a new instance at each of `starts`, which grows by 1 B a second.
fn truth(starts: &[i64], at: i64) -> Sample {
    let start = starts.iter().copied().filter(|start| *start <= at).max().unwrap_or(0);
    let bytes = 1000 + u64::try_from((at - start) / SECOND).unwrap();
    Sample { at: Millis(at), generation: Generation(start.unsigned_abs()), bytes }
}

fn samples(starts: &[i64], offset: i64, spacing: i64, until: i64) -> Vec<Sample> {
    (0..).map(|n| offset + n * spacing).take_while(|at| *at <= until).map(|at| truth(starts, at)).collect()
}

type Seen = (Generation, u32, u64, u64, Millis, (u128, Elapsed), Option<u64>);

fn seen(history: &History) -> Vec<Seen> {
    let of = |life: &Lifetime| {
        let (median, first, last) = (life.doubled_median(), life.first_bytes(), life.last_at());
        (life.generation(), life.samples(), median, first, last, life.area(), life.start_bytes())
    };
    history.slot(&slot()).into_iter().flat_map(Slot::lifetimes).map(of).collect()
}

const NOW: i64 = 4000 * SECOND;
const LOOKBACK: i64 = 2400 * SECOND;
const STALE_AFTER: i64 = 60 * SECOND;
const SKEW: i64 = 5 * SECOND;

/// A history that has grown in ticks of the given lengths, in each of which the series come in an order of its own.
fn grown(series: &[(&str, Vec<Sample>)], ticks: &[(i64, usize)]) -> History {
    let mut history = History::default();
    let mut ends = ticks.to_vec();
    ends.push((NOW, 0));
    ends.sort_unstable();
    let mut orders: Vec<Vec<usize>> = vec![(0..series.len()).collect()];
    for _ in 1..series.len() {
        let next = orders.iter().flat_map(|order| {
            let mut order = order.clone();
            order.rotate_left(1);
            let mut reversed = order.clone();
            reversed.reverse();
            [order, reversed]
        });
        orders = next.collect();
    }
    for (end, order) in ends {
        let window = Window::ending_at(Millis(end), Elapsed(LOOKBACK));
        for place in &orders[order % orders.len()] {
            let (labels, samples) = &series[*place];
            history.observe(&id(labels), window, samples.iter().copied().filter(|sample| sample.at.0 <= end));
        }
        history.forget_before(window);
    }
    history.choose(Millis(NOW), Elapsed(STALE_AFTER), None);
    history
}

proptest! {
    /// Two or three servers that scrape one fleet: what one of them alone would have told, whatever the order.
    #[test]
    fn several_series_tell_what_one_of_them_alone_tells(
        starts in prop::collection::btree_set(0..NOW, 1..12),
        offsets in prop::collection::vec(0..10 * SECOND, 2..4),
        ticks in prop::collection::vec((1000 * SECOND..NOW, 0..8_usize), 0..12),
    ) {
        let starts: Vec<_> = starts.into_iter().collect();
        let names = ["prometheus=\"a\"", "prometheus=\"b\"", "prometheus=\"c\""];
        let series: Vec<_> = names
            .into_iter()
            .zip(offsets)
            .map(|(labels, offset)| (labels, samples(&starts, offset, 10 * SECOND, NOW)))
            .collect();
        let found = grown(&series, &ticks);
        let alone = grown(&series[..1], &ticks);
        prop_assert_eq!(seen(&found), seen(&alone));
        prop_assert_eq!(found.contradictions(Millis(NOW), Elapsed(STALE_AFTER), Elapsed(SKEW)).count(), 0);
    }
}

#[test]
fn the_series_that_lives_and_has_missed_least_is_believed() {
    let all = samples(&[0], 0, 10 * SECOND, NOW);
    let ended: Vec<_> = all.iter().copied().filter(|sample| sample.at.0 < NOW - 2 * STALE_AFTER).collect();
    let with_a_hole: Vec<_> =
        all.iter().copied().filter(|sample| !(3000 * SECOND..3100 * SECOND).contains(&sample.at.0)).collect();
    let believed = |first: &[Sample], second: &[Sample]| {
        let found = grown(&[("a=\"1\"", first.to_vec()), ("b=\"1\"", second.to_vec())], &[]);
        let only = |samples: &[Sample]| seen(&grown(&[("", samples.to_vec())], &[]));
        if seen(&found) == only(first) {
            1
        } else {
            assert_eq!(seen(&found), only(second));
            2
        }
    };
    let later = samples(&[0], 3000 * SECOND, 10 * SECOND, NOW);
    assert_eq!(believed(&ended, &later), 2, "the first is dead");
    assert_eq!(believed(&all, &later), 1, "the second knows less");
    assert_eq!(believed(&later, &all), 2);
    assert_eq!(believed(&with_a_hole, &samples(&[0], 3000, 10 * SECOND, NOW)), 2, "it was away");
    assert_eq!(believed(&all[1..], &samples(&[0], 3000, 10 * SECOND, NOW)), 1, "a sample tells nothing");
}

fn contradiction_of(series: &[(&str, Vec<Sample>)]) -> Option<Contradiction> {
    let history = grown(series, &[]);
    let found = history.contradictions(Millis(NOW), Elapsed(STALE_AFTER), Elapsed(SKEW)).next();
    found.map(|(_, contradiction)| contradiction)
}

#[test]
fn two_runners_under_one_address_contradict_each_other() {
    let (one, two) = (samples(&[1000], 0, 10 * SECOND, NOW), samples(&[2000], 3000, 10 * SECOND, NOW));
    let series = [("host=\"1\"", one.clone()), ("host=\"2\"", two.clone())];
    let both = Contradiction::Between("host=\"1\"".into(), "host=\"2\"".into());
    assert_eq!(contradiction_of(&series), Some(both));
    // Also where one is restarted so often that its newest instance has always begun a moment ago.
    let restarts: Vec<_> = (1..800).map(|n| n * 5 * SECOND).collect();
    let restless = samples(&restarts, 0, SECOND, NOW);
    assert!(contradiction_of(&[("host=\"1\"", one.clone()), ("host=\"2\"", restless)]).is_some());
    // Not where one of them has long gone.
    let gone: Vec<_> = two.iter().copied().filter(|sample| sample.at.0 < NOW - 2 * STALE_AFTER).collect();
    assert_eq!(contradiction_of(&[("host=\"1\"", one.clone()), ("host=\"2\"", gone)]), None);
    // Nor where they start alike, and one holds less than the other held before.
    let smaller = samples(&[1000], 0, 10 * SECOND, NOW)
        .into_iter()
        .map(|sample| Sample { bytes: sample.bytes / 2, ..sample })
        .collect();
    let late: Vec<_> = one.iter().copied().filter(|sample| sample.at.0 < NOW - 2 * SKEW).collect();
    assert!(contradiction_of(&[("host=\"1\"", late), ("host=\"2\"", smaller)]).is_some());
}

#[test]
fn a_restart_that_two_see_one_after_another_is_no_contradiction() {
    for restarted in [NOW - 9000, NOW - 5000, NOW - 1] {
        let starts = [1000, restarted];
        let one = samples(&starts, 0, 10 * SECOND, NOW);
        // Its clock is 4 s behind: it dates what it sees too early.
        let other: Vec<_> = samples(&starts, 2000, 10 * SECOND, NOW)
            .into_iter()
            .map(|sample| Sample { at: sample.at.minus(Elapsed(4000)), ..sample })
            .collect();
        assert_eq!(contradiction_of(&[("a=\"1\"", one), ("b=\"1\"", other)]), None, "{restarted}");
    }
}

#[test]
fn one_series_that_tells_of_two_runners_in_turn_contradicts_itself() {
    let turns = |until| -> Vec<_> {
        let (one, two) =
            (samples(&[1000], 0, 10 * SECOND, until), samples(&[2000], 5000, 10 * SECOND, until));
        let mut both = [one, two].concat();
        both.sort_by_key(|sample| sample.at);
        both
    };
    assert_eq!(contradiction_of(&[("a=\"1\"", turns(NOW))]), Some(Contradiction::Within("a=\"1\"".into())));
    let mended = [turns(NOW - 2 * STALE_AFTER), samples(&[1000], NOW - STALE_AFTER, 10 * SECOND, NOW)];
    assert_eq!(contradiction_of(&[("a=\"1\"", mended.concat())]), None);
}

#[test]
fn what_is_scraped_seldom_is_alive_for_as_long_as_three_samples_take_unless_that_is_set() {
    let seldom = samples(&[0], 0, 60 * SECOND, NOW - 100 * SECOND);
    let mut history = grown(&[("", seldom)], &[]);
    let mut lives = |late| {
        history.choose(Millis(NOW), Elapsed(STALE_AFTER), late);
        history.slot(&slot()).unwrap().live(Millis(NOW), Elapsed(STALE_AFTER)).is_some()
    };
    assert!(!lives(None));
    assert!(lives(Some(Elapsed::ZERO)));
    // A limit that is set later holds from then on.
    assert!(!lives(None));
}

#[test]
fn a_gap_is_no_spacing() {
    let spacing = |times: &[i64]| {
        let samples: Vec<_> = times.iter().map(|at| truth(&[0], at * SECOND)).collect();
        grown(&[("", samples)], &[]).spacing().map(|time| time.0 / SECOND)
    };
    assert_eq!(spacing(&[3900]), None);
    assert_eq!(spacing(&[3900, 3910]), Some(10));
    assert_eq!(spacing(&[3000, 3900, 3910]), Some(10));
    for times in [[3000, 3900, 3910, 3920], [3000, 3010, 3900, 3910], [3000, 3010, 3020, 3900]] {
        assert_eq!(spacing(&times), Some(10), "{times:?}");
    }
}
