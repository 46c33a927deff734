//! PURE: when an instance reaches its limit and a runner's host has no memory left: if nothing is restarted, and if restarts go on.
//!
//! What goes on growing is taken to go on as it did, and what may end yet, for no longer than it was seen. Linear memory alone is
//! foreseen to grow. Restarts go on at the sizes that hold now, and a host has room for them if it has for what instances
//! then hold on average, and for three deviations more of where each is between two restarts.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use ebb_units::{ByteCount, Elapsed, Millis, Population, RunnerId, SlotId};
use serde::Serialize;

use super::judgement::Judgement;
use crate::{
    estimate::{
        growth::{GrowthKind, GrowthTrend},
        pace::{InstancePace, Pace, TimeLeft},
    },
    history::History,
    policy::{HostMemory, Hosts, Policy, Rule},
};

/// What a module's instances on a runner may hold, as the runner told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// When it was told.
    pub at: Millis,
    /// Bytes.
    pub bytes: u64,
}

/// The newest limit of each module on each runner.
pub type MemoryLimits = HashMap<(RunnerId, Arc<str>), MemoryLimit>;

/// When memory runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Exhaustion {
    /// How much more there is room for, in bytes.
    pub room_bytes: u64,
    /// If nothing is restarted.
    pub without_restarts: TimeLeft,
    /// If restarts go on; absent where they keep it from happening.
    pub with_restarts: Option<TimeLeft>,
    /// Why they do not.
    pub obstacle: Option<Obstacle>,
}

/// Why restarts do not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// They are decided, but not carried out.
    DryRun,
    /// Nothing may be ordered from the runner.
    NotAllowed,
    /// Restarts are held, all of them or those of the module.
    Held,
    /// Those of the module are suspended, since they did not help.
    Suspended,
    /// There is no size from which it is restarted.
    NoThreshold,
    /// It reaches its limit first.
    ThresholdAboveLimit,
    /// The host is too small for what its instances hold between restarts.
    HostTooSmall,
}

impl Obstacle {
    /// In words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::DryRun => "restarts are not carried out (dry_run)",
            Self::NotAllowed => "runners.allow does not allow its runner",
            Self::Held => "restarts are held",
            Self::Suspended => "restarts of the module are suspended",
            Self::NoThreshold => "there is no size from which it is restarted",
            Self::ThresholdAboveLimit => "the size from which it is restarted is above its limit",
            Self::HostTooSmall => {
                "the host has too little memory for what its instances hold between restarts"
            }
        }
    }
}

impl Exhaustion {
    /// What matters more comes first.
    const fn rank(&self) -> (bool, Elapsed) {
        (self.with_restarts.is_none(), self.without_restarts.median)
    }
}

impl fmt::Display for Exhaustion {
    /// To stand behind what runs out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { without_restarts, with_restarts, obstacle, .. } = self;
        match (with_restarts, obstacle) {
            (None, _) => {
                write!(f, "{without_restarts} if nothing were restarted; restarts keep it from that")
            }
            (Some(left), None) => write!(f, "{left}"),
            (Some(left), Some(obstacle)) => {
                write!(f, "{left}; restarts do not help: {}", obstacle.describe())
            }
        }
    }
}

/// When memory runs out, wherever that can be foreseen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// Of instances that have a limit.
    pub instances: HashMap<SlotId, Exhaustion>,
    /// Of each population, the first of these: where restarts do not keep it from its limit, else if nothing were restarted.
    pub first: BTreeMap<Population, (SlotId, Exhaustion)>,
    /// Of the runners' hosts.
    pub hosts: BTreeMap<RunnerId, Exhaustion>,
}

impl Outlook {
    /// Whether nothing was foreseen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.hosts.is_empty()
    }
}

/// What is foreseen from.
#[derive(Clone, Copy, Debug)]
pub struct Growing<'a> {
    /// All lifetimes.
    pub history: &'a History,
    /// Of each population how its memory grows, and how fast.
    pub growth: &'a BTreeMap<Population, (GrowthTrend, Option<Pace>)>,
    /// What instances may hold.
    pub limits: &'a MemoryLimits,
    /// What hosts have.
    pub hosts: &'a Hosts,
    /// How long it takes until a restart that is due is done.
    pub restart_takes: Elapsed,
}

/// One living instance.
struct Instance<'a> {
    judgement: &'a Judgement,
    trend: &'a GrowthTrend,
    pace: InstancePace,
    /// The size from which it is restarted.
    restarted_at: Result<f64, Obstacle>,
    /// It is restarted when its host is short of memory.
    relieves_host: bool,
}

