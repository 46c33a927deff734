//! The control API: metrics, health, instances, restarts, reload. JSON, except for the metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest as _, Path, Request, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use ebb_service::{
    exposition::Format,
    logging::Chain,
    quote::{self, clipped},
    server::{self, Limits},
};
use ebb_units::{Generation, ModuleName, Replica};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    exposition,
    fleet::{
        Fleet,
        slot::{Reason, Refusal, Restarted, Slot},
    },
    lifecycle,
    reload::{ReloadError, Reloader},
};

/// The longest body of a request: an order is some thirty bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// How long a request may take, body included, that neither starts instances nor compiles modules.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a client is told to wait when too many restarts are under way. They take milliseconds.
const RETRY_AFTER_SECONDS: &str = "1";

struct Control {
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    registry: Registry,
    /// Length of the last exposition, in bytes: the next one is about as long.
    exposition_length: AtomicUsize,
    was_ready: AtomicBool,
}

/// Serves the control API on `listener` within `limits`, until `stop`.
pub async fn serve(
    listener: TcpListener,
    fleet: Arc<Fleet>,
    reloader: Arc<Reloader>,
    limits: Limits,
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
    server::serve(listener, router(control), limits, stop).await;
}

fn router(control: Arc<Control>) -> Router {
    let slow = Router::new()
        .route("/api/v1/instances/{module}/{replica}/restart", post(restart))
        .route("/-/reload", post(reload))
        // Before everything else: without the token, nothing is told, not even what exists.
        .route_layer(middleware::from_fn_with_state(Arc::clone(&control), authorize))
        .route_layer(middleware::from_fn(refuse_web_pages));
    let quick = Router::new()
        .route("/metrics", get(metrics))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/api/v1/instances", get(instances))
        .route_layer(middleware::from_fn(limit_time));
    slow.merge(quick)
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(ebb_service::date::stamp))
        .with_state(control)
}

/// An answer that is not a success.
struct Failure {
    status: StatusCode,
    message: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Failure {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), header: None }
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(serde_json::json!({ "error": self.message }))).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

async fn no_such_path(request: Request) -> Failure {
    Failure::new(
        StatusCode::NOT_FOUND,
        format!(
            "no such path: {}; expected /metrics, /-/healthy, /-/ready, /-/reload, /api/v1/instances or \
             /api/v1/instances/MODULE/REPLICA/restart",
            clipped(request.uri().path())
        ),
    )
}

async fn no_such_method(request: Request) -> Failure {
    Failure::new(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer {}", clipped(request.uri().path()), clipped(request.method().as_str())),
    )
}

async fn limit_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::new(StatusCode::SERVICE_UNAVAILABLE, "timed out").into_response(),
    }
}

/// Any web page can have a browser on this host send a `POST`, without a token where none is asked for.
/// Browsers name the page's origin in all of them; nobody else has reason to.
async fn refuse_web_pages(request: Request, next: Next) -> Response {
    match request.headers().get(header::ORIGIN) {
        None => next.run(request).await,
        Some(origin) => Failure::new(
            StatusCode::FORBIDDEN,
            format!(
                "Origin: {}: orders from web pages are refused; expected no Origin header",
                quote::clipped_bytes(origin.as_bytes())
            ),
        )
        .into_response(),
    }
}

async fn authorize(State(control): State<Arc<Control>>, request: Request, next: Next) -> Response {
    let Some(token) = control.reloader.token() else { return next.run(request).await };
    let failure = match request.headers().get(header::AUTHORIZATION) {
        None => Failure::new(
            StatusCode::UNAUTHORIZED,
            "no token: expected `Authorization: Bearer TOKEN` with the token of control.bearer_token_file",
        )
        .with(header::WWW_AUTHENTICATE, "Bearer"),
        Some(value) if value.to_str().is_ok_and(|value| token.is_carried_by(value)) => {
            return next.run(request).await;
        }
        Some(_) => Failure::new(
            StatusCode::FORBIDDEN,
            "wrong token: expected `Authorization: Bearer TOKEN` with the token of control.bearer_token_file",
        ),
    };
    failure.into_response()
}

