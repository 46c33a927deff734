//! The runners themselves: each tick scrapes their `/metrics`, and the history in memory is all there is.
//!
//! For demos, small fleets and the edge. A runner that does not answer is a target less, as with
//! Prometheus; only if none answers, the evaluator holds.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ebb_service::{config_file::Refusal, logging::Chain, quote};
use ebb_units::{Millis, Span};
use futures::future::join_all;
use reqwest::{Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{
    answer::{ClockCheck, Fetched, Sink, StoreError},
    gauges::{HOST_AVAILABLE_METRIC, HOST_TOTAL_METRIC, LIMIT_METRIC, MEMORY_METRIC, START_TIME_METRIC},
    labels::Labels,
    naming::{Named, Naming},
    series::{Numbers, Readings, RunnerReadings},
};
use crate::client::{self, RunnerClient, server_time};

/// The `store.scrape:` section of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScrapeConfig {
    /// Addresses of the runners' control listeners, `host:port`.
    #[schemars(length(min = 1), inner(regex(pattern = r"^[^\s/@]+:[0-9]{1,5}$")))]
    pub targets: Vec<String>,
    /// Longest wait for a target's answer.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

const fn default_timeout() -> Span {
    Span::secs(5)
}

impl ScrapeConfig {
    pub(super) fn validate(&self) -> Result<(), Refusal> {
        if self.targets.is_empty() {
            return Err(Refusal::new("store.scrape.targets", "expected at least one address"));
        }
        Ok(())
    }
}

/// The largest answer that is read: some 400,000 instances.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The longest line with one of our gauges, in bytes. Usual ones have some hundred.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Series are remembered up to this many times those of the newest answers.
const SERIES_OVER_ANSWERED: usize = 4;

/// The runners themselves.
#[derive(Debug)]
pub(crate) struct Scrape {
    client: RunnerClient,
    timeout: Duration,
    targets: Vec<String>,
    numbers: Numbers,
    /// What is wrong with the targets that were not scraped the last time, as it was logged.
    failing: BTreeMap<String, String>,
    /// Targets of which it was logged that their clock is wrong.
    wrong_clocks: BTreeSet<String>,
}

impl Scrape {
    /// Prepares requests; sends none.
    pub(crate) fn new(config: &ScrapeConfig, client: RunnerClient) -> Self {
        Self {
            client,
            timeout: config.timeout.into(),
            targets: config.targets.clone(),
            numbers: Numbers::default(),
            failing: BTreeMap::new(),
            wrong_clocks: BTreeSet::new(),
        }
    }

    /// Scrapes every target once and stamps what it said with this clock's time. If most of the targets' clocks say that
    /// this one is wrong, nothing is taken; if few do, theirs are.
    pub(super) async fn fetch(
        &mut self,
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let sent = clock.shows();
        let answers =
            join_all(self.targets.iter().map(|target| scrape(&self.client, self.timeout, target))).await;
        let mut fetched = Fetched::default();
        let mut readings = (Readings::default(), RunnerReadings::default());
        let mut failures = Vec::new();
        let mut clocks = Clocks::default();
        for (target, answer) in self.targets.iter().zip(answers) {
            let taken = answer.and_then(|(text, server_time)| {
                clocks.compare(clock, sent, target, server_time);
                take(&text, target, clock.now, &mut self.numbers, &mut readings, &mut fetched)
            });
            if let Err(problem) = taken {
                if self.failing.get(target) != Some(&problem) {
                    warn!(target, problem, "scrape failed");
                }
                failures.push((target.clone(), problem));
            } else if self.failing.contains_key(target) {
                info!(target, "scraped again");
            }
        }
        self.failing = failures.into_iter().collect();
        if self.failing.len() == self.targets.len() {
            let first = self.failing.iter().next();
            let first = first.map_or_else(
                || "no targets are configured".to_owned(),
                |(target, problem)| format!("{target}: {problem}"),
            );
            return Err(StoreError::NoTarget { targets: self.targets.len(), first });
        }
        clocks.verdict(&mut self.wrong_clocks)?;
        readings.0.join(&self.numbers, &mut fetched, sink);
        readings.1.give(&mut fetched);
        // Slots that come and go must not fill the memory.
        if self.numbers.len() > SERIES_OVER_ANSWERED * fetched.series.max(256) {
            self.numbers = Numbers::default();
        }
        Ok(fetched)
    }
}

/// What the targets' clocks say of this one.
#[derive(Debug, Default)]
struct Clocks {
    agree: usize,
    differ: Vec<(String, StoreError)>,
}

impl Clocks {
    fn compare(&mut self, clock: ClockCheck, sent: Millis, target: &str, there: Option<Millis>) {
        match clock.compare(&format!("scraping {target}"), sent, there) {
            Ok(()) => self.agree += usize::from(there.is_some()),
            Err(differs) => self.differ.push((target.to_owned(), differs)),
        }
    }

    /// An error if most of them say that this clock is wrong. Each of few that do is warned of once, and noted in `known`
    /// while it lasts.
    fn verdict(self, known: &mut BTreeSet<String>) -> Result<(), StoreError> {
        let few = self.differ.len() <= self.agree;
        let mut wrong = BTreeSet::new();
        for (target, differs) in self.differ {
            if !few {
                return Err(differs);
            }
            if !known.contains(&target) {
                warn!(target, "the clock of a runner is wrong: {differs}");
            }
            wrong.insert(target);
        }
        *known = wrong;
        Ok(())
    }
}

async fn scrape(
    client: &RunnerClient,
    timeout: Duration,
    target: &str,
) -> Result<(String, Option<Millis>), String> {
    let request = client.request(Method::GET, target, "/metrics")?.timeout(timeout);
    let request = request.header(header::ACCEPT, "text/plain;version=0.0.4");
    let response = request.send().await.map_err(|error| describe(&error))?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(format!("expected status 200, got {}", response.status()));
    }
    let server_time = server_time(response.headers());
    let body = client::body(response, BODY_BYTES_MAX).await.map_err(|error| Chain(&error).to_string())?;
    let text = String::from_utf8(body.into()).map_err(|_| "expected UTF-8 text".to_owned())?;
    Ok((text, server_time))
}

