//! PURE: what the lifetimes of a series that are over add up to. They change rarely, and every tick asks.

use ebb_units::Elapsed;

use super::{
    day,
    day_sums::DaySums,
    growth::Growth,
    lifetime::{End, Lifetime},
    median_sample::MedianSample,
};

/// Of lifetimes that are over, oldest first. A is what a lifetime held in byte-seconds, T its time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ended {
    /// How many ended because another was started.
    pub restarts: u32,
    /// How many ended because memory fell without a new start.
    pub falls: u32,
    /// The least size that a start was seen with, in bytes.
    pub fresh_bytes: Option<u64>,
    /// The least size that was seen, in bytes.
    pub least_bytes: Option<u64>,
    /// Their medians inside the window.
    pub medians: MedianSample,
    /// By how much they grew inside the window.
    pub growth: Growth,
    /// The age of the youngest one at its end.
    pub youngest: Option<Elapsed>,
    /// A and T of the oldest one, where the window may have cut off its beginning; it is none of the following.
    pub cut: Option<(f64, f64)>,
    /// How many were seen whole.
    pub lifetimes: u32,
    /// Σ A.
    pub area: f64,
    /// Σ T.
    pub seconds: f64,
    /// Σ A², Σ A·T and Σ T².
    pub moments: [f64; 3],
    /// The most by which A was less than if the last size had been held for all of T.
    pub most_spared: f64,
    /// What they tell of the day.
    pub day: DaySums,
}

impl Ended {
    /// What all of `lifetimes` add up to.
    pub(super) fn of(lifetimes: &[Lifetime]) -> Self {
        let mut ended = Self::default();
        for (place, lifetime) in lifetimes.iter().enumerate() {
            ended.add(place.checked_sub(1).map(|before| &lifetimes[before]), lifetime);
        }
        ended
    }

    /// Takes in the next one, which came after `before`.
    pub(super) fn add(&mut self, before: Option<&Lifetime>, lifetime: &Lifetime) {
        self.fresh_bytes = self.fresh_bytes.into_iter().chain(lifetime.start_bytes()).min();
        self.least_bytes = self.least_bytes.into_iter().chain([lifetime.least_bytes()]).min();
        self.medians.push(lifetime.doubled_median());
        self.growth.add(lifetime.growth());
        self.youngest = self.youngest.into_iter().chain([lifetime.age()]).min();
        if lifetime.end() == Some(End::Discontinued) {
            self.falls += 1;
        } else {
            self.restarts += 1;
        }
        let (area, time) = held(before, lifetime);
        let seconds = time.as_seconds();
        if before.is_none() && !lifetime.seen_from_start() {
            self.cut = Some((area, seconds));
            return;
        }
        self.lifetimes += 1;
        self.area += area;
        self.seconds += seconds;
        let products = [area * area, area * seconds, seconds * seconds];
        self.moments.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        self.most_spared = self.most_spared.max(lifetime.bytes() as f64 * seconds - area);
        let until = lifetime.last_at();
        self.day.add(area, time, until, day::weighted(until.minus(time), until));
    }
}

/// What `lifetime` has held, in byte-seconds, and for how long. Of one that came after `before` the window cut nothing off: if it
/// was not seen from its start, its first samples were missed.
pub(super) fn held(before: Option<&Lifetime>, lifetime: &Lifetime) -> (f64, Elapsed) {
    let (mut area, mut time) = lifetime.area();
    if let Some(before) = before.filter(|_| !lifetime.seen_from_start()) {
        let (missed, missed_time) = lifetime.area_before(before.last_at());
        area += missed;
        time += missed_time;
    }
    (area as f64 / 1000.0, time)
}
