//! The control API's part about instances, to be merged into a host's own router: who lives, restarts, metrics.
//!
//! ```no_run
//! use std::sync::Arc;
//! use ebb_host::{control::{self, Access}, instances::Instances};
//!
//! # #[tokio::main] async fn main() -> std::io::Result<()> {
//! let instances = Arc::new(<Instances>::default());
//! let access = Access::with_token_of("/etc/ebb/token".as_ref())?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9742").await?;
//! axum::serve(listener, control::router(instances, access)).await
//! # }
//! ```

use std::{
    fmt, io,
    path::Path as FilePath,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest as _, Path, Request, State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use ebb_service::{auth, problem::Problem, quote::clipped, secret::BearerToken};
use ebb_units::{Generation, ModuleName, Replica};
use serde::{Deserialize, Serialize};

#[cfg(feature = "wasmtime")]
use crate::growth::OfBinary;
use crate::{
    exposition,
    instances::Instances,
    restart::{Reason, Refusal, Restarted},
};

/// The longest body of a request: an order is some thirty bytes.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// How long the body of an order may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client is told to wait when too many restarts are under way. They take milliseconds.
const RETRY_AFTER_SECONDS: &str = "1";

/// Who may order restarts.
#[derive(Clone, Debug)]
pub struct Access(Option<BearerToken>);

impl Access {
    /// Whoever reaches the listener, but no web page: for one that listens on loopback alone.
    pub const ANYONE: Self = Self(None);

    /// Whoever has the token that this file holds.
    ///
    /// # Errors
    /// When the file cannot be read, or does not hold one line of visible ASCII characters.
    pub fn with_token_of(file: &FilePath) -> io::Result<Self> {
        BearerToken::from_file(file).map(|token| Self(Some(token))).map_err(io::Error::other)
    }

    /// Whether a request with these headers may order a restart.
    ///
    /// # Errors
    /// What it is answered.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let checked = auth::check(headers, self.0.as_ref(), "this host");
        checked.map_err(|problem| Box::new(problem.into_response()))
    }
}

/// All that the host protocol asks for: [`instances_router`], and `GET /metrics` with what
/// [`InstancesCollector`](exposition::InstancesCollector) collects. A host with metrics of its own registers the collector among
/// these instead.
pub fn router<L: fmt::Debug + Send + Sync + 'static>(instances: Arc<Instances<L>>, access: Access) -> Router {
    let orders = instances_router(Arc::clone(&instances), move |headers| access.check(headers));
    orders.route("/metrics", get(async move |headers: HeaderMap| metrics(&instances, &headers)))
}

fn metrics<L: fmt::Debug + Send + Sync + 'static>(
    instances: &Arc<Instances<L>>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let (content_type, text) = exposition::answer(instances, &accept.collect::<Vec<_>>().join(","))
        .map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "a metric could not be written"))?;
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// `GET /api/v1/instances` and `POST /api/v1/instances/MODULE/REPLICA/restart` for `instances`. `may_order`: whether a
/// request with these headers may order a restart, or what it is answered; asked before anything is said about what exists.
pub fn instances_router<L: Send + Sync + 'static>(
    instances: Arc<Instances<L>>,
    may_order: impl Fn(&HeaderMap) -> Result<(), Box<Response>> + Clone + Send + Sync + 'static,
) -> Router {
    let authorize = move |request: Request, next: Next| {
        let refused = may_order(request.headers());
        async move {
            match refused {
                Ok(()) => next.run(request).await,
                Err(refusal) => *refusal,
            }
        }
    };
    Router::new()
        .route("/api/v1/instances/{module}/{replica}/restart", post(restart::<L>))
        .route_layer(middleware::from_fn(authorize))
        .route("/api/v1/instances", get(list::<L>))
        .merge(growth_router())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(instances)
}

/// `GET /api/v1/modules/MODULE/growth`.
#[cfg(feature = "wasmtime")]
fn growth_router<L: Send + Sync + 'static>() -> Router<Arc<Instances<L>>> {
    Router::new().route("/api/v1/modules/{module}/growth", get(growth::<L>))
}

/// What is grown is known of Wasmtime alone.
#[cfg(not(feature = "wasmtime"))]
fn growth_router<L: Send + Sync + 'static>() -> Router<Arc<Instances<L>>> {
    Router::new()
}

/// How growth is told, and of which binary.
#[cfg(feature = "wasmtime")]
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrowthQuery {
    #[serde(default)]
    format: GrowthFormat,
    /// The newest one's, if it is not said.
    digest: Option<String>,
}

#[cfg(feature = "wasmtime")]
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GrowthFormat {
    /// All that is known of each binary, the newest first.
    #[default]
    Json,
    /// The stacks of one binary, as flame graphs are made of.
    Folded,
    /// Likewise, as a protobuf of pprof.
    Pprof,
}

