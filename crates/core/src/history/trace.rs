//! PURE: what a slot has seen → its memory over time, small enough to be drawn.
//!
//! Of each of [`BUCKETS`] spans of time the first, the least, the largest and the last size are kept. A chart of that
//! many pixels across looks the same as one of all samples, and its size is bounded however long the history is.

use ebb_units::{Elapsed, Millis, SlotId};

use super::{
    lifetime::{End, Lifetime},
    slot::Slot,
};

/// Slots of one extract.
pub const TRACES_MAX: usize = 12;

/// Spans of time that are told apart.
const BUCKETS: i64 = 240;

/// Between two lifetimes, without a sample for this long, nothing is known of the time between. Within a lifetime memory is
/// drawn as held: it never falls.
const GAP: Elapsed = Elapsed::secs(120);

/// How much memory a slot held when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When.
    pub at: Millis,
    /// Linear memory in bytes, until the next point.
    pub bytes: u64,
}

/// The memory of some slots over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extract {
    /// Nothing before this is told: what was asked for, or the first sample since.
    pub since: Millis,
    /// Time of the newest sample of all slots.
    pub until: Millis,
    /// What is told of each slot.
    pub traces: Vec<Trace>,
}

/// The memory of one slot over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Which.
    pub slot: SlotId,
    /// Points without a gap between them, oldest first; between two runs lies a gap between two lifetimes.
    pub runs: Vec<Vec<Point>>,
    /// How often a new instance was seen to take another's place.
    pub restarts: usize,
    /// When; of those in one span of time, the first.
    pub restarts_at: Vec<Millis>,
}

impl Trace {
    pub(super) fn of(id: &SlotId, slot: &Slot, since: Millis, until: Millis) -> Self {
        let span = Elapsed((until.since(since).0 / BUCKETS).max(1));
        let mut trace = Self { slot: id.clone(), runs: Vec::new(), restarts: 0, restarts_at: Vec::new() };
        let mut thinner = Thinner { since, span, bucket: None, run: Vec::new() };
        let mut before: Option<&Lifetime> = None;
        for lifetime in slot.lifetimes() {
            if let Some(before) = before
                && lifetime.first_at() >= since
            {
                // Memory that fell without a new start is no restart.
                if before.end() != Some(End::Discontinued) {
                    trace.restart(lifetime.first_at(), since, span);
                }
                if lifetime.first_at().since(before.last_at()) > GAP.max(span) {
                    thinner.end_run(&mut trace.runs);
                }
            }
            before = Some(lifetime);
            thinner.lifetime(lifetime);
        }
        thinner.end_run(&mut trace.runs);
        trace
    }

    fn restart(&mut self, at: Millis, since: Millis, span: Elapsed) {
        self.restarts += 1;
        let bucket = |at: Millis| at.since(since).0 / span.0;
        if self.restarts_at.last().is_none_or(|last| bucket(*last) != bucket(at)) {
            self.restarts_at.push(at);
        }
    }
}

/// Takes points oldest first, and keeps four of each bucket.
struct Thinner {
    since: Millis,
    span: Elapsed,
    bucket: Option<Bucket>,
    run: Vec<Point>,
}

struct Bucket {
    number: i64,
    first: Point,
    least: Point,
    largest: Point,
    last: Point,
}

impl Thinner {
    fn lifetime(&mut self, lifetime: &Lifetime) {
        if lifetime.last_at() < self.since {
            return;
        }
        let steps = lifetime.steps();
        // The step that lasts at `since` counts from there.
        let from = steps.partition_point(|step| step.at <= self.since).saturating_sub(1);
        for step in &steps[from..] {
            self.push(Point { at: step.at.max(self.since), bytes: step.bytes });
        }
        self.push(Point { at: lifetime.last_at(), bytes: lifetime.bytes() });
    }

    fn push(&mut self, point: Point) {
        let number = point.at.since(self.since).0 / self.span.0;
        match &mut self.bucket {
            Some(bucket) if bucket.number == number => {
                if point.bytes < bucket.least.bytes {
                    bucket.least = point;
                }
                if point.bytes > bucket.largest.bytes {
                    bucket.largest = point;
                }
                bucket.last = point;
            }
            _ => {
                self.end_bucket();
                self.bucket =
                    Some(Bucket { number, first: point, least: point, largest: point, last: point });
            }
        }
    }

    fn end_bucket(&mut self) {
        let Some(Bucket { first, least, largest, last, .. }) = self.bucket.take() else { return };
        let mut kept = [first, least, largest, last];
        kept.sort_by_key(|point| point.at);
        for point in kept {
            if self.run.last() != Some(&point) {
                self.run.push(point);
            }
        }
    }

