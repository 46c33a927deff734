//! `renewal`: restart when the instance now costs more than its slot does on average, restart included.
//!
//! The memory of an instance never falls. So once it holds more than the long-run average cost of keeping the slot
//! running, going on can only raise that average, and restarting lowers it. For lifetimes that resemble each other
//! this is the best rule there is without knowing the future.
//!
//! Source: renewal reward; Ross, *Applied Probability Models with Optimization Applications* (1970), ch. 7: the
//! one-step-look-ahead rule is optimal in the monotone case.

use ebb_units::{ByteCount, Elapsed, Millis, RestartPrice, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bound::{Bound, CostBasis, Threshold};
use crate::{
    estimate::{
        cost::{Others, PopulationCost, SlotCost},
        rhythm::ModuleRhythm,
    },
    history::Slot,
};

/// Restart above the average cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Renewal {
    /// What a restart is worth.
    pub restart_price: RestartPrice,
    /// How much a slot's average is pulled towards its module's.
    pub pooling: Pooling,
    /// Whether the threshold follows the time of day.
    pub rhythm: DailyRhythm,
}

/// How far a slot's average is drawn towards the average of the other slots of its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Not at all: each slot learns alone.
    Off,
    /// As far as the slots resemble each other: the more they differ beyond chance, the more each learns alone.
    Adaptive,
}

/// Whether a threshold follows the time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DailyRhythm {
    /// As far as the costs of past lifetimes show a daily rhythm.
    Auto,
    /// It is the same at all hours.
    Off,
}

impl Default for Renewal {
    fn default() -> Self {
        let restart_price = RestartPrice::new(ByteCount::mib(1024), Span::secs(600));
        Self {
            restart_price: restart_price.expect("it is more than nothing"),
            pooling: Pooling::Adaptive,
            rhythm: DailyRhythm::Auto,
        }
    }
}

impl Renewal {
    /// What the population's slots cost, their average cost as the threshold, and their daily rhythm; nothing while nothing was
    /// observed for any time.
    pub(super) fn learn<'a>(
        &self,
        slots: impl Iterator<Item = &'a Slot>,
    ) -> (Threshold, Option<PopulationCost>, Option<ModuleRhythm>) {
        let slots: Vec<_> = slots.filter_map(|slot| SlotCost::of(slot, self.restart_price)).collect();
        let Some(population) = PopulationCost::of(&slots) else {
            return (Threshold::NotSought, None, None);
        };
        let average = |own: &SlotCost<'_>| own.average_bytes(self.prior(&population, own));
        let rhythm = match self.rhythm {
            DailyRhythm::Auto => ModuleRhythm::of(slots.iter().map(|own| (own, average(own)))),
            DailyRhythm::Off => None,
        };
        (Threshold::Bytes(population.average_bytes()), Some(population), rhythm)
    }

    /// What the other slots of the population say of the one that costs `own`, and how much that weighs.
    fn prior(&self, population: &PopulationCost, own: &SlotCost<'_>) -> Option<Others> {
        let others = match self.pooling {
            Pooling::Off => None,
            Pooling::Adaptive => population.without(own),
        }?;
        let weight = population.weight_seconds().unwrap_or(others.seconds);
        Some(Others { seconds: weight.min(others.seconds), ..others })
    }

    /// The size from which the instance in `slot` costs more than the average, at this hour where there is a rhythm.
    pub(super) fn bound(
        &self,
        population: Option<&PopulationCost>,
        rhythm: Option<ModuleRhythm>,
        slot: &Slot,
        now: Millis,
    ) -> Bound {
        let found = population.and_then(|population| self.threshold(population, rhythm, slot, now));
        let (threshold_bytes, cost) = found.unzip();
        Bound { threshold_bytes, cost, ..Bound::default() }
    }

    /// That size in bytes, and what it rests on.
    fn threshold(
        &self,
        population: &PopulationCost,
        rhythm: Option<ModuleRhythm>,
        slot: &Slot,
        now: Millis,
    ) -> Option<(f64, CostBasis)> {
        let own = SlotCost::of(slot, self.restart_price)?;
        let prior = self.prior(population, &own);
        let average = own.average_bytes(prior);
        let rhythm = rhythm.and_then(|rhythm| rhythm.of_slot(&own, average));
        let unseen_seconds = slot.newest().map_or(0.0, |newest| {
            newest.counts_since().since(newest.started_at()).max(Elapsed::ZERO).as_seconds()
        });
        let basis = CostBasis {
            unseen_seconds,
            observed_seconds: own.seconds(),
            average_memory_bytes: own.memory_byte_seconds() / own.seconds(),
            restarts: u64::from(own.restarts),
            falls: u64::from(own.falls),
            others_average_bytes: prior.map(|prior| prior.average_bytes),
            others_weight_seconds: prior.map_or(0.0, |prior| prior.seconds),
            rhythm,
        };
        Some((rhythm.map_or(average, |rhythm| rhythm.threshold_bytes(now)), basis))
    }

    pub(super) fn summary(&self) -> String {
        let pooling = match self.pooling {
            Pooling::Off => ", not pooled",
            Pooling::Adaptive => "",
        };
        let rhythm = match self.rhythm {
            DailyRhythm::Auto => ", by the time of day",
            DailyRhythm::Off => "",
        };
        format!("restart price {}{pooling}{rhythm}", self.restart_price)
    }

    pub(super) fn describe(&self) -> String {
        let pooling = match self.pooling {
            Pooling::Off => "",
            Pooling::Adaptive => ", pooled with its module's",
        };
        format!("average cost at a restart price of {}{pooling}", self.restart_price)
    }

    /// What a threshold rests on, in words.
    pub(super) fn basis(bound: &Bound) -> String {
        let Some(cost) = &bound.cost else { return String::new() };
        let costs = costs(cost);
        cost.rhythm.map_or_else(
            || format!(" ({costs})"),
            |rhythm| {
                let (mean, minutes) =
                    (ByteCount::rounded(rhythm.mean_bytes()), rhythm.lowest_at().0 / 60_000);
                let (hour, minute) = (minutes / 60, minutes % 60);
                format!(" at this hour ({mean} on average, lowest at {hour:02}:{minute:02} UTC; {costs})")
            },
        )
    }
}

fn costs(cost: &CostBasis) -> String {
    let unseen = if cost.unseen_seconds >= 1.0 {
        format!("; its first {} were not seen", Span::whole_secs(cost.unseen_seconds))
    } else {
        String::new()
    };
    let falls = match cost.falls {
        0 => String::new(),
        1 => " and 1 drop of memory without a restart".to_owned(),
        falls => format!(" and {falls} drops of memory without a restart"),
    };
    let own = format!(
        "mean {} and {} {}{falls} in {}{unseen}",
        ByteCount::rounded(cost.average_memory_bytes),
        cost.restarts,
        if cost.restarts == 1 { "restart" } else { "restarts" },
        Span::whole_secs(cost.observed_seconds)
    );
    match cost.others_average_bytes {
        Some(average) => format!(
            "{own}; the other replicas' average {} weighs like {}",
            ByteCount::rounded(average),
            Span::whole_secs(cost.others_weight_seconds)
        ),
        None => own,
    }
}
