//! Does to its runner what a guest can do. By path:
//!
//! | path | what happens |
//! | --- | --- |
//! | `/hello` | `hello` |
//! | `/headers` | JSON of what arrived: method, scheme, authority, target, headers |
//! | `/count` | JSON: requests that this instance has begun, its replica, its generation |
//! | `/status?code=N` | that status |
//! | `/echo` | the request's body, while it comes |
//! | `/sum` | JSON of the request's body: bytes, SHA-256 |
//! | `/unread` | an answer at once, the body unread |
//! | `/pattern?bytes=N&seed=S` | N bytes, byte `i` of which is `(seed + i) · 31 + (i >> 8)`, modulo 256; `&chunked`: without a length |
//! | `/announce?bytes=N&code=C` | status C, a `Content-Length` of N, and no body: right for HEAD and 304 |
//! | `/grow?bytes=N` | holds N more bytes for as long as it lives; JSON of all that it holds |
//! | `/sleep?ms=N` | waits, then answers |
//! | `/sleep-after?ms=N` | answers, then waits |
//! | `/spin` | computes for ever |
//! | `/never` | waits for ever |
//! | `/silent` | returns without an answer |
//! | `/unfinished` | ten bytes, and returns without ending its answer |
//! | `/trap` | traps |
//! | `/exit` | leaves with exit code 0 |
//! | `/trap-mid-body`, `/spin-mid-body` | ten bytes, then that |
//! | `/fetch?url=U` | asks `U` itself; JSON of its status and body, or of the error |

#[cfg(target_arch = "wasm32")]
mod fetch;
#[cfg(target_arch = "wasm32")]
mod service;