impl Growing<'_> {
    /// When it runs out for `instances`, and the hosts that they are on.
    pub fn outlook<'a>(
        &self,
        instances: &[Judgement],
        rule_of: impl Fn(&str) -> &'a Rule,
        obstacle: impl Fn(&SlotId) -> Option<Obstacle>,
    ) -> Outlook {
        let mut outlook = Outlook::default();
        let mut on_hosts: BTreeMap<&RunnerId, Vec<Instance<'_>>> = BTreeMap::new();
        for judgement in instances {
            let slot = &judgement.slot;
            let Some((trend, Some(pace))) = self.growth.get(&slot.population) else { continue };
            if !goes_on(trend) {
                continue;
            }
            let Some(pace) = self.history.slot(slot).and_then(|seen| pace.of_newest(seen)) else { continue };
            let rule = rule_of(&slot.population.module);
            let restarted_at = match (obstacle(slot), size_of_restart(rule, judgement, &pace)) {
                (Some(obstacle), _) => Err(obstacle),
                (None, Some(bytes)) => Ok(bytes),
                (None, None) => Err(Obstacle::NoThreshold),
            };
            // Where the host's shortage is what instances are restarted for, the host does not run out for them.
            let relieves_host = rule.policy.pressure().is_some() && obstacle(slot).is_none();
            let instance = Instance { judgement, trend, pace, restarted_at, relieves_host };
            let limit = self.limits.get(&(slot.runner.clone(), slot.population.module.clone()));
            if let Some(exhaustion) = limit.and_then(|limit| self.of_instance(&instance, limit.bytes)) {
                let first = outlook.first.entry(slot.population.clone());
                let first = first.or_insert_with(|| (slot.clone(), exhaustion));
                if exhaustion.rank() < first.1.rank() {
                    *first = (slot.clone(), exhaustion);
                }
                outlook.instances.insert(slot.clone(), exhaustion);
            }
            on_hosts.entry(&slot.runner).or_default().push(instance);
        }
        for (runner, instances) in on_hosts {
            let exhaustion = self.hosts.get(runner).and_then(|host| of_host(&instances, host));
            if let Some(exhaustion) = exhaustion {
                outlook.hosts.insert(runner.clone(), exhaustion);
            }
        }
        outlook
    }

    fn of_instance(&self, instance: &Instance<'_>, limit: u64) -> Option<Exhaustion> {
        let Instance { judgement, trend, pace, restarted_at, .. } = instance;
        let room_bytes = limit.saturating_sub(judgement.memory_bytes);
        let without_restarts = foreseen(pace.time_to_grow(room_bytes as f64)?, trend)?;
        let by_then = pace.bytes_in(self.restart_takes);
        let obstacle = match restarted_at {
            Err(obstacle) => Some(*obstacle),
            Ok(bytes) if bytes + by_then > limit as f64 => Some(Obstacle::ThresholdAboveLimit),
            Ok(_) => None,
        };
        let with_restarts = obstacle.map(|_| without_restarts);
        Some(Exhaustion { room_bytes, without_restarts, with_restarts, obstacle })
    }
}

fn of_host(instances: &[Instance<'_>], host: &HostMemory) -> Option<Exhaustion> {
    let room = host.available_bytes as f64;
    let without_restarts = pace_of(instances.iter()).time_to_grow(room)?;
    // What may end yet is foreseen for no longer than it was seen.
    let unsure =
        instances.iter().map(|instance| instance.trend).filter(|trend| trend.kind != GrowthKind::Leak);
    let without_restarts = match unsure.min_by_key(|trend| trend.from_age) {
        Some(trend) => foreseen(without_restarts, trend)?,
        None => without_restarts,
    };
    let (mut needed, mut squares) = (0.0, 0.0);
    for Instance { judgement, restarted_at, .. } in instances {
        if let Ok(most) = restarted_at {
            let held = judgement.memory_bytes as f64;
            let fresh = held - judgement.reclaimable_bytes as f64;
            needed += f64::midpoint(*most, fresh) - held;
            squares += (most - fresh).max(0.0).powi(2) / 12.0;
        }
    }
    let left = room - needed - 3.0 * squares.sqrt();
    let never = instances.iter().filter(|instance| instance.restarted_at.is_err() && !instance.relieves_host);
    let first = never.clone().next().and_then(|instance| instance.restarted_at.err());
    let (with_restarts, obstacle) = if left <= 0.0 {
        (Some(without_restarts), Some(Obstacle::HostTooSmall))
    } else {
        (pace_of(never).time_to_grow(left), first)
    };
    let with_restarts = with_restarts.map(|left| left.not_before(without_restarts));
    Some(Exhaustion { room_bytes: host.available_bytes, without_restarts, with_restarts, obstacle })
}

fn pace_of<'a>(instances: impl Iterator<Item = &'a Instance<'a>>) -> InstancePace {
    instances.map(|instance| instance.pace).sum()
}

/// Whether growth is taken to go on.
fn goes_on(trend: &GrowthTrend) -> bool {
    match trend.kind {
        GrowthKind::Leak => true,
        GrowthKind::Unknown => trend.bytes_per_hour.is_some_and(|rate| rate.low > 0.0),
        GrowthKind::Steady | GrowthKind::Plateau | GrowthKind::Steps => false,
    }
}

/// What can be said of that: where growth may end yet, nothing beyond the time for which it was seen.
fn foreseen(left: TimeLeft, trend: &GrowthTrend) -> Option<TimeLeft> {
    match trend.kind {
        GrowthKind::Leak => Some(left),
        _ if left.median <= 2 * trend.from_age => Some(TimeLeft { high: None, ..left }),
        _ => None,
    }
}

/// The size from which `rule` restarts the instance, if there is one.
fn size_of_restart(rule: &Rule, judgement: &Judgement, pace: &InstancePace) -> Option<f64> {
    let at_age = match rule.policy {
        Policy::MaxAge(policy) => {
            let left = (policy.max_age.as_elapsed() - judgement.age).max(Elapsed::ZERO);
            Some(judgement.memory_bytes as f64 + pace.bytes_in(left))
        }
        Policy::TInterval(_) | Policy::Renewal(_) => judgement.bound.threshold_bytes,
        Policy::LargestFirst(_) | Policy::OldestFirst(_) | Policy::Static | Policy::None => None,
    };
    let most = rule.guard_rails.max_bytes.map(ByteCount::as_f64);
    // Nothing is restarted before it holds what is worth a restart.
    let fresh = judgement.memory_bytes.saturating_sub(judgement.reclaimable_bytes);
    let least = fresh.saturating_add(rule.guard_rails.min_reclaim.0) as f64;
    [at_age, most].into_iter().flatten().reduce(f64::min).map(|bytes| bytes.max(least))
}

#[cfg(test)]
mod tests;