async fn metrics(State(control): State<Arc<Control>>, headers: HeaderMap) -> Result<Response, Failure> {
    let format = Format::negotiate(&headers);
    let capacity = control.exposition_length.load(Ordering::Relaxed);
    let text = ebb_service::exposition::render(&control.registry, format, capacity)
        .map_err(|_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be written"))?;
    control.exposition_length.store(text.len(), Ordering::Relaxed);
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

async fn healthy() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "healthy" }))
}

async fn ready(State(control): State<Arc<Control>>) -> Result<Json<serde_json::Value>, Failure> {
    // Once ready, it stays so: a module that a reload adds does not make the others unready.
    let is_ready = control.was_ready.load(Ordering::Relaxed)
        || (control.reloader.status().last_success_seconds() > 0.0 && control.fleet.was_started());
    if !is_ready {
        return Err(Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: modules are being compiled and instances started for the first time",
        ));
    }
    control.was_ready.store(true, Ordering::Relaxed);
    Ok(Json(serde_json::json!({ "status": "ready" })))
}

/// One element of `GET /api/v1/instances`.
#[derive(Serialize)]
struct Instance {
    module: ModuleName,
    digest: String,
    replica: Replica,
    /// Absent, like what follows from it, while no instance is live.
    generation: Option<Generation>,
    state: &'static str,
    memory_bytes: Option<u64>,
    memory_limit_bytes: u64,
    started_at: Option<String>,
    restarts: u64,
    consecutive_failures: u32,
    last_end: Option<String>,
}

async fn instances(State(control): State<Arc<Control>>) -> Json<Vec<Instance>> {
    let modules = control.fleet.modules();
    let instances = modules.iter().flat_map(|module| {
        let program = module.settings().program;
        let slots = module.slots();
        slots
            .iter()
            .map(|slot| {
                let live = slot.live();
                let progress = slot.progress();
                let program = live.as_ref().map_or(&program, |live| &live.program);
                Instance {
                    module: module.name.clone(),
                    digest: program.digest.to_string(),
                    replica: slot.replica,
                    generation: live.as_ref().map(|live| live.generation),
                    state: state_name(progress.state),
                    memory_bytes: live.as_ref().map(|live| live.meter.bytes().0),
                    memory_limit_bytes: program.guest.memory_limit.0,
                    started_at: live.as_ref().map(|live| rfc3339(live.generation)),
                    restarts: slot.restarts(),
                    consecutive_failures: progress.state.failures(),
                    last_end: progress.last_end,
                }
            })
            .collect::<Vec<_>>()
    });
    Json(instances.collect())
}

const fn state_name(state: lifecycle::State) -> &'static str {
    match state {
        lifecycle::State::Starting { .. } => "starting",
        lifecycle::State::Running { .. } => "running",
        lifecycle::State::Restarting { .. } => "restarting",
        lifecycle::State::Backoff { .. } => "backoff",
        lifecycle::State::Stopped => "stopped",
    }
}

fn rfc3339(generation: Generation) -> String {
    let start = std::time::UNIX_EPOCH + Duration::from_millis(generation.0);
    humantime::format_rfc3339_millis(start).to_string()
}

/// The body of an order. An empty body is an operator's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderBody {
    #[serde(default)]
    reason: OrderReason,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OrderReason {
    Threshold,
    Pressure,
    #[default]
    Operator,
}

impl From<OrderReason> for Reason {
    fn from(reason: OrderReason) -> Self {
        match reason {
            OrderReason::Threshold => Self::Threshold,
            OrderReason::Pressure => Self::Pressure,
            OrderReason::Operator => Self::Operator,
        }
    }
}

/// The answer to an order that was carried out.
#[derive(Serialize)]
struct RestartedBody {
    module: ModuleName,
    replica: Replica,
    old_generation: Generation,
    new_generation: Generation,
    reclaimed_bytes: u64,
    /// Resident memory that left the process while the old instance was dropped.
    resident_released_bytes: u64,
    duration_seconds: f64,
    /// The old instance has requests to finish. Its memory, `reclaimed_bytes` by now, is given back then.
    draining: bool,
}

