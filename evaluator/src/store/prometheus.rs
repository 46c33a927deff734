//! A server with Prometheus' HTTP API: Prometheus 2 and 3, VictoriaMetrics, Thanos, Mimir.
//!
//! | file | subject |
//! | --- | --- |
//! | `config.rs` | its section of the config |
//! | `client.rs` | requests: address, credentials, TLS, time limits |
//! | `query.rs` | the HTTP API's JSON: one request a tick, and the bootstrap of servers without remote read |
//! | `remote_read.rs` | bootstrap by remote read's streamed chunks: less CPU and bytes than JSON by far |
//! | `xor_chunk.rs` | PURE: a chunk → its samples |

mod client;
mod config;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod query;
mod remote_read;
mod xor_chunk;

use std::time::SystemTime;

use ebb_core::history::Window;
use ebb_service::quote;
use ebb_units::{Elapsed, Millis, Span};
use serde::Deserialize;
use tracing::{info, warn};

pub(crate) use self::config::PrometheusConfig;
use self::{
    client::Client,
    query::{Envelope, Query},
};
use super::{
    address::AddressTemplate,
    answer::{ClockCheck, EarlierSize, Fetched, Sink, StoreError},
    gauges::{HOST_AVAILABLE_METRIC, HOST_TOTAL_METRIC, LIMIT_METRIC, MEMORY_METRIC, START_TIME_METRIC},
    naming::Naming,
};
use crate::client::server_time;

/// A server with Prometheus' HTTP API.
#[derive(Debug)]
pub(crate) struct Prometheus {
    client: Client,
    query: Query,
    naming: Naming,
    matchers: Vec<String>,
    overlap: Option<Span>,
}

impl Prometheus {
    pub(super) fn check_credentials(&self) -> Result<(), StoreError> {
        self.client.authorize("reading credentials", self.client.get("")).map(|_| ())
    }

    /// Prepares requests; sends none.
    ///
    /// # Errors
    /// [`StoreError::Credentials`] when a certificate or key cannot be used.
    pub(crate) fn new(config: &PrometheusConfig, address: AddressTemplate) -> Result<Self, StoreError> {
        let naming = Naming { identity: config.identity.clone(), address };
        Ok(Self {
            client: Client::new(config)?,
            query: Query::new(naming.clone()),
            naming,
            matchers: config.matchers.clone(),
            overlap: config.overlap,
        })
    }

    pub(super) fn overlap(&self) -> Option<Elapsed> {
        self.overlap.map(Span::as_elapsed)
    }

    pub(super) async fn recent(
        &mut self,
        from: Millis,
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let all = format!(
            "__name__=~\"{MEMORY_METRIC}|{START_TIME_METRIC}|{LIMIT_METRIC}|{HOST_TOTAL_METRIC}|{HOST_AVAILABLE_METRIC}\""
        );
        let selector = self.selector(&all);
        self.query.samples(&self.client, &selector, from, clock, sink).await
    }

    /// By remote read where the server has it, else module by module and slice by slice in JSON.
    pub(super) async fn bootstrap(
        &mut self,
        from: Millis,
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let (naming, matchers) = (&self.naming, &self.matchers);
        let fetched = match remote_read::read(&self.client, naming, matchers, from, clock, sink).await {
            Err(remote_read::ReadError::Unsupported(answer)) => {
                info!(answer, "the server has no remote read of streamed chunks; bootstrapping by queries");
                let timeout = self.client.bootstrap_timeout();
                let attempt = format!("bootstrap by queries at {}", self.client.url());
                tokio::time::timeout(timeout, self.bootstrap_by_queries(from, clock, sink))
                    .await
                    .unwrap_or(Err(StoreError::Timeout { attempt, timeout }))
            }
            Err(remote_read::ReadError::Store(error)) => Err(error),
            Ok(fetched) => Ok(fetched),
        };
        self.query.count_refused_after(clock.now);
        fetched
    }

