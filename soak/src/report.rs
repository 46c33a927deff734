//! PURE: what each process held over time → a table, and what is wrong.

use std::{
    fmt::{self, Write as _},
    time::Duration,
};

use crate::{
    reading::Held,
    trend::{BATCHES, CONFIDENCE, Trend, Verdict},
};

/// What is watched of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Resident,
    Own,
    Descriptors,
    Threads,
    Maps,
}

impl Figure {
    const ALL: [Self; 5] = [Self::Resident, Self::Own, Self::Descriptors, Self::Threads, Self::Maps];

    const fn name(self) -> &'static str {
        match self {
            Self::Resident => "resident memory, MiB",
            Self::Own => "… beyond linear memory, MiB",
            Self::Descriptors => "descriptors",
            Self::Threads => "threads",
            Self::Maps => "memory maps",
        }
    }

    /// The growth per hour below which it does not matter. At some thousand restarts an hour it is far below one descriptor,
    /// thread or map, and a KiB, per restart.
    const fn limit(self) -> f64 {
        match self {
            Self::Resident | Self::Own => 2.0,
            Self::Descriptors | Self::Threads => 4.0,
            Self::Maps => 60.0,
        }
    }

    fn of(self, held: &Held) -> Option<f64> {
        const MIB: f64 = 1_048_576.0;
        Some(match self {
            Self::Resident => held.resident_bytes / MIB,
            Self::Own => held.own_bytes? / MIB,
            Self::Descriptors => held.descriptors,
            Self::Threads => held.threads,
            Self::Maps => held.maps,
        })
    }
}

/// A process that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) name: &'static str,
    /// Whether its growth is a fault of ours.
    pub(crate) is_judged: bool,
    /// Whether part of its memory is that of guests.
    pub(crate) has_guests: bool,
}

/// One figure of one process over time.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    process: String,
    figure: Figure,
    /// Whether its growth is a fault of ours.
    is_judged: bool,
    /// (Hours since the start, value).
    readings: Vec<(f64, f64)>,
}

impl Row {
    /// The rows of `processes`, without readings.
    pub(crate) fn all(processes: impl IntoIterator<Item = Watched>) -> Vec<Self> {
        let rows = processes.into_iter().flat_map(|process| {
            let figures = Figure::ALL.into_iter();
            let figures = figures.filter(move |figure| process.has_guests || *figure != Figure::Own);
            figures.map(move |figure| (process, figure))
        });
        rows.map(|(Watched { name, is_judged, .. }, figure)| Self {
            process: name.to_owned(),
            figure,
            is_judged,
            readings: Vec::new(),
        })
        .collect()
    }

    /// Adds what `process` held.
    pub(crate) fn add(rows: &mut [Self], process: &str, hours: f64, held: &Held) {
        for row in rows.iter_mut().filter(|row| row.process == process) {
            row.readings.extend(row.figure.of(held).map(|value| (hours, value)));
        }
    }

    fn trend(&self, warm_up: Duration) -> Option<Trend> {
        let begin = self.readings.partition_point(|(hours, _)| *hours < warm_up.as_secs_f64() / 3600.0);
        Trend::of(&self.readings[begin..])
    }
}

/// The resident memory of each process now, in one line.
pub(crate) fn now(rows: &[Row]) -> String {
    let resident = rows.iter().filter(|row| row.figure == Figure::Resident);
    let parts = resident.filter_map(|row| Some(format!("{} {:.0} MiB", row.process, row.readings.last()?.1)));
    parts.collect::<Vec<_>>().join(", ")
}

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) begin: jiff::Timestamp,
    pub(crate) length: Duration,
    pub(crate) warm_up: Duration,
    pub(crate) rows: Vec<Row>,
    pub(crate) progress: Progress,
    /// The first requests that failed.
    pub(crate) failures: Vec<String>,
    /// The process that ended, and its log.
    pub(crate) ended: Option<String>,
    /// How many readings failed, and why the first did.
    pub(crate) unread: Unread,
}

/// What was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// Restarts that the evaluator ordered and the runners did.
    pub(crate) restarts: u64,
    /// Requests answered as they should be.
    pub(crate) served: u64,
    /// Requests that were not.
    pub(crate) failed: u64,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { restarts, served, failed } = self;
        write!(f, "{restarts} restarts, {served} requests served, {failed} failed")
    }
}

/// Readings that failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unread {
    pub(crate) count: usize,
    pub(crate) first: String,
}

impl Unread {
    /// Notes one.
    pub(crate) fn note(&mut self, error: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = error();
        }
        self.count += 1;
    }
}

