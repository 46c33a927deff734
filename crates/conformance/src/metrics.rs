//! What one scrape tells: formats, gauges, labels, optional metrics. PURE but for the scrapes themselves.

use std::{collections::BTreeSet, time::Instant};

use reqwest::header;

use crate::{
    attempts::{LIVE_WITHIN, PAUSE},
    client::{ACCEPT_OPENMETRICS, ACCEPT_TEXT, Answer, Client},
    exposition::{self, Exposition, Format, Sample, shortened},
    readings::{MEMORY, Readings, START_TIME, generation},
    report::{Findings, Mismatch},
    sentences::Number,
};

/// The largest exposition that an evaluator reads.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The longest line that it reads.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The longest name of a module, in characters.
const MODULE_LENGTH_MAX: usize = 63;

/// 2^53: up to here, every integer is exact.
const MEMORY_BYTES_MAX: f64 = 9_007_199_254_740_992.0;

/// Names that Prometheus gives to labels, or the evaluator takes for renamed ones of the host's.
const TAKEN_LABELS: [&str; 5] =
    ["instance", "exported_instance", "exported_module", "exported_digest", "exported_replica"];

/// An optional metric: its name, its type and its labels.
type Optional = (&'static str, &'static str, &'static [&'static str]);

/// Those of `docs/host-protocol.md`, as text 0.0.4 has them.
const OPTIONAL: [Optional; 16] = [
    ("wasm_linear_memory_limit_bytes", "gauge", &["module"]),
    ("wasm_gc_heap_bytes", "gauge", &["module", "digest", "replica"]),
    ("wasm_linear_memory_grow_failures_total", "counter", &["module"]),
    ("wasm_instance_up", "gauge", &["module", "replica"]),
    ("wasm_instance_ends_total", "counter", &["module", "replica"]),
    ("wasm_instance_restarts_total", "counter", &["module", "reason"]),
    ("wasm_restart_duration_seconds", "histogram", &["module"]),
    ("wasm_restart_reclaimed_bytes_total", "counter", &["module"]),
    ("wasm_restart_resident_released_bytes_total", "counter", &["module"]),
    ("wasm_module_info", "gauge", &["module", "digest", "kind"]),
    ("wasm_requests_total", "counter", &["module", "code"]),
    ("wasm_request_duration_seconds", "histogram", &["module"]),
    ("wasm_requests_in_flight", "gauge", &["module"]),
    ("wasm_requests_waiting", "gauge", &["module"]),
    (HOST_TOTAL, "gauge", &[]),
    (HOST_AVAILABLE, "gauge", &[]),
];

const HOST_TOTAL: &str = "ebb_runner_host_memory_total_bytes";
const HOST_AVAILABLE: &str = "ebb_runner_host_memory_available_bytes";

/// Looks at `/metrics` in both formats. None if it cannot be read.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn check(client: &Client, findings: &mut Findings) -> Result<Option<Readings>, String> {
    let answer = once_something_lives(client).await?;
    let Some(text) = judge_text(&answer, findings) else { return Ok(None) };
    judge_samples(&text, findings);
    judge_optional(&text, findings);
    let answer = client.get("/metrics", ACCEPT_OPENMETRICS).await?;
    let Some(open) = judge_openmetrics(&answer, findings) else { return Ok(Some(Readings::of(&text))) };
    // An instance that ended in between is in one of the two.
    let mut same = same_series(&text, &open);
    if same.is_err()
        && let Ok((again, _)) = client.scrape().await
    {
        same = same_series(&again, &open);
    }
    findings.judge(Number::E8, same);
    Ok(Some(Readings::of(&text)))
}

