//! The page for operators: gathers what it needs, has it rendered, sends it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use ebb_core::{
    decide::judgement::Judgement,
    history::{Extract, TRACES_MAX},
};
use ebb_service::quote;
use ebb_units::Millis;
use maud::Markup;
use serde::Deserialize;
use tokio::{sync::oneshot, time::timeout};

use super::{
    flame_graph,
    page::{self, Listing, PageContext, PageData, PageQuery},
    state::{ExtractRequest, Web},
};
use crate::{config::Config, decisions::Decision, growth::ModuleGrowth, snapshot::Snapshot};

/// Decisions that stand on another page than their own.
const DECISIONS: usize = 10;

/// How long the history is waited for. The evaluation gives it out between two ticks, and a tick that waits for the
/// store may take long: the page is then sent without charts.
const EXTRACT_WITHIN: Duration = Duration::from_secs(2);

/// How long runners are waited for that are to report growth. The page is then sent without it.
const GROWTH_WITHIN: Duration = Duration::from_secs(3);

/// Its style and script stand in the picture. Opened by itself it is a page of nobody's: what runs there reaches nothing.
const FLAME_GRAPH_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts allow-modals";

const STYLE: &str = include_str!("assets/page.css");
const SCRIPT: &str = include_str!("assets/page.js");

/// Its routes.
pub(super) fn routes() -> Router<Web> {
    Router::new()
        .route("/", get(overview))
        .route("/modules", get(|| async { Redirect::permanent("/") }))
        .route("/modules/{module}", get(module))
        .route("/modules/{module}/growth.svg", get(flame_graph))
        .route("/modules/{module}/{replica}", get(instance))
        .route("/decisions", get(decisions))
        .route("/advice", get(advice))
        .route("/config", get(config))
        .route("/assets/page.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/assets/page.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
}

fn asset(content_type: &'static str, content: &'static str) -> Response {
    // They change with the program, which a cache does not know of.
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-cache")];
    (headers, content).into_response()
}

/// What an address asks for, or why it cannot be told.
type QueryResult = Result<Query<PageQuery>, QueryRejection>;

/// What a request is answered from: as it is at this moment.
struct RequestContext {
    snapshot: Arc<Snapshot>,
    config: Arc<Config>,
    now: Millis,
}

impl RequestContext {
    fn of(web: &Web) -> Self {
        Self {
            snapshot: web.sinks.board.newest(),
            config: Arc::clone(&web.config.borrow()),
            now: Millis::from(SystemTime::now()),
        }
    }

    fn context(&self) -> PageContext<'_> {
        PageContext { snapshot: &self.snapshot, config: &self.config, now: self.now }
    }

    fn not_found(&self, what: &str) -> Response {
        let what = quote::clipped(what);
        let message = format!(
            "{what} has no instance that was seen within {}, and no decision on it is kept.",
            self.config.lookback
        );
        send(StatusCode::NOT_FOUND, self.context().problem("Not found", &message))
    }

    fn refused(&self, rejection: &QueryRejection) -> Response {
        let message = quote::clipped(&rejection.body_text());
        send(StatusCode::BAD_REQUEST, self.context().problem("Unknown query parameter", &message))
    }
}

fn send(status: StatusCode, page: Markup) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], page).into_response()
}

async fn overview(State(web): State<Web>, query: QueryResult) -> Response {
    let request = RequestContext::of(&web);
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return request.refused(&rejection),
    };
    let decisions = web.sinks.journal.newest(DECISIONS, |_| true);
    let data = PageData { decisions: &decisions, extract: None, growth: None };
    send(StatusCode::OK, page::overview(&request.context(), &query, data))
}

async fn module(State(web): State<Web>, Path(module): Path<String>, query: QueryResult) -> Response {
    let request = RequestContext::of(&web);
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return request.refused(&rejection),
    };
    let listing = Listing::new(&request.snapshot, &module, &query);
    let of_module = |decision: &Decision| *decision.judgement.slot.population.module == *module;
    let decisions = web.sinks.journal.newest(DECISIONS, of_module);
    let (extract, growth) = tokio::join!(
        extract(&web, &request, &query, &listing.instances),
        timeout(GROWTH_WITHIN, growth(&web, &request, &module))
    );
    let growth = growth.ok().flatten();
    let data = PageData { decisions: &decisions, extract: extract.as_ref(), growth: growth.as_deref() };
    match page::module(&request.context(), &module, &query, &listing, data) {
        Some(page) => send(StatusCode::OK, page),
        None => request.not_found(&format!("Module {module}")),
    }
}

