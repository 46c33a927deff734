//! What the HTTP guests share.
//!
//! [`target`] and [`pattern`] are pure and are tested on the host; `exchange`, over the bindings of wasi:http
//! 0.2, exists on WebAssembly only.

#[cfg(target_arch = "wasm32")]
pub mod exchange;
pub mod pattern;
pub mod target;
