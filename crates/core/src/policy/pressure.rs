//! `largest_first`, `oldest_first`: when the host is short of memory, restart instances until it is not.
//!
//! Which ones is found in `decide/assessment/victims.rs`: it concerns more than one instance.

use std::collections::HashMap;

use ebb_units::{ByteCount, Millis, RunnerId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Restart on host memory pressure. By default, never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(inline)]
pub struct Pressure {
    /// The host is short of memory when less than this is available.
    pub available_below: ByteCount,
}

impl Pressure {
    /// The setting that has no default, and what it is.
    pub(super) const NEEDS: (&str, &str) =
        ("available_below", "the available memory below which a host is short of it, such as 512MiB");

    pub(super) fn summary(&self) -> String {
        format!("below {} available", self.available_below)
    }

    pub(super) fn describe(&self, name: &str) -> String {
        format!("policy {name} below {} available", self.available_below)
    }
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