    async fn bootstrap_by_queries(
        &mut self,
        from: Millis,
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        /// A slice of 1,000 instances at 10 s scrapes is 720,000 samples: far below the 50 million at
        /// which Prometheus refuses, some 20 MB as JSON.
        const SLICE: Elapsed = Elapsed::secs(3_600);
        let mut all = Fetched::default();
        let selector = self.selector(&format!("__name__=\"{MEMORY_METRIC}\""));
        let modules = self.query.modules(&self.client, &selector, from, clock).await?;
        if modules.is_empty() {
            warn!(selector, "no module has samples in the lookback");
        }
        for module in modules {
            let both = format!(
                "__name__=~\"{MEMORY_METRIC}|{START_TIME_METRIC}\",module={}",
                serde_json::Value::from(module)
            );
            let selector = self.selector(&both);
            let mut start = from;
            let mut series = 0;
            while start < clock.now {
                let end = start.plus(SLICE).min(clock.now);
                let fetched = self.query.slice(&self.client, &selector, (start, end), clock, sink).await?;
                all.nameless_series = all.nameless_series.max(fetched.nameless_series);
                if all.has_room_to_tell() {
                    all.nameless.extend(fetched.nameless);
                }
                series = series.max(fetched.series);
                for (reason, count) in fetched.refused_samples {
                    *all.refused_samples.entry(reason).or_default() += count;
                }
                start = end;
            }
            all.series += series;
        }
        Ok(all)
    }

    /// The newest sample before each boundary of `window`'s blocks, after `from` and up to the window's start.
    pub(super) async fn earlier(
        &mut self,
        from: Millis,
        window: Window,
        size: EarlierSize,
        sink: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        let timeout = self.client.bootstrap_timeout();
        let attempt = format!("sizes before the lookback at {}", self.client.url());
        let answer = tokio::time::timeout(timeout, self.earlier_by_queries(from, window, size, sink)).await;
        answer.unwrap_or(Err(StoreError::Timeout { attempt, timeout }))
    }

    async fn earlier_by_queries(
        &mut self,
        from: Millis,
        window: Window,
        size: EarlierSize,
        sink: &mut Sink<'_>,
    ) -> Result<(), StoreError> {
        /// Some 50 MB of JSON.
        const POINTS_MAX: i64 = 2_000_000;
        /// As many as Prometheus decodes in some seconds.
        const SAMPLES_MAX: i64 = 50_000_000;
        /// Prometheus gives 11,000 steps at most.
        const STEPS_MAX: i64 = 10_000;
        let step = window.block_length();
        let series = i64::try_from(size.series.max(1)).unwrap_or(i64::MAX);
        let samples_per_step = series.saturating_mul((step.0 / size.spacing.0.max(1)).max(1));
        let steps = (POINTS_MAX / series).min(SAMPLES_MAX / samples_per_step).clamp(1, STEPS_MAX);
        let selector = self.selector(&format!("__name__=~\"{MEMORY_METRIC}|{START_TIME_METRIC}\""));
        // A sample that lies on a boundary belongs to the block behind it.
        let last = window.start().minus(Elapsed(1));
        let mut first = window.boundary_after(from).minus(Elapsed(1));
        while first <= last {
            let end = first.plus((steps - 1) * step).min(last);
            self.query.newest_of_each_step(&self.client, &selector, (first, end), step, sink).await?;
            first = end.plus(step);
        }
        Ok(())
    }

    /// Its version, and by how much this clock is ahead of its own, as far as it says.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer.
    pub(crate) async fn version(&self) -> Result<(Option<String>, Option<Elapsed>), StoreError> {
        const BYTES_MAX: usize = 64 * 1024;
        #[derive(Deserialize)]
        struct Build {
            version: String,
        }
        let attempt = format!("build information of {}", self.client.url());
        let request = self.client.get("/api/v1/status/buildinfo");
        let response = self.client.send(&attempt, request, self.client.timeout()).await?;
        let here = Millis::from(SystemTime::now());
        let ahead = server_time(response.headers()).map(|there| here.since(there));
        let Ok(body) = self.client.body(&attempt, response, BYTES_MAX).await else {
            return Ok((None, ahead));
        };
        let version = Envelope::open(&attempt, &body).ok().map(|Build { version }| quote::clipped(&version));
        Ok((version, ahead))
    }

    /// Whether it speaks remote read of streamed chunks, and if not, why.
    ///
    /// # Errors
    /// What it answered instead.
    pub(crate) async fn speaks_remote_read(&self, now: Millis) -> Result<(), String> {
        let clock = ClockCheck::unchecked(now);
        let (naming, matchers) = (&self.naming, &self.matchers);
        match remote_read::read(&self.client, naming, matchers, now.minus(Elapsed(1)), clock, &mut |_, _| {})
            .await
        {
            Ok(_) => Ok(()),
            Err(remote_read::ReadError::Unsupported(answer)) => Err(answer),
            Err(remote_read::ReadError::Store(error)) => Err(ebb_service::logging::Chain(&error).to_string()),
        }
    }

    fn selector(&self, matchers: &str) -> String {
        let mut selector = format!("{{{matchers}");
        for matcher in &self.matchers {
            selector.push(',');
            selector.push_str(matcher);
        }
        selector.push('}');
        selector
    }
}