    fn end_run(&mut self, runs: &mut Vec<Vec<Point>>) {
        self.end_bucket();
        if !self.run.is_empty() {
            runs.push(std::mem::take(&mut self.run));
        }
    }
}

#[cfg(test)]
mod tests {
    use ebb_units::{Generation, Population};

    use super::*;
    use crate::history::{History, Sample, Window};

    fn slot(replica: u32) -> SlotId {
        let population = Population { module: "leaky".into(), digest: "0123456789ab".into() };
        SlotId { population, runner: "r:1".into(), replica }
    }

    /// A history of slot 0 with samples (seconds, generation in seconds, bytes).
    fn history(samples: impl IntoIterator<Item = (i64, u64, u64)>) -> History {
        let mut history = History::default();
        let window = Window::ending_at(Millis(1_000_000_000), Elapsed(1_000_000_000));
        let samples = samples.into_iter().map(|(at, generation, bytes)| Sample {
            at: Millis(at * 1000),
            generation: Generation(generation * 1000),
            bytes,
        });
        history.observe(&slot(0).into(), window, samples);
        history
    }

    fn trace(history: &History, since_seconds: i64) -> Trace {
        let mut extract = history.extract(&[slot(0)], Millis(since_seconds * 1000));
        extract.traces.remove(0)
    }

    fn runs(trace: &Trace) -> Vec<Vec<(i64, u64)>> {
        let run = |run: &Vec<Point>| run.iter().map(|point| (point.at.0 / 1000, point.bytes)).collect();
        trace.runs.iter().map(run).collect()
    }

    #[test]
    fn a_restart_is_told_and_breaks_no_line() {
        let trace = trace(&history([(10, 9, 5), (20, 9, 8), (30, 29, 5), (40, 29, 6)]), 0);
        assert_eq!(runs(&trace), [vec![(10, 5), (20, 8), (30, 5), (40, 6)]]);
        assert_eq!((trace.restarts, trace.restarts_at), (1, vec![Millis(30_000)]));
    }

    #[test]
    fn a_time_without_samples_between_two_lifetimes_is_a_gap() {
        let trace = trace(&history([(10, 9, 5), (20, 9, 8), (500, 490, 5), (510, 490, 5)]), 0);
        assert_eq!(runs(&trace), [vec![(10, 5), (20, 8)], vec![(500, 5), (510, 5)]]);
    }

    #[test]
    fn what_lasted_at_the_beginning_counts_from_there() {
        let trace = trace(&history([(10, 9, 5), (20, 9, 8), (30, 9, 8), (40, 9, 9)]), 25);
        assert_eq!(runs(&trace), [vec![(25, 8), (40, 9)]]);
        assert_eq!(trace.restarts, 0);
    }

    #[test]
    fn however_much_was_seen_an_extract_stays_small_and_keeps_the_extremes() {
        // A restart every 50 s for 200,000 s: 4,000 restarts, each up to 5.
        let samples = (0..20_000_i64).map(|n| (10 * n, (10 * n / 50 * 50) as u64, 1 + (n % 5) as u64));
        let history = history(samples.chain([(200_000, 200_000, 99)]));
        let trace = trace(&history, 0);
        let points: usize = trace.runs.iter().map(Vec::len).sum();
        assert!(points <= 4 * 241, "{points}");
        assert!(trace.restarts_at.len() <= 241, "{}", trace.restarts_at.len());
        assert_eq!(trace.restarts, 4000);
        let sizes = || trace.runs.iter().flatten().map(|point| point.bytes);
        assert_eq!((sizes().min(), sizes().max()), (Some(1), Some(99)));
    }

    #[test]
    fn where_little_was_seen_all_of_it_is_told() {
        // 100 s, each with a size of its own, of a day that was asked for.
        let history = history((0..100_i64).map(|n| (80_000 + n, 79_999, 1 + n.unsigned_abs())));
        let trace = trace(&history, 0);
        assert_eq!(runs(&trace)[0].len(), 100);
        assert_eq!(history.extract(&[slot(0)], Millis(0)).since, Millis(80_000_000));
    }

    #[test]
    fn an_extract_is_of_no_more_slots_than_fit() {
        let mut history = History::default();
        let window = Window::ending_at(Millis(1_000_000), Elapsed(1_000_000));
        for replica in 0..50 {
            let sample = Sample { at: Millis(500_000), generation: Generation(1), bytes: 1 };
            history.observe(&slot(replica).into(), window, [sample]);
        }
        let slots: Vec<_> = (0..50).map(slot).collect();
        assert_eq!(history.extract(&slots, Millis(0)).traces.len(), TRACES_MAX);
        assert_eq!(history.extract(&[slot(77)], Millis(0)).traces, []);
    }
}
