//! The runner's parsers of bytes from outside, compiled without the rest of it: Wasmtime would take half an hour to build
//! with instrumentation.

#![expect(dead_code, unused_imports, reason = "what only the rest of the runner uses")]

#[path = "../../runner/src/config/mod.rs"]
mod config;
#[path = "../../runner/src/fuzzing.rs"]
mod fuzzing;
#[path = "../../runner/src/gateway/protocol.rs"]
mod protocol;
#[path = "../../runner/src/exchange/routes.rs"]
mod routes;

mod gateway {
    pub(crate) use crate::protocol;
}

mod exchange {
    pub(crate) use crate::routes;
}

pub fn runner_config(data: &[u8]) {
    fuzzing::runner_config(data);
}

pub fn gateway_request(data: &[u8]) {
    fuzzing::gateway_request(data);
}
