//! PURE: an exposition → what each slot holds and since when.

use std::{collections::BTreeMap, fmt};

use crate::exposition::{Exposition, Sample};

/// The gauge that tells an instance's memory.
pub(crate) const MEMORY: &str = "wasm_linear_memory_bytes";
/// The gauge that tells when an instance was started.
pub(crate) const START_TIME: &str = "wasm_instance_start_time_seconds";

/// Where instances live one after another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) module: String,
    pub(crate) replica: u32,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.module, self.replica)
    }
}

/// What a slot holds at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) digest: String,
    pub(crate) generation: u64,
    pub(crate) memory_bytes: u64,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} with {} bytes", self.generation, self.memory_bytes)
    }
}

/// What all slots hold at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readings {
    pub(crate) slots: BTreeMap<Slot, Reading>,
    /// Series of one gauge without the other.
    pub(crate) unpaired: Vec<String>,
    /// Slots with several series of a gauge.
    pub(crate) doubled: Vec<String>,
}

impl Readings {
    /// The slots of `exposition`. Series that name none are left out.
    pub(crate) fn of(exposition: &Exposition) -> Self {
        let mut readings = Self::default();
        let mut starts: BTreeMap<_, _> =
            exposition.of(START_TIME).map(|sample| (&sample.labels, sample.value)).collect();
        for sample in exposition.of(MEMORY) {
            let Some(start) = starts.remove(&sample.labels) else {
                readings.unpaired.push(format!("{MEMORY}{:?} without {START_TIME}", sample.labels));
                continue;
            };
            let Some((slot, reading)) = reading(sample, start) else { continue };
            if readings.slots.insert(slot.clone(), reading).is_some() {
                readings.doubled.push(slot.to_string());
            }
        }
        readings
            .unpaired
            .extend(starts.keys().map(|labels| format!("{START_TIME}{labels:?} without {MEMORY}")));
        readings
    }

    /// The slot that holds most; of several, the first.
    pub(crate) fn largest(&self) -> Option<&Slot> {
        let slots = self.slots.iter().rev();
        slots.max_by_key(|(_, reading)| reading.memory_bytes).map(|(slot, _)| slot)
    }
}

fn reading(memory: &Sample, start: f64) -> Option<(Slot, Reading)> {
    let label = |name| memory.labels.get(name);
    let slot = Slot { module: label("module")?.clone(), replica: label("replica")?.parse().ok()? };
    let generation = generation(start)?;
    Some((slot, Reading { digest: label("digest")?.clone(), generation, memory_bytes: memory.value as u64 }))
}

/// The generation that a start time tells. None if it tells none: NaN, not after 1970 began, after the year 9999.
pub(crate) fn generation(seconds: f64) -> Option<u64> {
    const LAST_MILLIS: f64 = 253_402_300_799_000.0;
    let millis = (seconds * 1000.0).round();
    (1.0..=LAST_MILLIS).contains(&millis).then_some(millis as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, parse};

    fn readings(text: &str) -> Readings {
        Readings::of(&parse(text, Format::Text).unwrap())
    }

    #[test]
    fn both_gauges_make_a_reading() {
        let read = readings(
            "wasm_linear_memory_bytes{module=\"m\",digest=\"d\",replica=\"3\"} 65536\n\
             wasm_linear_memory_bytes{module=\"m\",digest=\"d\",replica=\"4\"} 131072\n\
             wasm_linear_memory_bytes{module=\"n\",digest=\"d\",replica=\"0\"} 131072\n\
             wasm_instance_start_time_seconds{replica=\"3\",module=\"m\",digest=\"d\"} 1700000000.123\n\
             wasm_instance_start_time_seconds{replica=\"4\",module=\"m\",digest=\"d\"} 1.7e9\n\
             wasm_instance_start_time_seconds{replica=\"0\",module=\"n\",digest=\"d\"} 1.7e9\n",
        );
        let slot = Slot { module: "m".into(), replica: 3 };
        let expected = Reading { digest: "d".into(), generation: 1_700_000_000_123, memory_bytes: 65_536 };
        assert_eq!(read.slots[&slot], expected);
        assert_eq!(read.largest().unwrap().to_string(), "m/4");
        assert!(read.unpaired.is_empty() && read.doubled.is_empty());
    }

    #[test]
    fn what_is_there_once_or_twice_is_told() {
        let read = readings(
            "wasm_linear_memory_bytes{module=\"m\",digest=\"d\",replica=\"0\"} 1\n\
             wasm_linear_memory_bytes{module=\"m\",digest=\"e\",replica=\"0\"} 1\n\
             wasm_linear_memory_bytes{module=\"m\",digest=\"e\",replica=\"1\"} 1\n\
             wasm_instance_start_time_seconds{module=\"m\",digest=\"d\",replica=\"0\"} 1\n\
             wasm_instance_start_time_seconds{module=\"m\",digest=\"e\",replica=\"0\"} 1\n\
             wasm_instance_start_time_seconds{module=\"m\",digest=\"e\",replica=\"2\"} 1\n",
        );
        assert_eq!(read.doubled, ["m/0"]);
        assert_eq!(read.unpaired.len(), 2, "{:?}", read.unpaired);
    }

    #[test]
    fn a_generation_is_a_start_in_milliseconds() {
        assert_eq!(generation(1_700_000_000.123), Some(1_700_000_000_123));
        for none in [f64::NAN, f64::INFINITY, -1.0, 0.0, 2.6e11] {
            assert_eq!(generation(none), None, "{none}");
        }
    }
}