fn describe(error: &reqwest::Error) -> String {
    Chain(error).to_string()
}

/// Takes the gauges of slots and host out of an exposition in text format 0.0.4.
fn take(
    text: &str,
    target: &str,
    now: Millis,
    numbers: &mut Numbers,
    readings: &mut (Readings, RunnerReadings),
    fetched: &mut Fetched,
) -> Result<(), String> {
    if let Some(line) = text.lines().find(|line| !line.is_empty()).filter(|line| !line.starts_with('#')) {
        return Err(format!("expected metrics in text format 0.0.4, got {}", quote::clipped(line)));
    }
    // Whoever scrapes a runner knows its address, and nobody has renamed its labels.
    let naming = Naming::default();
    for line in text.lines() {
        const WANTED: [&str; 5] =
            [MEMORY_METRIC, START_TIME_METRIC, LIMIT_METRIC, HOST_TOTAL_METRIC, HOST_AVAILABLE_METRIC];
        if !WANTED.iter().any(|metric| line.starts_with(metric)) {
            continue;
        }
        let malformed = || format!("expected NAME{{LABEL=\"VALUE\",…}} NUMBER, got {}", quote::clipped(line));
        if line.len() > LINE_BYTES_MAX {
            let line = quote::clipped(line);
            return Err(format!("expected a line of at most {LINE_BYTES_MAX} bytes, got {line}"));
        }
        let name = &line[..line.find(['{', ' ']).unwrap_or(line.len())];
        let (pairs, value) = match line[name.len()..].strip_prefix('{') {
            Some(rest) => label_pairs(rest).ok_or_else(malformed)?,
            None => (Vec::new(), &line[name.len()..]),
        };
        let value = value
            .split_ascii_whitespace()
            .next()
            .and_then(|value| value.parse().ok())
            .ok_or_else(malformed)?;
        let own = pairs.iter().map(|(label, value)| (*label, value.as_str()));
        let labels: Labels<'_> = own.chain([("__name__", name), ("instance", target)]).collect();
        match naming.parse(&labels) {
            Ok(Named::Slot(gauge, series)) => {
                let number = numbers.of(series);
                fetched.series += 1;
                readings.0.push(gauge, number, now, value, fetched);
            }
            Ok(Named::Host(gauge, runner)) => readings.1.push_host(gauge, &runner, now, value),
            Ok(Named::Limit(runner, module)) => readings.1.push_limit(&runner, &module, now, value),
            Ok(Named::Other) => {}
            Err(nameless) => fetched.pass_over(Some(&nameless)),
        }
    }
    Ok(())
}

