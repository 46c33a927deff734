//! The HTTP API's JSON: raw samples of a time span by one instant query with a range selector.
//!
//! Labels are most of an answer's bytes and the same in every one, so each label set is parsed once and
//! then recognised by its text: where answers keep their order, by comparing it with the one expected next.

mod answer;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ebb_service::quote;
use reqwest::RequestBuilder;

pub(super) use self::answer::Envelope;
use ebb_units::{Elapsed, Millis, RunnerId};

use self::answer::{Matrix, ModuleNames};
use super::client::{Client, SAMPLES_BYTES_MAX};
use crate::{
    client::server_time,
    store::{
        answer::{ClockCheck, Fetched, Sink, StoreError},
        labels::{LABELS_BYTES_MAX, Labels},
        naming::{Gauge, HostGauge, Named, Nameless, Naming},
        series::{Numbers, Readings, RunnerReadings},
    },
};

/// Queries, and the label sets that were seen in answers.
#[derive(Debug, Default)]
pub(super) struct Query {
    naming: Naming,
    numbers: Numbers,
    /// In the order in which they were first seen: Prometheus sorts its answers.
    known: Vec<Known>,
    /// Where a label set stands in `known`.
    places: HashMap<Arc<str>, usize>,
    /// Emptied after each answer; kept for its room.
    readings: Readings,
}

/// A label set, and what it names.
#[derive(Debug)]
struct Known {
    labels: Arc<str>,
    series: Series,
}

/// A gauge of a slot, by the number of the series, or of a runner's host or module, or another metric, or none of these.
#[derive(Debug)]
enum Series {
    Slot(Gauge, usize),
    Host(HostGauge, RunnerId),
    Limit(RunnerId, Arc<str>),
    Other,
    /// Why it names nothing, until that is told.
    Nameless(Option<Nameless>),
}

/// Label sets are remembered up to this many times those of the newest answer; then all are forgotten,
/// so that a server whose series come and go does not fill the memory.
const KNOWN_OVER_ANSWERED: usize = 4;

impl Query {
    pub(super) fn new(naming: Naming) -> Self {
        Self { naming, ..Self::default() }
    }

    /// Counts nothing as refused that was taken up to `until`: a bootstrap has.
    pub(super) const fn count_refused_after(&mut self, until: Millis) {
        self.readings.count_refused_after(until);
    }

    /// Gives all samples of `selector` after `from` up to now into `sink`.
    pub(super) async fn samples(
        &mut self,
        client: &Client,
        selector: &str,
        from: Millis,
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        self.slice(client, selector, (from, clock.now), clock, sink).await
    }

    /// Gives all samples of `selector` after `from` up to `to` into `sink`.
    pub(super) async fn slice(
        &mut self,
        client: &Client,
        selector: &str,
        (from, to): (Millis, Millis),
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let query = format!("{selector}[{}ms]", to.since(from).0.max(1));
        // Without the span, which is another one at every tick: what is wrong for long is said once.
        let attempt = format!("query {selector} at {}", client.url());
        // VictoriaMetrics would otherwise answer from a cache that lags behind; others ignore the parameter.
        let form = [("query", query.as_str()), ("time", &to.as_seconds().to_string()), ("nocache", "1")];
        let request = client.post("/api/v1/query").form(&form);
        self.take(client, &attempt, request, from, Some(clock), sink).await
    }

    /// Gives the newest sample of `selector` in each step into `sink`, as of the step's end: the first step ends at `first`,
    /// the last one at `last` at the latest. What is older than a step is in none.
    pub(super) async fn newest_of_each_step(
        &mut self,
        client: &Client,
        selector: &str,
        (first, last): (Millis, Millis),
        step: Elapsed,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let query = format!("last_over_time({selector}[{}ms])", step.0);
        let attempt = format!("range query {query} at {}", client.url());
        let (start, end) = (first.as_seconds().to_string(), last.as_seconds().to_string());
        let step = step.as_seconds().to_string();
        // Without `nocache`, VictoriaMetrics moves the steps.
        let form =
            [("query", query.as_str()), ("start", &start), ("end", &end), ("step", &step), ("nocache", "1")];
        let request = client.post("/api/v1/query_range").form(&form);
        self.take(client, &attempt, request, Millis(i64::MIN), None, sink).await
    }

    /// Sends a request whose answer is a matrix, and gives its samples after `from` into `sink`.
    async fn take(
        &mut self,
        client: &Client,
        attempt: &str,
        request: RequestBuilder,
        from: Millis,
        clock: Option<ClockCheck>,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let sent = clock.map(|clock| (clock, clock.shows()));
        // What is asked of months takes longer than a tick.
        let timeout = if clock.is_some() { client.timeout() } else { client.bootstrap_timeout() };
        let response = client.send(attempt, request, timeout).await?;
        if let Some((clock, sent)) = sent {
            clock.compare(attempt, sent, server_time(response.headers()))?;
        }
        let body = client.body(attempt, response, SAMPLES_BYTES_MAX).await?;
        self.accept(attempt, &body, from, sink)
    }

