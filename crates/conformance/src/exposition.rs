//! PURE: metrics as text → families and samples. Strict: what any reader could stumble over is an error.
//!
//! Both formats are read: Prometheus text 0.0.4 and OpenMetrics text 1.0. They differ in what a counter's family is called,
//! in white space, and in how the text ends.

use std::collections::{BTreeMap, BTreeSet};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Exposition {
    /// Declared types, by family.
    pub(crate) types: BTreeMap<String, String>,
    pub(crate) samples: Vec<Sample>,
}

/// One sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
    pub(crate) has_timestamp: bool,
}

impl Exposition {
    /// The samples of this name.
    pub(crate) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }
}

/// A text that is no exposition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct Malformed {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) problem: String,
}

/// Reads `text`.
///
/// # Errors
/// [`Malformed`] for the first line that is not as the format has it.
pub(crate) fn parse(text: &str, format: Format) -> Result<Exposition, Malformed> {
    let mut reader = Reader { format, ..Reader::new() };
    let mut number = 0;
    let mut has_ended = false;
    for line in text.split_inclusive('\n') {
        number += 1;
        let problem = match line.strip_suffix('\n') {
            None => Err("expected a line break at the end".to_owned()),
            Some(_) if has_ended => Err("expected nothing after # EOF".to_owned()),
            Some("# EOF") if format == Format::OpenMetrics => {
                has_ended = true;
                Ok(())
            }
            Some(line) => reader.line(line),
        };
        problem.map_err(|problem| Malformed { line: number, problem })?;
    }
    if format == Format::OpenMetrics && !has_ended {
        return Err(Malformed { line: number + 1, problem: "expected # EOF at the end".to_owned() });
    }
    Ok(reader.read)
}

struct Reader {
    format: Format,
    read: Exposition,
    /// The family whose lines are being read; they stand together.
    current: Option<String>,
    /// Whether it has samples already.
    has_samples: bool,
    /// Families before it.
    finished: BTreeSet<String>,
    /// `HELP name` and `UNIT name`: each once.
    told: BTreeSet<String>,
    series: BTreeSet<(String, BTreeMap<String, String>)>,
}

