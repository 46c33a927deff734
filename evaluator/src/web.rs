//! The evaluator's own HTTP server: an API for programs, a page for operators.
//!
//! | file | subject |
//! | --- | --- |
//! | `api.rs` | health, metrics, reload, and JSON: what was learned, what was decided |
//! | `site.rs` | what a page needs, gathered; its rendering, sent |
//! | `page.rs`, `page/` | PURE: snapshot, decisions, extract → HTML |
//! | `assets/` | the page's style sheet and script |

mod api;
mod page;
mod site;

use std::sync::{Arc, atomic::AtomicUsize};

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware::map_response,
    response::Response,
};
use ebb_core::history::Extract;
use ebb_units::{Millis, SlotId};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{config::Config, evaluation::Sinks};

/// Asks the evaluation to reload its config; answers with the error, if any.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// Asks the evaluation for the memory of some slots over time, which it answers between two ticks.
#[derive(Debug)]
pub struct ExtractRequest {
    /// Which.
    pub slots: Vec<SlotId>,
    /// From when on.
    pub since: Millis,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Extract>,
}

/// Where the evaluation takes requests.
#[derive(Clone, Debug)]
pub struct EvaluatorHandle {
    /// For its config.
    pub reload: mpsc::Sender<ReloadRequest>,
    /// For its history.
    pub extract: mpsc::Sender<ExtractRequest>,
}

/// What the handlers read.
#[derive(Clone, Debug)]
pub struct Web {
    sinks: Sinks,
    registry: Arc<Registry>,
    config: watch::Receiver<Arc<Config>>,
    evaluator: EvaluatorHandle,
    exposition_bytes: Arc<AtomicUsize>,
}

impl Web {
    /// Serves `sinks`, and asks the `evaluator` for what they do not hold.
    #[must_use]
    pub fn new(
        sinks: Sinks,
        registry: Registry,
        config: watch::Receiver<Arc<Config>>,
        evaluator: EvaluatorHandle,
    ) -> Self {
        Self { sinks, registry: Arc::new(registry), config, evaluator, exposition_bytes: Arc::default() }
    }
}

/// All routes.
pub fn router(web: Web) -> Router {
    Router::new()
        .merge(site::routes())
        .merge(api::routes())
        .layer(map_response(harden))
        .layer(map_response(ebb_service::date::stamp))
        .with_state(web)
}

/// Nothing but our own style sheet and script is loaded or run, whatever a page may be made to contain.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
