//! A plain Wasmtime embedding whose instances Ebb looks after: `embedder ADDRESS MODULE.wasm REPLICAS [TOKEN-FILE]`.
//!
//! Each replica is a core module whose exported function `leak` is called ten times a second, for ever. What is Ebb's is marked.

use std::{path::Path, sync::Arc, time::Duration};

use ebb_host::{
    control::{self, Access},
    instances::{Instances, Module},
    keeper::{self, Next},
    lifecycle::BackoffPolicy,
    limiter::Limiter,
    slot::Version,
};
use ebb_units::{ByteCount, Digest};
use tokio::{net::TcpListener, task::JoinSet};
use wasmtime::{Engine, Instance, Store, error::Context as _};

#[tokio::main]
async fn main() -> wasmtime::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, path, replicas, token) = match arguments.as_slice() {
        [address, path, replicas] => (address, Path::new(path), replicas.parse::<u32>()?, None),
        [address, path, replicas, token] => {
            (address, Path::new(path), replicas.parse()?, Some(Path::new(token)))
        }
        _ => wasmtime::bail!("expected ADDRESS MODULE.wasm REPLICAS [TOKEN-FILE]"),
    };
    let engine = Engine::default();
    let binary = wat::parse_file(path)?;
    let module = wasmtime::Module::new(&engine, &binary)?;

    // Ebb: the module, by its name and what its instances may hold.
    let name = path.file_stem().unwrap_or_default().to_string_lossy().parse()?;
    let digest = Digest::of(&binary);
    let instances = Arc::new(Instances::default());
    let kept =
        instances.add(Module::new(name, "command", Version { digest, memory_limit: ByteCount::mib(64) }));
    for _ in 0..replicas {
        // Ebb: a slot for each replica, and how to fill it.
        let start = {
            let (engine, module) = (engine.clone(), module.clone());
            move |next| {
                let (engine, module) = (engine.clone(), module.clone());
                async move { start(&engine, &module, next).inspect_err(|error| eprintln!("{error:#}")) }
            }
        };
        tokio::spawn(keeper::keep(Arc::clone(&kept), kept.add_slot(), BackoffPolicy::default(), start));
    }

    // Ebb: what the evaluator and Prometheus ask for.
    let access = token.map_or(Ok(Access::ANYONE), Access::with_token_of)?;
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    eprintln!("listening on {}", listener.local_addr()?);
    axum::serve(listener, control::router(instances, access)).await?;
    Ok(())
}

/// Starts an instance; it ends when what is returned is dropped.
fn start(engine: &Engine, module: &wasmtime::Module, next: Next) -> wasmtime::Result<JoinSet<()>> {
    // Ebb: the store is limited by what the slot gives.
    let mut store: Store<Limiter> = Store::new(engine, next.limiter());
    store.limiter(|limiter| limiter);
    let instance = Instance::new(&mut store, module, &[])?;
    let leak = instance.get_typed_func::<(), ()>(&mut store, "leak")?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut turns = tokio::time::interval(Duration::from_millis(100));
        loop {
            turns.tick().await;
            if let Err(trap) = leak.call(&mut store, ()) {
                // Ebb: it ended by itself, and is to be started again.
                eprintln!("{trap:#}");
                return next.ending.crashed(format_args!("{trap:#}"));
            }
        }
    });
    Ok(task)
}