impl Reader {
    fn new() -> Self {
        Self {
            format: Format::Text,
            read: Exposition::default(),
            current: None,
            has_samples: false,
            finished: BTreeSet::new(),
            told: BTreeSet::new(),
            series: BTreeSet::new(),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(comment) = line.strip_prefix('#') {
            return self.comment(comment);
        }
        match (line.is_empty(), self.format) {
            (true, Format::Text) => Ok(()),
            (true, Format::OpenMetrics) => Err("expected no empty line".to_owned()),
            (false, _) => self.sample(line),
        }
    }

    fn comment(&mut self, comment: &str) -> Result<(), String> {
        let mut words = comment.splitn(4, ' ');
        let (keyword, name, text) = match (words.next(), words.next(), words.next(), words.next()) {
            (Some(""), Some(keyword @ ("HELP" | "TYPE")), Some(name), text) => {
                (keyword, name, text.unwrap_or(""))
            }
            (Some(""), Some("UNIT"), Some(name), text) if self.format == Format::OpenMetrics => {
                ("UNIT", name, text.unwrap_or(""))
            }
            _ if self.format == Format::Text => return Ok(()),
            _ => return Err("expected # HELP, # TYPE, # UNIT or # EOF".to_owned()),
        };
        if !is_metric_name(name) {
            return Err(format!("expected the name of a metric, got {name:?}"));
        }
        self.enter(name)?;
        if keyword != "HELP" && self.has_samples {
            return Err(format!("expected # {keyword} {name} before its samples"));
        }
        if !self.told.insert(format!("{keyword} {name}")) {
            return Err(format!("expected # {keyword} {name} once"));
        }
        match keyword {
            "TYPE" if suffixes(self.format, text).is_empty() => Err(format!("unknown type {text:?}")),
            "TYPE" => {
                self.read.types.insert(name.to_owned(), text.to_owned());
                Ok(())
            }
            "UNIT" if !text.is_empty() && !name.ends_with(&format!("_{text}")) => {
                Err(format!("expected a name that ends with its unit _{text}, got {name}"))
            }
            _ => Ok(()),
        }
    }

    /// A line of the family `name` follows.
    fn enter(&mut self, name: &str) -> Result<(), String> {
        if self.current.as_deref() == Some(name) {
            return Ok(());
        }
        if self.finished.contains(name) {
            return Err(format!("expected the lines of {name} to stand together"));
        }
        if let Some(before) = self.current.replace(name.to_owned()) {
            self.finished.insert(before);
        }
        self.has_samples = false;
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Result<(), String> {
        let name = &line[..line.find(['{', ' ', '\t']).unwrap_or(line.len())];
        if !is_metric_name(name) {
            return Err(format!("expected the name of a metric, got {:?}", shortened(name)));
        }
        let (labels, rest) = match line[name.len()..].strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (BTreeMap::new(), &line[name.len()..]),
        };
        let (rest, exemplar) = match rest.split_once(" # {") {
            Some((rest, exemplar)) if self.format == Format::OpenMetrics => (rest, Some(exemplar)),
            _ => (rest, None),
        };
        let (value, has_timestamp) = self.numbers(rest)?;
        if let Some(exemplar) = exemplar {
            let (_, rest) = self::labels(exemplar)?;
            self.numbers(rest)?;
        }
        let family = self.family_of(name)?;
        self.enter(&family)?;
        self.has_samples = true;
        if !self.series.insert((name.to_owned(), labels.clone())) {
            return Err(format!("expected each series once, got another {}", shortened(line)));
        }
        self.read.samples.push(Sample { name: name.to_owned(), labels, value, has_timestamp });
        Ok(())
    }

    /// ` value` or ` value timestamp`.
    fn numbers(&self, text: &str) -> Result<(f64, bool), String> {
        let malformed = || format!("expected a value and at most a timestamp, got {:?}", shortened(text));
        let words: Vec<&str> = match self.format {
            Format::Text if text.starts_with([' ', '\t']) => text.split_ascii_whitespace().collect(),
            Format::OpenMetrics if text.starts_with(' ') => text[1..].split(' ').collect(),
            _ => return Err(malformed()),
        };
        let number = |word: &str| word.parse::<f64>().map_err(|_| malformed());
        match words[..] {
            [value] => Ok((number(value)?, false)),
            [value, timestamp] => {
                number(timestamp)?;
                Ok((number(value)?, true))
            }
            _ => Err(malformed()),
        }
    }

    /// The family that a sample of this name is of.
    fn family_of(&self, name: &str) -> Result<String, String> {
        let Some(current) = &self.current else { return Ok(name.to_owned()) };
        let Some(kind) = self.read.types.get(current) else { return Ok(name.to_owned()) };
        let suffixes = suffixes(self.format, kind);
        if name.strip_prefix(current.as_str()).is_some_and(|suffix| suffixes.contains(&suffix)) {
            return Ok(current.clone());
        }
        if name == current {
            return Err(format!("{name} is a {kind}: expected samples that end with one of {suffixes:?}"));
        }
        Ok(name.to_owned())
    }
}

/// What the names of a family's samples may end with. None for a type that the format does not have.
fn suffixes(format: Format, kind: &str) -> &'static [&'static str] {
    match (format, kind) {
        (_, "gauge")
        | (Format::Text, "counter" | "untyped")
        | (Format::OpenMetrics, "unknown" | "stateset") => &[""],
        (Format::Text, "histogram") => &["_bucket", "_sum", "_count"],
        (Format::Text, "summary") => &["", "_sum", "_count"],
        (Format::OpenMetrics, "counter") => &["_total", "_created"],
        (Format::OpenMetrics, "info") => &["_info"],
        (Format::OpenMetrics, "histogram") => &["_bucket", "_sum", "_count", "_created"],
        (Format::OpenMetrics, "gaugehistogram") => &["_bucket", "_gsum", "_gcount"],
        (Format::OpenMetrics, "summary") => &["", "_sum", "_count", "_created"],
        _ => &[],
    }
}

/// `a="1",b="x\"y"} rest` → the labels and the rest.
fn labels(text: &str) -> Result<(BTreeMap<String, String>, &str), String> {
    let mut labels = BTreeMap::new();
    let malformed = |text: &str| format!("expected LABEL=\"VALUE\", got {:?}", shortened(text));
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, value) = rest.split_once("=\"").ok_or_else(|| malformed(rest))?;
        if !is_label_name(name) {
            return Err(malformed(rest));
        }
        let (value, after) = quoted(value).ok_or_else(|| malformed(rest))?;
        if labels.insert(name.to_owned(), value).is_some() {
            return Err(format!("expected the label {name} once"));
        }
        rest = match after.strip_prefix(',') {
            Some(more) => more,
            None if after.starts_with('}') => after,
            None => return Err(format!("expected , or }} after a label, got {:?}", shortened(after))),
        };
    }
}

