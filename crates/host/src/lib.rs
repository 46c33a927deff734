//! What a host of long-lived WebAssembly instances needs so that Ebb can look after their memory. It knows nothing of how
//! instances are made, fed or ended.
//!
//! | module | subject |
//! | --- | --- |
//! | [`meter`] | how much memory an instance holds, exactly; and that it stays within its limit |
//! | [`slot`] | one replica's place: the lifetime that is live there, and one order at a time |
//! | [`restart`] | orders, and what becomes of them |
//! | [`permits`] | how many restarts of a module may be under way at once |
//! | [`instances`] | modules and their slots |
//! | [`exposition`] | all of this as metrics |
//! | [`control`] | all of this over HTTP: who lives, and restarts |
//!
//! A host keeps a [`Module`](instances::Module) for each module and a [`Slot`](slot::Slot) for each replica in
//! [`Instances`](instances::Instances). It limits each store by a [`Limiter`](meter::Limiter), says in the slot when a lifetime begins and
//! ends ([`Slot::set_live`](slot::Slot::set_live)), and carries out what it finds in the slot's mailbox
//! ([`Slot::next_order`](slot::Slot::next_order)).

pub mod control;
pub mod exposition;
pub mod instances;
pub mod meter;
pub mod permits;
pub mod restart;
pub mod slot;
