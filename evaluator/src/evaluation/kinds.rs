//! How each population's memory grows, and whether more than that of the binary before it: looked at now and then, since it takes all
//! steps of all lifetimes to tell.

use std::collections::BTreeMap;

use ebb_core::{
    estimate::{
        growth::GrowthTrend,
        versions::{Comparison, compared},
    },
    history::History,
};
use ebb_units::{Elapsed, Millis, Population};

/// Days make a kind of growth; once a minute is often enough.
const EVERY: Elapsed = Elapsed::secs(60);

/// While nothing is known.
const AT_FIRST: Elapsed = Elapsed::secs(5);

/// What was found, and when.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    growth: BTreeMap<Population, (Millis, GrowthTrend)>,
    compared: BTreeMap<Population, Comparison>,
    compared_at: Option<Millis>,
}

impl Kinds {
    /// Looks at each population of `history` that was not looked at for a while; `now`: by a steady clock.
    pub(super) fn look(&mut self, history: &History, now: Millis) {
        if self.compared_at.is_none_or(|at| now.since(at) >= EVERY) {
            self.compared_at = Some(now);
            self.compared = compared(history).collect();
        }
        self.growth.retain(|_, (at, _)| now.since(*at) < 2 * EVERY);
        for (population, slots) in history.populations() {
            let is_due = self.growth.get(population).is_none_or(|(at, growth)| {
                let every = if growth.bytes_per_hour.is_some() { EVERY } else { AT_FIRST };
                now.since(*at) >= every
            });
            if is_due {
                self.growth.insert(population.clone(), (now, GrowthTrend::of(slots.values())));
            }
        }
    }

    /// How the memory of `population` grows, once that was looked at.
    pub(super) fn of(&self, population: &Population) -> Option<GrowthTrend> {
        self.growth.get(population).map(|(_, growth)| *growth)
    }

    /// The binary of `population` beside the one before it, if it is its module's newest.
    pub(super) fn comparison(&self, population: &Population) -> Option<Comparison> {
        self.compared.get(population).cloned()
    }
}
