//! `ebb-evaluator check --live`: asks the store and the runners what an operator would otherwise learn from a day of holds.
//! Nothing is restarted: the order that shows whether a token is accepted names a generation that no instance has.
//!
//! | file | subject |
//! | --- | --- |
//! | `live.rs` | asks, and gathers what was answered |
//! | `observed.rs` | what was answered |
//! | `finding.rs` | one thing that was found |
//! | `findings.rs` | PURE: what was answered → findings, each with what to do about it |

mod finding;
mod findings;
mod observed;

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use ebb_service::{logging::Chain, quote};
use futures::future::join_all;
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde::de::IgnoredAny;

pub(crate) use self::finding::{Finding, Level};
use ebb_core::history::{History, Sample, Window};
use ebb_units::{Elapsed, Millis, SeriesId};

use self::observed::{Observed, RunnerAnswer, StoreAnswer, Token};
use crate::{
    client::{self, BodyError, server_time},
    config::Config,
    runners::RestartRequest,
    store::{ClockCheck, StoreError},
};

/// How much of the past is looked at.
const LOOK_BACK: Elapsed = Elapsed::secs(600);

/// Longest wait for a runner's answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest list of instances that is read.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Asks the store and every runner that is known from the config or from the store.
///
/// # Errors
/// [`StoreError`] when a file that the config names cannot be used.
pub(crate) async fn check(config: &Config, now: Millis) -> Result<Vec<Finding>, StoreError> {
    let mut store = config.open_store()?;
    let mut history = History::default();
    let window = Window::ending_at(now, LOOK_BACK);
    let mut sink = |series: &SeriesId, samples: &[Sample]| {
        history.observe(series, window, samples.iter().copied());
    };
    let from = now.minus(LOOK_BACK);
    // Whose clock is wrong is one of the questions.
    let fetched = store.recent(from, ClockCheck::unchecked(now), &mut sink).await;
    history.choose(now, LOOK_BACK, None);
    let answer = match fetched {
        Ok(fetched) => Ok(StoreAnswer { fetched, about: store.about(now).await }),
        Err(error) => Err(Chain(&error).to_string()),
    };
    let mut addresses: BTreeSet<String> = config.runners.allow.addresses().collect();
    addresses.extend(
        history
            .slots()
            .map(|slot| slot.runner.address.to_string())
            .filter(|address| config.runners.allow.allows(address)),
    );
    addresses.extend(config.store.targets().unwrap_or_default().iter().cloned());
    let runners = join_all(addresses.into_iter().map(async |address| {
        let answer = ask(config, &address).await;
        (address, answer)
    }));
    let observed = Observed { now, history, store: answer, runners: runners.await };
    Ok(findings::of(config, &observed))
}

async fn ask(config: &Config, address: &str) -> Result<RunnerAnswer, String> {
    let client = config.runners.client().map_err(|error| Chain(&error).to_string())?;
    let (status, ahead, body) = answer(client.request(Method::GET, address, "/api/v1/instances")?).await?;
    if status != StatusCode::OK {
        return Err(format!("GET /api/v1/instances: expected status 200, got {status}"));
    }
    let instances = serde_json::from_slice::<Vec<IgnoredAny>>(&body).map_err(|error| {
        let error = quote::clipped(&error.to_string());
        format!("GET /api/v1/instances: expected a list of instances: {error}")
    })?;
    // No instance has this generation, and before anything else the runner looks at the token.
    let order = RestartRequest { address, module: "_", replica: 0, generation: u64::MAX };
    // The token goes where the config says, nowhere else.
    if !config.runners.allow.is_empty() && !config.runners.allow.allows(address) {
        return Ok(RunnerAnswer { instances: instances.len(), ahead, token: Token::NotAllowed });
    }
    let token = match order.build(&client, config.runners.bearer_token_file.as_deref()) {
        Err(problem) => Token::Unusable(problem),
        Ok(request) => match answer(request).await?.0 {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Token::Refused,
            StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED => Token::Accepted,
            status => Token::Unexpected(status.as_u16()),
        },
    };
    Ok(RunnerAnswer { instances: instances.len(), ahead, token })
}

/// Status, by how much this clock is ahead, and body.
async fn answer(request: RequestBuilder) -> Result<(StatusCode, Option<Elapsed>, Bytes), String> {
    let describe = |error: BodyError| match error {
        BodyError::Transport(error) => Chain(&error.without_url()).to_string(),
        too_long @ BodyError::TooLong(_) => too_long.to_string(),
    };
    let sent = request.timeout(TIMEOUT).header(header::ACCEPT, "application/json").send().await;
    let response = sent.map_err(|error| describe(error.into()))?;
    let here = Millis::from(SystemTime::now());
    let (status, ahead) = (response.status(), server_time(response.headers()).map(|there| here.since(there)));
    let body = client::body(response, BODY_BYTES_MAX).await.map_err(describe)?;
    Ok((status, ahead, body))
}
