//! Where samples come from: any server with Prometheus' HTTP API, or the runners themselves.
//!
//! A store gives the samples of each slot into a `Sink` and refuses to know what is learned from them. An
//! error, or an answer that it cannot vouch for, is a `StoreError`: the evaluator then holds.
//!
//! A store's file has its section of the config, too; here every `match` names every store.
//!
//! | file | subject |
//! | --- | --- |
//! | `prometheus.rs`, `prometheus/` | a server with Prometheus' HTTP API |
//! | `scrape.rs` | the runners themselves |
//! | `answer.rs` | what stores are asked and what they answer |
//! | `gauges.rs` | names of the gauges that are read |
//! | `naming.rs`, `labels.rs`, `address.rs` | PURE: the labels of a series → what it tells of |
//! | `series.rs` | PURE: two gauges of a series → its samples |

mod address;
mod answer;
mod gauges;
pub(crate) mod labels;
mod naming;
pub(crate) mod prometheus;
mod scrape;
mod series;

use std::{borrow::Cow, path::PathBuf};

use ebb_core::history::Window;
use ebb_service::config_file::Refusal;
use ebb_units::{Elapsed, Millis};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use self::gauges::{MEMORY_METRIC, START_TIME_METRIC};
#[cfg(any(test, fuzzing))]
pub(crate) use self::scrape::fuzzing::exposition;
pub(crate) use self::{
    address::AddressTemplate,
    answer::{ClockCheck, EarlierSize, Fetched, Sink, StoreError},
};
use self::{
    prometheus::{Prometheus, PrometheusConfig},
    scrape::{Scrape, ScrapeConfig},
};
use crate::client::RunnerClient;

/// The `store:` section of the config: exactly one of these.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StoreConfig {
    /// A server with Prometheus' HTTP API.
    Prometheus(Box<PrometheusConfig>),
    /// The runners themselves.
    Scrape(ScrapeConfig),
}

/// What store and config say of each other, for `check --live`.
#[derive(Debug, Default)]
pub(crate) struct About {
    /// The server's version.
    pub version: Option<String>,
    /// Whether it speaks remote read, and why not, where that is a question.
    pub remote_read: Option<Result<(), String>>,
    /// By how much this clock is ahead of its own.
    pub ahead: Option<Elapsed>,
}

impl StoreConfig {
    /// Checks what concerns more than one field, or more than a field's type.
    ///
    /// # Errors
    /// [`Refusal`] of the first that is wrong.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        match self {
            Self::Prometheus(store) => store.validate(),
            Self::Scrape(scrape) => scrape.validate(),
        }
    }

    /// The addresses of the runners, if the store knows them itself.
    pub(crate) fn targets(&self) -> Option<&[String]> {
        match self {
            Self::Prometheus(_) => None,
            Self::Scrape(scrape) => Some(&scrape.targets),
        }
    }

    /// The address of the server that is asked, if it is one.
    pub(crate) fn server(&self) -> Option<&str> {
        match self {
            Self::Prometheus(store) => Some(&store.url),
            Self::Scrape(_) => None,
        }
    }

    /// The files that it names.
    pub(crate) fn files(&mut self) -> Vec<&mut PathBuf> {
        match self {
            Self::Prometheus(store) => store.files(),
            Self::Scrape(_) => Vec::new(),
        }
    }

    /// Overwrites what may be secret.
    pub(crate) fn hide_secrets(&mut self) {
        match self {
            Self::Prometheus(store) => store.hide_secrets(),
            Self::Scrape(_) => {}
        }
    }
}

impl JsonSchema for StoreConfig {
    fn schema_name() -> Cow<'static, str> {
        "StoreConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Exactly one of `prometheus` and `scrape`.",
            "type": "object",
            "properties": {
                "prometheus": generator.subschema_for::<PrometheusConfig>(),
                "scrape": generator.subschema_for::<ScrapeConfig>(),
            },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1,
        })
    }
}

// Not an enum to serde, which would want YAML tags, and would lose the line of an error.
impl<'de> Deserialize<'de> for StoreConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Either {
            prometheus: Option<PrometheusConfig>,
            scrape: Option<ScrapeConfig>,
        }
        match Either::deserialize(deserializer)? {
            Either { prometheus: Some(prometheus), scrape: None } => {
                Ok(Self::Prometheus(Box::new(prometheus)))
            }
            Either { prometheus: None, scrape: Some(scrape) } => Ok(Self::Scrape(scrape)),
            _ => Err(D::Error::custom("expected exactly one of `prometheus` and `scrape`")),
        }
    }
}

