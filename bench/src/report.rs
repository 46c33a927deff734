//! Figures and ratios: a table for people, JSON for programs.

use std::{
    fmt, fs,
    io::{self, Write as _},
};

use ebb_testbed::paths;
use serde_json::{Map, Value, json};

/// What a benchmark found, in the order in which it is to be read.
#[derive(Debug)]
pub(crate) struct Report {
    name: &'static str,
    figures: Vec<(String, f64, Option<Aim>)>,
    ratios: Vec<(String, f64, Option<Aim>)>,
}

/// What a number is wanted to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

impl Aim {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

impl Report {
    /// An empty report of benchmark `name`.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self { name, figures: Vec::new(), ratios: Vec::new() }
    }

    /// Adds a figure; its unit is part of its name.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.push((name.into(), value, None));
    }

    /// Adds a figure that is wanted to be `aim`.
    pub(crate) fn aimed_figure(&mut self, name: impl Into<String>, value: f64, aim: Aim) {
        self.figures.push((name.into(), value, Some(aim)));
    }

    /// Adds a ratio against a peer of the same run.
    pub(crate) fn ratio(&mut self, name: impl Into<String>, value: f64, aim: Option<Aim>) {
        self.ratios.push((name.into(), value, aim));
    }

    /// Prints the table and writes `target/bench/NAME.json`.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub(crate) fn publish(&self) {
        let folder = paths::root().join("target/bench");
        fs::create_dir_all(&folder).expect("target/ is a folder of this build");
        let path = folder.join(format!("{}.json", self.name));
        let text = format!("{:#}\n", self.json());
        fs::write(&path, text).unwrap_or_else(|error| panic!("writing {}: {error}", path.display()));
        // Whoever closed the pipe has the file.
        let _ = writeln!(io::stdout(), "{self}");
    }

    fn json(&self) -> Value {
        let object = |entries: &[(String, f64, _)]| -> Map<_, _> {
            entries.iter().map(|(name, value, _)| (name.clone(), json!(value))).collect()
        };
        json!({ "figures": object(&self.figures), "ratios": object(&self.ratios) })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = || self.figures.iter().chain(&self.ratios);
        let width = all().map(|(name, ..)| name.len()).max().unwrap_or(0);
        writeln!(f, "{}", self.name)?;
        for (name, value, aim) in all() {
            write!(f, "  {name:<width$}  {:>16}", number(*value))?;
            match aim {
                Some(aim) => writeln!(f, "  {aim}{}", if aim.is_met(*value) { "" } else { "  MISSED" })?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(f, "aim: at least {limit}"),
            Self::AtMost(limit) => write!(f, "aim: at most {limit}"),
        }
    }
}

/// Counts in full, everything else with four significant digits at least.
fn number(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.6}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_table_with_its_aims_and_json_with_figures_and_ratios() {
        let mut report = Report::new("example");
        report.figure("rss_bytes", 4096.0);
        report.figure("tick_cpu_seconds", 0.0125);
        report.ratio("peer_over_ours", 2.0, Some(Aim::AtLeast(3.0)));
        assert_eq!(
            report.json(),
            json!({
                "figures": {"rss_bytes": 4096.0, "tick_cpu_seconds": 0.0125},
                "ratios": {"peer_over_ours": 2.0}
            })
        );
        let table = report.to_string();
        assert!(table.contains("  rss_bytes                     4096\n"), "{table}");
        assert!(table.contains("  tick_cpu_seconds          0.012500\n"), "{table}");
        assert!(table.contains("peer_over_ours                   2  aim: at least 3  MISSED\n"), "{table}");
    }
}
