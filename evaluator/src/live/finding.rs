//! One thing that was found, and the list of them.

use serde::Serialize;

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works, and could work better.
    Warning,
    /// Something is not restarted because of it.
    Problem,
}

impl Level {
    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// How it is meant.
    pub level: Level,
    /// What it is about: `store`, `module leaky`, `runner 10.0.0.1:9742`.
    pub about: String,
    /// What was found, and what to do about it.
    pub finding: String,
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, level: Level, about: impl Into<String>, finding: impl Into<String>) {
        self.0.push(Finding { level, about: about.into(), finding: finding.into() });
    }
}
