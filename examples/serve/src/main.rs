//! As `wasmtime serve`, with instances that live until they hold too much. What is Ebb's is marked.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, extract::Request, http::StatusCode};
use clap::Parser;
use ebb_host::{
    control::{self, Access},
    instances::{Instances, Module},
    limiter::Limiter,
    proxy_handler::{Pool, Timeouts},
    retire::{Retirement, RetirementConfig},
    slot::Version,
};
use ebb_units::{ByteCount, Digest};
use http_body_util::BodyExt as _;
use wasmtime::{
    Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
    error::Context as _,
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error as HttpError, WasiHttpCtx, WasiHttpCtxView, WasiHttpView, default_hooks, handler::ProxyPre,
    p2::bindings::ProxyPre as ProxyPre02,
};

/// Serves a component of `wasi:http` 0.2 over HTTP/1.1.
#[derive(Parser)]
struct Cli {
    /// Its file, and its name.
    component: PathBuf,
    /// Where to serve it.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where to take orders, and tell metrics.
    #[arg(long, default_value = "127.0.0.1:9742")]
    control: SocketAddr,
    /// File with the token that orders need.
    #[arg(long)]
    token_file: Option<PathBuf>,
    #[arg(long, default_value = "4")]
    replicas: NonZeroU32,
    /// Learn here which instances hold too much, and replace them.
    #[arg(long)]
    retire: bool,
}

struct Data {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    limiter: Limiter,
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

#[tokio::main]
async fn main() -> wasmtime::Result<()> {
    let cli = Cli::parse();
    let engine = Engine::new(Config::new().epoch_interruption(true))?;
    let binary = std::fs::read(&cli.component).with_context(|| cli.component.display().to_string())?;
    let mut linker = Linker::<Data>::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    let pre = linker.instantiate_pre(&Component::new(&engine, &binary)?)?;
    let pre = Arc::new(ProxyPre::P2(ProxyPre02::new(pre)?));
    let ticking = engine.weak();
    std::thread::spawn(move || {
        while let Some(engine) = ticking.upgrade() {
            engine.increment_epoch();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    // Ebb: the module, and a pool of its instances.
    let name = cli.component.file_stem().unwrap_or_default().to_string_lossy().parse()?;
    let version = Version { digest: Digest::of(&binary), memory_limit: ByteCount::mib(64) };
    let instances = Arc::new(Instances::default());
    let module = instances.add(Module::new(name, "http", version));
    let timeouts = Timeouts { queue: Duration::from_secs(10), request: Duration::from_secs(30) };
    let pool = Pool::new(&module, cli.replicas, timeouts, Data::http, move |limiter| {
        let (engine, pre) = (engine.clone(), Arc::clone(&pre));
        async move {
            let (wasi, http, table) = (WasiCtx::builder().build(), WasiHttpCtx::new(), ResourceTable::new());
            let mut store = Store::new(&engine, Data { wasi, http, table, limiter });
            store.limiter(|data| &mut data.limiter);
            store.epoch_deadline_async_yield_and_update(1);
            let proxy = pre.instantiate_async(&mut store).await?;
            Ok((store, proxy))
        }
    });
    let pool = Arc::new(pool);
    // Ebb: who decides, here or elsewhere.
    if cli.retire {
        let told = |retired: &ebb_host::retire::Retired, _: &_| eprintln!("{}", retired.why);
        tokio::spawn(Retirement::new(RetirementConfig::default()).run(Arc::clone(&instances), told));
    }
    let access = cli.token_file.as_deref().map_or(Ok(Access::ANYONE), Access::with_token_of)?;
    let listener = tokio::net::TcpListener::bind(cli.control).await.context(cli.control)?;
    tokio::spawn(axum::serve(listener, control::router(instances, access)).into_future());
    let listener = tokio::net::TcpListener::bind(cli.listen).await.context(cli.listen)?;
    eprintln!("listening on {}", listener.local_addr()?);
    let serve = async move |request: Request| {
        let request = request.map(|body| body.map_err(|_| HttpError::ConnectionTerminated).boxed_unsync());
        pool.handle(request).await.map_err(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")))
    };
    axum::serve(listener, Router::new().fallback(serve)).await?;
    Ok(())
}
