//! Requests to the host that is checked, and what is noted of every answer.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use reqwest::{
    Method, Version,
    header::{self, HeaderMap, HeaderValue},
};

use crate::{
    exposition::{self, Exposition, Format, Malformed, shortened},
    readings::{Readings, Slot},
    token::Token,
};

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer that is read: more than an evaluator reads, so that this can be told.
const BODY_BYTES_MAX: usize = 80 << 20;

/// Asks one host.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    address: String,
    token: Option<Token>,
    noted: Arc<Mutex<Noted>>,
}

/// What must hold for every answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noted {
    pub(crate) answers: usize,
    pub(crate) redirect: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) without_date: Option<String>,
    pub(crate) slowest: Option<(Duration, String)>,
    pub(crate) failed_scrape: Option<String>,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.status, 200 | 202)
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Time at the host when it answered; this clock's if it does not say.
    pub(crate) fn time(&self) -> SystemTime {
        let date = self.header(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
        date.unwrap_or_else(SystemTime::now)
    }

    /// Status and the beginning of the body.
    pub(crate) fn shown(&self) -> String {
        let text = self.text();
        if text.is_empty() {
            self.status.to_string()
        } else {
            format!("{}: {}", self.status, shortened(&text))
        }
    }
}

/// Whose token an order carries.
#[derive(Clone, Debug, Default)]
pub(crate) enum Authorization {
    /// The one that was given, if one was.
    #[default]
    Own,
    /// None.
    Absent,
    /// The header's value.
    Value(String),
}

/// A request to restart an instance, right or wrong.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) method: Method,
    pub(crate) slot: Slot,
    pub(crate) if_match: String,
    pub(crate) body: Option<String>,
    pub(crate) authorization: Authorization,
    pub(crate) origin: Option<&'static str>,
}

impl Order {
    /// An order as an evaluator gives it.
    pub(crate) fn new(slot: &Slot, generation: u64, reason: &str) -> Self {
        Self {
            method: Method::POST,
            slot: slot.clone(),
            if_match: format!("\"{generation}\""),
            body: Some(format!(r#"{{"reason":"{reason}"}}"#)),
            authorization: Authorization::Own,
            origin: None,
        }
    }
}

/// Why a scrape told nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ScrapeError {
    /// There was no answer.
    #[error("GET /metrics: {0}")]
    NoAnswer(String),
    /// The answer is no success.
    #[error("GET /metrics: expected 200, got {0}")]
    Status(String),
    /// The answer is no exposition.
    #[error("GET /metrics: {0}")]
    Malformed(#[from] Malformed),
}

impl Client {
    pub(crate) fn new(address: &str, token: Option<&Token>) -> Self {
        // The provider of cryptography is the process' choice; whoever embeds us may have made it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("ebb-conformance/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .timeout(TIMEOUT)
            .build()
            .expect("a client without certificates of its own can be built");
        Self { http, address: address.to_owned(), token: token.cloned(), noted: Arc::default() }
    }

    pub(crate) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// An `Authorization` with the token, its scheme written like this.
    pub(crate) fn authorization(&self, scheme: &str) -> String {
        format!("{scheme} {}", self.token.as_ref().map_or("", Token::reveal))
    }

    /// What was noted of all answers so far.
    pub(crate) fn noted(&self) -> Noted {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `GET path`, without a token, as whoever scrapes sends it.
    pub(crate) async fn get(&self, path: &str, accept: &'static str) -> Result<Answer, String> {
        let request = self.http.get(format!("http://{}{path}", self.address)).header(header::ACCEPT, accept);
        self.send(request, &format!("GET {path}")).await
    }

    /// What all slots hold now.
    pub(crate) async fn scrape(&self) -> Result<(Exposition, Readings), ScrapeError> {
        let scraped = self.try_scrape().await;
        if let Err(error @ (ScrapeError::Status(_) | ScrapeError::Malformed(_))) = &scraped {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.failed_scrape.get_or_insert_with(|| error.to_string());
        }
        scraped
    }

    async fn try_scrape(&self) -> Result<(Exposition, Readings), ScrapeError> {
        let answer = self.get("/metrics", ACCEPT_TEXT).await.map_err(ScrapeError::NoAnswer)?;
        if answer.status != 200 {
            return Err(ScrapeError::Status(answer.shown()));
        }
        let exposition = exposition::parse(&answer.text(), Format::Text)?;
        let readings = Readings::of(&exposition);
        Ok((exposition, readings))
    }

    pub(crate) async fn order(&self, order: &Order) -> Result<Answer, String> {
        let Slot { module, replica } = &order.slot;
        let path = format!("/api/v1/instances/{module}/{replica}/restart");
        let url = format!("http://{}{path}", self.address);
        let mut request = self.http.request(order.method.clone(), url);
        request = request.header(header::IF_MATCH, &order.if_match);
        if let Some(body) = &order.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        if let Some(origin) = order.origin {
            request = request.header(header::ORIGIN, origin);
        }
        match (&order.authorization, &self.token) {
            (Authorization::Own, Some(token)) => request = request.bearer_auth(token.reveal()),
            (Authorization::Value(value), _) => {
                let value = HeaderValue::from_str(value).map_err(|error| error.to_string())?;
                request = request.header(header::AUTHORIZATION, value);
            }
            (Authorization::Own, None) | (Authorization::Absent, _) => {}
        }
        self.send(request, &format!("{} {path}", order.method)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder, what: &str) -> Result<Answer, String> {
        let begin = Instant::now();
        let mut response = request.send().await.map_err(|error| chain(&error))?;
        let (status, version) = (response.status(), response.version());
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Some(more) = response.chunk().await.map_err(|error| chain(&error))? {
            body.extend_from_slice(&more);
            if body.len() > BODY_BYTES_MAX {
                return Err(format!("{what}: an answer of more than {BODY_BYTES_MAX} bytes"));
            }
        }
        let took = begin.elapsed();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.answers += 1;
        if status.is_redirection() && noted.redirect.is_none() {
            noted.redirect = Some(format!("{what}: {status}"));
        }
        if version > Version::HTTP_11 && noted.version.is_none() {
            noted.version = Some(format!("{what}: {version:?}"));
        }
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        if date.is_none_or(|date| httpdate::parse_http_date(date).is_err()) && noted.without_date.is_none() {
            noted.without_date = Some(format!("{what}: {}", date.unwrap_or("none")));
        }
        if noted.slowest.as_ref().is_none_or(|(slowest, _)| *slowest < took) {
            noted.slowest = Some((took, what.to_owned()));
        }
        drop(noted);
        Ok(Answer { status: status.as_u16(), headers, body })
    }
}

/// How an evaluator asks that scrapes by itself.
pub(crate) const ACCEPT_TEXT: &str = "text/plain;version=0.0.4";

/// How OpenMetrics is asked for.
pub(crate) const ACCEPT_OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
