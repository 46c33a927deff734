//! Requests to the server: address, credentials, TLS, time limits.

use std::{collections::BTreeMap, time::Duration};

use ebb_service::quote;
use reqwest::{RequestBuilder, Response, header};
use serde::Deserialize;

use super::config::{Authorization, PrometheusConfig};
use crate::{
    client::{self, BasicAuth, BodyError, client_builder, read_line},
    store::answer::StoreError,
};

/// Sends requests to one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    basic_auth: Option<BasicAuth>,
    authorization: Option<Authorization>,
    headers: BTreeMap<String, String>,
    timeout: Duration,
    bootstrap_timeout: Duration,
}

/// The largest answer with samples that is read: what some 100,000 instances make in a tick, or in a slice of a bootstrap.
pub(super) const SAMPLES_BYTES_MAX: usize = 256 << 20;

impl Client {
    pub(super) fn new(config: &PrometheusConfig) -> Result<Self, StoreError> {
        let url = config.url.trim_end_matches('/').to_owned();
        let refused =
            |problem| StoreError::Credentials { attempt: format!("preparing requests to {url}"), problem };
        let builder = config.tls_config.apply(client_builder().gzip(config.gzip)).map_err(refused)?;
        let http = builder.build().map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            http,
            url,
            basic_auth: config.basic_auth.clone(),
            authorization: config.authorization.clone(),
            headers: config.headers.clone(),
            timeout: config.timeout.into(),
            bootstrap_timeout: config.bootstrap_timeout.into(),
        })
    }

    /// A POST to `path` below the server's address.
    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.url))
    }

    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.url))
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) const fn bootstrap_timeout(&self) -> Duration {
        self.bootstrap_timeout
    }

    /// Sends the request with credentials; an answer of any status.
    pub(super) async fn send(
        &self,
        attempt: &str,
        request: RequestBuilder,
        timeout: Duration,
    ) -> Result<Response, StoreError> {
        let request = self.authorize(attempt, request)?;
        request.timeout(timeout).send().await.map_err(|error| failure(attempt, timeout, error))
    }

    /// The answer's body of at most `bytes_max` bytes, if its status is 200.
    pub(super) async fn body(
        &self,
        attempt: &str,
        response: Response,
        bytes_max: usize,
    ) -> Result<bytes::Bytes, StoreError> {
        let status = response.status();
        if status == reqwest::StatusCode::OK {
            return client::body(response, bytes_max).await.map_err(|error| match error {
                BodyError::Transport(error) => failure(attempt, self.timeout, error),
                too_long @ BodyError::TooLong(_) => {
                    StoreError::Malformed { attempt: attempt.to_owned(), problem: too_long.to_string() }
                }
            });
        }
        Err(StoreError::Refused {
            attempt: attempt.to_owned(),
            status: status.as_u16(),
            message: message(&client::refusal(response).await),
        })
    }

    /// The request with credentials.
    pub(super) fn authorize(
        &self,
        attempt: &str,
        mut request: RequestBuilder,
    ) -> Result<RequestBuilder, StoreError> {
        let refused = |problem| StoreError::Credentials { attempt: attempt.to_owned(), problem };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(auth) = &self.basic_auth {
            let password = auth.password().map_err(refused)?;
            request = request.basic_auth(&auth.username, Some(password));
        }
        if let Some(auth) = &self.authorization {
            let credentials = read_line(&auth.credentials_file).map_err(refused)?;
            request = request.header(header::AUTHORIZATION, format!("{} {credentials}", auth.kind));
        }
        Ok(request)
    }
}

/// What went wrong between request and answer.
pub(super) fn failure(attempt: &str, timeout: Duration, source: reqwest::Error) -> StoreError {
    let attempt = attempt.to_owned();
    if source.is_timeout() {
        return StoreError::Timeout { attempt, timeout };
    }
    StoreError::Request { attempt, source: source.without_url() }
}

/// What a refusal says: the `error` of an API answer, or the beginning of any other text.
pub(super) fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct ApiError {
        error: String,
    }
    match serde_json::from_slice::<ApiError>(body) {
        Ok(answer) => quote::clipped(&answer.error),
        Err(_) => quote::clipped_bytes(body),
    }
}