    /// Gives the samples after `from` of an answer's `body` into `sink`.
    pub(super) fn accept(
        &mut self,
        attempt: &str,
        body: &[u8],
        from: Millis,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let answer: Matrix<'_> = Envelope::open(attempt, body)?;
        if answer.result_type != "matrix" {
            let problem = format!("expected a matrix, got a {}", quote::clipped(&answer.result_type));
            return Err(StoreError::Malformed { attempt: attempt.to_owned(), problem });
        }
        let result = answer.result;
        if self.known.len() > KNOWN_OVER_ANSWERED * result.len().max(256) {
            self.known.clear();
            self.places.clear();
            self.numbers = Numbers::default();
            self.readings = Readings::default();
        }
        let mut fetched = Fetched::default();
        let mut runners = RunnerReadings::default();
        let mut expected = 0;
        for series in result {
            let length = series.metric.get().len();
            if length > LABELS_BYTES_MAX {
                fetched.pass_over(Some(&Nameless::too_long(series.metric.get(), length)));
                continue;
            }
            let place = self.place(series.metric.get(), expected);
            expected = place + 1;
            // The end of a series is no value: VictoriaMetrics tells it as NaN.
            let values = series.values.0.into_iter().filter(|(at, value)| *at > from && !value.is_nan());
            match &mut self.known[place].series {
                Series::Slot(gauge, number) => {
                    fetched.series += 1;
                    for (at, value) in values {
                        self.readings.push(*gauge, *number, at, value, &mut fetched);
                    }
                }
                Series::Host(gauge, runner) => {
                    values.for_each(|(at, value)| runners.push_host(*gauge, runner, at, value));
                }
                Series::Limit(runner, module) => {
                    values.for_each(|(at, value)| runners.push_limit(runner, module, at, value));
                }
                Series::Other => {}
                Series::Nameless(nameless) => {
                    let told = if fetched.has_room_to_tell() { nameless.take() } else { None };
                    fetched.pass_over(told.as_ref());
                }
            }
        }
        runners.give(&mut fetched);
        self.readings.join(&self.numbers, &mut fetched, sink);
        self.readings.clear();
        Ok(fetched)
    }

    /// Names of the modules that `selector` has samples of between `from` and `to`.
    pub(super) async fn modules(
        &self,
        client: &Client,
        selector: &str,
        from: Millis,
        clock: ClockCheck,
    ) -> Result<Vec<String>, StoreError> {
        /// More than 100,000 names of full length.
        const NAMES_BYTES_MAX: usize = 8 << 20;
        let attempt = format!("values of label module of {selector} at {}", client.url());
        let (start, end) = (from.as_seconds().to_string(), clock.now.as_seconds().to_string());
        let request = client.get("/api/v1/label/module/values").query(&[
            ("match[]", selector),
            ("start", &start),
            ("end", &end),
        ]);
        let sent = clock.shows();
        let response = client.send(&attempt, request, client.timeout()).await?;
        clock.compare(&attempt, sent, server_time(response.headers()))?;
        let body = client.body(&attempt, response, NAMES_BYTES_MAX).await?;
        let ModuleNames(names) = Envelope::open(&attempt, &body)?;
        Ok(names)
    }

    /// Where `labels` stand in `known`, which is most often the `expected` place.
    fn place(&mut self, labels: &str, expected: usize) -> usize {
        if self.known.get(expected).is_some_and(|known| *known.labels == *labels) {
            return expected;
        }
        if let Some(place) = self.places.get(labels) {
            return *place;
        }
        let place = self.known.len();
        let series = match self.named(labels) {
            Ok(Named::Slot(gauge, series)) => Series::Slot(gauge, self.numbers.of(series)),
            Ok(Named::Host(gauge, runner)) => Series::Host(gauge, runner),
            Ok(Named::Limit(runner, module)) => Series::Limit(runner, module),
            Ok(Named::Other) => Series::Other,
            Err(nameless) => Series::Nameless(Some(nameless)),
        };
        let labels: Arc<str> = labels.into();
        self.known.push(Known { labels: Arc::clone(&labels), series });
        self.places.insert(labels, place);
        place
    }

