//! The real runner, in-process or as a process: real Wasmtime, real HTTP on free loopback ports.

#![expect(clippy::unwrap_used)]

mod component;
mod exposition;
mod faults;
mod gauge;
mod guests;
mod process;
mod reload;
mod restart;
mod support;
