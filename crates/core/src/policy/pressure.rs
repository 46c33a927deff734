//! PURE: when the host is short of memory, restart instances until it is not; which first is the policy.
//!
//! Who they are is found in `assessment/victims.rs`: it concerns more than one instance.

use std::collections::HashMap;

use ebb_units::{ByteCount, Millis, RunnerId};
use serde::Serialize;

/// Restart on host memory pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pressure {
    /// The host is short of memory when less than this is available.
    pub available_below: ByteCount,
}

/// Which instance is restarted first when the host is short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum VictimOrder {
    /// The one that holds most.
    Largest,
    /// The one that has run longest.
    Oldest,
}

/// Memory of the host that a runner runs on, as the runner told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMemory {
    /// When it was told.
    pub at: Millis,
    /// All of it, in bytes.
    pub total_bytes: u64,
    /// What is available, in bytes.
    pub available_bytes: u64,
}

/// The newest host memory of each runner.
pub type Hosts = HashMap<RunnerId, HostMemory>;
