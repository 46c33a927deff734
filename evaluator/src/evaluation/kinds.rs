//! How each population's memory grows: looked at now and then, since it takes all steps of all lifetimes to tell.

use std::collections::BTreeMap;

use ebb_core::{estimate::growth::Growth, history::History};
use ebb_units::{Elapsed, Millis, Population};

/// Days make a kind of growth; once a minute is often enough.
const EVERY: Elapsed = Elapsed::secs(60);

/// What was found, and when.
#[derive(Debug, Default)]
pub(super) struct Kinds(BTreeMap<Population, (Millis, Growth)>);

impl Kinds {
    /// Looks at each population of `history` that was not looked at for a while; `now`: by a steady clock.
    pub(super) fn look(&mut self, history: &History, now: Millis) {
        self.0.retain(|_, (at, _)| now.since(*at) < 2 * EVERY);
        for (population, slots) in history.populations() {
            if self.0.get(population).is_none_or(|(at, _)| now.since(*at) >= EVERY) {
                self.0.insert(population.clone(), (now, Growth::of(slots.values())));
            }
        }
    }

    /// How the memory of `population` grows, once that was looked at.
    pub(super) fn of(&self, population: &Population) -> Option<Growth> {
        self.0.get(population).map(|(_, growth)| *growth)
    }
}
