//! The peer of `examples/serve`: the same server without `ebb-host`. An instance serves until the process ends.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{Router, extract::Request, http::StatusCode};
use http_body_util::BodyExt as _;
use tokio::{net::TcpListener, sync::Semaphore, time::Sleep};
use wasmtime::{
    Config, Engine, Store, StoreContextMut,
    component::{Component, GuestTaskId, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, WasiHttpCtx, WasiHttpCtxView, WasiHttpView, default_hooks,
    handler::{
        HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState,
        WorkerStatus,
    },
    p2::bindings::ProxyPre as ProxyPre02,
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

struct Data {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Data {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: default_hooks() }
    }
}

struct Server {
    engine: Engine,
    pre: ProxyPre<Data>,
}

impl HandlerState for Server {
    type StoreData = Data;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<Data, Expiration, Worker>> {
        let (wasi, http, table) = (WasiCtx::builder().build(), WasiHttpCtx::new(), ResourceTable::new());
        let mut store = Store::new(&self.engine, Data { wasi, http, table });
        store.epoch_deadline_async_yield_and_update(1);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        let expiration = Expiration(Box::pin(tokio::time::sleep(Duration::ZERO)));
        Ok(Instance { store, proxy, view: Data::http, expiration, state: Worker })
    }
}

struct Worker;

impl WorkerState for Worker {
    type StoreData = Data;
    type RequestData = ();

    fn should_accept_request(&self, concurrent: usize, _: usize) -> ShouldAccept {
        if concurrent < 1 { ShouldAccept::Yes } else { ShouldAccept::No }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, Data>,
        (): (),
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        Box::pin(tokio::time::sleep(REQUEST_TIMEOUT))
    }

    fn drop(&self, _: Store<Data>, _: wasmtime::Result<()>) {}
}

struct Expiration(Pin<Box<Sleep>>);

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        since: Instant,
    ) -> Poll<()> {
        if status == WorkerStatus::Idle {
            return Poll::Pending;
        }
        let until = (since + REQUEST_TIMEOUT + Duration::from_secs(1)).into();
        if self.0.deadline() != until {
            self.0.as_mut().reset(until);
        }
        self.0.as_mut().poll(context)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, replicas, component] = arguments.as_slice() else {
        return Err("usage: bench-serve-bare ADDRESS REPLICAS COMPONENT".into());
    };
    let engine = Engine::new(Config::new().epoch_interruption(true))?;
    let mut linker = Linker::<Data>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    let pre = linker.instantiate_pre(&Component::from_file(&engine, component)?)?;
    let pre = ProxyPre::P2(ProxyPre02::new(pre)?);
    let ticking = engine.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(10));
            ticking.increment_epoch();
        }
    });
    let handler = ProxyHandler::new(Server { engine, pre });
    let permits = Arc::new(Semaphore::new(replicas.parse()?));
    let listener = TcpListener::bind(address).await?;
    let serve = async move |request: Request| {
        let _permit = permits.acquire().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let request = request.map(|body| body.map_err(|_| HttpError::ConnectionTerminated).boxed_unsync());
        handler.handle((), request).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    };
    axum::serve(listener, Router::new().fallback(serve)).await?;
    Ok(())
}
