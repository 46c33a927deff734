//! PURE: growth that becomes slower: does it come to an end, and where?

use std::fmt;

use ebb_units::{ByteCount, Elapsed, Millis, RestartPrice, Span};
use serde::Serialize;

use crate::estimate::seen::{Seen, first_at_age, size_at};

/// Growth that comes to an end: by S·(1 − e^(−age/τ)).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plateau {
    /// S: by how much an instance grows, in bytes.
    pub bytes: f64,
    /// τ: after that time it has grown by 63 % of it.
    #[serde(rename = "time_constant_millis")]
    pub time_constant: Elapsed,
}

impl Plateau {
    /// What a restart saves in memory × time while it fills up again, in byte-seconds: S·τ.
    fn byte_seconds(&self) -> f64 {
        self.bytes * self.time_constant.as_seconds()
    }

    /// That instances are restarted again and again for what they only fill up again, in a sentence: where that saves more than
    /// `price`, which a restart is worth.
    #[must_use]
    pub fn restarted_at(&self, price: RestartPrice) -> Option<String> {
        let (saved, worth) = (self.byte_seconds(), price.byte_seconds());
        let hours = |byte_seconds: f64| format!("{} hours", ByteCount::rounded(byte_seconds / 3600.0));
        (saved > worth).then(|| {
            format!(
                "instances fill up to a plateau of {self}: a restart saves {} until then, more than the restart_price {price} ({}), so \
                 they are restarted for their warm-up again and again. If a warm instance is worth that, raise restart_price",
                hours(saved),
                hours(worth),
            )
        })
    }
}

impl fmt::Display for Plateau {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Span::rounded(self.time_constant.as_seconds());
        write!(f, "{} with a time constant of {time}", ByteCount::rounded(self.bytes))
    }
}

/// Whether growth goes on beyond any plateau that could be behind it: of S·(1 − e^(−age/τ)) + r·age, with whatever τ explains it as
/// well as the best one does and lets it end at no more than twice what was seen, r is above zero.
pub(super) fn outlasts_plateaus(slots: &[Seen<'_>], oldest: f64) -> bool {
    let Some((fits, n)) = fits(slots, oldest) else { return false };
    let best = fits.iter().map(|fit| fit.residual).fold(f64::INFINITY, f64::min);
    // The quantile of χ² with one degree of freedom at level 0.99.
    let good = best * (1.0 + 6.63 / (n - 3.0));
    fits.iter().filter(|fit| fit.residual <= good).all(|fit| fit.slope - 2.6 * fit.deviation > 0.0)
}

/// The plateau that explains growth best, where nothing goes on beyond it: weighted least squares through S·(1 − e^(−age/τ)).
pub(super) fn best_plateau(slots: &[Seen<'_>], oldest: f64) -> Option<Plateau> {
    let points = points(slots, oldest);
    let fit = |time: f64| {
        let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
        for (from, until, bytes) in &points {
            let (x, weight) = ((-from / time).exp() - (-until / time).exp(), (until - from).recip());
            xx += weight * x * x;
            xy += weight * x * bytes;
            yy += weight * bytes * bytes;
        }
        (yy - xy * xy / xx, xy / xx, time)
    };
    let best = times(oldest, 400.0).map(fit).filter(|(_, bytes, _)| *bytes > 0.0);
    let (_, bytes, time) = best.min_by(|one, other| one.0.total_cmp(&other.0))?;
    Some(Plateau { bytes, time_constant: Elapsed((1000.0 * time) as i64) })
}

/// S·(1 − e^(−age/τ)) + r·age for several τ, and of how many spans.
fn fits(slots: &[Seen<'_>], oldest: f64) -> Option<(Vec<Fit>, f64)> {
    let points = points(slots, oldest);
    let n = points.len() as f64;
    (n >= 12.0).then(|| (times(oldest, 40.0).map(|time| fit(&points, time)).collect(), n))
}

/// Time constants from such a part of the oldest age on.
fn times(oldest: f64, part: f64) -> impl Iterator<Item = f64> {
    (0..24).map(move |step| oldest / part * (part / 0.7).powf(f64::from(step) / 23.0))
}

/// Growth between two ages, in bytes and seconds.
fn points(slots: &[Seen<'_>], oldest: f64) -> Vec<(f64, f64, f64)> {
    let mut points = Vec::new();
    for lifetime in slots.iter().flat_map(|slot| &slot.lifetimes) {
        let age = |at: Millis| lifetime.age_at(at).as_seconds();
        let (mut from, mut bytes) = match lifetime.start_bytes() {
            Some(start) if lifetime.seen_from_start() => (0.0, start),
            _ => (age(lifetime.first_at()), lifetime.first_bytes()),
        };
        for bin in BINS {
            let Some(until) = first_at_age(lifetime, Elapsed((bin * oldest * 1000.0) as i64)) else { break };
            if age(until) > from {
                let size = size_at(lifetime, until);
                points.push((from, age(until), (size - bytes) as f64));
                (from, bytes) = (age(until), size);
            }
        }
        let last = age(lifetime.last_at());
        if last > from {
            points.push((from, last, (lifetime.bytes() - bytes) as f64));
        }
    }
    points
}

/// Ages up to which growth is looked at, as parts of the oldest.
const BINS: [f64; 12] =
    [1.0 / 64.0, 1.0 / 32.0, 1.0 / 16.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25];

/// Of points through which S·(1 − e^(−age/τ)) + r·age was laid.
struct Fit {
    /// r, in bytes per second.
    slope: f64,
    deviation: f64,
    /// The weighted sum of squares that is left.
    residual: f64,
}

/// Weighted least squares; the variance of growth is in proportion to time.
fn fit(points: &[(f64, f64, f64)], time: f64) -> Fit {
    let plateau = |age: f64| -(-age / time).exp();
    let (mut xx, mut xt, mut tt, mut xy, mut ty, mut yy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for (from, until, bytes) in points {
        let (x, t) = (plateau(*until) - plateau(*from), until - from);
        let weight = t.recip();
        xx += weight * x * x;
        xt += weight * x * t;
        tt += weight * t * t;
        xy += weight * x * bytes;
        ty += weight * t * bytes;
        yy += weight * bytes * bytes;
    }
    let determinant = xx * tt - xt * xt;
    let size = (xy * tt - ty * xt) / determinant;
    let n = points.len() as f64;
    if size > 0.0 {
        let slope = (ty * xx - xy * xt) / determinant;
        let residual = (yy - size * xy - slope * ty).max(0.0);
        Fit { slope, deviation: (residual / (n - 2.0) * xx / determinant).sqrt(), residual }
    } else {
        let slope = ty / tt;
        let residual = (yy - slope * ty).max(0.0);
        Fit { slope, deviation: (residual / (n - 1.0) / tt).sqrt(), residual }
    }
}
