//! The HTTP API's JSON: raw samples of a time span by one instant query with a range selector.
//!
//! Labels are most of an answer's bytes and the same in every one, so each label set is parsed once and
//! then recognised by its text.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    super::series::{Gauge, Labels, Readings, Slots},
    Fetched, Sink, StoreError,
    client::Client,
};
use crate::units::Millis;

/// Queries, and the label sets that were seen in answers.
#[derive(Debug, Default)]
pub(super) struct Query {
    slots: Slots,
    known: HashMap<Box<str>, Option<(Gauge, usize)>>,
}

/// Label sets are remembered up to this many times those of the newest answer; then all are forgotten,
/// so that a server whose series come and go does not fill the memory.
const KNOWN_OVER_ANSWERED: usize = 4;

impl Query {
    /// Gives all samples of `selector` after `from` up to `to` into `sink`.
    pub(super) async fn samples(
        &mut self,
        client: &Client,
        selector: &str,
        from: Millis,
        to: Millis,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let query = format!("{selector}[{}ms]", to.since(from).max(1));
        let attempt = format!("query {query} at {}", client.url());
        // VictoriaMetrics would otherwise answer from a cache that lags behind; others ignore the parameter.
        let form = [("query", query.as_str()), ("time", &to.as_seconds().to_string()), ("nocache", "1")];
        let request = client.post("/api/v1/query").form(&form);
        let response = client.send(&attempt, request, client.timeout()).await?;
        let body = client.body(&attempt, response).await?;
        let answer: Answer<'_> = parse(&attempt, &body)?;
        if answer.data.result_type != "matrix" {
            let problem = format!("expected a matrix, got a {}", answer.data.result_type);
            return Err(StoreError::Malformed { attempt, problem });
        }
        if let Some(warning) = answer.doubt() {
            return Err(StoreError::Partial { attempt, warning });
        }
        let result = answer.data.result;
        if self.known.len() > KNOWN_OVER_ANSWERED * result.len().max(256) {
            *self = Self::default();
        }
        let mut fetched = Fetched::default();
        let mut readings = Readings::default();
        for series in result {
            let Some((gauge, slot)) = self.series(series.metric.get()) else { continue };
            fetched.series += 1;
            for (at, value) in series.values.0 {
                if at > from {
                    readings.push(gauge, slot, at, value, &mut fetched);
                }
            }
        }
        readings.join(&self.slots, sink);
        Ok(fetched)
    }

    /// Names of the modules that `selector` has samples of between `from` and `to`.
    pub(super) async fn modules(
        &self,
        client: &Client,
        selector: &str,
        from: Millis,
        to: Millis,
    ) -> Result<Vec<String>, StoreError> {
        #[derive(Deserialize)]
        struct Values {
            data: Vec<String>,
        }
        let attempt = format!("values of label module of {selector} at {}", client.url());
        let (start, end) = (from.as_seconds().to_string(), to.as_seconds().to_string());
        let request = client.get("/api/v1/label/module/values").query(&[
            ("match[]", selector),
            ("start", &start),
            ("end", &end),
        ]);
        let response = client.send(&attempt, request, client.timeout()).await?;
        let body = client.body(&attempt, response).await?;
        parse::<Values>(&attempt, &body).map(|values| values.data)
    }

    fn series(&mut self, labels: &str) -> Option<(Gauge, usize)> {
        if let Some(series) = self.known.get(labels) {
            return *series;
        }
        let parsed: HashMap<String, String> = serde_json::from_str(labels).ok()?;
        let mut found = Labels::default();
        for (label, value) in &parsed {
            found.set(label, value);
        }
        let series = found.parse().map(|(gauge, slot)| (gauge, self.slots.number(slot)));
        self.known.insert(labels.into(), series);
        series
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
    /// VictoriaMetrics' word for an answer without some of its storage nodes.
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "resultType")]
    result_type: &'a str,
    #[serde(borrow, default)]
    result: Vec<Series<'a>>,
}

#[derive(Deserialize)]
struct Series<'a> {
    #[serde(borrow)]
    metric: &'a RawValue,
    #[serde(default)]
    values: Values,
}

impl Answer<'_> {
    fn doubt(&self) -> Option<String> {
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
