//! (slot, generation) → an order to the runner that hosts it → its outcome.
//!
//! An order names the generation it means (`If-Match`), so one that comes late or twice does nothing, and
//! two evaluators side by side restart each generation once. It goes only where the allow list says.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ebb_core::decide::order::{Outcome, Reason, Restarted};
use ebb_service::{logging::Chain, quote, secret::BearerToken};
use ebb_units::{Generation, SlotId};
use reqwest::{Method, StatusCode, header};
use serde::Deserialize;

use crate::{
    client::{self, BodyError, RunnerClient},
    config::{AllowList, RunnersConfig},
};

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
    fn path(&self) -> String {
        format!("/api/v1/instances/{}/{}/restart", self.module, self.replica)
    }

    /// The request with the token in `token_file`, or why that cannot be used.
    pub(crate) fn build(
        &self,
        client: &RunnerClient,
        token_file: Option<&Path>,
    ) -> Result<reqwest::RequestBuilder, String> {
        let (address, path) = (self.address, self.path());
        let request = match token_file.map(BearerToken::from_file).transpose() {
            Ok(Some(token)) => client.unauthorized(Method::POST, address, &path).bearer_auth(token.reveal()),
            Ok(None) => client.request(Method::POST, address, &path)?,
            Err(error) => return Err(Chain(&error).to_string()),
        };
        Ok(request.header(header::IF_MATCH, format!("\"{}\"", self.generation)))
    }
}

/// Gives orders to runners.
#[derive(Debug)]
pub(crate) struct Restarter {
    client: RunnerClient,
    allow: AllowList,
    token_file: Option<PathBuf>,
    timeout: Duration,
}

impl Restarter {
    /// Prepares orders; gives none.
    pub(crate) fn new(config: &RunnersConfig, client: RunnerClient) -> Self {
        Self {
            client,
            allow: config.allow.clone(),
            token_file: config.bearer_token_file.clone(),
            timeout: config.timeout.into(),
        }
    }

    /// Whether orders may go to the runner of `slot`.
    pub(crate) fn may_order(&self, slot: &SlotId) -> bool {
        self.allow.allows(&slot.runner.address)
    }

    /// Orders the restart of what lives in `slot`, if that is still `generation`.
    pub(crate) async fn restart(&self, slot: &SlotId, generation: Generation, reason: Reason) -> Outcome {
        if !self.may_order(slot) {
            return Outcome::NotAllowed;
        }
        let order = RestartRequest {
            address: &slot.runner.address,
            module: &slot.population.module,
            replica: slot.replica,
            generation: generation.0,
        };
        let url = self.client.url(order.address, &order.path());
        let request = match order.build(&self.client, self.token_file.as_deref()) {
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
                client::body(response, ANSWER_BYTES_MAX).await?
            } else {
                client::refusal(response).await
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

/// A runner's report of a restart, as it is sent.
#[derive(Deserialize)]
struct Report {
    new_generation: u64,
    reclaimed_bytes: u64,
    duration_seconds: f64,
}

/// What the runner's answer means.
pub(crate) fn outcome(status: StatusCode, body: &[u8]) -> Outcome {
    let message = || format!("{status}: {}", quote::clipped_bytes(body));
    match status {
        // Accepted: the new instance lives, the old one still finishes requests.
        StatusCode::OK | StatusCode::ACCEPTED => match serde_json::from_slice(body) {
            Ok(Report { new_generation, reclaimed_bytes, duration_seconds }) => {
                let new_generation = Generation(new_generation);
                Outcome::Restarted(Restarted { new_generation, reclaimed_bytes, duration_seconds })
            }
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
            (crate::client::tests::ENDLESS.to_owned(), "no_answer"),
            (crate::client::tests::ENDLESS.replace("200 OK", "503 Busy"), "could_not_start"),
        ] {
            let address = crate::client::tests::server(head, vec![b'x'; 1 << 16], false).await.to_string();
            let config = RunnersConfig {
                allow: AllowList::exactly(std::slice::from_ref(&address)).unwrap(),
                ..RunnersConfig::default()
            };
            let population = ebb_units::Population { module: "leaky".into(), digest: "d".into() };
            let slot = SlotId { population, runner: address.as_str().into(), replica: 0 };
            let outcome = Restarter::new(&config, config.client().unwrap())
                .restart(&slot, Generation(1), Reason::Threshold)
                .await;
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
            Restarter::new(&config, config.client().unwrap())
                .restart(&slot, Generation(1), Reason::Threshold)
                .await,
            Outcome::NotAllowed
        );
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("the runner was asked"),
            () = std::future::ready(()) => {}
        }
    }
}
