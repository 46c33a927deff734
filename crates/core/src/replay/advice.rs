//! PURE: a fleet's own history → what to set: restarts against memory for each price of a restart, and the limits that follow.
//!
//! The price is the slope of that curve: where an operator stands on it, one restart more saves the price in memory × time. Its knee is
//! the point farthest from the straight line between its ends, both axes from 0 to 1 (Satopää et al., *Finding a "Kneedle" in a
//! Haystack*, 2011).

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use ebb_units::{ByteCount, Millis, RestartPrice, Span};
use serde::Serialize;

use super::{Outcome, Peaks, Plan, Recording};
use crate::estimate::growth::Plateau;

/// What is assumed, for whoever reads the figures.
const ASSUMPTION: &str = "Restarts that were really done are taken back, once it was seen what a start leaves: an instance of a module that leaks is taken to \
     grow on by what the new one grew, another to hold the most of both. After a restart that was not really done, it is taken to hold what a \
     new one starts with and to grow by what the real one grew since. Other restarts, such as a host's, are not told from those.";

/// One price of a restart, and what comes of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The price.
    #[serde(serialize_with = "as_text")]
    pub restart_price: RestartPrice,
    /// Restarts per day, of all instances together.
    pub restarts_per_day: f64,
    /// Mean memory of all instances together, in bytes.
    pub mean_bytes: f64,
    /// Most memory of all instances together, in bytes.
    pub peak_bytes: u64,
    /// What follows for each module.
    pub modules: BTreeMap<Arc<str>, Limits>,
}

/// What a module's instances need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Lifetimes that this rests on.
    pub lifetimes: usize,
    /// The most that one held, in bytes.
    pub peak_bytes: u64,
    /// The standard deviation of what they held in the end, in bytes.
    pub spread_bytes: u64,
    /// The most that one grew by from one sample to the next, in bytes.
    pub rise_bytes: u64,
    /// Above this, an instance holds more than any that was restarted in time: the peak and the spread, at least a tenth more than the peak.
    pub max_bytes: u64,
    /// What an instance needs until a restart at `max_bytes` is done: the largest rise more, at least a quarter more.
    pub memory_limit: u64,
}

/// What really was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Reality {
    /// Restarts per day, whoever ordered them.
    pub restarts_per_day: f64,
    /// Mean memory of all instances together, in bytes.
    pub mean_bytes: f64,
    /// Most memory of all instances together, in bytes.
    pub peak_bytes: u64,
}

/// The whole curve.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// What is assumed.
    pub assumption: &'static str,
    /// The first tick.
    pub from: Millis,
    /// The end.
    pub to: Millis,
    /// Slots in the history.
    pub slots: usize,
    /// So many times as many slots there are: figures are of all of them.
    pub scale: f64,
    /// What really was.
    pub real: Reality,
    /// For each price, the lowest first.
    pub points: Vec<Point>,
    /// Where the price stands that is configured now, if one is.
    pub configured: Option<usize>,
    /// Where the curve bends most.
    pub knee: Option<usize>,
    /// Modules that come to a plateau.
    pub plateaus: BTreeMap<Arc<str>, Plateau>,
}

fn as_text<S: serde::Serializer>(price: &RestartPrice, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(price)
}

/// The prices that are tried: fourfold steps around the shipped one, and `more`.
#[must_use]
pub fn prices(more: impl Iterator<Item = RestartPrice>) -> Vec<RestartPrice> {
    const LOWEST: u64 = 4;
    let price = |power: u32| RestartPrice::new(ByteCount::mib(LOWEST << (2 * power)), Span::secs(600));
    let mut prices: Vec<_> = (0..9).filter_map(|power| price(power).ok()).chain(more).collect();
    prices.sort_by(|one, other| one.byte_seconds().total_cmp(&other.byte_seconds()));
    prices.dedup_by(|one, other| one.byte_seconds() == other.byte_seconds());
    prices
}

