//! PURE: the JSON of an answer, read without keeping more of it than is asked for.

use std::{borrow::Cow, fmt};

use ebb_service::quote;
use ebb_units::{Millis, ModuleName};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::store::answer::StoreError;

/// What every answer is wrapped in.
#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(in crate::store::prometheus) struct Envelope<'a, T> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    error: Cow<'a, str>,
    data: Option<T>,
    #[serde(default)]
    warnings: Warnings,
    /// VictoriaMetrics' word for an answer without some of its storage nodes.
    #[serde(default, rename = "isPartial")]
    is_partial: bool,
}

impl<'a, T: Deserialize<'a>> Envelope<'a, T> {
    /// What `body` holds, if it is the answer to a request that succeeded and is all there is.
    pub(in crate::store::prometheus) fn open(attempt: &str, body: &'a [u8]) -> Result<T, StoreError> {
        let malformed = |problem| StoreError::Malformed { attempt: attempt.to_owned(), problem };
        let answer: Self = serde_json::from_slice(body).map_err(|error| {
            let error = quote::clipped(&error.to_string());
            // An answer that says itself that it failed may have any data.
            let refusal = serde_json::from_slice::<Envelope<'_, IgnoredAny>>(body).ok();
            let problem = refusal.and_then(|refusal| refusal.refusal());
            malformed(problem.unwrap_or(format!("expected the JSON of Prometheus' HTTP API: {error}")))
        })?;
        if let Some(problem) = answer.refusal() {
            return Err(malformed(problem));
        }
        let Self { data, warnings, is_partial, .. } = answer;
        if let Some(warning) = warnings.told().or(is_partial.then(|| "isPartial is set".to_owned())) {
            return Err(StoreError::Partial { attempt: attempt.to_owned(), warning });
        }
        data.ok_or_else(|| malformed("the answer has no data".to_owned()))
    }
}

impl<T> Envelope<'_, T> {
    /// What it says of its failure, unless it says that it is none.
    fn refusal(&self) -> Option<String> {
        let (status, error) = (quote::clipped(&self.status), quote::clipped(&self.error));
        (status != "success").then(|| format!("expected status \"success\", got {status:?}: {error}"))
    }
}

/// What a server says of an answer that it cannot vouch for: the first warning, and how many there are.
#[derive(Default)]
struct Warnings {
    count: u64,
    first: String,
}

impl Warnings {
    fn told(self) -> Option<String> {
        match self.count {
            0 => None,
            1 => Some(self.first),
            count => Some(format!("{}, and {} more warnings", self.first, count - 1)),
        }
    }
}

impl<'de> Deserialize<'de> for Warnings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Warnings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of warnings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Warnings, A::Error> {
                let mut warnings = Warnings::default();
                while let Some(warning) = list.next_element::<String>()? {
                    if warnings.count == 0 {
                        warnings.first = quote::clipped(&warning);
                    }
                    warnings.count += 1;
                }
                Ok(warnings)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// Series with samples.
#[derive(Deserialize)]
pub(super) struct Matrix<'a> {
    #[serde(rename = "resultType", borrow)]
    pub(super) result_type: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) result: Vec<AnsweredSeries<'a>>,
}

#[derive(Deserialize)]
pub(super) struct AnsweredSeries<'a> {
    #[serde(borrow)]
    pub(super) metric: &'a RawValue,
    #[serde(default)]
    pub(super) values: Values,
}

/// The values of a label that names modules, without those that no runner gives.
pub(super) struct ModuleNames(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for ModuleNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = ModuleNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ModuleNames, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element::<String>()? {
                    if name.parse::<ModuleName>().is_ok() {
                        names.push(name);
                    }
                }
                Ok(ModuleNames(names))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// `[[1700000000.123, "65536"], …]`, read without an allocation a sample.
#[derive(Default)]
pub(super) struct Values(pub(super) Vec<(Millis, f64)>);

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
