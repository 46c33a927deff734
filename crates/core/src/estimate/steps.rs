//! PURE: growth in large steps: of requests that need much for a moment, or of a leak on a rare route?

use ebb_units::Elapsed;

use super::seen::Seen;
use crate::history::Step;

/// A step is large if it is at least this part of what an instance holds.
const LARGE: f64 = 0.2;

/// The part of growth, from an age on, that came in steps that are large beside what instances hold.
pub(super) fn in_large_steps(
    slots: &[Seen<'_>],
    mean_bytes: f64,
    from: impl Fn(&Seen<'_>) -> Elapsed,
) -> f64 {
    let (mut large, mut all) = (0.0, 0.0);
    for slot in slots {
        for lifetime in &slot.lifetimes {
            for pair in lifetime.steps().windows(2) {
                if lifetime.age_at(pair[1].at) >= from(slot) {
                    let step = (pair[1].bytes - pair[0].bytes) as f64;
                    all += step;
                    large += if step >= LARGE * mean_bytes { step } else { 0.0 };
                }
            }
        }
    }
    if all > 0.0 { large / all } else { 0.0 }
}

/// Whether large steps come again, and add up. What needs much for a moment needs no more when it comes again: a lifetime's size
/// is that of the largest need so far. So a second step is at most half as likely as the first (Rényi's records), and of equally many
/// needs the later ones exceed all first ones once, on average. What leaks comes as often, and adds up.
pub(super) fn steps_add_up(slots: &[Seen<'_>], mean_bytes: f64) -> bool {
    const CHANCE: usize = 5;
    let (mut first, mut later) = (Vec::new(), Vec::new());
    let (mut before, mut after) = (0.0, 0.0);
    for lifetime in slots.iter().flat_map(|slot| &slot.lifetimes) {
        let begin = lifetime.first_bytes();
        let is_large = |pair: &&[Step]| (pair[1].bytes - pair[0].bytes) as f64 >= LARGE * mean_bytes;
        let mut large = lifetime.steps().windows(2).filter(is_large).map(|pair| pair[1]);
        let step = large.next();
        let until = step.map_or(lifetime.last_at(), |step| step.at);
        before += until.since(lifetime.first_at()).as_seconds();
        after += lifetime.last_at().since(until).as_seconds();
        first.extend(step.map(|step| step.bytes - begin));
        later.extend(large.map(|step| step.bytes - begin));
    }
    let Some(highest) = first.iter().max() else { return false };
    let (firsts, laters) = (first.len() as f64, later.len() as f64);
    // Of two Poisson rates, at level 0.975.
    let least = (laters / after) / (firsts / before) * (-1.96 * (1.0 / firsts + 1.0 / laters).sqrt()).exp();
    least > 0.5 && later.iter().filter(|size| *size > highest).count() > CHANCE
}