/// `a="1",b="x\"y"} rest` → the pairs and the rest.
fn label_pairs(mut text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut pairs = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((pairs, rest));
        }
        let (label, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        pairs.push((label, value));
        text = rest;
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
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use ebb_core::decide::exhaustion::MemoryLimit;
    use ebb_units::SeriesId;

    use super::*;

    fn taken(text: &str) -> Result<Vec<(String, u32, u64, u64)>, String> {
        let (mut numbers, mut readings, mut fetched) =
            (Numbers::default(), <(Readings, RunnerReadings)>::default(), Fetched::default());
        take(text, "127.0.0.1:9742", Millis(7), &mut numbers, &mut readings, &mut fetched)?;
        let mut samples = Vec::new();
        readings.0.join(&numbers, &mut fetched, &mut |SeriesId { slot, .. }, found| {
            for sample in found {
                let module = slot.population.module.to_string();
                samples.push((module, slot.replica, sample.generation.0, sample.bytes));
            }
        });
        Ok(samples)
    }

    #[test]
    fn both_gauges_are_found_in_an_exposition() {
        let text = "# TYPE wasm_linear_memory_bytes gauge\n\
            wasm_linear_memory_bytes{odd=\"a}\\\"b\",module=\"m\",digest=\"d\",replica=\"3\"} 131072\n\
            wasm_instance_start_time_seconds{replica=\"3\",module=\"m\",digest=\"d\",odd=\"a}\\\"b\"} 1.5 1700000000\n\
            wasm_linear_memory_bytes_other{module=\"x\",digest=\"d\",replica=\"0\"} 1\n\
            up 1\n";
        assert_eq!(taken(text), Ok(vec![("m".to_owned(), 3, 1500, 131_072)]));
    }

    #[test]
    fn a_gauge_without_the_other_is_passed_over_and_told() {
        let text = "wasm_linear_memory_bytes{module=\"m\",digest=\"d\",replica=\"3\"} 131072\n";
        let (mut numbers, mut readings, mut fetched) =
            (Numbers::default(), <(Readings, RunnerReadings)>::default(), Fetched::default());
        let text = format!("# TYPE x gauge\n{text}");
        take(&text, "r:1", Millis(7), &mut numbers, &mut readings, &mut fetched).unwrap();
        readings.0.join(&numbers, &mut fetched, &mut |_, _| panic!("there is no sample"));
        let told = "m/3 on r:1 has no wasm_instance_start_time_seconds with the same labels";
        assert!(fetched.nameless_series == 1 && fetched.nameless[0].ends_with(told), "{fetched:?}");
    }

    #[test]
    fn the_hosts_memory_and_limits_are_found_in_an_exposition() {
        let text = "# TYPE x gauge\nebb_runner_host_memory_total_bytes 200\nebb_runner_host_memory_available_bytes 50\n\
            wasm_linear_memory_limit_bytes{module=\"m\"} 100\n";
        let mut readings = <(Readings, RunnerReadings)>::default();
        let mut fetched = Fetched::default();
        take(text, "r:1", Millis(7), &mut Numbers::default(), &mut readings, &mut fetched).unwrap();
        readings.1.give(&mut fetched);
        let host = ebb_core::policy::HostMemory { at: Millis(7), total_bytes: 200, available_bytes: 50 };
        assert_eq!(fetched.hosts, [("r:1".into(), host)].into());
        let limit = MemoryLimit { at: Millis(7), bytes: 100 };
        assert_eq!(fetched.memory_limits, [(("r:1".into(), "m".into()), limit)].into());
    }

    #[test]
    fn an_answer_that_is_no_exposition_is_an_error_that_shows_it() {
        for answer in ["<!doctype html>", "{\"status\":\"ok\"}"] {
            assert!(taken(answer).unwrap_err().contains("expected metrics"), "{answer}");
        }
        assert_eq!(taken(""), Ok(vec![]));
    }

    #[test]
    fn a_broken_line_of_ours_is_an_error_that_shows_it() {
        for line in ["wasm_linear_memory_bytes{module=\"a} 1", "wasm_linear_memory_bytes{module=\"a\"} x"] {
            let error = taken(&format!("# TYPE x gauge\n{line}")).unwrap_err();
            assert!(error.contains("wasm_linear_memory_bytes"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_exposition_is_quoted_in_a_few_words() {
        let long = "a=\"\",".repeat(12_000_000);
        for text in [
            format!("# TYPE x gauge\nwasm_linear_memory_bytes{{{long}}} 1"),
            format!("# TYPE x gauge\nwasm_linear_memory_bytes {long}"),
            long,
        ] {
            let error = taken(&text).unwrap_err();
            assert!(error.len() < 600 && error.ends_with("bytes in all)"), "{error:.1000}");
        }
    }
}
