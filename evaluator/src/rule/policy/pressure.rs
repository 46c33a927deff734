//! PURE: when the host is short of memory, restart instances until it is not; which first is the policy.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use ebb_service::units::ByteCount;
use serde::Serialize;

use crate::{
    rule::verdict::{Judgement, Verdict},
    units::Millis,
};

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

/// The newest host memory of each runner, by the runner's address.
pub type Hosts = HashMap<Arc<str>, HostMemory>;

/// An instance that may be restarted under pressure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its place among the judgements.
    pub(crate) index: usize,
    /// Which goes first.
    pub(crate) order: VictimOrder,
    /// When its host is short of memory.
    pub(crate) available_below: ByteCount,
}

/// Turns the verdicts of as many `candidates` into [`Verdict::HostShortOfMemory`] as bring their hosts' available
/// memory back above the limit. What other restarts asked for give back counts first.
pub(crate) fn choose_victims(
    judgements: &mut [Judgement],
    mut candidates: Vec<Candidate>,
    hosts: &Hosts,
    now: Millis,
    stale_after_millis: i64,
) {
    if candidates.is_empty() {
        return;
    }
    // Runners at one address that see the same total share one host: each would else make up for all of it.
    let mut available: HashMap<(Arc<str>, u64), (Millis, u64)> = HashMap::new();
    let host_of = |runner: &Arc<str>| {
        let memory = hosts.get(runner).filter(|memory| now.since(memory.at) <= stale_after_millis)?;
        let address = runner.rsplit_once(':').map_or(&**runner, |(address, _)| address);
        Some(((Arc::from(address), memory.total_bytes), memory))
    };
    for runner in hosts.keys() {
        if let Some((host, memory)) = host_of(runner) {
            let newest = (memory.at, memory.available_bytes);
            let known = available.entry(host).or_insert(newest);
            if newest.0 > known.0 || (newest.0 == known.0 && newest.1 < known.1) {
                *known = newest;
            }
        }
    }
    for judgement in judgements.iter().filter(|judgement| judgement.verdict.asks_for_restart()) {
        if let Some(known) = host_of(&judgement.slot.runner).and_then(|(host, _)| available.get_mut(&host)) {
            known.1 = known.1.saturating_add(judgement.reclaimable_bytes);
        }
    }
    candidates.sort_by_key(|candidate| {
        let judgement = &judgements[candidate.index];
        let worst = match candidate.order {
            VictimOrder::Largest => judgement.memory_bytes,
            VictimOrder::Oldest => u64::try_from(judgement.age_millis).unwrap_or(0),
        };
        (candidate.order, Reverse(worst), candidate.index)
    });
    for candidate in candidates {
        let judgement = &mut judgements[candidate.index];
        let Some((host, _)) = host_of(&judgement.slot.runner) else { continue };
        let Some(known) = available.get_mut(&host) else { continue };
        if known.1 < candidate.available_below.0 {
            judgement.verdict = Verdict::HostShortOfMemory;
            known.1 = known.1.saturating_add(judgement.reclaimable_bytes);
        }
    }
}