async fn restart(
    State(control): State<Arc<Control>>,
    Path((name, replica)): Path<(String, String)>,
    request: Request,
) -> Result<(StatusCode, Json<RestartedBody>), Failure> {
    let received = Instant::now();
    let expected = if_match(request.headers())?;
    let body = tokio::time::timeout(TIMEOUT, Bytes::from_request(request, &()));
    let body = body.await.map_err(|_| Failure::new(StatusCode::REQUEST_TIMEOUT, "body: timed out"))?;
    let reason = reason(body)?;
    let unknown = || {
        Failure::new(
            StatusCode::NOT_FOUND,
            format!(
                "no replica {} of a module {:?}; GET /api/v1/instances lists what there is",
                clipped(&replica),
                clipped(&name)
            ),
        )
    };
    let number: u32 = replica.parse().map_err(|_| unknown())?;
    let (module, slot) = control.fleet.find(&name, Replica(number)).ok_or_else(unknown)?;
    let refused = |refusal| refused(&refusal, &slot, &module.name);
    let outcome = module.order_restart(&slot, expected, reason, received).map_err(&refused)?;
    let Restarted { old, new, reclaimed, released, duration, draining } =
        outcome.await.unwrap_or(Err(Refusal::Closing)).map_err(&refused)?;
    let status = if draining { StatusCode::ACCEPTED } else { StatusCode::OK };
    let body = RestartedBody {
        module: module.name.clone(),
        replica: slot.replica,
        old_generation: old,
        new_generation: new,
        reclaimed_bytes: reclaimed.0,
        resident_released_bytes: released.0,
        duration_seconds: duration.as_secs_f64(),
        draining,
    };
    Ok((status, Json(body)))
}

fn reason(body: Result<Bytes, BytesRejection>) -> Result<Reason, Failure> {
    let body = body.map_err(|rejection| Failure::new(rejection.status(), rejection.body_text()))?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Reason::Operator);
    }
    let order: OrderBody = serde_json::from_slice(&body).map_err(|error| {
        let expected = r#"expected {"reason": "threshold"}, "pressure" or "operator", or nothing"#;
        let error = clipped(&error.to_string());
        Failure::new(StatusCode::BAD_REQUEST, format!("body: {error}; {expected}"))
    })?;
    Ok(order.reason.into())
}

fn if_match(headers: &HeaderMap) -> Result<Option<Generation>, Failure> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = || {
        Failure::new(
            StatusCode::BAD_REQUEST,
            "If-Match: expected one generation in quotes, as in If-Match: \"1763848000123\", or *",
        )
    };
    if values.next().is_some() {
        return Err(malformed());
    }
    let value = value.to_str().map_err(|_| malformed())?.trim();
    if value == "*" {
        return Ok(None);
    }
    let digits = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(malformed)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed());
    }
    digits.parse().map(|generation| Some(Generation(generation))).map_err(|_| malformed())
}

fn refused(refusal: &Refusal, slot: &Slot, module: &ModuleName) -> Failure {
    let status = match refusal {
        Refusal::NotCurrent { .. } | Refusal::NothingRunning => StatusCode::PRECONDITION_FAILED,
        Refusal::Busy => StatusCode::CONFLICT,
        Refusal::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::CouldNotStart(_) | Refusal::Closing => StatusCode::SERVICE_UNAVAILABLE,
    };
    let failure = Failure::new(status, format!("{module}/{}: {refusal}", slot.replica));
    match refusal {
        Refusal::TooMany { .. } => failure.with(header::RETRY_AFTER, RETRY_AFTER_SECONDS),
        _ => failure,
    }
}

async fn reload(State(control): State<Arc<Control>>) -> Result<Response, Failure> {
    let reloader = Arc::clone(&control.reloader);
    // On a task of its own: a client that loses patience does not leave a config half in force.
    match tokio::spawn(async move { reloader.reload().await }).await {
        Ok(Ok(rollout)) => Ok(Json(rollout).into_response()),
        Ok(Err(error)) => Err(reload_failure(&error)),
        Err(error) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("reload: {error}"))),
    }
}

fn reload_failure(error: &ReloadError) -> Failure {
    let message = quote::message(&Chain(error).to_string());
    Failure::new(StatusCode::BAD_REQUEST, format!("the old config stays in force: {message}"))
}