/// The first answer that shows an instance; after [`LIVE_WITHIN`], whatever it shows.
async fn once_something_lives(client: &Client) -> Result<Answer, String> {
    let deadline = Instant::now() + LIVE_WITHIN;
    loop {
        let answer = client.get("/metrics", ACCEPT_TEXT).await?;
        let lives = exposition::parse(&answer.text(), Format::Text)
            .map_or(true, |text| [MEMORY, START_TIME].iter().any(|gauge| text.of(gauge).next().is_some()));
        if lives || answer.status != 200 || Instant::now() > deadline {
            return Ok(answer);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The exposition in text format 0.0.4, if it is one.
fn judge_text(answer: &Answer, findings: &mut Findings) -> Option<Exposition> {
    let content_type = answer.header(header::CONTENT_TYPE).unwrap_or("no Content-Type");
    let seen = format!("{}, {content_type}", answer.status);
    let is_text = answer.status == 200 && is_type(content_type, "text/plain", "0.0.4");
    findings.expect(Number::E1, is_text, "200, text/plain; version=0.0.4", seen);
    if answer.status != 200 {
        let needs_token = matches!(answer.status, 401 | 403);
        findings.expect(Number::A7, !needs_token, "200 without a token", answer.shown());
        return None;
    }
    let text = answer.text();
    let (length, longest) = (text.len(), text.lines().map(str::len).max().unwrap_or(0));
    findings.expect(Number::E4, length <= BODY_BYTES_MAX, "at most 64 MiB", format!("{length} bytes"));
    findings.expect(Number::E5, longest <= LINE_BYTES_MAX, "at most 64 KiB", format!("{longest} bytes"));
    let first = text.lines().find(|line| !line.is_empty());
    let seen = shortened(first.unwrap_or("an empty answer"));
    findings.expect(Number::E2, first.is_some_and(|line| line.starts_with('#')), "# HELP or # TYPE", seen);
    match exposition::parse(&text, Format::Text) {
        Ok(exposition) => {
            findings.judge(Number::E3, Ok(()));
            Some(exposition)
        }
        Err(malformed) => {
            findings.judge(Number::E3, Err(Mismatch::new("text format 0.0.4", malformed.to_string())));
            None
        }
    }
}

/// The exposition in OpenMetrics, if it is one.
fn judge_openmetrics(answer: &Answer, findings: &mut Findings) -> Option<Exposition> {
    let content_type = answer.header(header::CONTENT_TYPE).unwrap_or("no Content-Type");
    if answer.status == 200 && is_type(content_type, "text/plain", "0.0.4") {
        for number in [Number::E7, Number::E8] {
            findings.not_applicable(number, "OpenMetrics is not served");
        }
        return None;
    }
    let seen = format!("{}, {content_type}", answer.status);
    let is_open = answer.status == 200 && is_type(content_type, "application/openmetrics-text", "1.0.0");
    let expected = "200, application/openmetrics-text; version=1.0.0 or text/plain; version=0.0.4";
    findings.expect(Number::E7, is_open, expected, seen);
    match exposition::parse(&answer.text(), Format::OpenMetrics) {
        Ok(exposition) => Some(exposition),
        Err(malformed) => {
            findings.judge(Number::E7, Err(Mismatch::new("OpenMetrics text 1.0", malformed.to_string())));
            None
        }
    }
}

/// Whether a `Content-Type` is this one in this version, in UTF-8 if it names a character set.
fn is_type(content_type: &str, media: &str, version: &str) -> bool {
    let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let parameters: Vec<String> = {
        if parts.next().as_deref() != Some(media) {
            return false;
        }
        parts.collect()
    };
    let is_utf8 = |parameter: &String| match parameter.strip_prefix("charset=") {
        Some(charset) => charset.trim_matches('"') == "utf-8",
        None => true,
    };
    parameters.contains(&format!("version={version}")) && parameters.iter().all(is_utf8)
}

fn same_series(text: &Exposition, open: &Exposition) -> Result<(), Mismatch> {
    let series = |exposition: &Exposition| -> BTreeSet<String> {
        let samples =
            exposition.samples.iter().filter(|sample| [MEMORY, START_TIME].contains(&&*sample.name));
        samples.map(|sample| format!("{}{:?}", sample.name, sample.labels)).collect()
    };
    let (text, open) = (series(text), series(open));
    match text.symmetric_difference(&open).next() {
        None => Ok(()),
        Some(series) => {
            let seen = if text.contains(series) { "text only" } else { "OpenMetrics only" };
            Err(Mismatch::new(format!("{} in both", shortened(series)), seen))
        }
    }
}

/// Judges what the two gauges tell.
fn judge_samples(exposition: &Exposition, findings: &mut Findings) {
    let gauges = [(Number::M1, MEMORY), (Number::M2, START_TIME)];
    for (number, name) in gauges {
        let seen = format!("{} series", exposition.of(name).count());
        findings.expect(
            number,
            exposition.of(name).next().is_some(),
            "a series for each live instance, of which there must be one",
            seen,
        );
        let declared = exposition.types.get(name).map_or("no type", String::as_str);
        findings.expect(Number::M3, declared == "gauge", "gauge", format!("{name}: {declared}"));
        for sample in exposition.of(name) {
            judge_labels(sample, findings);
            let timestamp = if sample.has_timestamp { "one" } else { "none" };
            findings.expect(Number::E9, !sample.has_timestamp, "no timestamp", timestamp);
        }
    }
    for sample in exposition.of(MEMORY) {
        let is_size = sample.value.fract() == 0.0 && (0.0..=MEMORY_BYTES_MAX).contains(&sample.value);
        findings.expect(Number::M16, is_size, "a whole number of 0 to 2^53", sample.value.to_string());
    }
    for sample in exposition.of(START_TIME) {
        let is_time = sample.value > 0.0 && generation(sample.value).is_some();
        findings.expect(Number::G1, is_time, "Unix seconds before the year 10000", sample.value.to_string());
        let millis = sample.value * 1000.0;
        // A double tells today's times to a quarter of a microsecond.
        let is_whole = (millis - millis.round()).abs() < 0.01;
        findings.expect(Number::G3, is_whole, "whole milliseconds", sample.value.to_string());
    }
    judge_pairs(&Readings::of(exposition), findings);
}

/// Judges whether each instance is told once, by both gauges.
pub(crate) fn judge_pairs(readings: &Readings, findings: &mut Findings) {
    let unpaired = readings.unpaired.first().map_or("pairs", |series| series);
    findings.expect(Number::M5, readings.unpaired.is_empty(), "both gauges with the same labels", unpaired);
    let doubled = readings.doubled.first().map_or("one each", |slot| slot);
    let expected = "one series of a gauge for a module and a replica";
    findings.expect(Number::M12, readings.doubled.is_empty(), expected, format!("several of {doubled}"));
}

fn judge_labels(sample: &Sample, findings: &mut Findings) {
    const OWN: [&str; 3] = ["module", "digest", "replica"];
    let names: Vec<&str> = sample.labels.keys().map(String::as_str).collect();
    let missing = OWN.iter().find(|label| !names.contains(label));
    let seen = format!("{}{{{}}}", sample.name, names.join(","));
    findings.expect(Number::M4, missing.is_none(), "module, digest and replica", seen.clone());
    let taken = names.iter().any(|name| TAKEN_LABELS.contains(name));
    findings.expect(Number::M13, !taken, "no label instance or exported_…", seen.clone());
    findings.expect(Number::M14, names.iter().all(|name| OWN.contains(name)), "no further labels", seen);
    let [module, digest, replica] = OWN.map(|label| sample.labels.get(label).map_or("", String::as_str));
    let expected = "a letter or _, then letters, digits, _ and -, 63 at most";
    findings.expect(Number::M6, is_module_name(module), expected, format!("{module:?}"));
    let is_digest = (1..=64).contains(&digest.len()) && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    findings.expect(Number::M7, is_digest, "1 to 64 hexadecimal digits", format!("{digest:?}"));
    let is_usual = digest.len() == 12 && !digest.bytes().any(|byte| byte.is_ascii_uppercase());
    findings.expect(Number::M8, is_usual, "12 lowercase hexadecimal digits", format!("{digest:?}"));
    let number = replica.parse::<u32>().ok().filter(|number| number.to_string() == replica);
    let expected = "a number from 0 to 4294967295, without a sign or leading zeros";
    findings.expect(Number::M11, number.is_some(), expected, format!("{replica:?}"));
}

fn is_module_name(text: &str) -> bool {
    let is_first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    text.len() <= MODULE_LENGTH_MAX
        && text.as_bytes().first().is_some_and(is_first)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Judges those of the optional metrics that there are.
fn judge_optional(exposition: &Exposition, findings: &mut Findings) {
    for (name, kind, labels) in OPTIONAL {
        let is_of = |sample: &&Sample| {
            let suffix = sample.name.strip_prefix(name);
            suffix.is_some_and(|suffix| {
                suffix.is_empty() || (kind == "histogram" && matches!(suffix, "_bucket" | "_sum" | "_count"))
            })
        };
        for sample in exposition.samples.iter().filter(is_of) {
            let declared = exposition.types.get(name).map_or("no type", String::as_str);
            let has_labels = labels.iter().all(|label| sample.labels.contains_key(*label));
            let expected = format!("{name}: {kind} with the labels {labels:?}");
            let seen = format!("{declared} with {:?}", sample.labels.keys().collect::<Vec<_>>());
            findings.expect(Number::O1, declared == kind && has_labels, &expected, seen);
        }
    }
    let told = [HOST_TOTAL, HOST_AVAILABLE].map(|name| exposition.of(name).next().is_some());
    match told {
        [false, false] => findings.not_applicable(Number::O2, "neither is exported"),
        [total, available] => findings.expect(Number::O2, total && available, "both", "one of them"),
    }
    findings.not_applicable(Number::O1, "none is exported");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Line, Report};

    const HEAD: &str = "# TYPE wasm_linear_memory_bytes gauge\n";
    const START: &str = "# TYPE wasm_instance_start_time_seconds gauge\n";

    fn judged(text: &str) -> Report {
        let exposition = exposition::parse(text, Format::Text).unwrap();
        let mut findings = Findings::default();
        judge_samples(&exposition, &mut findings);
        judge_optional(&exposition, &mut findings);
        findings.report("h:1", None, "not looked at")
    }

    /// The numbers of those that failed or are warned of.
    fn broken(report: &Report) -> Vec<String> {
        use crate::report::Outcome::{Failed, Warned};
        let is_broken = |line: &&Line| matches!(line.outcome, Failed(_) | Warned(_));
        report.sentences.iter().filter(is_broken).map(|line| line.sentence.number.to_string()).collect()
    }

    #[track_caller]
    fn check(labels: &str, memory: &str, start: &str, expected: &[&str]) {
        let text = format!(
            "{HEAD}wasm_linear_memory_bytes{{{labels}}} {memory}\n{START}wasm_instance_start_time_seconds{{{labels}}} {start}\n"
        );
        assert_eq!(broken(&judged(&text)), expected, "{text}");
    }

    #[test]
    fn what_an_evaluator_cannot_use_fails_and_says_so() {
        const GOOD: &str = "module=\"m\",digest=\"0123456789ab\",replica=\"0\"";
        check(GOOD, "65536", "1700000000.123", &[]);
        check(GOOD, "-1", "1700000000", &["M16"]);
        check(GOOD, "0.5", "1700000000", &["M16"]);
        check(GOOD, "NaN", "1700000000", &["M16"]);
        check(GOOD, "1", "-1", &["G1"]);
        check(GOOD, "1", "1700000000.12345", &["G3"]);
        check(GOOD, "1 1700000000000", "1700000000", &["E9"]);
        check("module=\"m\",digest=\"0123456789ab\"", "1", "1", &["M4", "M11"]);
        check("module=\"a/b\",digest=\"0123456789ab\",replica=\"0\"", "1", "1", &["M6"]);
        check("module=\"m\",digest=\"x\",replica=\"0\"", "1", "1", &["M7", "M8"]);
        check("module=\"m\",digest=\"ABC\",replica=\"0\"", "1", "1", &["M8"]);
        check("module=\"m\",digest=\"0123456789ab\",replica=\"01\"", "1", "1", &["M11"]);
        check(&format!("{GOOD},instance=\"a\""), "1", "1", &["M13", "M14"]);
        check(&format!("{GOOD},zone=\"a\""), "1", "1", &["M14"]);
    }

    #[test]
    fn instances_are_told_once_by_both_gauges() {
        let text = format!(
            "{HEAD}wasm_linear_memory_bytes{{module=\"m\",digest=\"0123456789ab\",replica=\"0\"}} 1\n\
             wasm_instance_start_time_seconds{{module=\"m\",digest=\"0123456789ac\",replica=\"0\"}} 1\n"
        );
        assert_eq!(broken(&judged(&text)), ["M3", "M5"]);
        assert_eq!(broken(&judged("a 1\n")), ["M1", "M2", "M3"]);
    }

    #[test]
    fn optional_metrics_are_judged_where_there_are_any() {
        let check = |text: &str, expected: &[&str]| {
            let judged = broken(&judged(text));
            let optional: Vec<_> = judged.iter().filter(|number| number.starts_with('O')).collect();
            assert_eq!(optional, expected, "{text}");
        };
        check("a 1\n", &[]);
        check("# TYPE wasm_instance_up gauge\nwasm_instance_up{module=\"m\",replica=\"0\"} 1\n", &[]);
        check("# TYPE wasm_instance_up gauge\nwasm_instance_up{module=\"m\"} 1\n", &["O1"]);
        check("wasm_instance_up{module=\"m\",replica=\"0\"} 1\n", &["O1"]);
        check(
            "# TYPE ebb_runner_host_memory_total_bytes gauge\nebb_runner_host_memory_total_bytes 1\n",
            &["O2"],
        );
    }

    #[test]
    fn the_protocol_lists_the_same_optional_metrics() {
        let protocol = include_str!("../../../docs/host-protocol.md");
        for (name, kind, labels) in OPTIONAL {
            let row = format!("| `{name}` | {kind} | {} |", labels.join(", "));
            assert!(protocol.lines().any(|line| line.starts_with(row.trim_end_matches(" |"))), "{row}");
        }
        let listed = protocol
            .lines()
            .filter(|line| line.starts_with("| `wasm_") || line.starts_with("| `ebb_runner_host_memory"));
        assert_eq!(listed.count(), OPTIONAL.len() + 2);
    }

    #[test]
    fn a_content_type_is_read_with_its_parameters() {
        let check = |content_type: &str, is: bool| {
            assert_eq!(is_type(content_type, "text/plain", "0.0.4"), is, "{content_type}");
        };
        check("text/plain; version=0.0.4; charset=utf-8", true);
        check("text/plain;version=0.0.4", true);
        check("text/plain; charset=utf-8", false);
        check("text/plain; version=0.0.4; charset=latin-1", false);
        check("application/json", false);
    }
}
