//! How each population's memory grows, how fast, and whether more than that of the binary before it: looked at now and then, since it
//! takes all steps of all lifetimes to tell.

use std::collections::BTreeMap;

use ebb_core::{
    estimate::{
        growth::GrowthTrend,
        pace::Pace,
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
    looked_at: BTreeMap<Population, Millis>,
    growth: BTreeMap<Population, (GrowthTrend, Option<Pace>)>,
    compared: BTreeMap<Population, Comparison>,
    compared_at: Option<Millis>,
}

impl Kinds {
    /// Looks at each population of `history` that was not looked at for a while, and tells whether there were any; `now`: by a
    /// steady clock.
    pub(super) fn look(&mut self, history: &History, now: Millis) -> bool {
        let mut has_looked = false;
        if self.compared_at.is_none_or(|at| now.since(at) >= EVERY) {
            self.compared_at = Some(now);
            self.compared = compared(history).collect();
        }
        self.looked_at.retain(|_, at| now.since(*at) < 2 * EVERY);
        self.growth.retain(|population, _| self.looked_at.contains_key(population));
        for (population, slots) in history.populations() {
            let known = self.growth.get(population);
            let is_known = known.is_some_and(|(growth, _)| growth.bytes_per_hour.is_some());
            let every = if is_known { EVERY } else { AT_FIRST };
            if self.looked_at.get(population).is_none_or(|at| now.since(*at) >= every) {
                let found = (GrowthTrend::of(slots.values()), Pace::of(slots.values()));
                self.growth.insert(population.clone(), found);
                self.looked_at.insert(population.clone(), now);
                has_looked = true;
            }
        }
        has_looked
    }

    /// How the memory of `population` grows, once that was looked at.
    pub(super) fn of(&self, population: &Population) -> Option<GrowthTrend> {
        self.growth.get(population).map(|(growth, _)| *growth)
    }

    /// The same of all populations, and how fast.
    pub(super) const fn all(&self) -> &BTreeMap<Population, (GrowthTrend, Option<Pace>)> {
        &self.growth
    }

    /// The binary of `population` beside the one before it, if it is its module's newest.
    pub(super) fn comparison(&self, population: &Population) -> Option<Comparison> {
        self.compared.get(population).cloned()
    }
}
