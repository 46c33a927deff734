//! The control API: metrics, health, reload, and what [`ebb_host::control`] has about instances. JSON, except for the metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    middleware,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use ebb_service::{
    auth,
    exposition::Format,
    logging::Chain,
    problem::{Problem, refusing_the_rest},
    quote,
    server::{self, Guard, Limits},
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    exposition,
    fleet::Fleet,
    reload::{ReloadError, Reloader},
};

const PATHS: &str = "/metrics, /-/healthy, /-/ready, /-/reload, /api/v1/instances, \
                     /api/v1/instances/MODULE/REPLICA/restart or /api/v1/modules/MODULE/growth";

struct Control {
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    registry: Registry,
    /// Length of the last exposition, in bytes: the next one is about as long.
    exposition_length: AtomicUsize,
    was_ready: AtomicBool,
}

/// Serves the control API on `listener` within `limits`, to whom the guard lets in, until `stop`.
pub(crate) async fn serve(
    listener: TcpListener,
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    (limits, guard): (Limits, Option<Guard>),
    stop: CancellationToken,
) {
    let registry = exposition::registry(Arc::clone(&fleet), Arc::clone(reloader.status()));
    let control = Arc::new(Control {
        fleet,
        reloader,
        registry,
        exposition_length: AtomicUsize::new(0),
        was_ready: AtomicBool::new(false),
    });
    server::serve(listener, router(&control), limits, guard, stop).await;
}

fn router(control: &Arc<Control>) -> Router {
    let reloader = Arc::clone(&control.reloader);
    let may_order = move |headers: &HeaderMap| {
        may_order(&reloader, headers).map_err(|problem| Box::new(problem.into_response()))
    };
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload))
        .with_state(Arc::clone(control))
        .merge(ebb_host::control::instances_router(Arc::clone(control.fleet.instances()), may_order));
    refusing_the_rest(routes, PATHS).layer(middleware::map_response(ebb_service::date::stamp))
}

fn may_order(reloader: &Reloader, headers: &HeaderMap) -> Result<(), Problem> {
    auth::check(headers, reloader.token().as_deref(), "control.bearer_token_file")
}

async fn metrics(State(control): State<Arc<Control>>, headers: HeaderMap) -> Result<Response, Problem> {
    let format = Format::negotiate(&headers);
    let capacity = control.exposition_length.load(Ordering::Relaxed);
    let text = ebb_service::exposition::render(&control.registry, format, capacity)
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be written"))?;
    control.exposition_length.store(text.len(), Ordering::Relaxed);
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

async fn healthy() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "healthy" }))
}

async fn ready(State(control): State<Arc<Control>>) -> Result<Json<serde_json::Value>, Problem> {
    // Once ready, it stays so: a module that a reload adds does not make the others unready.
    let is_ready = control.was_ready.load(Ordering::Relaxed)
        || (control.reloader.status().last_success_seconds() > 0.0
            && control.fleet.instances().were_started());
    if !is_ready {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: modules are being compiled and instances started for the first time",
        ));
    }
    control.was_ready.store(true, Ordering::Relaxed);
    Ok(Json(serde_json::json!({ "status": "ready" })))
}

async fn reload(State(control): State<Arc<Control>>, headers: HeaderMap) -> Result<Response, Problem> {
    let reloader = Arc::clone(&control.reloader);
    may_order(&reloader, &headers)?;
    // On a task of its own: a client that loses patience does not leave a config half in force.
    match tokio::spawn(async move { reloader.reload().await }).await {
        Ok(Ok(rollout)) => Ok(Json(rollout).into_response()),
        Ok(Err(error)) => Err(reload_failure(&error)),
        Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("reload: {error}"))),
    }
}

fn reload_failure(error: &ReloadError) -> Problem {
    let message = quote::message(&Chain(error).to_string());
    Problem::new(StatusCode::BAD_REQUEST, format!("the old config stays in force: {message}"))
}
