//! PURE: sums over lifetimes that tell how their costs go with the time of day.

use ebb_units::{Elapsed, Millis};

use crate::history::day::DAY;

/// Of lifetimes that were seen whole. T is a lifetime's time in seconds, C its cost in byte-seconds, z its time weighted with
/// the cosine and the sine of the time of day, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::estimate) struct DaySums {
    /// By the day on which they ended: every fourth day in one.
    pub days: [Sums; Self::DAYS],
    /// Σ C²/T.
    pub cost_squares: f64,
    /// When the first of them began, and when the last one ended.
    pub seen: Option<(Millis, Millis)>,
}

/// Of the lifetimes of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::estimate) struct Sums {
    /// Σ z zᵀ/T: of cos², cos·sin and sin².
    pub squares: [f64; 3],
    /// Σ z.
    pub weighted: [f64; 2],
    /// Σ z·C/T.
    pub costs: [f64; 2],
}

impl DaySums {
    /// Days that are told apart.
    pub(in crate::estimate) const DAYS: usize = 4;

    /// Takes in a lifetime, which ended at `until`.
    pub(super) fn add(&mut self, cost: f64, time: Elapsed, until: Millis, weighted: [Elapsed; 2]) {
        let seconds = time.as_seconds();
        if seconds <= 0.0 {
            return;
        }
        let since = self.seen.map_or(until.minus(time), |(since, _)| since);
        self.seen = Some((since, until));
        self.cost_squares += cost * cost / seconds;
        let sums = &mut self.days[until.0.div_euclid(DAY.0).rem_euclid(Self::DAYS as i64) as usize];
        let [cos, sin] = weighted.map(Elapsed::as_seconds);
        let products = [cos * cos, cos * sin, sin * sin];
        sums.squares.iter_mut().zip(products).for_each(|(sum, product)| *sum += product / seconds);
        for (n, weighted) in [cos, sin].into_iter().enumerate() {
            sums.weighted[n] += weighted;
            sums.costs[n] += weighted * cost / seconds;
        }
    }
}
