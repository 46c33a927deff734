//! (slot, generation) → an order to the runner that hosts it → its outcome.
//!
//! An order names the generation it means (`If-Match`), so one that comes late or twice does nothing, and
//! two evaluators side by side restart each generation once. It goes only where the allow list says.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ebb_service::{logging::Chain, quote, secret::BearerToken};
use ebb_units::{Generation, SlotId};
use reqwest::{StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::{
    config::{AllowList, RunnersConfig},
    http::{self, BodyError, client_builder},
};

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The runner restarted the instance.
    Restarted(Restarted),
    /// Another generation lives there by now (412): nothing was done.
    GenerationGone,
    /// The runner knows no such replica (404).
    UnknownReplica,
    /// A restart of it is under way already (409).
    AlreadyRestarting,
    /// The runner's own limit of restarts is reached (429).
    RunnerBusy,
    /// The runner could not start a new instance and kept the old one (503).
    CouldNotStart {
        /// The runner's words.
        message: String,
    },
    /// The runner wants another token (401, 403).
    Unauthorized,
    /// The token file cannot be used; the runner was not asked.
    NoCredentials {
        /// Which file, and why.
        message: String,
    },
    /// The runner's address is not on the allow list; it was not asked.
    NotAllowed,
    /// There was no answer; the restart may or may not have happened.
    NoAnswer {
        /// What went wrong.
        message: String,
    },
    /// An answer that the contract does not know.
    Unexpected {
        /// Status and text.
        message: String,
    },
}

/// The runner's report of a restart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restarted {
    /// The generation that lives there now.
    #[serde(deserialize_with = "generation")]
    pub new_generation: Generation,
    /// Linear memory given back, as the runner saw it, in bytes.
    pub reclaimed_bytes: u64,
    /// From the order to the new instance's running, in seconds.
    pub duration_seconds: f64,
}

fn generation<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Generation, D::Error> {
    u64::deserialize(deserializer).map(Generation)
}

impl Outcome {
    /// Every outcome's name, for metrics that exist from the start.
    pub const NAMES: [&'static str; 11] = [
        "restarted",
        "generation_gone",
        "unknown_replica",
        "already_restarting",
        "runner_busy",
        "could_not_start",
        "unauthorized",
        "no_credentials",
        "not_allowed",
        "no_answer",
        "unexpected",
    ];

    /// The outcome's name, as metrics tell it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Restarted(_) => "restarted",
            Self::GenerationGone => "generation_gone",
            Self::UnknownReplica => "unknown_replica",
            Self::AlreadyRestarting => "already_restarting",
            Self::RunnerBusy => "runner_busy",
            Self::CouldNotStart { .. } => "could_not_start",
            Self::Unauthorized => "unauthorized",
            Self::NoCredentials { .. } => "no_credentials",
            Self::NotAllowed => "not_allowed",
            Self::NoAnswer { .. } => "no_answer",
            Self::Unexpected { .. } => "unexpected",
        }
    }

    /// What went wrong, where the name does not tell all of it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::CouldNotStart { message }
            | Self::NoCredentials { message }
            | Self::NoAnswer { message }
            | Self::Unexpected { message } => Some(message),
            _ => None,
        }
    }

    /// Whether somebody must mend something: neither was it done, nor has it become needless or possible by itself.
    #[must_use]
    pub const fn has_failed(&self) -> bool {
        !matches!(
            self,
            Self::Restarted(_) | Self::GenerationGone | Self::AlreadyRestarting | Self::RunnerBusy
        )
    }

    /// Whether the runner put the order off, so that it may be given again soon.
    #[must_use]
    pub const fn is_postponed(&self) -> bool {
        matches!(self, Self::AlreadyRestarting | Self::RunnerBusy)
    }
}

/// Why a restart is ordered, as the runner counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The instance holds too much, or has run for too long.
    Threshold,
    /// Its host is short of memory.
    Pressure,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::Threshold => "threshold",
            Self::Pressure => "pressure",
        }
    }
}

/// The request that orders the restart of one lifetime.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartRequest<'a> {
    pub(crate) address: &'a str,
    pub(crate) module: &'a str,
    pub(crate) replica: u32,
    /// The generation that is meant; if another lives there, nothing is done.
    pub(crate) generation: u64,
}

impl RestartRequest<'_> {
    fn url(&self) -> String {
        let Self { address, module, replica, .. } = self;
        format!("http://{address}/api/v1/instances/{module}/{replica}/restart")
    }

    /// The request with the token in `token_file`, or why that cannot be used.
    pub(crate) fn build(
        &self,
        http: &reqwest::Client,
        token_file: Option<&Path>,
    ) -> Result<reqwest::RequestBuilder, String> {
        let request = http.post(self.url()).header(header::IF_MATCH, format!("\"{}\"", self.generation));
        match token_file.map(BearerToken::from_file).transpose() {
            Ok(Some(token)) => Ok(request.bearer_auth(token.reveal())),
            Ok(None) => Ok(request),
            Err(error) => Err(Chain(&error).to_string()),
        }
    }
}

/// Gives orders to runners.
#[derive(Debug)]
pub struct Restarter {
    http: reqwest::Client,
    allow: AllowList,
    token_file: Option<PathBuf>,
    timeout: Duration,
}

impl Restarter {
    /// Prepares orders; gives none.
    #[must_use]
    pub fn new(config: &RunnersConfig) -> Self {
        let http = client_builder()
            // A proxy would carry the token past the allow list.
            .no_proxy()
            .build()
            .expect("a client without certificates of its own can be built");
        Self {
            http,
            allow: config.allow.clone(),
            token_file: config.bearer_token_file.clone(),
            timeout: config.timeout.into(),
        }
    }