impl Advice {
    /// What came of each price: `outcomes`, in order of the prices. `configured`: what is set now.
    #[must_use]
    pub fn new(
        recording: &Recording,
        plan: &Plan,
        outcomes: &[(RestartPrice, Outcome)],
        configured: Option<RestartPrice>,
    ) -> Self {
        let scale = recording.scale();
        let days = plan.to.since(plan.from).as_seconds().max(1.0) / 86_400.0 / scale;
        let of_all = |bytes: u64| (scale * bytes as f64).round() as u64;
        let moments = outcomes.first().map_or(&[][..], |(_, outcome)| &outcome.memory);
        let mean = |bytes: &mut dyn Iterator<Item = u64>| {
            let (sum, count) =
                bytes.fold((0_u128, 0_u32), |(sum, count), bytes| (sum + u128::from(bytes), count + 1));
            scale * sum as f64 / f64::from(count.max(1))
        };
        let real = Reality {
            restarts_per_day: recording.real_restarts(plan.from, plan.to) as f64 / days,
            mean_bytes: mean(&mut moments.iter().map(|moment| moment.real_bytes)),
            peak_bytes: of_all(moments.iter().map(|moment| moment.real_bytes).max().unwrap_or(0)),
        };
        let point = |(restart_price, outcome): &(RestartPrice, Outcome)| Point {
            restart_price: *restart_price,
            restarts_per_day: outcome.restarts.len() as f64 / days,
            mean_bytes: mean(&mut outcome.memory.iter().map(|moment| moment.bytes)),
            peak_bytes: of_all(outcome.memory.iter().map(|moment| moment.bytes).max().unwrap_or(0)),
            modules: outcome
                .peaks
                .iter()
                .map(|(module, peaks)| (Arc::clone(module), Limits::of(peaks)))
                .collect(),
        };
        let points: Vec<_> = outcomes.iter().map(point).collect();
        let mut plateaus: BTreeMap<Arc<str>, Plateau> = BTreeMap::new();
        for (population, trend) in recording.growth() {
            let Some(plateau) = trend.plateau else { continue };
            let known = plateaus.entry(Arc::clone(&population.module)).or_insert(plateau);
            if plateau.bytes > known.bytes {
                *known = plateau;
            }
        }
        let mut advice = Self {
            assumption: ASSUMPTION,
            from: plan.from,
            to: plan.to,
            slots: recording.slots(),
            scale,
            real,
            configured: None,
            knee: knee(
                &points.iter().map(|point| (point.restarts_per_day, point.mean_bytes)).collect::<Vec<_>>(),
            ),
            points,
            plateaus,
        };
        advice.configured = configured.and_then(|price| advice.of_price(price));
        advice
    }

    /// The point that is proposed: that of the price that was `asked` for, else the knee, else what is configured.
    #[must_use]
    pub fn proposed(&self, asked: Option<RestartPrice>) -> Option<&Point> {
        let asked = asked.and_then(|price| self.of_price(price));
        self.points.get(asked.or(self.knee).or(self.configured)?)
    }

    fn of_price(&self, price: RestartPrice) -> Option<usize> {
        self.points.iter().position(|point| point.restart_price.byte_seconds() == price.byte_seconds())
    }

    /// The figures as a table; limits at the price that was `asked` for.
    #[must_use]
    pub fn table(&self, asked: Option<RestartPrice>) -> String {
        let rounded = |bytes: f64| ByteCount::rounded(bytes).to_string();
        let mut table = format!(
            "{} of {} slots{}\n\n{:>14}  {:>12}  {:>11}  {:>11}\n",
            Span::rounded(self.to.since(self.from).as_seconds()),
            self.slots,
            self.left_out(),
            "RESTART PRICE",
            "RESTARTS/DAY",
            "MEAN MEMORY",
            "AT MOST"
        );
        for (place, point) in self.points.iter().enumerate() {
            let marks = [(self.configured, "configured"), (self.knee, "knee")];
            let marks: Vec<_> =
                marks.iter().filter(|(at, _)| *at == Some(place)).map(|(_, mark)| *mark).collect();
            let line = format!(
                "{:>14}  {:>12.2}  {:>11}  {:>11}  {}",
                point.restart_price.to_string(),
                point.restarts_per_day,
                rounded(point.mean_bytes),
                ByteCount(point.peak_bytes).to_string(),
                marks.join(", ")
            );
            let _ = writeln!(table, "{}", line.trim_end());
        }
        let Reality { restarts_per_day, mean_bytes, peak_bytes } = self.real;
        let (mean, peak) = (rounded(mean_bytes), ByteCount(peak_bytes).to_string());
        let _ = writeln!(table, "{:>14}  {restarts_per_day:>12.2}  {mean:>11}  {peak:>11}\n", "as it was");
        if let Some(point) = self.proposed(asked) {
            let _ = writeln!(table, "At {}, by module:", point.restart_price);
            for (module, limits) in &point.modules {
                let _ = writeln!(table, "  {module}: {}", limits.reason());
            }
            for warning in self.warnings(point.restart_price) {
                let _ = writeln!(table, "  {warning}");
            }
            table.push('\n');
        }
        table + self.assumption
    }

