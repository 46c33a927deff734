//! The runner's parsers of bytes from outside, compiled without the rest of it: Wasmtime would take half an hour to build
//! with instrumentation.

#[path = "../../runner/src/config/mod.rs"]
pub mod config;
#[path = "../../runner/src/fuzzing.rs"]
pub mod fuzzing;
#[path = "../../runner/src/lifecycle.rs"]
pub mod lifecycle;
#[path = "../../runner/src/gateway/protocol.rs"]
mod protocol;
#[path = "../../runner/src/exchange/routes.rs"]
pub mod routes;

pub mod gateway {
    pub(crate) use crate::protocol;
}

pub mod exchange {
    pub use crate::routes;
}
