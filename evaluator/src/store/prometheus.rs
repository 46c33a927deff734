//! A server with Prometheus' HTTP API: Prometheus 2 and 3, VictoriaMetrics, Thanos, Mimir.
//!
//! | file | subject |
//! | --- | --- |
//! | `client.rs` | requests: address, credentials, TLS, time limits |
//! | `query.rs` | the HTTP API's JSON: one request a tick, and the bootstrap of servers without remote read |
//! | `remote_read.rs` | bootstrap by remote read's streamed chunks: less CPU and bytes than JSON by far |
//! | `xor_chunk.rs` | PURE: a chunk → its samples |

mod client;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod query;
mod remote_read;
mod xor_chunk;

use std::{collections::BTreeMap, time::SystemTime};

use ebb_service::{config_file::Refusal, quote};
use ebb_units::Span;
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

pub use self::client::{Authorization, BasicAuth, TlsConfig};
use ebb_core::history::Window;
use ebb_units::Millis;

use self::{
    client::Client,
    query::{Envelope, Query},
};
use super::{
    ClockCheck, EarlierSize, Fetched, HOST_AVAILABLE_METRIC, HOST_TOTAL_METRIC, MEMORY_METRIC,
    START_TIME_METRIC, Sink, StoreError,
    labels::{AddressTemplate, Naming, is_label_name},
};
use crate::client::server_time;

/// The `store.prometheus:` section of the config.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(extend("not" = {"required": ["basic_auth", "authorization"]}))]
pub struct PrometheusConfig {
    /// Where the server's API begins: `http://prometheus:9090`, or with a path in front of `/api/v1`.
    #[schemars(regex(pattern = r"^https?://[^@]+$"), extend("examples" = ["http://prometheus:9090"]))]
    pub url: String,
    /// Further label matchers of the series to read, such as `job="ebb-runner"`.
    #[serde(default)]
    #[schemars(inner(regex(pattern = MATCHER_FORM)))]
    pub matchers: Vec<String>,
    /// Additional labels that distinguish runners, such as `host`, if `instance` alone does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")))]
    pub identity: Vec<String>,
    /// Longest wait for the answer of a tick's query.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Longest wait for a whole bootstrap.
    #[serde(default = "default_bootstrap_timeout")]
    pub bootstrap_timeout: Span,
    /// How far a tick's query reaches back before the previous one. Default: 20s, or twice the scrape interval,
    /// or the longest delay of a sample. It always reaches back to the newest sample of each series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Span>,
    /// Ask for compressed answers. It saves bytes and costs the server more CPU than the query itself.
    #[serde(default)]
    pub gzip: bool,
    /// User name and password (RFC 7617).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
    /// An `Authorization` header of another kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// Further headers, such as `X-Scope-OrgID`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Certificates.
    #[serde(default)]
    pub tls_config: TlsConfig,
}

impl PrometheusConfig {
    /// Checks what concerns more than one field, or more than a field's type.
    pub(crate) fn validate(&self) -> Result<(), Refusal> {
        let refused =
            |field: &str, message: &str| Err(Refusal::new(format!("store.prometheus.{field}"), message));
        match reqwest::Url::parse(&self.url) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) && url.has_host() => {}
            _ => return refused("url", "expected an address such as http://prometheus:9090"),
        }
        if self.url.trim_end_matches('/').ends_with("/api/v1") {
            return refused("url", "expected the address in front of /api/v1");
        }
        // The address stands in logs and in the API.
        if self.url.contains('@') {
            return refused("url", "expected an address without user and password: use basic_auth");
        }
        if let Some(matcher) = self.matchers.iter().find(|matcher| !is_matcher(matcher)) {
            return refused(
                "matchers",
                &format!("expected matchers such as job=\"ebb-runner\", got {matcher}"),
            );
        }
        const TAKEN: [&str; 5] = ["__name__", "module", "digest", "replica", "instance"];
        let is_taken = |label: &str| TAKEN.contains(&label.strip_prefix("exported_").unwrap_or(label));
        for (place, label) in self.identity.iter().enumerate() {
            if !is_label_name(label) || is_taken(label) || self.identity[..place].contains(label) {
                let message =
                    format!("expected names of further labels such as host, each once, got {label:?}");
                return refused("identity", &message);
            }
        }
        for (name, value) in &self.headers {
            if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
                return refused(
                    "headers",
                    &format!("expected names and values of HTTP headers, got {name:?}"),
                );
            }
        }
        if self.basic_auth.is_some() && self.authorization.is_some() {
            return refused("authorization", "expected at most one of basic_auth and authorization");
        }
        if self.tls_config.cert_file.is_some() != self.tls_config.key_file.is_some() {
            return refused("tls_config", "expected cert_file and key_file together, or neither");
        }
        Ok(())
    }
}

/// What a label matcher looks like, for JSON schemas.
const MATCHER_FORM: &str =
    r#"^\s*[A-Za-z_][A-Za-z0-9_]*\s*(=|!=|=~|!~)\s*("([^"\\\n]|\\.)*"|'([^'\\\n]|\\.)*')\s*$"#;

