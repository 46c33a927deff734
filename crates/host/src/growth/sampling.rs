//! PURE: of which grows the stacks are taken.

use std::time::{Duration, Instant};

/// Of the grows in this time, one stands for all, once there were too many.
const WINDOW: Duration = Duration::from_millis(10);

/// As many as fit into this are not too many, even at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// So much, in so many grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grows {
    pub(crate) bytes: u64,
    pub(crate) number: u64,
}

impl Grows {
    pub(crate) const fn one(bytes: u64) -> Self {
        Self { bytes, number: 1 }
    }
}

/// Chooses the grows of one instance whose stacks are taken, and keeps for which others each of them stands. `P`: a place where they
/// count.
#[derive(Debug)]
pub(super) struct Sampling<P> {
    window: Option<Window<P>>,
    /// When all windows so far would be over, one after another.
    booked_until: Instant,
}

/// Grows for which one stands.
#[derive(Clone, Copy, Debug, Default)]
struct Window<P> {
    grows: Grows,
    place: P,
    /// The last one that was chosen waits for its stack.
    waits: bool,
}

/// What counted at one place, and counts at another from now on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Move<P> {
    pub(super) from: P,
    pub(super) grows: Grows,
}

impl<P: Copy + Default + PartialEq> Sampling<P> {
    pub(super) fn new(now: Instant) -> Self {
        Self { window: None, booked_until: now }
    }

    /// None of the grows so far waits for its stack.
    pub(super) fn forget(&mut self) {
        self.window = None;
    }

    /// A memory grows: where that counts for now, and whether it is one whose stack is to be taken. `chance`: a number
    /// from 0 to 1, another one at each call.
    pub(super) fn note(&mut self, bytes: u64, now: Instant, chance: f64) -> (P, bool) {
        // What waits for its stack soon has it.
        let open = self.window.take().filter(|window| window.waits || self.booked_until > now + AT_ONCE);
        let mut window = open.unwrap_or_else(|| {
            self.booked_until = self.booked_until.max(now) + WINDOW;
            Window::default()
        });
        window.grows.bytes += bytes;
        window.grows.number += 1;
        let chosen = window.grows.number == 1 || chance * window.grows.bytes as f64 <= bytes as f64;
        window.waits |= chosen;
        let place = window.place;
        self.window = Some(window);
        (place, chosen)
    }

    /// The grow that was noted last has failed: where it counted.
    pub(super) fn take_back(&mut self, bytes: u64) -> Option<P> {
        let window = self.window.as_mut()?;
        window.grows.bytes -= bytes;
        window.grows.number -= 1;
        window.waits &= window.grows.number > 0;
        Some(window.place)
    }

    /// Whether a stack is to be taken now.
    pub(super) fn waits(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.waits)
    }

    /// The stack for which it waited is that of `place`: what counts there from now on.
    pub(super) fn settle(&mut self, place: P) -> Option<Move<P>> {
        let window = self.window.as_mut().filter(|window| window.waits)?;
        window.waits = false;
        let moved = Move { from: std::mem::replace(&mut window.place, place), grows: window.grows };
        (moved.from != place).then_some(moved)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::chance::chance;

    /// What counts at each place after grows as (milliseconds, place, bytes), and how many stacks were taken.
    fn sampled(grows: impl Iterator<Item = (u64, u8, u64)>) -> (BTreeMap<u8, u64>, u64) {
        let start = Instant::now();
        let mut sampling = Sampling::<u8>::new(start);
        let (mut sums, mut taken) = (BTreeMap::<u8, u64>::new(), 0);
        for (millis, place, bytes) in grows {
            let (counts_at, _) = sampling.note(bytes, start + Duration::from_millis(millis), chance());
            *sums.entry(counts_at).or_default() += bytes;
            if sampling.waits() {
                taken += 1;
                if let Some(Move { from, grows }) = sampling.settle(place) {
                    *sums.entry(from).or_default() -= grows.bytes;
                    *sums.entry(place).or_default() += grows.bytes;
                }
            }
        }
        sums.retain(|_, bytes| *bytes > 0);
        (sums, taken)
    }

    #[test]
    fn while_there_are_few_each_has_its_stack() {
        let grows = (0..2000).map(|number| (number * 10, 1 + (number % 10 < 3) as u8, 5));
        let (sums, taken) = sampled(grows);
        assert_eq!((sums, taken), (BTreeMap::from([(1, 7_000), (2, 3_000)]), 2000));
    }

    #[test]
    fn where_there_are_many_few_stand_for_all_and_shares_are_right() {
        // Ten a millisecond for a minute: 100 in a window, which takes 1 + 1/2 + … + 1/100 = 5.2 stacks on average.
        let grows = (0..600_000_u64).map(|number| {
            let large = number * 7919 % 10 == 0;
            (number / 10, 1 + u8::from(large), if large { 21 } else { 1 })
        });
        let (sums, taken) = sampled(grows);
        assert_eq!(sums.values().sum::<u64>(), 600_000 / 10 * (9 + 21));
        assert!((20_000..40_000).contains(&taken), "{taken}");
        // 70 % of the bytes; one window is 1/6000 of all, so the standard error is 0.6 points.
        let share = sums[&2] as f64 / sums.values().sum::<u64>() as f64;
        assert!((share - 0.7).abs() < 0.03, "{share}");
    }

    #[test]
    fn what_has_failed_counts_no_more() {
        let now = Instant::now();
        let mut sampling = Sampling::<u8>::new(now);
        assert_eq!(sampling.note(5, now, 0.5), (0, true));
        assert_eq!(sampling.take_back(5), Some(0));
        assert!(!sampling.waits());
        assert_eq!(sampling.settle(1), None);
    }
}
