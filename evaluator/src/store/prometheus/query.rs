//! The HTTP API's JSON: raw samples of a time span by one instant query with a range selector.
//!
//! Labels are most of an answer's bytes and the same in every one, so each label set is parsed once and
//! then recognised by its text: where answers keep their order, by comparing it with the one expected next.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use reqwest::RequestBuilder;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    super::{
        labels::{Gauge, HostGauge, Labels, Named, Nameless, Naming},
        series::{HostReadings, Numbers, Readings},
    },
    ClockCheck, Fetched, Sink, StoreError,
    client::Client,
};
use crate::{
    http::server_time,
    units::{Millis, RunnerId},
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

/// A gauge of a slot, by the number of the series, or of a runner's host, or another metric, or none of these.
#[derive(Debug)]
enum Series {
    Slot(Gauge, usize),
    Host(HostGauge, RunnerId),
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
        let query = format!("{selector}[{}ms]", to.since(from).max(1));
        let attempt = format!("query {query} at {}", client.url());
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
        step_millis: i64,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let query = format!("last_over_time({selector}[{step_millis}ms])");
        let attempt = format!("range query {query} at {}", client.url());
        let (start, end) = (first.as_seconds().to_string(), last.as_seconds().to_string());
        let step = Millis(step_millis).as_seconds().to_string();
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
        let body = client.body(attempt, response).await?;
        let answer: Answer<'_> = parse(attempt, &body)?;
        if answer.data.result_type != "matrix" {
            let problem = format!("expected a matrix, got a {}", answer.data.result_type);
            return Err(StoreError::Malformed { attempt: attempt.to_owned(), problem });
        }
        let doubts = Doubts { warnings: answer.warnings, is_partial: answer.is_partial };
        if let Some(warning) = doubts.first() {
            return Err(StoreError::Partial { attempt: attempt.to_owned(), warning });
        }
        let result = answer.data.result;
        if self.known.len() > KNOWN_OVER_ANSWERED * result.len().max(256) {
            self.known.clear();
            self.places.clear();
            self.numbers = Numbers::default();
            self.readings = Readings::default();
        }
        let mut fetched = Fetched::default();
        let mut hosts = HostReadings::default();
        let mut expected = 0;
        for series in result {
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
                    values.for_each(|(at, value)| hosts.push(*gauge, runner, at, value));
                }
                Series::Other => {}
                Series::Nameless(nameless) => {
                    let told = if fetched.has_room_to_tell() { nameless.take() } else { None };
                    fetched.pass_over(told.as_ref());
                }
            }
        }
        fetched.hosts = hosts.hosts();
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
        #[derive(Deserialize)]
        struct Values {
            data: Vec<String>,
            #[serde(flatten)]
            doubts: Doubts,
        }
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
        let body = client.body(&attempt, response).await?;
        let values: Values = parse(&attempt, &body)?;
        match values.doubts.first() {
            Some(warning) => Err(StoreError::Partial { attempt, warning }),
            None => Ok(values.data),
        }
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

fn parse<'a, T: Deserialize<'a>>(attempt: &str, body: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|error| StoreError::Malformed {
        attempt: attempt.to_owned(),
        problem: format!("expected the JSON of Prometheus' HTTP API: {error}"),
    })
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Data<'a>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

/// What a server says of an answer that it cannot vouch for.
#[derive(Deserialize)]
struct Doubts {
    #[serde(default)]
    warnings: Vec<String>,
    /// VictoriaMetrics' word for an answer without some of its storage nodes.
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "resultType")]
    result_type: &'a str,
    #[serde(borrow, default)]
    result: Vec<AnsweredSeries<'a>>,
}

#[derive(Deserialize)]
struct AnsweredSeries<'a> {
    #[serde(borrow)]
    metric: &'a RawValue,
    #[serde(default)]
    values: Values,
}

impl Doubts {
    fn first(&self) -> Option<String> {
        if self.is_partial {
            return Some("isPartial is set".to_owned());
        }
        self.warnings.first().cloned()
    }
}

/// `[[1700000000.123, "65536"], …]`, read without an allocation a sample.
#[derive(Default)]
struct Values(Vec<(Millis, f64)>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;
        impl<'de> Visitor<'de> for Rows {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of [time, value]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Values, A::Error> {
                let mut values = Vec::new();
                while let Some((seconds, value)) = rows.next_element::<(f64, Number)>()? {
                    let at = Millis::from_seconds(seconds)
                        .ok_or_else(|| de::Error::custom("expected a finite time"))?;
                    values.push((at, value.0));
                }
                Ok(Values(values))
            }
        }
        deserializer.deserialize_seq(Rows)
    }
}

/// A number in quotes, `NaN` and `+Inf` included.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
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
                    Series::Host(..) | Series::Other | Series::Nameless(_) => None,
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
