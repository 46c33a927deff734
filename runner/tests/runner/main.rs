//! The real runner, in-process or as a process: real Wasmtime, real HTTP on free loopback ports.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod component;
mod exposition;
mod faults;
mod gauge;
mod guests;
mod process;
mod reload;
mod restart;
mod support;
