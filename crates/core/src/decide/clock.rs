//! PURE: which time it is, and whether to believe it. Clocks step: they are set by hand, by NTP, by a machine that wakes up.
//!
//! Samples and starts are dated, so what concerns them goes by the wall clock. How long something took goes by a steady
//! clock, so that no budget, cooldown or suspension depends on what the wall clock does.

use ebb_units::{Elapsed, Millis};

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The time of day, which may step.
    pub wall: Millis,
    /// A time that only moves on: the wall clock's at the start, and what has passed since.
    pub steady: Millis,
}

impl Now {
    /// A moment at which both clocks agree.
    #[must_use]
    pub const fn both(at: Millis) -> Self {
        Self { wall: at, steady: at }
    }

    /// A moment of the steady clock, as the wall clock now dates it.
    pub(crate) const fn wall_of(self, steady: Millis) -> Millis {
        self.wall.plus(steady.since(self.steady))
    }
}

/// Notices steps of the wall clock.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    /// The wall clock's lead over the steady one when it was last believed.
    believed: Option<Elapsed>,
    /// Another lead, and since when it has held still.
    pending: Option<(Elapsed, Millis)>,
}

impl Steps {
    /// By how much the wall clock has stepped since it was last believed; forward is positive.
    pub(crate) fn step(&self, now: Now) -> Elapsed {
        self.believed.map_or(Elapsed::ZERO, |believed| lead(now) - believed)
    }

    /// Believes the wall clock.
    pub(crate) fn believe(&mut self, now: Now) {
        self.believed = Some(lead(now));
        self.pending = None;
    }

    /// The wall clock is where it was believed to be.
    pub(crate) const fn settle(&mut self) {
        self.pending = None;
    }

    /// For how long the wall clock has held still since it stepped, give or take `skew`.
    pub(crate) fn still_for(&mut self, now: Now, skew: Elapsed) -> Elapsed {
        match self.pending {
            Some((pending, since)) if (lead(now) - pending).abs() <= skew.abs() => now.steady.since(since),
            _ => {
                self.pending = Some((lead(now), now.steady));
                Elapsed::ZERO
            }
        }
    }
}

const fn lead(now: Now) -> Elapsed {
    now.wall.since(now.steady)
}

/// By how much a clock at `now` is ahead of another one which said `there`, if by more than `skew`; behind is
/// negative. What another clock said is to the second, and was said a moment ago.
#[must_use]
pub fn disagreement(now: Millis, there: Millis, skew: Elapsed) -> Option<Elapsed> {
    let ahead = now.since(there);
    (ahead.abs() > skew.abs()).then_some(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(wall: i64, steady: i64) -> Now {
        Now { wall: Millis(wall), steady: Millis(steady) }
    }

    #[test]
    fn a_step_is_what_the_wall_clock_did_and_the_steady_one_did_not() {
        let mut steps = Steps::default();
        assert_eq!(steps.step(at(7000, 0)), Elapsed::ZERO, "nothing was believed yet");
        steps.believe(at(7000, 0));
        assert_eq!(steps.step(at(17_000, 10_000)), Elapsed::ZERO);
        assert_eq!(steps.step(at(20_000, 10_000)), Elapsed(3000));
        assert_eq!(steps.step(at(10_000, 10_000)), Elapsed(-7000));
        steps.believe(at(10_000, 10_000));
        assert_eq!(steps.step(at(11_000, 11_000)), Elapsed::ZERO);
    }

    #[test]
    fn a_clock_that_stepped_has_to_hold_still() {
        let mut steps = Steps::default();
        steps.believe(at(0, 0));
        assert_eq!(steps.still_for(at(90_000, 1000), Elapsed(500)), Elapsed::ZERO);
        assert_eq!(steps.still_for(at(92_400, 3000), Elapsed(500)), Elapsed(2000));
        assert_eq!(steps.still_for(at(80_000, 4000), Elapsed(500)), Elapsed::ZERO, "it stepped again");
        assert_eq!(steps.still_for(at(81_000, 5000), Elapsed(500)), Elapsed(1000));
    }

    #[test]
    fn what_is_dated_by_the_steady_clock_can_be_told_by_the_wall_clock() {
        assert_eq!(at(90_000, 1000).wall_of(Millis(2500)), Millis(91_500));
    }

    #[test]
    fn clocks_that_differ_by_little_agree() {
        assert_eq!(disagreement(Millis(10_000), Millis(5000), Elapsed(5000)), None);
        assert_eq!(disagreement(Millis(10_001), Millis(5000), Elapsed(5000)), Some(Elapsed(5001)));
        assert_eq!(disagreement(Millis(0), Millis(9000), Elapsed(5000)), Some(Elapsed(-9000)));
    }
}
