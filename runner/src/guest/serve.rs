//! A lifetime that serves: requests from its worker, one after another (WASI 0.2) or several at once (0.3).

use std::sync::{Arc, Mutex, PoisonError};

use futures::stream::{FuturesUnordered, StreamExt as _};
use http::{
    Method,
    uri::{Authority, Scheme},
};
use wasmtime::{AsContextMut as _, Store, component::Accessor};
use wasmtime_wasi_http::{
    WasiHttpView as _,
    handler::{Prepared, Proxy},
    p2::bindings::{Proxy as Proxy02, http::types as types_02},
    p3::bindings::http::types as types_03,
};

use super::{
    end::{End, end_of},
    state::GuestState,
};
use crate::exchange::{
    job::{Job, Request},
    state::{Exchange, Fault},
    worker::Worker,
};

/// How a lifetime ends that has returned from a request without a response.
const NO_RESPONSE: &str = "it returned from a request without setting a response; a component that can serve one \
                           request only (fetch-event JavaScript, say) cannot live on";

/// Serves until the guest ends. The caller decides when that is too long.
pub(super) async fn serve(store: &mut Store<GuestState>, proxy: &Proxy, worker: &Worker) -> End {
    match proxy {
        Proxy::P2(proxy) => loop {
            let job = worker.next().await;
            let exchange = Arc::clone(&job.exchange);
            if let Err(error) = handle_02(store, proxy, job).await {
                exchange.fail(Fault::Gone);
                return end_of(Err(error));
            }
            if exchange.fault() == Some(Fault::NoResponse) {
                return End::Crash(NO_RESPONSE.to_owned());
            }
            worker.done(&exchange);
            // There may always be another request; the connections of these have their turn, too.
            tokio::task::coop::consume_budget().await;
        },
        Proxy::P3(_) => {
            let served = store.run_concurrent(async |accessor| serve_03(accessor, proxy, worker).await).await;
            end_of(served.and_then(|served| served))
        }
    }
}

/// Hands one request to the guest, and returns when the guest has returned.
async fn handle_02(store: &mut Store<GuestState>, proxy: &Proxy02, job: Job) -> wasmtime::Result<()> {
    let Job { request, exchange, reply } = job;
    let state = store.data_mut();
    state.answers_head = request.method() == Method::HEAD;
    let route = state.limiter.request(request.method().as_str(), request.uri().path());
    state.limiter.serve(route);
    let mut view = store.data_mut().http();
    let request = view.new_incoming_request(types_02::Scheme::Http, request)?;
    // On both sides, because a guest that returns without a response leaves its side where it is.
    let reply = Arc::new(Mutex::new(Some(reply)));
    let take = |reply: &Mutex<Option<_>>| reply.lock().unwrap_or_else(PoisonError::into_inner).take();
    let response = view.new_response_outparam_from_callback({
        let (reply, exchange) = (Arc::clone(&reply), Arc::clone(&exchange));
        move |outcome| {
            let Some(reply) = take(&reply) else { return };
            match outcome {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    exchange.set_body(body);
                    // Whoever waited may have gone.
                    drop(reply.send(http::Response::from_parts(head, ())));
                }
                Err(code) => exchange.fail(Fault::Code(format!("{code:?}"))),
            }
        }
    })?;
    proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, response).await?;
    store.data_mut().limiter.serve(None);
    if take(&reply).is_some() {
        exchange.fail(Fault::NoResponse);
    } else {
        exchange.detach_body();
    }
    Ok(())
}

/// Works on as many requests as the worker gives. Returns only with the guest's end.
async fn serve_03(accessor: &Accessor<GuestState>, proxy: &Proxy, worker: &Worker) -> wasmtime::Result<()> {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(handled) = under_way.next(), if !under_way.is_empty() => {
                let exchange: Arc<Exchange> = handled?;
                worker.done(&exchange);
            }
            job = worker.next() => under_way.push(handle_03(accessor, proxy, job)),
        }
    }
}

/// Hands one request to the guest, and returns when its response was sent or has failed.
async fn handle_03(
    accessor: &Accessor<GuestState>,
    proxy: &Proxy,
    job: Job,
) -> wasmtime::Result<Arc<Exchange>> {
    let Job { request, exchange, reply } = job;
    let request = absolute(request);
    let (sender, response) = futures::channel::oneshot::channel();
    let (prepared, task) = accessor.with(|mut store| {
        let limiter = &mut store.get().limiter;
        let route = limiter.request(request.method().as_str(), request.uri().path());
        let prepared = Prepared::new(store.as_context_mut(), proxy, request, GuestState::http, sender)?;
        let task = match &prepared {
            Prepared::P2 { call, .. } => call.task(),
            Prepared::P3 { call, .. } => call.task(),
        };
        wasmtime::error::Ok((prepared, store.get().begin_task(task, route)))
    })?;
    prepared.run(accessor, std::future::pending()).await?;
    match response.await {
        Ok(Ok(response)) => {
            let (head, body) = response.into_parts();
            exchange.set_body(body);
            if reply.send(http::Response::from_parts(head, ())).is_ok() {
                // The guest goes on writing its body.
                exchange.until_client_done().await;
            }
        }
        Ok(Err(error)) => match error.downcast_ref::<types_03::ErrorCode>() {
            Some(code) => exchange.fail(Fault::Code(format!("{code:?}"))),
            None => return Err(error),
        },
        Err(_) => exchange.fail(Fault::NoResponse),
    }
    accessor.with(|mut store| store.get().end_task(task));
    Ok(exchange)
}

/// The request with the host that it asks for in its target: WASI 0.3 takes it from there, and hides the
/// `Host` header.
fn absolute(mut request: Request) -> Request {
    if request.uri().authority().is_some() {
        return request;
    }
    let host = request.headers().get(http::header::HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = request.uri().clone().into_parts();
    if let Some(authority) = authority {
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(authority);
        // `*` and the like cannot follow a host; such a target stays as it is.
        if let Ok(uri) = http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty};

    use super::*;

    fn request(target: &str, host: &str) -> Request {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        http::Request::builder().uri(target).header("host", host).body(body).unwrap()
    }

    #[test]
    fn a_request_names_its_host() {
        assert_eq!(absolute(request("/a?b", "c:80")).uri(), "http://c:80/a?b");
        assert_eq!(absolute(request("http://d/a", "c")).uri(), "http://d/a");
        assert_eq!(absolute(request("/a", "not a host")).uri(), "/a");
    }
}