    fn named(&self, labels: &str) -> Result<Named, Nameless> {
        // What are no labels at all is no metric of ours either.
        let Ok(parsed) = serde_json::from_str::<BTreeMap<String, String>>(labels) else {
            return Ok(Named::Other);
        };
        let labels: Labels<'_> = parsed.iter().map(|(label, value)| (&**label, &**value)).collect();
        self.naming.parse(&labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(replica: &str) -> String {
        format!(
            r#"{{"__name__":"wasm_linear_memory_bytes","digest":"d","instance":"i","module":"m","replica":"{replica}"}}"#
        )
    }

    /// What is read of an answer, sample by sample.
    fn samples(body: &str) -> Result<(Fetched, Vec<u64>), String> {
        let mut bytes = Vec::new();
        let mut sink = |_: &_, samples: &[ebb_core::history::Sample]| {
            bytes.extend(samples.iter().map(|sample| sample.bytes));
        };
        let fetched = Query::default().accept("query", body.as_bytes(), Millis(0), &mut sink);
        fetched.map(|fetched| (fetched, bytes)).map_err(|error| error.to_string())
    }

    fn answer(more: &str) -> String {
        let start = labels("0").replace("wasm_linear_memory_bytes", "wasm_instance_start_time_seconds");
        format!(
            r#"{{{more}"data": {{"resultType": "matrix", "result": [
                {{"metric": {}, "values": [[1.5, "65536"]]}}, {{"metric": {start}, "values": [[1.5, "1"]]}}]}}}}"#,
            labels("0")
        )
    }

    #[test]
    fn only_an_answer_that_says_that_it_is_one_is_taken() {
        assert_eq!(samples(&answer(r#""status": "success","#)).unwrap().1, [65_536]);
        let check = |more: &str, expected: &str| {
            let problem = samples(&answer(more)).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        };
        check(
            r#""status": "error", "errorType": "timeout", "error": "query timed out","#,
            r#"expected status "success", got "error": query timed out"#,
        );
        let failed = samples(r#"{"status": "error", "error": "no", "data": ["a"]}"#).unwrap_err();
        assert!(failed.ends_with(r#"got "error": no"#), "{failed}");
        check(r#""status": "","#, r#"expected status "success", got """#);
        check("", "status");
        let problem = samples(r#"{"status": "success"}"#).unwrap_err();
        assert!(problem.contains("no data"), "{problem}");
    }

    #[test]
    fn warnings_are_counted_and_clipped() {
        let of = |warnings: &str| {
            samples(&answer(&format!(r#""status": "success", "warnings": {warnings},"#))).unwrap_err()
        };
        assert!(of(r#"["a shard is gone"]"#).ends_with("incomplete: a shard is gone"));
        let many = of(&format!(r#"["{}"{}]"#, "x".repeat(20_000_000), r#","y""#.repeat(1000)));
        assert!(many.ends_with("xxx… (20000000 bytes in all), and 1000 more warnings"), "{many}");
        assert!(many.len() < 600, "{}", many.len());
        let partial = samples(&answer(r#""status": "success", "isPartial": true,"#)).unwrap_err();
        assert!(partial.ends_with("isPartial is set"), "{partial}");
        assert!(samples(&answer(r#""status": "success", "warnings": [], "isPartial": false,"#)).is_ok());
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_quoted_in_a_few_words() {
        let long = "x".repeat(20_000_000);
        let start =
            r#"{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {}, "values": "#;
        for body in [
            format!(r#"{start}[[1, "{long}"]]}}]}}}}"#),
            format!(r#"{{"status": "{long}"}}"#),
            format!(r#"{{"status": "error", "error": "{long}"}}"#),
            format!(r#"{{"status": "success", "data": {{"resultType": "{long}", "result": []}}}}"#),
            long.clone(),
        ] {
            let problem = samples(&body).unwrap_err();
            assert!(problem.len() < 1000, "{}", problem.len());
        }
    }

    #[test]
    fn labels_of_any_length_name_nothing_and_are_not_kept() {
        let metric = labels("0").replace("\"i\"", &format!("\"{}\"", "i".repeat(20_000_000)));
        let body = format!(
            r#"{{"status": "success", "data": {{"resultType": "matrix", "result": [{{"metric": {metric}, "values": []}}]}}}}"#
        );
        let mut query = Query::default();
        let fetched = query.accept("query", body.as_bytes(), Millis(0), &mut |_, _| {}).unwrap();
        assert_eq!((fetched.nameless_series, query.known.len()), (1, 0));
        let told = &fetched.nameless[0];
        assert!(told.len() < 1000 && told.contains("expected at most 65536"), "{told}");
    }

    #[test]
    fn a_label_set_is_recognised_wherever_it_stands_in_an_answer() {
        let mut query = Query::default();
        let mut slots_of = |replicas: &[&str]| {
            let mut expected = 0;
            let place_of = |replica: &&str| {
                let place = query.place(&labels(replica), expected);
                expected = place + 1;
                match &query.known[place].series {
                    Series::Slot(_, number) => Some(query.numbers.id(*number).slot.replica),
                    Series::Host(..) | Series::Limit(..) | Series::Other | Series::Nameless(_) => None,
                }
            };
            replicas.iter().map(place_of).collect::<Vec<_>>()
        };
        assert_eq!(slots_of(&["0", "2", "3"]), [Some(0), Some(2), Some(3)]);
        assert_eq!(slots_of(&["0", "1", "2", "3"]), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(slots_of(&["3", "no slot", "0"]), [Some(3), None, Some(0)]);
        assert_eq!(query.known.len(), 5);
    }
}
