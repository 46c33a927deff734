//! HTTP requests between the [gateway](crate::gateway), which has the clients, and the
//! [guests](crate::guest).
//!
//! | module | subject |
//! | --- | --- |
//! | [`routes`] | pure: host and path → whose request it is |
//! | [`progress`] | pure: is an exchange making progress, and if not, who is to blame |
//! | [`state`] | one exchange, as the connection and the instance both see it |
//! | [`job`] | a request on its way to an instance |
//! | [`queue`] | a module's requests: waiting, or handed to an instance |
//! | [`worker`] | an instance's place in that queue: what it works on, and whether that moves |
//! | [`tail`] | what is left of an answer when its guest has returned |
//! | [`traffic`] | a module's counters |
//!
//! A request's way: `gateway → routes → queue → guest`; its response comes back through `state`.

pub(crate) mod job;
pub(crate) mod progress;
pub(crate) mod queue;
pub(crate) mod routes;
pub(crate) mod service;
pub(crate) mod state;
mod sync;
pub(crate) mod tail;
pub(crate) mod traffic;
pub(crate) mod worker;
