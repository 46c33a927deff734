//! `wasmtime serve`, of the version that the runner is built on.

use std::time::Duration;

use ebb_testbed::{free_address, http, paths, process::Process, wait};
use tempfile::TempDir;

/// A running `wasmtime serve`. It ends with this value.
#[derive(Debug)]
pub(crate) struct WasmtimeServe {
    pub(crate) address: String,
    _process: Process,
    _dir: TempDir,
}

impl WasmtimeServe {
    /// Serves the component `hello`, with further `flags`.
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let program = paths::root().join("target/tools/bin/wasmtime");
        let program = paths::existing(program, "scripts/install-wasmtime.sh");
        let guest = paths::guest("hello");
        let address = free_address();
        let dir = TempDir::new().expect("a temporary folder can be made");
        // A component that Rust made for WASI 0.2 asks for the command line's interfaces, too.
        let mut args = vec!["serve", "-Scli", "--addr", &address];
        args.extend(flags);
        args.push(guest.to_str().expect("the repository's path is text"));
        let process = Process::start(&program, args, &dir.path().join("wasmtime.log"));
        let url = format!("http://{address}/");
        wait::until("wasmtime serves", Duration::from_secs(60), async || http::text(&url).await).await;
        Self { address, _process: process, _dir: dir }
    }
}