impl Report {
    /// Why this is no success, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.ended.iter().cloned().collect();
        if self.progress.failed > 0 {
            problems.push(format!("{} requests failed: {}", self.progress.failed, self.failures.join("; ")));
        }
        if self.progress.restarts == 0 {
            problems.push("nothing was restarted".to_owned());
        }
        if self.unread.count > 0 {
            problems.push(format!("{} readings failed; the first: {}", self.unread.count, self.unread.first));
        }
        for row in self.rows.iter().filter(|row| row.is_judged) {
            match row.trend(self.warm_up) {
                None => problems.push(format!(
                    "{}: too few readings of {} for a trend",
                    row.process,
                    row.figure.name()
                )),
                Some(trend) if trend.verdict(row.figure.limit()) == Verdict::Grows => problems.push(format!(
                    "{} grows: {} by {:.2} an hour ({:.2} to {:.2})",
                    row.process,
                    row.figure.name(),
                    trend.slope,
                    trend.low,
                    trend.high
                )),
                Some(_) => {}
            }
        }
        problems
    }

    /// The report as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let seconds = |duration: Duration| {
            humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
        };
        let mut text = format!(
            "# Soak\n\n\
             The result of the latest `make soak`. Two runners host a leaking command, the storage service and a leaking echo service. \
             There are clients for each, Prometheus 3, and an evaluator on an accelerated clock. Every few seconds the test reads what \
             each process holds. Growth is the slope of a line through the medians of {BATCHES} batches. A figure *grows* if its interval \
             is above zero and its growth is more than allowed. It is *steady* if the whole interval is at most what is allowed. A runner's own memory is its resident memory without its \
             guests' linear memory.\n\n\
             Started {:.0}, ran for {}. {}. The first {} are warm-up and are not in the trends.\n\n\
             | process | figure | level | growth an hour | {:.0} % interval | allowed | verdict |\n\
             | --- | --- | ---: | ---: | ---: | ---: | --- |\n",
            self.begin,
            seconds(self.length),
            self.progress,
            seconds(self.warm_up),
            CONFIDENCE * 100.0,
        );
        let mut undecided = 0;
        for row in &self.rows {
            let _ = write!(text, "| {} | {} ", row.process, row.figure.name());
            let limit = row.figure.limit();
            let _ = match row.trend(self.warm_up) {
                None => writeln!(text, "| | | | {limit} | too few readings |"),
                Some(trend) => writeln!(
                    text,
                    "| {:.1} | {:+.2} | {:+.2} to {:+.2} | {} | {} |",
                    trend.level,
                    trend.slope,
                    trend.low,
                    trend.high,
                    if row.is_judged { limit.to_string() } else { "–".to_owned() },
                    match trend.verdict(limit) {
                        _ if !row.is_judged => "not judged",
                        Verdict::Grows => "**grows**",
                        Verdict::Steady => "steady",
                        Verdict::Undecided => {
                            undecided += 1;
                            "undecided"
                        }
                    }
                ),
            };
        }
        if undecided > 0 {
            let _ = writeln!(
                text,
                "\nUndecided: {undecided}. Noise hides whether these grow by more than is allowed."
            );
        }
        let problems = self.problems();
        text += if problems.is_empty() { "\nNothing is seen to grow.\n" } else { "\nProblems:\n\n" };
        for problem in problems {
            let _ = writeln!(text, "- {problem}");
        }
        text
    }

    /// All readings: process, figure, hours since the start, value.
    pub(crate) fn csv(&self) -> String {
        let mut text = "process,figure,hours,value\n".to_owned();
        for row in &self.rows {
            for (hours, value) in &row.readings {
                let _ = writeln!(text, "{},\"{}\",{hours:.5},{value}", row.process, row.figure.name());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(descriptors_per_hour: f64) -> Report {
        let watched = |name, is_judged| Watched { name, is_judged, has_guests: false };
        let processes = [watched("runner", true), watched("prometheus", false)];
        let mut rows = Row::all(processes);
        for n in 0..400_u32 {
            let hours = f64::from(n) / 360.0;
            // Half a dozen come and go.
            let descriptors = 50.0 + f64::from(n % 7) + descriptors_per_hour * hours;
            let held = Held { resident_bytes: 1e8, own_bytes: None, descriptors, threads: 9.0, maps: 300.0 };
            for process in processes {
                Row::add(&mut rows, process.name, hours, &held);
            }
        }
        Report {
            begin: jiff::Timestamp::UNIX_EPOCH,
            length: Duration::from_secs(4000),
            warm_up: Duration::from_secs(1000),
            rows,
            progress: Progress { restarts: 3, ..Progress::default() },
            failures: Vec::new(),
            ended: None,
            unread: Unread::default(),
        }
    }

    #[test]
    fn what_was_not_read_is_a_problem() {
        let mut report = report(0.0);
        report.rows[0].readings.clear();
        report.unread.note(|| "runner: no answer".to_owned());
        report.unread.note(|| unreachable!());
        let expected = [
            "2 readings failed; the first: runner: no answer",
            "runner: too few readings of resident memory, MiB for a trend",
        ];
        assert_eq!(report.problems(), expected);
        assert!(report.markdown().contains("| runner | resident memory, MiB | | | | 2 | too few readings |"));
    }

    #[test]
    fn a_fleet_that_holds_what_it_held_has_no_problems() {
        let report = report(0.0);
        assert_eq!(report.problems(), [""; 0]);
        let text = report.markdown();
        assert!(
            text.contains("| runner | descriptors | 53.0 |") && text.contains("Nothing is seen to grow"),
            "{text}"
        );
        assert!(!text.contains("beyond linear memory"), "{text}");
    }

    #[test]
    fn a_leak_of_our_own_is_a_problem_and_prometheus_is_not() {
        let problems = report(30.0).problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("runner grows: descriptors by 29.9"), "{problems:?}");
    }

    #[test]
    fn failed_requests_and_no_restarts_are_problems() {
        let mut report = report(0.0);
        report.progress = Progress { failed: 2, ..Progress::default() };
        report.failures = vec!["GET /: 502".to_owned()];
        assert_eq!(report.problems(), ["2 requests failed: GET /: 502", "nothing was restarted"]);
    }
}
