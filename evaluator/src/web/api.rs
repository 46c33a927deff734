//! The evaluator's own HTTP API: health, metrics, what was learned, what was decided.

use std::sync::atomic::Ordering;

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ebb_core::{
    decide::{judgement::Judgement, order::Action},
    policy::Verdict,
};
use ebb_service::{
    exposition::{self, Format},
    logging::Chain,
    quote,
    secret::BearerToken,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::Web;
use crate::{decisions::Decision, snapshot::Snapshot};

/// Its routes.
pub(super) fn routes() -> Router<Web> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(|| async { "Ebb evaluator is healthy.\n" }))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload))
        .route("/api/v1/status", get(status))
        .route("/api/v1/modules", get(modules))
        .route("/api/v1/instances", get(instances))
        .route("/api/v1/decisions", get(decisions))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "no such page; see /, /api/v1/status, /api/v1/modules, /api/v1/instances, /api/v1/decisions, /decisions, /config, /metrics, /-/healthy, /-/ready") })
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, Json(serde_json::json!({ "error": message }))).into_response()
}

async fn metrics(State(web): State<Web>, headers: HeaderMap) -> Response {
    let format = Format::negotiate(&headers);
    let capacity = web.exposition_bytes.load(Ordering::Relaxed);
    match exposition::render(&web.registry, format, capacity) {
        Ok(text) => {
            web.exposition_bytes.store(text.len(), Ordering::Relaxed);
            ([(header::CONTENT_TYPE, format.content_type())], text).into_response()
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("encoding metrics: {error}")),
    }
}

async fn ready(State(web): State<Web>) -> Response {
    let snapshot = web.sinks.board.newest();
    match &snapshot.hold {
        _ if snapshot.at.0 == 0 => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "the first evaluation is not done yet")
        }
        Some(hold) if snapshot.populations.is_empty() => {
            problem(StatusCode::SERVICE_UNAVAILABLE, &hold.to_string())
        }
        _ => "Ebb evaluator is ready.\n".into_response(),
    }
}

async fn reload(State(web): State<Web>, headers: HeaderMap) -> Response {
    // Browsers set it. A page of any site could otherwise order a reload from the operator's own machine.
    if headers.contains_key(header::ORIGIN) {
        return problem(
            StatusCode::FORBIDDEN,
            "orders from web pages (requests with an Origin header) are refused",
        );
    }
    // It cannot be changed while running.
    let token_file = web.config.borrow().bearer_token_file.clone();
    if let Some(path) = &token_file {
        // Read at each request, so that the token can be changed.
        let token = match BearerToken::from_file(path) {
            Ok(token) => token,
            Err(error) => return problem(StatusCode::INTERNAL_SERVER_ERROR, &Chain(&error).to_string()),
        };
        let Some(authorization) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok())
        else {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            return (challenge, problem(StatusCode::UNAUTHORIZED, "a bearer token is needed"))
                .into_response();
        };
        if !token.is_carried_by(authorization) {
            return problem(StatusCode::FORBIDDEN, "the bearer token is not the right one");
        }
    }
    let (answer, answered) = oneshot::channel();
    let sent = web.evaluator.reload.send(answer).await;
    match (sent, answered.await) {
        (Ok(()), Ok(Ok(()))) => StatusCode::OK.into_response(),
        (Ok(()), Ok(Err(message))) => problem(StatusCode::BAD_REQUEST, &message),
        _ => problem(StatusCode::SERVICE_UNAVAILABLE, "the evaluator is stopping"),
    }
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
}

/// The parameters of a request that has none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What was asked for, or why that cannot be.
fn parameters<T>(asked: Result<Query<T>, QueryRejection>) -> Result<T, String> {
    asked.map(|Query(asked)| asked).map_err(|rejection| quote::clipped(&rejection.body_text()))
}

async fn status(State(web): State<Web>, asked: Result<Query<Nothing>, QueryRejection>) -> Response {
    if let Err(message) = parameters(asked) {
        return problem(StatusCode::BAD_REQUEST, &message);
    }
    let snapshot = web.sinks.board.newest();
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        at: snapshot.at,
        hold: &snapshot.hold,
        dry_run: snapshot.dry_run,
        restarts_available: snapshot.restarts_available,
        lifetimes: snapshot.lifetimes,
        instances: snapshot.instances.len(),
    })
    .into_response()
}

async fn modules(State(web): State<Web>, asked: Result<Query<Nothing>, QueryRejection>) -> Response {
    if let Err(message) = parameters(asked) {
        return problem(StatusCode::BAD_REQUEST, &message);
    }
    Json(&web.sinks.board.newest().populations).into_response()
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
    fn asked(asked: FilterQuery) -> Result<Self, String> {
        let filter = parameters(asked)?;
        let verdicts: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
        let actions: Vec<_> = Action::names().chain(Action::KINDS).collect();
        for (parameter, value, known) in
            [("verdict", &filter.verdict, verdicts), ("action", &filter.action, actions)]
        {
            if let Some(value) = value.as_deref().filter(|value| !known.contains(value)) {
                let value = quote::clipped(value);
                return Err(format!("{parameter}={value}: expected one of {}", known.join(", ")));
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
}

fn explained<'a>(snapshot: &Snapshot, judgement: &'a Judgement) -> Explained<'a> {
    Explained { judgement, explanation: snapshot.explanation(judgement) }
}

async fn instances(State(web): State<Web>, asked: FilterQuery) -> Response {
    let filter = match Filter::asked(asked) {
        Ok(Filter { action: Some(_), .. }) => {
            return problem(StatusCode::BAD_REQUEST, "action: decisions have one, instances do not");
        }
        Ok(filter) => filter,
        Err(message) => return problem(StatusCode::BAD_REQUEST, &message),
    };
    let snapshot = web.sinks.board.newest();
    let wanted = snapshot.instances.iter().filter(|instance| filter.wants(instance));
    let shown: Vec<_> = wanted
        .take(filter.limit.unwrap_or(usize::MAX))
        .map(|instance| explained(&snapshot, instance))
        .collect();
    Json(shown).into_response()
}

async fn decisions(State(web): State<Web>, asked: FilterQuery) -> Response {
    let filter = match Filter::asked(asked) {
        Ok(filter) => filter,
        Err(message) => return problem(StatusCode::BAD_REQUEST, &message),
    };
    let limit = filter.limit.unwrap_or(100);
    Json(web.sinks.journal.newest(limit, |decision| filter.wants_decision(decision))).into_response()
}
