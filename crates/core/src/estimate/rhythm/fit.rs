//! PURE: what the lifetimes of slots tell of a wave, and how far chance explains it.

use crate::{
    estimate::cost::SlotCost,
    history::{DaySums, Sums, day::DAY},
};

/// Least squares: the wave that solves A·wave = b explains most.
#[derive(Clone, Copy, Debug, Default)]
struct Fit {
    a: [f64; 3],
    b: [f64; 2],
}

impl Fit {
    fn plus(self, other: Self) -> Self {
        Self { a: [0, 1, 2].map(|n| self.a[n] + other.a[n]), b: [0, 1].map(|n| self.b[n] + other.b[n]) }
    }

    /// What is left to fit beside `wave`.
    fn beside(self, wave: [f64; 2]) -> Self {
        let [cos, sin] = wave;
        let explained = [self.a[0] * cos + self.a[1] * sin, self.a[1] * cos + self.a[2] * sin];
        Self { b: [self.b[0] - explained[0], self.b[1] - explained[1]], ..self }
    }

    /// (A + ridge)⁻¹ b.
    fn solve(self, ridge: f64) -> [f64; 2] {
        let (a, c, d) = (self.a[0] + ridge, self.a[1], self.a[2] + ridge);
        let determinant = a * d - c * c;
        if determinant <= 0.0 {
            return [0.0; 2];
        }
        [(d * self.b[0] - c * self.b[1]) / determinant, (a * self.b[1] - c * self.b[0]) / determinant]
    }

    /// The wave that explains most.
    fn best(self) -> [f64; 2] {
        /// Keeps finite what lifetimes that lie alike in the day leave open.
        const JITTER: f64 = 0.005;
        self.solve(JITTER * self.trace())
    }

    /// How much that explains.
    fn explained(self) -> f64 {
        let [cos, sin] = self.best();
        cos * self.b[0] + sin * self.b[1]
    }

    const fn trace(self) -> f64 {
        self.a[0] + self.a[2]
    }
}

/// What whole lifetimes, of a slot or of several, tell of a wave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// By the day on which they ended.
    days: [Fit; DaySums::DAYS],
    /// What there is to explain.
    total: f64,
    /// How many they are.
    pub(super) lifetimes: u32,
}

impl Evidence {
    /// Of the whole lifetimes of `slot`, as shares of `span`. Their threshold is `mean` without a wave. None before they span a
    /// day.
    pub(super) fn of(slot: &SlotCost<'_>, mean: f64, span: f64) -> Option<Self> {
        let (since, until) = slot.day.seen?;
        let (lifetimes, cost, seconds) = slot.whole();
        let fit = |day: Sums| {
            let costs = day.costs(slot.price);
            Fit { a: day.squares, b: [0, 1].map(|n| (costs[n] - mean * day.weighted[n]) / span) }
        };
        let squares = slot.day.cost_squares(slot.price);
        let total = (squares - 2.0 * mean * cost + mean * mean * seconds).max(0.0) / (span * span);
        (until.since(since) >= DAY).then(|| Self { days: slot.day.days.map(fit), total, lifetimes })
    }

    /// That of all `slots`.
    pub(super) fn sum<'a>(slots: impl Iterator<Item = &'a Self>) -> Self {
        slots.fold(Self::default(), |sum, slot| Self {
            days: std::array::from_fn(|n| sum.days[n].plus(slot.days[n])),
            total: sum.total + slot.total,
            lifetimes: sum.lifetimes + slot.lifetimes,
        })
    }

    /// What is left to tell beside `wave`.
    pub(super) fn beside(&self, wave: [f64; 2]) -> Self {
        Self { days: self.days.map(|day| day.beside(wave)), ..*self }
    }

    /// The wave, drawn towards nothing so strongly.
    pub(super) fn solve(&self, ridge: f64) -> [f64; 2] {
        self.all().solve(ridge)
    }

    /// What the best wave does not explain.
    pub(super) fn unexplained(&self) -> f64 {
        self.total - self.all().explained()
    }

    fn all(&self) -> Fit {
        self.days.into_iter().fold(Fit::default(), Fit::plus)
    }

    /// What the best wave would explain if only the days' differences from it were at work: a crowd that came once, say.
    /// Infinite of a single day.
    fn explained_by_days(&self) -> f64 {
        let all = self.all();
        let wave = all.best();
        let apart = |day: &Fit| Fit { b: day.beside(wave).b, ..all }.explained();
        let days = self.days.iter().filter(|day| day.trace() > 0.0).count() as f64;
        self.days.iter().map(apart).sum::<f64>() * days / (days - 1.0)
    }
}

/// How strongly the waves of `slots` are drawn towards nothing: the variance of chance, `noise`, over that of what is sought.
/// None where they may be chance.
pub(super) fn ridge(slots: &[Evidence], noise: f64) -> Option<f64> {
    /// So many times what chance explains on average is still chance: it is exceeded once in 400 times. Two figures make a wave.
    const CHANCE: f64 = 6.0 * 2.0;
    /// Likewise of what days explain that differ from each other; of these there are few, and chance is asked already.
    const DAYS: f64 = 3.0;
    let sum = |of: fn(&Evidence) -> f64| slots.iter().map(of).sum::<f64>();
    let chance = CHANCE * slots.len() as f64 * noise;
    let by_days = DAYS * sum(Evidence::explained_by_days);
    let sought = sum(|slot| slot.all().explained()) - chance.max(by_days);
    (sought > 0.0).then(|| noise * sum(|slot| slot.all().trace()) / sought)
}
