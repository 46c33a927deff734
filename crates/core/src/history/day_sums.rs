//! PURE: sums over lifetimes that tell how what they held goes with the time of day.

use ebb_units::{Elapsed, Millis};

use super::day::DAY;

/// Of lifetimes that were seen whole. T is a lifetime's time in seconds, A what it held in byte-seconds, z its time weighted with
/// the cosine and the sine of the time of day, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct DaySums {
    /// By the day on which they ended: every fourth day in one.
    pub days: [Sums; Self::DAYS],
    /// Σ A²/T, Σ A/T and Σ 1/T.
    areas: [f64; 3],
    /// When the first of them began, and when the last one ended.
    pub seen: Option<(Millis, Millis)>,
}

/// Of the lifetimes of a day.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sums {
    /// Σ z zᵀ/T: of cos², cos·sin and sin².
    pub squares: [f64; 3],
    /// Σ z.
    pub weighted: [f64; 2],
    /// Σ z·A/T.
    areas: [f64; 2],
    /// Σ z/T.
    shares: [f64; 2],
}

impl Sums {
    /// Σ z·C/T, where a lifetime costs C = A + `price`.
    pub(crate) fn costs(&self, price: f64) -> [f64; 2] {
        [0, 1].map(|n| self.areas[n] + price * self.shares[n])
    }
}

impl DaySums {
    /// Days that are told apart.
    pub(crate) const DAYS: usize = 4;

    /// Σ C²/T, where a lifetime costs C = A + `price`.
    pub(crate) fn cost_squares(&self, price: f64) -> f64 {
        let [squares, areas, lifetimes] = self.areas;
        squares + price * (2.0 * areas + price * lifetimes)
    }

    /// Takes in a lifetime that ended at `until`.
    pub(super) fn add(&mut self, area: f64, time: Elapsed, until: Millis, weighted: [Elapsed; 2]) {
        let seconds = time.as_seconds();
        if seconds <= 0.0 {
            return;
        }
        let since = self.seen.map_or(until.minus(time), |(since, _)| since);
        self.seen = Some((since, until));
        let products = [area * area, area, 1.0];
        self.areas.iter_mut().zip(products).for_each(|(sum, product)| *sum += product / seconds);
        let sums = &mut self.days[until.0.div_euclid(DAY.0).rem_euclid(Self::DAYS as i64) as usize];
        let [cos, sin] = weighted.map(Elapsed::as_seconds);
        let products = [cos * cos, cos * sin, sin * sin];
        sums.squares.iter_mut().zip(products).for_each(|(sum, product)| *sum += product / seconds);
        for (n, weighted) in [cos, sin].into_iter().enumerate() {
            sums.weighted[n] += weighted;
            sums.areas[n] += weighted * area / seconds;
            sums.shares[n] += weighted / seconds;
        }
    }
}
