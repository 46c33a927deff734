//! What became of each sentence: lines to read, JSON, an exit code.

use std::fmt;

use serde::Serialize;

use crate::sentences::{Level, Number, SENTENCES, Sentence};

/// What became of a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It holds, as far as was seen.
    Passed,
    /// It does not, and says MUST.
    Failed(Mismatch),
    /// It does not, and says SHOULD.
    Warned(Mismatch),
    /// There was nothing to judge.
    NotApplicable {
        /// Why not.
        why: String,
    },
}

/// What was seen instead of what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("expected {expected}, got {seen}")]
pub struct Mismatch {
    /// What the protocol says.
    pub expected: String,
    /// What the host did.
    pub seen: String,
}

impl Mismatch {
    pub(crate) fn new(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { expected: expected.into(), seen: seen.into() }
    }
}

/// A sentence and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The sentence.
    #[serde(flatten)]
    pub sentence: &'static Sentence,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sentence { number, title, .. } = self.sentence;
        match &self.outcome {
            Outcome::Passed => write!(f, "{number:4} pass  {title}"),
            Outcome::Failed(mismatch) => write!(f, "{number:4} FAIL  {title}: {mismatch}"),
            Outcome::Warned(mismatch) => write!(f, "{number:4} warn  {title}: {mismatch}"),
            Outcome::NotApplicable { why } => write!(f, "{number:4} n/a   {title} ({why})"),
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing failed.
    Conforms,
    /// A sentence with MUST does not hold.
    Fails,
    /// The host could not be checked to the end.
    NotRun,
}

/// What became of all sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Version of the protocol.
    pub protocol: u32,
    /// Who was checked.
    pub address: String,
    /// Why the host could not be checked to the end, if it could not.
    pub problem: Option<String>,
    /// How it ended.
    pub verdict: Verdict,
    /// Each sentence, in the protocol's order.
    pub sentences: Vec<Line>,
}

impl Report {
    /// The lines that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Line> {
        self.sentences.iter().filter(|line| matches!(line.outcome, Outcome::Failed(_)))
    }

    /// The exit code of a program that shows this report: 0, 1 if a sentence failed, 2 if the host could not be checked.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Conforms => 0,
            Verdict::Fails => 1,
            Verdict::NotRun => 2,
        }
    }

    /// Fails a test whose host does not conform.
    ///
    /// # Panics
    /// With all lines that failed, or with why the host could not be checked.
    #[track_caller]
    pub fn assert_conforms(&self) {
        let failures: Vec<_> = self.failures().map(Line::to_string).collect();
        assert!(self.verdict == Verdict::Conforms, "{:?}\n{}", self.problem, failures.join("\n"));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.sentences {
            writeln!(f, "{line}")?;
        }
        let mut counts = [0; 4];
        for line in &self.sentences {
            counts[match line.outcome {
                Outcome::Passed => 0,
                Outcome::Failed(_) => 1,
                Outcome::Warned(_) => 2,
                Outcome::NotApplicable { .. } => 3,
            }] += 1;
        }
        let [passed, failed, warned, other] = counts;
        writeln!(f)?;
        if let Some(problem) = &self.problem {
            writeln!(f, "not checked to the end: {problem}")?;
        }
        let Self { address, protocol, .. } = self;
        write!(f, "{address}, host protocol version {protocol}: {passed} passed, {failed} failed, ")?;
        write!(f, "{warned} warnings, {other} not applicable")
    }
}

/// Outcomes as they come in. A sentence that was judged several times holds if it held each time.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<(Number, Outcome)>);

impl Findings {
    pub(crate) fn judge(&mut self, number: Number, judged: Result<(), Mismatch>) {
        let outcome = match (judged, number.sentence().level) {
            (Ok(()), _) => Outcome::Passed,
            (Err(mismatch), Level::Must) => Outcome::Failed(mismatch),
            (Err(mismatch), Level::Should) => Outcome::Warned(mismatch),
        };
        self.0.push((number, outcome));
    }

