//! PURE: what was seen of a slot: how its lifetimes grew at younger and at older ages.

use ebb_units::{Elapsed, Millis};

use crate::history::{Lifetime, Slot};

/// Growth in bytes, and in how many seconds.
pub(super) type Grown = (f64, f64);

/// Growth per second, of several together.
pub(super) fn slope(grown: impl Iterator<Item = Grown>) -> f64 {
    let (bytes, seconds) =
        grown.fold((0.0, 0.0), |(bytes, seconds), more| (bytes + more.0, seconds + more.1));
    if seconds > 0.0 { bytes / seconds } else { 0.0 }
}

/// What was seen of one slot.
pub(super) struct Seen<'a> {
    pub(super) lifetimes: Vec<&'a Lifetime>,
    /// Half of the ages that it has seen for some time.
    pub(super) half: Elapsed,
    pub(super) samples: u64,
    pub(super) mean_bytes: f64,
    /// The most by which a lifetime has grown since its start, or since it was seen first.
    pub(super) grown: f64,
}

impl<'a> Seen<'a> {
    pub(super) fn of(slot: &'a Slot) -> Option<Self> {
        let lifetimes: Vec<_> = slot.lifetimes().collect();
        let mut spans: Vec<_> =
            lifetimes.iter().map(|lifetime| (lifetime.age(), seen_for(lifetime))).collect();
        spans.sort_unstable();
        let all: i64 = spans.iter().map(|(_, seen)| seen.0).sum();
        // The age up to which it was for nine tenths of the time: a single lifetime that lasted is no measure for the others.
        let mut so_far = 0;
        let (oldest, _) = spans.iter().find(|(_, seen)| {
            so_far += seen.0;
            so_far * 10 >= all * 9
        })?;
        if all == 0 {
            return None;
        }
        let held = lifetimes.iter().fold((0.0, 0.0), |(area, seconds), lifetime| {
            let (more, time) = lifetime.area();
            (area + more as f64 / 1000.0, seconds + time.as_seconds())
        });
        Some(Self {
            half: Elapsed(oldest.0 / 2),
            samples: lifetimes.iter().map(|lifetime| u64::from(lifetime.samples())).sum(),
            mean_bytes: slope([held].into_iter()),
            grown: lifetimes.iter().map(|lifetime| grown(lifetime)).fold(0.0, f64::max),
            lifetimes,
        })
    }

    /// The time between its first and its newest sample.
    pub(super) fn span(&self) -> Elapsed {
        let first = self.lifetimes.first().map(|lifetime| lifetime.first_at());
        let last = self.lifetimes.last().map(|lifetime| lifetime.last_at());
        first.zip(last).map_or(Elapsed::ZERO, |(first, last)| last.since(first))
    }

    /// Growth at ages from `half` on.
    pub(super) fn older(&self) -> Option<Grown> {
        let mut grown = self.lifetimes.iter().filter_map(|lifetime| {
            let from = first_at_age(lifetime, self.half)?;
            let bytes = lifetime.bytes() - size_at(lifetime, from);
            Some((bytes as f64, lifetime.last_at().since(from).as_seconds()))
        });
        let first = grown.next()?;
        Some(grown.fold(first, |(bytes, seconds), more| (bytes + more.0, seconds + more.1)))
    }

    /// The same in blocks of time, and what is left of each lifetime.
    pub(super) fn blocks(&self, block: Elapsed) -> Vec<Grown> {
        let mut blocks = Vec::new();
        let begun = |lifetime: &&'a Lifetime| first_at_age(lifetime, self.half);
        for (lifetime, mut from) in self.lifetimes.iter().filter_map(|own| Some((own, begun(own)?))) {
            while from < lifetime.last_at() {
                let until = from.plus(block.max(Elapsed(1))).min(lifetime.last_at());
                let bytes = size_at(lifetime, until) - size_at(lifetime, from);
                blocks.push((bytes as f64, until.since(from).as_seconds()));
                from = until;
            }
        }
        blocks
    }

    /// Growth between two ages.
    pub(super) fn between(&self, from: Elapsed, until: Elapsed) -> Grown {
        let mut grown = (0.0, 0.0);
        for lifetime in &self.lifetimes {
            let Some(begun) = first_at_age(lifetime, from) else { continue };
            let ended = first_at_age(lifetime, until).unwrap_or_else(|| lifetime.last_at());
            grown.0 += (size_at(lifetime, ended) - size_at(lifetime, begun)) as f64;
            grown.1 += ended.since(begun).as_seconds();
        }
        grown
    }

    /// Growth since the start up to `half`, of all lifetimes whose start was seen.
    pub(super) fn younger(&self) -> Option<Grown> {
        let mut grown = self.lifetimes.iter().filter_map(|lifetime| {
            let start = lifetime.start_bytes()?;
            let until = first_at_age(lifetime, self.half).unwrap_or_else(|| lifetime.last_at());
            let bytes = size_at(lifetime, until).saturating_sub(start);
            Some((bytes as f64, lifetime.age_at(until).as_seconds()))
        });
        let first = grown.next()?;
        Some(grown.fold(first, |(bytes, seconds), more| (bytes + more.0, seconds + more.1)))
    }
}

fn seen_for(lifetime: &Lifetime) -> Elapsed {
    lifetime.last_at().since(lifetime.first_at())
}

fn grown(lifetime: &Lifetime) -> f64 {
    let least = lifetime.start_bytes().unwrap_or_else(|| lifetime.first_bytes());
    lifetime.bytes().saturating_sub(least) as f64
}

/// When `lifetime` was seen first at that age or later, if it was.
pub(super) fn first_at_age(lifetime: &Lifetime, age: Elapsed) -> Option<Millis> {
    let at = lifetime.last_at().plus(age).plus(-lifetime.age());
    (at < lifetime.last_at()).then(|| at.max(lifetime.first_at()))
}

/// What it held then.
pub(super) fn size_at(lifetime: &Lifetime, at: Millis) -> u64 {
    let steps = lifetime.steps();
    let after = steps.partition_point(|step| step.at <= at);
    after.checked_sub(1).map_or(lifetime.first_bytes(), |place| steps[place].bytes)
}
