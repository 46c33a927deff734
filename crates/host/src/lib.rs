//! What a host of long-lived WebAssembly instances needs so that Ebb can look after their memory. It knows nothing of how
//! instances are made, fed or ended; it configures no engine, and brings no allocator and no runtime. Its limiter is one for Wasmtime 48.
//!
//! | module | feature | subject |
//! | --- | --- | --- |
//! | [`meter`] | | how much memory an instance holds |
//! | [`limiter`] | `wasmtime` | a limiter of a store that keeps a meter, exactly, and the instance within its limit |
//! | [`growth`] | `wasmtime` | which functions made memory grow |
//! | [`instances`] | | modules and their slots |
//! | [`slot`] | | one replica's place: the lifetime that is live there, and one order at a time |
//! | [`lifecycle`] | | PURE: what a slot does next |
//! | [`keeper`] | | keeps a slot alive with one async function of the host |
//! | [`restart`] | | orders, and what becomes of them |
//! | [`permits`] | | how many restarts of a module may be under way at once |
//! | [`exposition`] | | all of this as metrics |
//! | [`control`] | `http` | all of this over HTTP: who lives, restarts, metrics |
//! | [`otel`] | `opentelemetry` | all of this as metrics, through OpenTelemetry |
//! | [`retire`] | `retire` | which instances are to be replaced, learned in the host's own process |
//! | [`proxy_handler`] | `proxy-handler` | instances behind Wasmtime's `ProxyHandler` that can be replaced |
//!
//! A host keeps a [`Module`](instances::Module) for each module and a [`Slot`](slot::Slot) for each replica in
//! [`Instances`](instances::Instances), and limits each store by a [`Limiter`](limiter::Limiter). [`keeper::keep`] does the rest; a
//! host that wants to do it itself says in the slot when a lifetime begins and ends ([`Slot::set_live`](slot::Slot::set_live)), and
//! carries out what it finds in the slot's mailbox ([`Slot::next_order`](slot::Slot::next_order)).

mod chance;
#[cfg(feature = "http")]
pub mod control;
pub mod exposition;
#[cfg(feature = "wasmtime")]
pub mod growth;
pub mod instances;
pub mod keeper;
pub mod lifecycle;
#[cfg(feature = "wasmtime")]
pub mod limiter;
pub mod meter;
#[cfg(feature = "opentelemetry")]
pub mod otel;
pub mod permits;
#[cfg(feature = "proxy-handler")]
pub mod proxy_handler;
pub mod restart;
#[cfg(feature = "retire")]
pub mod retire;
pub mod slot;
