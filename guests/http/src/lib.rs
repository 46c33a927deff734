//! What the HTTP guests share, over the bindings of wasi:http 0.2.
//!
//! [`target`] is pure and is tested on the host; `exchange` exists on WebAssembly only.

#[cfg(target_arch = "wasm32")]
pub mod exchange;
pub mod target;