async fn instance(
    State(web): State<Web>,
    Path((module, replica)): Path<(String, String)>,
    query: QueryResult,
) -> Response {
    let request = RequestContext::of(&web);
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return request.refused(&rejection),
    };
    let name = format!("{module}/{replica}");
    let Ok(replica) = replica.parse() else { return request.not_found(&name) };
    let wanted = PageQuery {
        module: Some(module.clone()),
        replica: Some(replica),
        instance: query.instance.clone(),
        ..PageQuery::default()
    };
    let is_wanted = |judgement: &&Judgement| {
        let slot = &judgement.slot;
        *slot.population.module == *module
            && slot.replica == replica
            && query.instance.as_deref().is_none_or(|name| slot.runner.is_named(name))
    };
    // The same replica lives on as many runners as there are.
    let instances: Vec<_> = request.snapshot.instances.iter().filter(is_wanted).take(TRACES_MAX).collect();
    let decisions = web.sinks.journal.newest(DECISIONS, |decision| page::wants(&wanted, decision));
    let extract = extract(&web, &request, &query, &instances).await;
    let data = PageData { decisions: &decisions, extract: extract.as_ref(), growth: None };
    match page::instance(&request.context(), (&module, replica), &query, &instances, data) {
        Some(page) => send(StatusCode::OK, page),
        None => request.not_found(&name),
    }
}

async fn decisions(State(web): State<Web>, query: QueryResult) -> Response {
    let request = RequestContext::of(&web);
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return request.refused(&rejection),
    };
    // The journal itself is bounded.
    let found = web.sinks.journal.newest(usize::MAX, |decision| page::wants(&query, decision));
    send(StatusCode::OK, page::decisions(&request.context(), &query, &found))
}

async fn advice(State(web): State<Web>) -> Response {
    let request = RequestContext::of(&web);
    let advised = web.adviser.advised(&request.config);
    send(StatusCode::OK, page::advice(&request.context(), &advised))
}

async fn config(State(web): State<Web>) -> Response {
    let request = RequestContext::of(&web);
    send(StatusCode::OK, page::settings(&request.context()))
}

/// Where the memory of `module` grows; none if no runner hosts it.
async fn growth(web: &Web, request: &RequestContext, module: &str) -> Option<Arc<ModuleGrowth>> {
    let of_module = |judgement: &&Judgement| *judgement.slot.population.module == *module;
    let slots = request.snapshot.instances.iter().filter(of_module).map(|judgement| &judgement.slot);
    let name = Arc::clone(&slots.clone().next()?.population.module);
    let runners: BTreeSet<_> = slots.map(|slot| Arc::clone(&slot.runner.address)).collect();
    Some(web.growth.growth(&name, runners.into_iter().collect(), &request.config.runners).await)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlameGraphQuery {
    digest: String,
}

async fn flame_graph(
    State(web): State<Web>,
    Path(module): Path<String>,
    query: Result<Query<FlameGraphQuery>, QueryRejection>,
) -> Response {
    let request = RequestContext::of(&web);
    let Query(FlameGraphQuery { digest }) = match query {
        Ok(query) => query,
        Err(rejection) => return request.refused(&rejection),
    };
    let growth = growth(&web, &request, &module).await;
    let (name, wanted) = (module.clone(), digest.clone());
    let draw = move || flame_graph::svg(&name, growth?.of(&wanted)?);
    match tokio::task::spawn_blocking(draw).await.ok().flatten() {
        Some(svg) => {
            let headers = [
                (header::CONTENT_TYPE, "image/svg+xml"),
                (header::CACHE_CONTROL, "no-store"),
                (header::CONTENT_SECURITY_POLICY, FLAME_GRAPH_POLICY),
            ];
            (headers, svg).into_response()
        }
        None => request.not_found(&format!("Growth of module {module} with digest {digest}")),
    }
}

/// The memory of the first of `instances` over time; none when the evaluation does not answer in time.
async fn extract(
    web: &Web,
    request: &RequestContext,
    query: &PageQuery,
    instances: &[&Judgement],
) -> Option<Extract> {
    let slots = instances.iter().take(TRACES_MAX).map(|judgement| judgement.slot.clone()).collect();
    let since = request.now.minus(query.chart_span(request.config.lookback).as_elapsed());
    let (answer, answered) = oneshot::channel();
    let ask = async {
        web.evaluator.extract.send(ExtractRequest { slots, since, answer }).await.ok()?;
        answered.await.ok()
    };
    timeout(EXTRACT_WITHIN, ask).await.ok().flatten()
}
