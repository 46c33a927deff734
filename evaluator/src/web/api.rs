//! The evaluator's own HTTP API: health, metrics, what was learned, what was decided.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ebb_core::{
    decide::{exhaustion::Exhaustion, judgement::Judgement, order::Action},
    policy::Verdict,
};
use ebb_service::{
    auth,
    exposition::{self, Format},
    logging::Chain,
    problem::{Problem, refusing_the_rest},
    quote,
    secret::BearerToken,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{page::findings, state::Web};
use crate::{
    advice::Advised,
    decisions::Decision,
    snapshot::{PopulationSnapshot, Snapshot},
};

/// Its routes.
pub(super) fn routes() -> Router<Web> {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "Ebb evaluator is healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload))
        .route("/api/v1/status", get(status))
        .route("/api/v1/modules", get(modules))
        .route("/api/v1/instances", get(instances))
        .route("/api/v1/decisions", get(decisions))
        .route("/api/v1/advice", get(advice));
    refusing_the_rest(routes, PATHS)
}

const PATHS: &str = "/, /decisions, /advice, /config, /api/v1/status, /api/v1/modules, /api/v1/instances, /api/v1/decisions, \
                     /api/v1/advice, /metrics, /-/healthy, /-/ready or /-/reload";

async fn metrics(State(web): State<Web>, headers: HeaderMap) -> Result<Response, Problem> {
    let format = Format::negotiate(&headers);
    let capacity = web.exposition_bytes.load(Ordering::Relaxed);
    let text = exposition::render(&web.registry, format, capacity)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be written"))?;
    web.exposition_bytes.store(text.len(), Ordering::Relaxed);
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

async fn ready(State(web): State<Web>) -> Result<&'static str, Problem> {
    let snapshot = web.sinks.board.newest();
    let not_ready = |why: String| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why));
    match &snapshot.hold {
        _ if snapshot.at.0 == 0 => not_ready("the first evaluation is not complete yet".to_owned()),
        Some(hold) if snapshot.populations.is_empty() => not_ready(hold.to_string()),
        _ => Ok("Ebb evaluator is ready.\n"),
    }
}

async fn reload(State(web): State<Web>, headers: HeaderMap) -> Result<StatusCode, Problem> {
    // It cannot be changed while running.
    let token_file = web.config.borrow().bearer_token_file.clone();
    // Read at each request, so that the token can be changed.
    let token = token_file
        .map(|path| BearerToken::from_file(&path))
        .transpose()
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, Chain(&error).to_string()))?;
    auth::check(&headers, token.as_ref(), "bearer_token_file")?;
    let (answer, answered) = oneshot::channel();
    let sent = web.evaluator.reload.send(answer).await;
    match (sent, answered.await) {
        (Ok(()), Ok(Ok(()))) => Ok(StatusCode::OK),
        (Ok(()), Ok(Err(message))) => Err(bad_request(message)),
        _ => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the evaluator is stopping")),
    }
}

fn bad_request(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, message)
}

/// A tick without its instances.
#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    at: ebb_units::Millis,
    hold: &'a Option<ebb_core::decide::hold::Hold>,
    dry_run: bool,
    restarts_available: i64,
    lifetimes: usize,
    instances: usize,
    saved_byte_seconds: f64,
    /// When runners' hosts have no memory left, where that can be foreseen.
    hosts_exhausted: BTreeMap<String, Exhaustion>,
}

/// The parameters of a request that has none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What was asked for, or why that cannot be.
fn parameters<T>(asked: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    asked.map(|Query(asked)| asked).map_err(|rejection| bad_request(quote::clipped(&rejection.body_text())))
}

async fn status(
    State(web): State<Web>,
    asked: Result<Query<Nothing>, QueryRejection>,
) -> Result<Response, Problem> {
    let Nothing {} = parameters(asked)?;
    let snapshot = web.sinks.board.newest();
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        at: snapshot.at,
        hold: &snapshot.hold,
        dry_run: snapshot.dry_run,
        restarts_available: snapshot.restarts_available,
        lifetimes: snapshot.lifetimes,
        instances: snapshot.instances.len(),
        saved_byte_seconds: snapshot.saved_byte_seconds.values().sum(),
        hosts_exhausted: snapshot
            .outlook
            .hosts
            .iter()
            .map(|(runner, at)| (runner.to_string(), *at))
            .collect(),
    })
    .into_response())
}

