//! HTTP requests between the [gateway](crate::gateway), which has the clients, and the
//! [guests](crate::guest).
//!
//! | module | subject |
//! | --- | --- |
//! | [`routes`] | pure: host and path → whose request it is |
//! | [`progress`] | pure: is an exchange making progress, and if not, who is to blame |
//! | [`call`] | one exchange, as the connection and the instance both see it |
//! | [`queue`] | a module's requests: waiting, or handed to an instance |
//! | [`worker`] | an instance's place in that queue: what it works on, and whether that moves |
//! | [`tail`] | what is left of an answer when its guest has returned |
//! | [`traffic`] | a module's counters |
//!
//! A request's way: `gateway → routes → queue → guest`; its response comes back through `call`.

pub mod call;
pub mod progress;
pub mod queue;
pub mod routes;
pub mod service;
pub mod tail;
pub mod traffic;
pub mod worker;

/// A request as an instance takes it.
pub type Request = http::Request<wasmtime_wasi_http::WasiBody>;

/// The head of a response; its body is kept in the [`call`].
pub type ResponseHead = http::Response<()>;