/// `x\"y" rest` → the value without its escapes, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            other => value.push(other),
        }
    }
    None
}

fn is_metric_name(text: &str) -> bool {
    is_name(text, |byte| byte == b':')
}

fn is_label_name(text: &str) -> bool {
    is_name(text, |_| false)
}

fn is_name(text: &str, also: impl Fn(u8) -> bool) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte);
    text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit()) && text.bytes().all(is_inner)
}

/// Enough of a text to find it again.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 200;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn problem(format: Format, text: &str) -> String {
        parse(text, format).unwrap_err().to_string()
    }

    #[test]
    fn samples_are_read_with_labels_values_and_timestamps() {
        let text = "# HELP a_bytes Any text \\n of it.\n# TYPE a_bytes gauge\n\
            a_bytes{module=\"m\",odd=\"x}\\\"\\\\\\n,\"} 1.5e3\n\n# a comment\nb 2 1700000000\nc{} +Inf\n";
        let read = parse(text, Format::Text).unwrap();
        let first = read.of("a_bytes").next().unwrap();
        assert_eq!((first.value, first.has_timestamp), (1500.0, false));
        assert_eq!(first.labels["odd"], "x}\"\\\n,");
        assert_eq!(read.types["a_bytes"], "gauge");
        assert!(read.of("b").next().unwrap().has_timestamp);
        assert_eq!(read.of("c").next().unwrap().value, f64::INFINITY);
    }

    #[test]
    fn families_of_both_formats_are_read() {
        let text = "# TYPE a_total counter\na_total 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 2\nh_count 1\n";
        assert_eq!(parse(text, Format::Text).unwrap().samples.len(), 4);
        let text = "# TYPE a counter\n# HELP a Some.\na_total 1 # {id=\"7\"} 1 2\na_created 3\n# TYPE s_seconds gauge\n\
            # UNIT s_seconds seconds\ns_seconds 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(parse(text, Format::OpenMetrics).unwrap().samples.len(), 4);
        assert_eq!(parse("# EOF\n", Format::OpenMetrics), Ok(Exposition::default()));
        assert_eq!(parse("", Format::Text), Ok(Exposition::default()));
    }

    #[test]
    fn whatever_is_wrong_is_told_with_its_line() {
        let check = |text: &str, expected: &str| {
            let problem = problem(Format::Text, text);
            assert!(problem.contains(expected), "{text:?}: {problem}");
        };
        check("a 1\nb 2", "line 2: expected a line break");
        check("<!doctype html>\n", "expected the name of a metric, got \"<!doctype\"");
        check("a\n", "expected a value");
        check("a 1 2 3\n", "expected a value");
        check("a one\n", "expected a value");
        check("a{x=1} 1\n", "expected LABEL=\"VALUE\"");
        check("a{x = \"1\"} 1\n", "expected LABEL=\"VALUE\"");
        check("a{x=\"1\" y=\"2\"} 1\n", "expected , or }");
        check("a{x=\"\\t\"} 1\n", "expected LABEL=\"VALUE\"");
        check("a{x=\"1\",x=\"2\"} 1\n", "expected the label x once");
        check("a{x=\"1\"} 1\na{x=\"1\"} 2\n", "expected each series once");
        check("a 1\nb 1\na{x=\"1\"} 1\n", "lines of a to stand together");
        check("a 1\n# TYPE a gauge\n", "# TYPE a before its samples");
        check("# TYPE a gauge\n# TYPE a gauge\n", "# TYPE a once");
        check("# TYPE a size\n", "unknown type \"size\"");
        check("# TYPE h histogram\nh 1\n", "h is a histogram");
    }

    #[test]
    fn openmetrics_has_rules_of_its_own() {
        let check = |text: &str, expected: &str| {
            let problem = problem(Format::OpenMetrics, text);
            assert!(problem.contains(expected), "{text:?}: {problem}");
        };
        check("a 1\n", "line 2: expected # EOF at the end");
        check("# EOF\na 1\n", "line 2: expected nothing after # EOF");
        check("\n# EOF\n", "no empty line");
        check("# some comment\n# EOF\n", "expected # HELP");
        check("# TYPE a counter\na 1\n# EOF\n", "a is a counter: expected samples that end with");
        check("a  1\n# EOF\n", "expected a value");
        check("# TYPE a gauge\n# UNIT a bytes\na 1\n# EOF\n", "ends with its unit _bytes");
    }
}
