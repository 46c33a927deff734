//! The peer of a restart: a whole process that hosts one component, as `wasmtime run` does, and nothing else.
//! Its code comes out of Wasmtime's cache.

use std::{env, error::Error};

use wasmtime::{
    Cache, CacheConfig, Config, Engine, Store,
    component::{Component, Linker, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2::bindings::sync::Command};

struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("usage: bench-run-one COMPONENT")?;
    let mut cache = CacheConfig::new();
    cache.with_directory(ebb_testbed::paths::root().join("target/bench-cache"));
    let mut config = Config::new();
    config.cache(Some(Cache::new(cache)?));
    let engine = Engine::new(&config)?;
    let component = Component::from_file(&engine, path)?;
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    let wasi = WasiCtx::builder().inherit_stdio().inherit_env().build();
    let mut store = Store::new(&engine, Host { wasi, table: ResourceTable::new() });
    let command = Command::instantiate(&mut store, &component, &linker)?;
    let _ = command.wasi_cli_run().call_run(&mut store)?;
    Ok(())
}