impl Serialize for StoreConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Prometheus(store) => serializer.collect_map([("prometheus", store)]),
            Self::Scrape(store) => serializer.collect_map([("scrape", store)]),
        }
    }
}

/// A place to get samples from.
#[derive(Debug)]
pub(crate) enum Store {
    /// A server with Prometheus' HTTP API.
    Prometheus(Box<Prometheus>),
    /// The runners themselves.
    Scrape(Box<Scrape>),
}

impl Store {
    /// The store that `config` names; `address` tells where the runner of a series is, `runners` asks them. Reads certificates,
    /// asks nobody.
    ///
    /// # Errors
    /// [`StoreError::Credentials`] when a certificate or key cannot be used.
    pub(crate) fn new(
        config: &StoreConfig,
        address: &AddressTemplate,
        runners: RunnerClient,
    ) -> Result<Self, StoreError> {
        Ok(match config {
            StoreConfig::Prometheus(store) => {
                Self::Prometheus(Box::new(Prometheus::new(store, address.clone())?))
            }
            StoreConfig::Scrape(store) => Self::Scrape(Box::new(Scrape::new(store, runners))),
        })
    }

    /// Reads the files with secrets that requests need. Asks nobody.
    ///
    /// # Errors
    /// [`StoreError::Credentials`] when one of them cannot be read.
    pub(crate) fn check_credentials(&self) -> Result<(), StoreError> {
        match self {
            Self::Prometheus(store) => store.check_credentials(),
            Self::Scrape(_) => Ok(()),
        }
    }

    /// Gives all samples after `from` up to now into `sink`: the evaluator's first look, and its catching
    /// up after a long gap. None if the clocks differ.
    ///
    /// # Errors
    /// [`StoreError`] when the answer is not complete. What `sink` has got by then is right, but not all.
    pub(crate) async fn bootstrap(
        &mut self,
        from: Millis,
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        match self {
            Self::Prometheus(prometheus) => prometheus.bootstrap(from, clock, sink).await,
            Self::Scrape(scrape) => scrape.fetch(clock, sink).await,
        }
    }

    /// Gives the samples after `from` up to now into `sink`: one tick's, some of them known already. None if the clocks
    /// differ.
    ///
    /// # Errors
    /// [`StoreError`] when there is no answer that can be relied on.
    pub(crate) async fn recent(
        &mut self,
        from: Millis,
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        match self {
            Self::Prometheus(prometheus) => prometheus.recent(from, clock, sink).await,
            Self::Scrape(scrape) => scrape.fetch(clock, sink).await,
        }
    }

    /// Gives the sizes at the boundaries of the blocks before `window` into `sink`, after `from`: of each boundary the newest
    /// sample of the block before it, as if it were taken a millisecond before the boundary. A store that keeps no past
    /// gives none.
    ///
    /// # Errors
    /// [`StoreError`] when the answer is not complete.
    pub(crate) async fn earlier(
        &mut self,
        from: Millis,
        window: Window,
        size: EarlierSize,
        sink: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        match self {
            Self::Prometheus(prometheus) => prometheus.earlier(from, window, size, sink).await,
            Self::Scrape(_) => Ok(()),
        }
    }

    /// How far a tick's fetch reaches back behind the last one, if that is configured or of no use.
    pub(crate) fn overlap(&self) -> Option<Elapsed> {
        match self {
            Self::Prometheus(prometheus) => prometheus.overlap(),
            Self::Scrape(_) => Some(Elapsed::ZERO),
        }
    }

    /// Whether it can be asked for the past.
    pub(crate) const fn keeps_past(&self) -> bool {
        match self {
            Self::Prometheus(_) => true,
            Self::Scrape(_) => false,
        }
    }

    /// Asks what it says of itself.
    pub(crate) async fn about(&self, now: Millis) -> About {
        match self {
            Self::Prometheus(prometheus) => {
                let (version, ahead) = prometheus.version().await.unwrap_or_default();
                let remote_read = Some(prometheus.speaks_remote_read(now).await);
                About { version, remote_read, ahead }
            }
            Self::Scrape(_) => About::default(),
        }
    }
}