#[cfg(feature = "wasmtime")]
async fn growth<L: Send + Sync>(
    State(instances): State<Arc<Instances<L>>>,
    Path(name): Path<String>,
    query: Result<axum::extract::Query<GrowthQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let axum::extract::Query(GrowthQuery { format, digest }) = query.map_err(|rejection| {
        let expected = "expected format=json, folded or pprof, and digest=DIGEST";
        Problem::new(StatusCode::BAD_REQUEST, format!("{}: {expected}", clipped(&rejection.body_text())))
    })?;
    let modules = instances.modules();
    let module = modules.iter().find(|module| module.name.as_str() == name).ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("there is no module {:?}", clipped(&name)))
    })?;
    let growth = module.growth();
    let mut wanted = growth
        .iter()
        .filter(|(known, _)| digest.as_ref().is_none_or(|digest| *digest == known.to_string()))
        .map(|(digest, growth)| OfBinary { digest: digest.to_string(), growth: growth.report() });
    let mut newest = || {
        let has_not_run = || match &digest {
            Some(digest) => {
                format!("of module {name}, no binary with the digest {:?} has run", clipped(digest))
            }
            None => format!("of module {name}, no instance has run"),
        };
        wanted.next().ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, has_not_run()))
    };
    let (content_type, body) = match format {
        GrowthFormat::Json => return Ok(Json(wanted.collect::<Vec<_>>()).into_response()),
        GrowthFormat::Folded => ("text/plain; charset=utf-8", newest()?.growth.folded().into_bytes()),
        GrowthFormat::Pprof => ("application/octet-stream", newest()?.growth.pprof()),
    };
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
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

async fn list<L: Send + Sync>(State(instances): State<Arc<Instances<L>>>) -> Json<Vec<Instance>> {
    let modules = instances.modules();
    let instances = modules.iter().flat_map(|module| {
        let (version, slots) = (module.version(), module.slots());
        slots
            .iter()
            .map(|slot| {
                let live = slot.live();
                let progress = slot.progress();
                let version = live.as_ref().map_or(&*version, |live| &live.version);
                Instance {
                    module: module.name.clone(),
                    digest: version.digest.to_string(),
                    replica: slot.replica,
                    generation: live.as_ref().map(|live| live.generation),
                    state: progress.state.as_str(),
                    memory_bytes: live.as_ref().map(|live| live.meter.bytes().0),
                    memory_limit_bytes: version.memory_limit.0,
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

async fn restart<L: Send + Sync>(
    State(instances): State<Arc<Instances<L>>>,
    Path((name, replica)): Path<(String, String)>,
    request: Request,
) -> Result<(StatusCode, Json<RestartedBody>), Problem> {
    let received = Instant::now();
    let expected = if_match(request.headers())?;
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &()));
    let body = body.await.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "body: timed out"))?;
    let reason = reason(body)?;
    let unknown = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            format!(
                "no replica {} of a module {:?}; GET /api/v1/instances lists all instances",
                clipped(&replica),
                clipped(&name)
            ),
        )
    };
    let number: u32 = replica.parse().map_err(|_| unknown())?;
    let (module, slot) = instances.find(&name, Replica(number)).ok_or_else(unknown)?;
    let refused = |refusal| refused(&refusal, &module.name, slot.replica);
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

fn reason(body: Result<Bytes, BytesRejection>) -> Result<Reason, Problem> {
    let body = body.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Reason::Operator);
    }
    let order: OrderBody = serde_json::from_slice(&body).map_err(|error| {
        let expected = r#"expected {"reason": "threshold"}, "pressure" or "operator", or nothing"#;
        let error = clipped(&error.to_string());
        Problem::new(StatusCode::BAD_REQUEST, format!("body: {error}; {expected}"))
    })?;
    Ok(order.reason.into())
}

fn if_match(headers: &HeaderMap) -> Result<Option<Generation>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = || {
        Problem::new(
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

fn refused(refusal: &Refusal, module: &ModuleName, replica: Replica) -> Problem {
    let status = match refusal {
        Refusal::NotCurrent { .. } | Refusal::NothingRunning => StatusCode::PRECONDITION_FAILED,
        Refusal::Busy => StatusCode::CONFLICT,
        Refusal::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        Refusal::CouldNotStart(_) | Refusal::Closing => StatusCode::SERVICE_UNAVAILABLE,
    };
    let failure = Problem::new(status, format!("{module}/{replica}: {refusal}"));
    match refusal {
        Refusal::TooMany { .. } => failure.with(header::RETRY_AFTER, RETRY_AFTER_SECONDS),
        _ => failure,
    }
}