    pub(crate) fn expect(&mut self, number: Number, holds: bool, expected: &str, seen: impl Into<String>) {
        self.judge(number, if holds { Ok(()) } else { Err(Mismatch::new(expected, seen)) });
    }

    pub(crate) fn not_applicable(&mut self, number: Number, why: &str) {
        self.0.push((number, Outcome::NotApplicable { why: why.to_owned() }));
    }

    fn outcome(&self, number: Number, otherwise: &str) -> Outcome {
        let of_this = || self.0.iter().filter(|found| found.0 == number).map(|found| &found.1);
        let is_broken = |outcome: &&Outcome| matches!(outcome, Outcome::Failed(_) | Outcome::Warned(_));
        let found = of_this()
            .find(is_broken)
            .or_else(|| of_this().find(|outcome| **outcome == Outcome::Passed))
            .or_else(|| of_this().next());
        found.cloned().unwrap_or_else(|| Outcome::NotApplicable { why: otherwise.to_owned() })
    }

    /// `problem`: why the host could not be checked to the end. `otherwise`: why what was not judged was not.
    pub(crate) fn report(self, address: &str, problem: Option<String>, otherwise: &str) -> Report {
        let line = |sentence: &'static Sentence| Line {
            sentence,
            outcome: self.outcome(sentence.number, otherwise),
        };
        let sentences: Vec<_> = SENTENCES.iter().map(line).collect();
        let fails = sentences.iter().any(|line| matches!(line.outcome, Outcome::Failed(_)));
        let verdict = match (fails, &problem) {
            (true, _) => Verdict::Fails,
            (false, Some(_)) => Verdict::NotRun,
            (false, None) => Verdict::Conforms,
        };
        Report { protocol: 1, address: address.to_owned(), problem, verdict, sentences }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(found: &[(Number, bool)], problem: Option<&str>) -> Report {
        let mut findings = Findings::default();
        for (number, holds) in found {
            findings.expect(*number, *holds, "a", "b");
        }
        findings.report("h:1", problem.map(str::to_owned), "not looked at")
    }

    #[test]
    fn a_sentence_that_failed_once_has_failed() {
        let report = report(&[(Number::R11, true), (Number::R11, false), (Number::R11, true)], None);
        assert_eq!((report.exit_code(), report.failures().count()), (1, 1));
        let line = report.failures().next().unwrap().to_string();
        assert_eq!(line, "R11  FAIL  another generation is refused: 412: expected a, got b");
    }

    #[test]
    fn a_should_that_does_not_hold_fails_nothing() {
        let report = report(&[(Number::A9, false), (Number::R11, true)], None);
        assert_eq!(report.exit_code(), 0);
        let text = report.to_string();
        assert!(text.contains("\nA9   warn  ") && text.contains("\nR11  pass  "), "{text}");
        let rest = SENTENCES.len() - 2;
        assert!(text.ends_with(&format!("1 passed, 0 failed, 1 warnings, {rest} not applicable")), "{text}");
        report.assert_conforms();
    }

    #[test]
    fn what_could_not_be_checked_has_not_passed() {
        assert_eq!(report(&[(Number::E1, true)], Some("gone")).exit_code(), 2);
        assert_eq!(report(&[(Number::E1, false)], Some("gone")).exit_code(), 1);
    }

    #[test]
    fn a_report_is_json_that_names_each_sentence() {
        let json = serde_json::to_value(report(&[(Number::R11, false)], None)).unwrap();
        let sentences = json["sentences"].as_array().unwrap();
        let line = sentences.iter().find(|line| line["number"] == "R11").unwrap();
        assert_eq!((&line["outcome"], &line["level"]), (&"failed".into(), &"MUST".into()));
        assert_eq!((&line["expected"], &line["seen"]), (&"a".into(), &"b".into()));
        assert_eq!((&json["verdict"], json["protocol"].as_u64()), (&"fails".into(), Some(1)));
    }
}
