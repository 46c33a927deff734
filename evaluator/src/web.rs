//! The evaluator's own HTTP server: an API for programs, a page for operators.
//!
//! | file | subject |
//! | --- | --- |
//! | `state.rs` | what the handlers read, and what they ask the evaluation for |
//! | `api.rs` | health, metrics, reload, and JSON: what was learned, what was decided |
//! | `site.rs` | what a page needs, gathered; its rendering, sent |
//! | `flame_graph.rs` | PURE: where memory grew → SVG |
//! | `page.rs`, `page/` | PURE: snapshot, decisions, extract → HTML |
//! | `assets/` | the page's style sheet and script |

mod api;
mod flame_graph;
mod page;
mod site;
mod state;

use axum::{
    Router,
    http::{HeaderValue, header},
    middleware::map_response,
    response::Response,
};

pub(crate) use self::state::{EvaluatorHandle, ExtractRequest, ReloadRequest, Web};

/// All routes.
pub(crate) fn router(web: Web) -> Router {
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
    // A flame graph has its own, which is as strict.
    let policy = headers.entry(header::CONTENT_SECURITY_POLICY);
    policy.or_insert(HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
