//! PURE: hosts that are short of memory → the instances that are restarted for it.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use ebb_units::{ByteCount, Elapsed, Generation, Millis, RunnerId, SlotId};

use crate::{
    decide::{judgement::Judgement, pending::Eligibility},
    policy::{HostMemory, Hosts, Rule, Verdict, VictimOrder},
};

/// An instance that may be restarted under pressure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its place among the judgements.
    index: usize,
    /// Which goes first.
    order: VictimOrder,
    /// When its host is short of memory.
    available_below: ByteCount,
    /// Whether a restart gives back enough.
    gives_back: bool,
}

impl Candidate {
    /// The candidate that `judgement` at `index` makes under `rule`, if it does.
    pub(super) fn new(rule: &Rule, index: usize, judgement: &Judgement) -> Option<Self> {
        let (order, pressure) = rule.policy.pressure()?;
        (judgement.verdict == Verdict::Within).then_some(Self {
            index,
            order,
            available_below: pressure.available_below,
            gives_back: judgement.reclaimable_bytes >= rule.guard_rails.min_reclaim.0.max(1),
        })
    }
}

/// Turns the verdicts of as many `candidates` into [`Verdict::HostShortOfMemory`] as bring their hosts' available
/// memory back above the limit. What other restarts give back counts first; what no order can be given for gives
/// nothing back. Where the host's memory is not known, the verdict says so.
pub(super) fn choose_victims(
    judgements: &mut [Judgement],
    mut candidates: Vec<Candidate>,
    hosts: &Hosts,
    eligibility: impl Fn(&SlotId, Generation) -> Eligibility,
    now: Millis,
    stale_after: Elapsed,
) {
    if candidates.is_empty() {
        return;
    }
    let mut available = Available::new(hosts, now, stale_after);
    let standing_of = |judgement: &Judgement| eligibility(&judgement.slot, judgement.generation);
    for judgement in judgements.iter() {
        let comes_back = match standing_of(judgement) {
            Eligibility::Eligible => judgement.verdict.wants_restart(),
            Eligibility::AwaitingEffect => true,
            Eligibility::Blocked => false,
        };
        if let Some(bytes) = available.of(&judgement.slot.runner)
            && comes_back
        {
            *bytes = bytes.saturating_add(judgement.reclaimable_bytes);
        }
    }
    candidates.sort_by_key(|candidate| {
        let judgement = &judgements[candidate.index];
        let worst = match candidate.order {
            VictimOrder::Largest => judgement.memory_bytes,
            VictimOrder::Oldest => u64::try_from(judgement.age.0).unwrap_or(0),
        };
        (candidate.order, Reverse(worst), candidate.index)
    });
    for candidate in candidates {
        let judgement = &mut judgements[candidate.index];
        let Some(bytes) = available.of(&judgement.slot.runner) else {
            judgement.verdict = Verdict::HostMemoryUnknown;
            continue;
        };
        let is_short = *bytes < candidate.available_below.0;
        if is_short && candidate.gives_back && standing_of(judgement) == Eligibility::Eligible {
            judgement.verdict = Verdict::HostShortOfMemory;
            *bytes = bytes.saturating_add(judgement.reclaimable_bytes);
        }
    }
}

/// A host: an address without its port, what else tells it from others, and its memory in bytes.
type Host = (String, Arc<str>, u64);

/// Available memory of each host, in bytes. Runners at one address that see the same total share one host: each would
/// else make up for all of it.
struct Available<'a> {
    hosts: &'a Hosts,
    now: Millis,
    stale_after: Elapsed,
    bytes: HashMap<Host, u64>,
}

impl<'a> Available<'a> {
    fn new(hosts: &'a Hosts, now: Millis, stale_after: Elapsed) -> Self {
        let mut available = Self { hosts, now, stale_after, bytes: HashMap::new() };
        // Of several readings the newest counts, of equally new ones the smallest.
        let mut newest: HashMap<Host, (Millis, Reverse<u64>)> = HashMap::new();
        for runner in hosts.keys() {
            if let Some((host, memory)) = available.host_of(runner) {
                let reading = (memory.at, Reverse(memory.available_bytes));
                newest.entry(host).and_modify(|known| *known = reading.max(*known)).or_insert(reading);
            }
        }
        available.bytes = newest.into_iter().map(|(host, (_, Reverse(bytes)))| (host, bytes)).collect();
        available
    }

    fn host_of(&self, runner: &RunnerId) -> Option<(Host, HostMemory)> {
        let memory = *self.hosts.get(runner)?;
        let is_young = self.now.since(memory.at) <= self.stale_after;
        let address = runner.address.rsplit_once(':').map_or(&*runner.address, |(address, _)| address);
        is_young.then(|| ((address.to_owned(), Arc::clone(&runner.identity), memory.total_bytes), memory))
    }

    fn of(&mut self, runner: &RunnerId) -> Option<&mut u64> {
        let (host, _) = self.host_of(runner)?;
        self.bytes.get_mut(&host)
    }
}
