use ebb_units::{Generation, Population, SlotId};
use proptest::prelude::*;

use super::*;
use crate::{
    decide::clock::disagreement,
    history::{Lifetime, Slot},
};

const SECOND: i64 = 1000;
const BEGIN: i64 = 1_700_000_000_000;

fn terms(keeps_past: bool) -> Terms {
    Terms {
        lookback: Elapsed(600 * SECOND),
        clock_skew: Elapsed(5 * SECOND),
        overlap: Elapsed(20 * SECOND),
        keeps_past,
    }
}

/// A store with the samples of one slot, and an evaluator whose clock may be wrong.
struct World {
    samples: Vec<Sample>,
    /// The true time, by which samples are dated, and which the store's clock shows.
    time: i64,
    /// How far the evaluator's clock is ahead.
    ahead: i64,
    /// How late the store gets samples.
    late: i64,
    intake: Intake,
    keeps_past: bool,
    /// Whether anything tells the evaluator that its clock is wrong.
    tells_time: bool,
    holds: Vec<&'static str>,
}

impl World {
    fn new(keeps_past: bool) -> Self {
        Self {
            samples: Vec::new(),
            time: BEGIN,
            ahead: 0,
            late: 0,
            intake: Intake::default(),
            keeps_past,
            tells_time: true,
            holds: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { wall: Millis(self.time + self.ahead), steady: Millis(self.time) }
    }

    /// One scrape and one tick, ten seconds later. Every 13th scrape finds a new instance.
    fn tick(&mut self) {
        self.time += 10 * SECOND;
        let n = (self.time - BEGIN) / (10 * SECOND);
        let started = BEGIN + (n / 13) * 130 * SECOND;
        let bytes = u64::try_from(1000 + (n % 13) * 10).unwrap();
        let generation = Generation(started.unsigned_abs());
        self.samples.push(Sample { at: Millis(self.time), generation, bytes });
        let hold = fetch(self);
        self.holds.extend(hold.map(|hold| hold.name()));
    }

    /// What an evaluator that starts now would know.
    fn anew(&self) -> History {
        let mut world = Self { time: self.time, samples: self.samples.clone(), ..Self::new(true) };
        assert_eq!(fetch(&mut world), None);
        world.intake.history
    }
}

fn series() -> SeriesId {
    let population = Population { module: "m".into(), digest: "d".into() };
    SlotId { population, runner: "r:1".into(), replica: 0 }.into()
}

/// A tick's fetch, as the evaluation does it.
fn fetch(world: &mut World) -> Option<Hold> {
    let (terms, now) = (terms(world.keeps_past), world.now());
    let next = world.intake.next(&terms, now);
    let from = match &next {
        Next::Wait(hold) => return Some(hold.clone()),
        Next::Anew => Window::ending_at(now.wall, terms.lookback).start().minus(Elapsed(1)),
        Next::CatchUp(from) | Next::Since(from) => *from,
    };
    let mut filling = world.intake.begin(&terms, &next, now);
    if world.tells_time && disagreement(now.wall, Millis(world.time), terms.clock_skew).is_some() {
        world.intake.refuse(filling);
        return Some(Hold::StoreFault { fault: "clock", message: String::new() });
    }
    let stored = world.samples.iter().copied().filter(|sample| sample.at.0 <= world.time - world.late);
    let samples: Vec<_> = if world.keeps_past {
        stored.filter(|sample| sample.at > from && sample.at <= now.wall).collect()
    } else {
        // What is scraped is dated by whoever scrapes.
        stored.rev().take(1).map(|sample| Sample { at: now.wall, ..sample }).collect()
    };
    filling.take(&series(), &samples);
    if let Some(Next::CatchUp(from) | Next::Since(from)) = filling.reach_back() {
        let stored = world.samples.iter().copied().filter(|sample| sample.at.0 <= world.time - world.late);
        let samples: Vec<_> = stored.filter(|sample| sample.at > from && sample.at <= now.wall).collect();
        filling.take_again(&series(), &samples);
    }
    world.intake.accept(filling)
}

type Seen = (Generation, u32, u64, u64, Millis, (u128, Elapsed));

fn seen(history: &History) -> Vec<Seen> {
    let slot = history.slot(&series().slot);
    let lifetimes = slot.into_iter().flat_map(Slot::lifetimes);
    let of = |life: &Lifetime| {
        let (first, last) = (life.first_bytes(), life.last_at());
        (life.generation(), life.samples(), life.doubled_median(), first, last, life.area())
    };
    lifetimes.map(of).collect()
}

/// By how much the clock is ahead, and for how many ticks.
fn steps() -> impl Strategy<Value = Vec<(i64, u32)>> {
    let ahead = prop_oneof![Just(0), -20_000_i64..20_000, -8_000_000_i64..8_000_000, Just(864_000_000)];
    prop::collection::vec((ahead, 1..20_u32), 1..12)
}

proptest! {
    #[test]
    fn after_any_steps_of_the_clock_the_history_is_that_of_an_evaluator_started_anew(
        before in 0..80_u32, steps in steps(), tells_time in prop::bool::ANY,
    ) {
        let mut world = World { tells_time, ..World::new(true) };
        (0..before).for_each(|_| world.tick());
        for (ahead, ticks) in steps {
            world.ahead = ahead;
            (0..ticks).for_each(|_| world.tick());
        }
        world.ahead = 0;
        world.tick();
        prop_assert_eq!(seen(world.intake.history()), seen(&world.anew()));
    }

    /// What is scraped cannot be asked for again: a step that passes leaves no trace, neither samples nor a hole in what
    /// was known before.
    #[test]
    fn a_step_that_passes_leaves_what_was_scraped_as_it_was(
        before in 1..80_u32, ahead in prop_oneof![-900_000_000_i64..-10_000, 10_000_i64..900_000_000], ticks in 1..6_u32,
        tells_time in prop::bool::ANY, told_longer in 0..20_u32,
    ) {
        // As long as somebody says that the clock is wrong, it is not believed, however long it stays there.
        let ticks = ticks + if tells_time { told_longer } else { 0 };
        let mut world = World { tells_time, ..World::new(false) };
        (0..before).for_each(|_| world.tick());
        let known = seen(world.intake.history());
        world.ahead = ahead;
        (0..ticks).for_each(|_| world.tick());
        prop_assert_eq!(seen(world.intake.history()), known);
        prop_assert_eq!(world.holds.len(), ticks as usize);
        world.ahead = 0;
        world.tick();
        prop_assert_eq!(world.holds.len(), ticks as usize, "it goes on at once");
        prop_assert_eq!(world.intake.history().newest_sample(), Some(Millis(world.time)));
    }

    /// Always up to five minutes late, or all at once after having been cut off for longer.
    #[test]
    fn what_comes_late_is_taken_all_the_same(
        first in 0..290_i64, lates in prop::collection::vec((0..290_i64, 1..40_u32), 1..10), cut_off in 0..40_i64,
    ) {
        let mut world = World::new(true);
        // Also of a series that is new.
        world.late = first * SECOND;
        (0..30).for_each(|_| world.tick());
        for (late, ticks) in lates {
            world.late = late * SECOND;
            (0..ticks).for_each(|_| world.tick());
        }
        world.late = 0;
        world.tick();
        for tick in 1..=cut_off {
            world.late = tick * 10 * SECOND;
            world.tick();
        }
        world.late = 0;
        world.tick();
        prop_assert_eq!(seen(world.intake.history()), seen(&world.anew()));
    }
}

#[test]
fn a_clock_that_stays_where_it_stepped_to_is_believed_after_a_while_without_a_store_that_tells() {
    for ahead in [7_200_000, -7_200_000] {
        let mut world = World { tells_time: false, ..World::new(false) };
        (0..30).for_each(|_| world.tick());
        world.ahead = ahead;
        (0..20).for_each(|_| world.tick());
        let reason = if ahead > 0 { "clock_ahead" } else { "clock_behind" };
        assert_eq!(world.holds, [reason; 6], "a minute, in ticks");
        assert_eq!(world.intake.history().newest_sample(), Some(world.now().wall));
        // What was known has moved with the clock: nothing is lost, and nothing has lasted for longer than it did.
        let mut steady = World { tells_time: false, ..World::new(false) };
        (0..50).for_each(|_| steady.tick());
        let generations =
            |world: &World| -> Vec<_> { seen(world.intake.history()).iter().map(|life| life.0).collect() };
        let lasted = |world: &World| seen(world.intake.history()).iter().map(|life| life.5.1.0).sum::<i64>();
        assert_eq!(generations(&world), generations(&steady));
        assert!(
            (lasted(&steady) - lasted(&world)).abs() <= 70 * SECOND,
            "{} {}",
            lasted(&steady),
            lasted(&world)
        );
    }
}

#[test]
fn samples_from_the_future_hold_and_do_not_enter() {
    let mut world = World::new(true);
    (0..5).for_each(|_| world.tick());
    let known = seen(world.intake.history());
    let (terms, now) = (terms(true), world.now());
    let next = world.intake.next(&terms, now);
    let mut filling = world.intake.begin(&terms, &next, now);
    let at = Millis(world.time + 3_600_000);
    filling.take(&series(), &[Sample { at, generation: Generation(1), bytes: 1 }]);
    let hold = world.intake.accept(filling).unwrap();
    assert_eq!(hold, Hold::FutureSample { ahead: Elapsed(3_600_000) });
    assert!(hold.to_string().contains("dated 1h in the future"), "{hold}");
    assert_eq!(seen(world.intake.history()), known);
    world.tick();
    assert_eq!(world.holds, [""; 0]);
}

#[test]
fn late_samples_are_counted_and_how_late_they_come_is_known() {
    let mut world = World::new(true);
    (0..30).for_each(|_| world.tick());
    assert_eq!(world.intake.late(), Elapsed::ZERO);
    // A batch of 45 s: what was due in the three ticks before comes at once.
    world.late = 45 * SECOND;
    (0..4).for_each(|_| world.tick());
    world.late = 0;
    world.time += 10 * SECOND;
    let (terms, now) = (terms(true), world.now());
    let next = world.intake.next(&terms, now);
    let Next::Since(from) = next else { panic!("nothing has stepped") };
    let mut filling = world.intake.begin(&terms, &next, now);
    let after = |from| world.samples.iter().copied().filter(|sample| sample.at > from).collect::<Vec<_>>();
    filling.take(&series(), &after(from));
    let Some(Next::Since(from)) = filling.reach_back() else {
        panic!("it does not reach back to the newest sample")
    };
    filling.take_again(&series(), &after(from));
    assert_eq!((filling.taken, filling.late_samples), (4, 3));
    world.intake.accept(filling);
    assert_eq!(world.intake.late(), Elapsed(30 * SECOND));
}