/// A population with what is found of it, in sentences.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    population: &'a PopulationSnapshot,
    findings: Vec<String>,
}

async fn modules(
    State(web): State<Web>,
    asked: Result<Query<Nothing>, QueryRejection>,
) -> Result<Response, Problem> {
    let Nothing {} = parameters(asked)?;
    let snapshot = web.sinks.board.newest();
    let described = |population| Described { population, findings: findings(&snapshot, population) };
    Ok(Json(snapshot.populations.iter().map(described).collect::<Vec<_>>()).into_response())
}

/// What to set; 202 while that is being worked out.
async fn advice(
    State(web): State<Web>,
    asked: Result<Query<Nothing>, QueryRejection>,
) -> Result<Response, Problem> {
    let Nothing {} = parameters(asked)?;
    let config = Arc::clone(&web.config.borrow());
    Ok(match web.adviser.advised(&config) {
        Advised::Advice(advice) => Json(&*advice).into_response(),
        Advised::Soon => StatusCode::ACCEPTED.into_response(),
        Advised::Nothing => {
            return Err(Problem::new(StatusCode::NOT_FOUND, "no instance was seen for long enough yet"));
        }
    })
}

/// What to show.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    module: Option<String>,
    instance: Option<String>,
    replica: Option<u32>,
    verdict: Option<String>,
    action: Option<String>,
    limit: Option<usize>,
}

type FilterQuery = Result<Query<Filter>, QueryRejection>;

impl Filter {
    /// What was asked for. Values that nothing can have are refused: a slip would look like an empty answer.
    fn asked(asked: FilterQuery) -> Result<Self, Problem> {
        let filter = parameters(asked)?;
        let verdicts: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
        let actions: Vec<_> = Action::names().chain(Action::KINDS).collect();
        for (parameter, value, known) in
            [("verdict", &filter.verdict, verdicts), ("action", &filter.action, actions)]
        {
            if let Some(value) = value.as_deref().filter(|value| !known.contains(value)) {
                let value = quote::clipped(value);
                let known = known.join(", ");
                return Err(bad_request(format!("{parameter}={value}: expected one of {known}")));
            }
        }
        Ok(filter)
    }

    fn wants(&self, judgement: &Judgement) -> bool {
        let slot = &judgement.slot;
        self.module.as_deref().is_none_or(|module| module == &*slot.population.module)
            && self.instance.as_deref().is_none_or(|name| slot.runner.is_named(name))
            && self.replica.is_none_or(|replica| replica == slot.replica)
            && self.verdict.as_deref().is_none_or(|verdict| verdict == judgement.verdict.name())
    }

    fn wants_decision(&self, decision: &Decision) -> bool {
        self.wants(&decision.judgement)
            && self
                .action
                .as_deref()
                .is_none_or(|action| action == decision.action.name() || action == decision.action.kind())
    }
}

/// An instance with its verdict and the verdict's reason.
#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    judgement: &'a Judgement,
    explanation: String,
    /// When it reaches its limit, where that can be foreseen.
    limit_reached: Option<&'a Exhaustion>,
}

fn explained<'a>(snapshot: &'a Snapshot, judgement: &'a Judgement) -> Explained<'a> {
    let limit_reached = snapshot.outlook.instances.get(&judgement.slot);
    Explained { judgement, explanation: snapshot.explanation(judgement), limit_reached }
}

async fn instances(State(web): State<Web>, asked: FilterQuery) -> Result<Response, Problem> {
    let filter = Filter::asked(asked)?;
    if filter.action.is_some() {
        return Err(bad_request("action: decisions have one, instances do not"));
    }
    let snapshot = web.sinks.board.newest();
    let wanted = snapshot.instances.iter().filter(|instance| filter.wants(instance));
    let shown: Vec<_> = wanted
        .take(filter.limit.unwrap_or(usize::MAX))
        .map(|instance| explained(&snapshot, instance))
        .collect();
    Ok(Json(shown).into_response())
}

async fn decisions(State(web): State<Web>, asked: FilterQuery) -> Result<Response, Problem> {
    let filter = Filter::asked(asked)?;
    let limit = filter.limit.unwrap_or(100);
    Ok(Json(web.sinks.journal.newest(limit, |decision| filter.wants_decision(decision))).into_response())
}
