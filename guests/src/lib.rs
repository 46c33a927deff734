//! What the guests share: settings from environment variables, a small random source, and linear memory.
//!
//! Each guest is one file in `src/bin/`. [`settings`] and [`random`] are pure and are tested on the host;
//! `memory` exists on WebAssembly only.

#[cfg(target_arch = "wasm32")]
pub mod memory;
pub mod random;
pub mod settings;