    /// What to know of that price.
    pub fn warnings(&self, price: RestartPrice) -> impl Iterator<Item = String> {
        let warning = move |(module, plateau): (&Arc<str>, &Plateau)| {
            Some(format!("{module}: {}", plateau.restarted_at(price)?))
        };
        self.plateaus.iter().filter_map(warning)
    }

    /// That not all slots were looked at, if so.
    #[must_use]
    pub fn left_out(&self) -> String {
        let all = (self.scale * self.slots as f64).round();
        if self.scale > 1.0 { format!(" of {all}, evenly chosen; figures are of all") } else { String::new() }
    }

    /// What is proposed, at the price that was `asked` for, to paste into the configs.
    #[must_use]
    pub fn fragment(&self, asked: Option<RestartPrice>) -> String {
        let Some(Point { restart_price, modules, peak_bytes, .. }) = self.proposed(asked) else {
            return String::new();
        };
        let mut evaluator = format!(
            "# evaluator.yml. The fleet then needs {} at most.\ndefaults: {{policy: renewal, restart_price: {restart_price}}}\nmodules:\n",
            ByteCount(*peak_bytes)
        );
        let mut runner = "# runner.yml\nmodules:\n".to_owned();
        for (module, limits) in modules {
            // Names are plain words, but a number would be none without quotes.
            let name = format!("{module:?}");
            let _ = writeln!(evaluator, "  {name}: {{max_bytes: {}}}", mebibytes(limits.max_bytes));
            let _ =
                writeln!(runner, "  - {{name: {name}, memory_limit: {}}}", mebibytes(limits.memory_limit));
        }
        evaluator + &runner
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{}MiB", bytes >> 20)
}

impl Limits {
    fn of(peaks: &Peaks) -> Self {
        let count = peaks.bytes.len() as f64;
        let mean = peaks.bytes.iter().map(|bytes| *bytes as f64).sum::<f64>() / count.max(1.0);
        let squares: f64 = peaks.bytes.iter().map(|bytes| (*bytes as f64 - mean).powi(2)).sum();
        let spread_bytes = (squares / (count - 1.0).max(1.0)).sqrt() as u64;
        let peak_bytes = peaks.bytes.iter().copied().max().unwrap_or(0);
        let whole = |bytes: u64| bytes.div_ceil(1 << 20) << 20;
        let max_bytes = whole(peak_bytes + spread_bytes.max(peak_bytes / 10));
        let memory_limit = whole(max_bytes + peaks.rise_bytes.max(max_bytes / 4));
        Self {
            lifetimes: peaks.bytes.len(),
            peak_bytes,
            spread_bytes,
            rise_bytes: peaks.rise_bytes,
            max_bytes,
            memory_limit,
        }
    }

    /// What they rest on, in a sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        let Self { lifetimes, peak_bytes, spread_bytes, rise_bytes, max_bytes, memory_limit } = *self;
        format!(
            "max_bytes {}, memory_limit {}: {lifetimes} {} held up to {} (standard deviation {}), and one grew by {} from one sample to the next",
            mebibytes(max_bytes),
            mebibytes(memory_limit),
            if lifetimes == 1 { "lifetime" } else { "lifetimes" },
            ByteCount(peak_bytes),
            ByteCount(spread_bytes),
            ByteCount(rise_bytes),
        )
    }
}

/// Where a falling curve of (restarts, memory) bends most; none where it does not bend.
fn knee(points: &[(f64, f64)]) -> Option<usize> {
    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = points.iter().map(of);
        let (least, most) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max));
        (most > least).then_some((least, most - least))
    };
    let ((left, width), (bottom, height)) = (range(|point| point.0)?, range(|point| point.1)?);
    let below =
        |(restarts, memory): &(f64, f64)| 1.0 - (restarts - left) / width - (memory - bottom) / height;
    let (place, depth) =
        points.iter().map(below).enumerate().max_by(|one, other| one.1.total_cmp(&other.1))?;
    (depth > 0.05).then_some(place)
}

#[cfg(test)]
mod tests;