    /// Whether orders may go to the runner of `slot`.
    #[must_use]
    pub fn may_order(&self, slot: &SlotId) -> bool {
        self.allow.allows(&slot.runner.address)
    }

    /// Orders the restart of what lives in `slot`, if that is still `generation`.
    pub async fn restart(&self, slot: &SlotId, generation: Generation, reason: Reason) -> Outcome {
        if !self.may_order(slot) {
            return Outcome::NotAllowed;
        }
        let order = RestartRequest {
            address: &slot.runner.address,
            module: &slot.population.module,
            replica: slot.replica,
            generation: generation.0,
        };
        let url = order.url();
        let request = match order.build(&self.http, self.token_file.as_deref()) {
            Ok(request) => request
                .timeout(self.timeout)
                .header(header::CONTENT_TYPE, "application/json")
                .body(format!(r#"{{"reason":"{}"}}"#, reason.name())),
            Err(message) => return Outcome::NoCredentials { message },
        };
        let answer = async {
            let response = request.send().await?;
            let status = response.status();
            let body = if status.is_success() {
                http::body(response, ANSWER_BYTES_MAX).await?
            } else {
                http::refusal(response).await
            };
            Ok((status, body))
        };
        match answer.await {
            Ok((status, body)) => outcome(status, &body),
            Err(error) => {
                let error = match error {
                    BodyError::Transport(error) => Chain(&error.without_url()).to_string(),
                    too_long @ BodyError::TooLong(_) => too_long.to_string(),
                };
                Outcome::NoAnswer { message: format!("POST {url}: {error}") }
            }
        }
    }
}

/// The longest report of a restart. A runner's has some 200 bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What the runner's answer means.
pub(crate) fn outcome(status: StatusCode, body: &[u8]) -> Outcome {
    let message = || format!("{status}: {}", quote::clipped_bytes(body));
    match status {
        // Accepted: the new instance lives, the old one still finishes requests.
        StatusCode::OK | StatusCode::ACCEPTED => match serde_json::from_slice(body) {
            Ok(restarted) => Outcome::Restarted(restarted),
            Err(error) => {
                let error = quote::clipped(&error.to_string());
                Outcome::Unexpected { message: format!("{}: {error}", message()) }
            }
        },
        StatusCode::NOT_FOUND => Outcome::UnknownReplica,
        StatusCode::PRECONDITION_FAILED => Outcome::GenerationGone,
        StatusCode::CONFLICT => Outcome::AlreadyRestarting,
        StatusCode::TOO_MANY_REQUESTS => Outcome::RunnerBusy,
        StatusCode::SERVICE_UNAVAILABLE => Outcome::CouldNotStart { message: message() },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Unauthorized,
        _ => Outcome::Unexpected { message: message() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_the_contract_has_its_outcome() {
        let check = |status: u16, body: &str, name: &str| {
            let outcome = outcome(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(outcome.name(), name, "{status} {body}");
            assert!(Outcome::NAMES.contains(&outcome.name()));
        };
        let report = r#"{"module":"leaky","replica":0,"old_generation":1,"new_generation":2,
            "reclaimed_bytes":65536,"duration_seconds":0.001}"#;
        check(200, report, "restarted");
        check(202, report, "restarted");
        check(200, "{}", "unexpected");
        check(401, "", "unauthorized");
        check(403, "", "unauthorized");
        check(404, "", "unknown_replica");
        check(409, "", "already_restarting");
        check(412, "", "generation_gone");
        check(429, "", "runner_busy");
        check(503, "", "could_not_start");
        check(500, "", "unexpected");
    }

    #[test]
    fn an_answer_is_quoted_in_a_few_words() {
        let long = format!("{{\"new_generation\": \"{}\x1b\"}}", "x".repeat(60_000));
        for status in [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE, StatusCode::IM_A_TEAPOT] {
            let outcome = outcome(status, long.as_bytes());
            let message = outcome.message().unwrap();
            assert!(message.len() < 1000 && !message.contains('\u{1b}'), "{message}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_an_order_of_which_nothing_is_known() {
        for (head, expected) in [
            (crate::http::tests::ENDLESS.to_owned(), "no_answer"),
            (crate::http::tests::ENDLESS.replace("200 OK", "503 Busy"), "could_not_start"),
        ] {
            let address = crate::http::tests::server(head, vec![b'x'; 1 << 16], false).await.to_string();
            let config = RunnersConfig {
                allow: AllowList::exactly(std::slice::from_ref(&address)).unwrap(),
                ..RunnersConfig::default()
            };
            let population = ebb_units::Population { module: "leaky".into(), digest: "d".into() };
            let slot = SlotId { population, runner: address.as_str().into(), replica: 0 };
            let outcome = Restarter::new(&config).restart(&slot, Generation(1), Reason::Threshold).await;
            let message = outcome.message().unwrap();
            assert_eq!(outcome.name(), expected, "{message}");
            assert!(message.len() < 1000, "{message}");
        }
    }

    #[tokio::test]
    async fn an_address_outside_the_allow_list_is_never_asked() {
        // A listener that would see the order.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = RunnersConfig {
            allow: AllowList::exactly(&["10.0.0.1:9742".to_owned()]).unwrap(),
            ..RunnersConfig::default()
        };
        let population = ebb_units::Population { module: "leaky".into(), digest: "d".into() };
        let slot = SlotId { population, runner: address.as_str().into(), replica: 0 };
        assert_eq!(
            Restarter::new(&config).restart(&slot, Generation(1), Reason::Threshold).await,
            Outcome::NotAllowed
        );
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("the runner was asked"),
            () = std::future::ready(()) => {}
        }
    }
}
