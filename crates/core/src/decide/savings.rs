//! PURE: how much memory restarts have saved, at least.
//!
//! Linear memory never shrinks: without its restart, an instance would hold what it held then, or more. So until somebody else starts
//! what lives in its slot anew, a slot saves at least the difference between that and what it holds now. What it would have grown by
//! meanwhile is not counted, nor what was ordered before this program was started.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ebb_units::{Elapsed, Generation, Millis, SlotId};

use super::judgement::Judgement;

/// Longer than this between two ticks, nobody knows what was there.
const TICK_MAX: Elapsed = Elapsed::secs(600);

/// What restarts have saved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Savings {
    restarted: HashMap<SlotId, Restarted>,
    byte_seconds: BTreeMap<Arc<str>, f64>,
    last: Option<Millis>,
}

/// What lives in a slot since a restart.
#[derive(Clone, Copy, Debug)]
struct Restarted {
    generation: Generation,
    /// What would be held there without restarts.
    bytes: u64,
}

impl Savings {
    /// `old`, of which a restart was ordered, was replaced by `generation`.
    pub(crate) fn restarted(&mut self, old: &Judgement, generation: Generation) {
        let before = self.restarted.get(&old.slot).filter(|before| before.generation == old.generation);
        let bytes = before.map_or(0, |before| before.bytes).max(old.memory_bytes);
        self.restarted.insert(old.slot.clone(), Restarted { generation, bytes });
    }

    /// Adds what was saved since the last tick; `instances`: all that live, in the order of their slots.
    pub(crate) fn add(&mut self, instances: &[Judgement], now: Millis) {
        let Some(last) = self.last.replace(now) else { return };
        let passed = now.since(last).max(Elapsed::ZERO);
        if passed > TICK_MAX {
            return;
        }
        let byte_seconds = &mut self.byte_seconds;
        self.restarted.retain(|slot, restarted| {
            let Ok(place) = instances.binary_search_by(|instance| instance.slot.cmp(slot)) else {
                return false;
            };
            let instance = &instances[place];
            if instance.generation == restarted.generation {
                let saved =
                    restarted.bytes.saturating_sub(instance.memory_bytes) as f64 * passed.as_seconds();
                *byte_seconds.entry(Arc::clone(&slot.population.module)).or_default() += saved;
            }
            // What is older was not seen to be gone yet.
            instance.generation <= restarted.generation
        });
    }

    /// Of each module of which something was restarted, in byte-seconds.
    pub(crate) const fn byte_seconds(&self) -> &BTreeMap<Arc<str>, f64> {
        &self.byte_seconds
    }
}

#[cfg(test)]
mod tests {
    use ebb_units::Population;

    use super::*;
    use crate::policy::{Bound, Verdict};

    fn instance(replica: u32, generation: u64, memory_bytes: u64) -> Judgement {
        let population = Population { module: "m".into(), digest: "d".into() };
        Judgement {
            slot: SlotId { population, runner: "r:1".into(), replica },
            generation: Generation(generation),
            age: Elapsed::ZERO,
            starts_ahead: Elapsed::ZERO,
            memory_bytes,
            reclaimable_bytes: 0,
            bound: Bound::default(),
            sample_size: 0,
            mean_bytes: None,
            stddev_bytes: None,
            verdict: Verdict::Within,
        }
    }

    fn saved(savings: &Savings) -> f64 {
        savings.byte_seconds().get("m").copied().unwrap_or(0.0)
    }

    #[test]
    fn what_was_held_before_restarts_less_what_is_held_now_is_saved() {
        let mut savings = Savings::default();
        let others = instance(1, 1, 1000);
        let tick = |savings: &mut Savings, seconds: i64, generation, bytes| {
            savings.add(&[instance(0, generation, bytes), others.clone()], Millis(seconds * 1000));
        };
        tick(&mut savings, 0, 1, 500);
        savings.restarted(&instance(0, 1, 500), Generation(2));
        // The store does not show it yet.
        tick(&mut savings, 10, 1, 500);
        assert_eq!(saved(&savings), 0.0);
        tick(&mut savings, 20, 2, 100);
        tick(&mut savings, 30, 2, 300);
        assert_eq!(saved(&savings), 4000.0 + 2000.0);
        // Restarted earlier than before: without both it would still hold what it held at first.
        savings.restarted(&instance(0, 2, 300), Generation(3));
        tick(&mut savings, 40, 3, 100);
        assert_eq!(saved(&savings), 6000.0 + 4000.0);
        // Somebody else started it anew, and might have done so without us.
        tick(&mut savings, 50, 4, 100);
        tick(&mut savings, 60, 4, 100);
        assert_eq!(saved(&savings), 10_000.0);
    }

    #[test]
    fn what_nobody_saw_is_not_saved() {
        let mut savings = Savings::default();
        savings.add(&[], Millis(0));
        savings.restarted(&instance(0, 1, 500), Generation(2));
        savings.add(&[instance(0, 2, 100)], Millis(3_600_000));
        assert_eq!(saved(&savings), 0.0);
        savings.add(&[], Millis(3_610_000));
        savings.add(&[instance(0, 2, 100)], Millis(3_620_000));
        assert_eq!(saved(&savings), 0.0);
    }
}
