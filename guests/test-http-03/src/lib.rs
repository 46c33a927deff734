//! As `test-http`, over WASI 0.3: one instance works on many requests at once. By path:
//!
//! | path | what happens |
//! | --- | --- |
//! | `/hello` | `hello` |
//! | `/count` | JSON: requests that this instance has begun, how many of them at once at most, its generation |
//! | `/headers` | JSON of what arrived: method, target with its host |
//! | `/echo` | the request's body, while it comes |
//! | `/pattern?bytes=N&seed=S` | the bytes of `test-http`'s; `&chunked`: without a length |
//! | `/announce?bytes=N&code=C` | status C, a `Content-Length` of N, and no body |
//! | `/grow?bytes=N` | holds N more bytes for as long as it lives |
//! | `/sleep?ms=N` | waits, then answers; the others go on |
//! | `/spin` | computes for ever, and nothing else goes on |
//! | `/never` | waits for ever |
//! | `/trap` | traps |
//! | `/fetch?url=U` | asks `U` itself; JSON of its status and body, or of the error |
//! | `/error` | answers with an error code instead of a response |
//! | `/trap-mid-body` | ten bytes, then that |

#[cfg(target_arch = "wasm32")]
mod service;