/// Whether text is one label matcher as PromQL reads it: a label, an operator, a quoted value. More than one would be
/// another question than remote read asks, which takes them one by one.
fn is_matcher(text: &str) -> bool {
    let Some((label, rest)) = text.find(['=', '!']).map(|at| text.split_at(at)) else { return false };
    let value = ["=~", "!~", "!=", "="].iter().find_map(|operator| rest.strip_prefix(operator));
    is_label_name(trim(label)) && value.is_some_and(|value| is_quoted(trim(value)))
}

/// Without the white space that PromQL passes over.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r'])
}

/// Whether text is one quoted text, from the first quote to the last, with escapes that PromQL knows.
fn is_quoted(text: &str) -> bool {
    let mut chars = text.chars();
    let Some(quote @ ('"' | '\'')) = chars.next() else { return false };
    loop {
        match chars.next() {
            None | Some('\n') => return false,
            Some('\\') => {
                let escaped = |char: char| char == quote || "abfnrtvxuU01234567\\".contains(char);
                if !chars.next().is_some_and(escaped) {
                    return false;
                }
            }
            Some(char) if char == quote => return chars.as_str().is_empty(),
            Some(_) => {}
        }
    }
}

const fn default_timeout() -> Span {
    Span::secs(10)
}

const fn default_bootstrap_timeout() -> Span {
    Span::secs(300)
}

/// A server with Prometheus' HTTP API.
#[derive(Debug)]
pub struct Prometheus {
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
    pub fn new(config: &PrometheusConfig, address: AddressTemplate) -> Result<Self, StoreError> {
        let naming = Naming { identity: config.identity.clone(), address };
        Ok(Self {
            client: Client::new(config)?,
            query: Query::new(naming.clone()),
            naming,
            matchers: config.matchers.clone(),
            overlap: config.overlap,
        })
    }

    pub(super) fn url(&self) -> String {
        self.client.url().to_owned()
    }

    pub(super) const fn bootstrap_timeout(&self) -> std::time::Duration {
        self.client.bootstrap_timeout()
    }

    pub(super) fn overlap_millis(&self) -> Option<i64> {
        self.overlap.map(Span::as_millis)
    }

    pub(super) async fn recent(
        &mut self,
        from: Millis,
        clock: ClockCheck,
        sink: &mut Sink<'_>,
    ) -> Result<Fetched, StoreError> {
        let all = format!(
            "__name__=~\"{MEMORY_METRIC}|{START_TIME_METRIC}|{HOST_TOTAL_METRIC}|{HOST_AVAILABLE_METRIC}\""
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
        const SLICE_MILLIS: i64 = 3_600_000;
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
                let end = Millis(start.0.saturating_add(SLICE_MILLIS)).min(clock.now);
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
        /// Some 50 MB of JSON.
        const POINTS_MAX: i64 = 2_000_000;
        /// As many as Prometheus decodes in some seconds.
        const SAMPLES_MAX: i64 = 50_000_000;
        /// Prometheus gives 11,000 steps at most.
        const STEPS_MAX: i64 = 10_000;
        let step = window.block_millis();
        let series = i64::try_from(size.series.max(1)).unwrap_or(i64::MAX);
        let samples_per_step = series.saturating_mul((step / size.spacing_millis.max(1)).max(1));
        let steps = (POINTS_MAX / series).min(SAMPLES_MAX / samples_per_step).clamp(1, STEPS_MAX);
        let selector = self.selector(&format!("__name__=~\"{MEMORY_METRIC}|{START_TIME_METRIC}\""));
        // A sample that lies on a boundary belongs to the block behind it.
        let last = window.start().minus(1);
        let mut first = window.boundary_after(from).minus(1);
        while first <= last {
            let end = Millis(first.0.saturating_add((steps - 1) * step)).min(last);
            self.query.newest_of_each_step(&self.client, &selector, (first, end), step, sink).await?;
            first = Millis(end.0.saturating_add(step));
        }
        Ok(())
    }

    /// Its version, and by how many milliseconds this clock is ahead of its own, as far as it says.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer.
    pub async fn version(&self) -> Result<(Option<String>, Option<i64>), StoreError> {
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
    pub async fn speaks_remote_read(&self, now: Millis) -> Result<(), String> {
        let clock = ClockCheck::unchecked(now);
        let (naming, matchers) = (&self.naming, &self.matchers);
        match remote_read::read(&self.client, naming, matchers, now.minus(1), clock, &mut |_, _| {}).await {
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

#[cfg(test)]
mod tests {
    use super::is_matcher;

    #[test]
    fn a_matcher_is_one_label_one_operator_and_one_quoted_value() {
        let check = |text: &str, expected: bool| assert_eq!(is_matcher(text), expected, "{text}");
        for text in
            [r#"job="ebb""#, "job = 'e\"b'", r#"_a!~"a\"b|\d""#.replace(r"\d", r"\\d").as_str(), "zone!=\"\""]
        {
            check(text, true);
        }
        // Two matchers, or the end of the selector and another one behind it.
        for text in [r#"job="ebb",env="test""#, r#"job="ebb"} or {job="other""#, r#"job="a"b""#] {
            check(text, false);
        }
        // What PromQL refuses: every tick would be.
        for text in [
            "0job=\"ebb\"",
            "job=\"e\nbb\"",
            r#"job="\d""#,
            r#"job="ebb\""#,
            "job=\"ebb'",
            "=\"ebb\"",
            "job=\"",
        ] {
            check(text, false);
        }
    }
}
