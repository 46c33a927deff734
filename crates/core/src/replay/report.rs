//! PURE: outcomes → a table, JSON and a plot.

use ebb_units::{ByteCount, Millis, Span};
use serde::Serialize;

use super::{Moment, Outcome, Plan, Recording};

/// What is assumed, for whoever reads the figures.
pub(crate) const ASSUMPTION: &str = "After a restart that was not really done, an instance is taken to hold what a new one starts \
     with and to grow by what the real one grew since: right for leaks, too kind where one large request left its \
     memory behind. Real restarts stay where they were. Host memory is not in the history: largest_first and \
     oldest_first restart nothing here.";

/// Figures of one set of rules.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row<'a> {
    /// The set of rules, as it was asked for.
    pub policy: &'a str,
    /// Restarts per hour.
    pub restarts_per_hour: f64,
    /// Mean memory of all instances together, in bytes.
    pub mean_bytes: f64,
    /// Share of the real mean memory that would have been saved.
    pub saved: f64,
    /// Most memory of all instances together, in bytes.
    pub peak_bytes: u64,
    /// What would have been restarted when, and what was put off.
    #[serde(flatten)]
    pub outcome: &'a Outcome,
}

/// A whole backtest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report<'a> {
    /// What is assumed.
    pub assumption: &'static str,
    /// The first tick.
    pub from: Millis,
    /// The end.
    pub to: Millis,
    /// Slots in the history.
    pub slots: usize,
    /// Restarts that were really done in that time.
    pub real_restarts: usize,
    /// Mean memory of all instances together as it really was, in bytes.
    pub real_mean_bytes: f64,
    /// Most memory of all instances together as it really was, in bytes.
    pub real_peak_bytes: u64,
    /// Each set of rules.
    pub policies: Vec<Row<'a>>,
}

impl<'a> Report<'a> {
    /// The figures of `outcomes`, each with the name of its rules.
    #[must_use]
    pub fn new(recording: &Recording, plan: &Plan, outcomes: &'a [(String, Outcome)]) -> Self {
        let moments = outcomes.first().map_or(&[][..], |(_, outcome)| &outcome.memory);
        let real_mean_bytes = mean(moments, |moment| moment.real_bytes);
        let hours = plan.to.since(plan.from).0.max(1) as f64 / 3_600_000.0;
        let row = |(policy, outcome): &'a (String, Outcome)| {
            let mean_bytes = mean(&outcome.memory, |moment| moment.bytes);
            Row {
                policy,
                restarts_per_hour: outcome.restarts.len() as f64 / hours,
                mean_bytes,
                saved: if real_mean_bytes > 0.0 { 1.0 - mean_bytes / real_mean_bytes } else { 0.0 },
                peak_bytes: outcome.memory.iter().map(|moment| moment.bytes).max().unwrap_or(0),
                outcome,
            }
        };
        Self {
            assumption: ASSUMPTION,
            from: plan.from,
            to: plan.to,
            slots: recording.slots(),
            real_restarts: recording.real_restarts(plan.from, plan.to),
            real_mean_bytes,
            real_peak_bytes: moments.iter().map(|moment| moment.real_bytes).max().unwrap_or(0),
            policies: outcomes.iter().map(row).collect(),
        }
    }

    /// The figures as a table.
    #[must_use]
    pub fn table(&self) -> String {
        let width = self.policies.iter().map(|row| row.policy.len()).max().unwrap_or(0).max(6);
        let mut lines = vec![
            format!(
                "{} of {} slots; what really happened: {} restarts, mean memory {}, peak {}",
                Span::whole_secs(self.to.since(self.from).as_seconds()),
                self.slots,
                self.real_restarts,
                rounded(self.real_mean_bytes),
                ByteCount(self.real_peak_bytes)
            ),
            String::new(),
            format!(
                "{:width$}  {:>8}  {:>8}  {:>9}  {:>11}  {:>7}  {:>11}",
                "POLICY", "RESTARTS", "PER HOUR", "POSTPONED", "MEAN MEMORY", "SAVED", "AT MOST"
            ),
        ];
        lines.extend(self.policies.iter().map(|row| {
            format!(
                "{:width$}  {:>8}  {:>8.2}  {:>9}  {:>11}  {:>6.1}%  {:>11}",
                row.policy,
                row.outcome.restarts.len(),
                row.restarts_per_hour,
                row.outcome.postponed,
                rounded(row.mean_bytes).to_string(),
                100.0 * row.saved,
                ByteCount(row.peak_bytes).to_string()
            )
        }));
        lines.push(String::new());
        lines.push(self.assumption.to_owned());
        lines.join("\n")
    }

    /// What would have been restarted when and why, a line each.
    #[must_use]
    pub fn list(&self) -> String {
        let mut lines = Vec::new();
        for row in &self.policies {
            lines.push(format!("{}:", row.policy));
            lines.extend(row.outcome.restarts.iter().map(|simulated| {
                format!(
                    "  {} {}: {}",
                    simulated.at.rfc3339(),
                    simulated.judgement.slot,
                    simulated.explanation
                )
            }));
        }
        lines.join("\n")
    }
}

fn mean(moments: &[Moment], of: impl Fn(&Moment) -> u64) -> f64 {
    let sum: u128 = moments.iter().map(|moment| u128::from(of(moment))).sum();
    sum as f64 / moments.len().max(1) as f64
}

fn rounded(bytes: f64) -> ByteCount {
    ByteCount(bytes.max(0.0).round() as u64)
}
