//! PURE: the whole fleet at one moment: what was learned of each population, and a judgement on each living instance.

mod victims;

use std::{cmp::Reverse, collections::BTreeMap, ops::Range};

use ebb_units::{Elapsed, Generation, Millis, Population, SlotId};

use self::victims::{Candidate, choose_victims};
use crate::{
    decide::{
        judgement::{Judgement, judge},
        pending::Eligibility,
    },
    history::{History, Slot},
    policy::{Hosts, Learned, Rule},
};

/// The fleet at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assessment {
    /// Each population, in order of module and digest.
    pub populations: Vec<Assessed>,
    /// Each living instance, in order of module, digest, runner and replica.
    pub instances: Vec<Judgement>,
}

/// One population at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessed {
    /// Which.
    pub population: Population,
    /// How it is judged.
    pub rule: Rule,
    /// What was learned of it.
    pub learned: Learned,
    /// Where its living instances stand in [`Assessment::instances`].
    pub instances: Range<usize>,
}

impl Assessment {
    /// Learns from each population of `history` and judges its living instances by the rule of their module. An
    /// instance lives if its newest sample is at most `stale_after` old; what `hosts` tell counts as long.
    /// `eligibility` tells which instances can be ordered; it is asked only where a host is short of memory.
    pub fn new<'a>(
        history: &History,
        rule_of: impl Fn(&str) -> &'a Rule,
        hosts: &Hosts,
        eligibility: impl Fn(&SlotId, Generation) -> Eligibility,
        now: Millis,
        stale_after: Elapsed,
    ) -> Self {
        let learn = |_: &_, rule: &Rule, slots: &BTreeMap<_, Slot>| rule.learn(slots.values());
        Self::learning(history, rule_of, learn, hosts, eligibility, now, stale_after)
    }

    /// As [`Assessment::new`], where `learn` tells what a population's rule learns of its slots.
    pub(crate) fn learning<'a>(
        history: &History,
        rule_of: impl Fn(&str) -> &'a Rule,
        mut learn: impl FnMut(&Population, &Rule, &BTreeMap<SlotId, Slot>) -> Learned,
        hosts: &Hosts,
        eligibility: impl Fn(&SlotId, Generation) -> Eligibility,
        now: Millis,
        stale_after: Elapsed,
    ) -> Self {
        let mut assessment = Self::default();
        let mut candidates = Vec::new();
        for (population, slots) in history.populations() {
            let rule = rule_of(&population.module);
            let learned = learn(population, rule, slots);
            let first = assessment.instances.len();
            for (slot, seen) in slots {
                if let Some(lifetime) = seen.live(now, stale_after) {
                    let spans_window = || history.spans_window(seen);
                    let judgement = judge(rule, &learned, slot, seen, lifetime, spans_window, now);
                    assessment.instances.push(judgement);
                }
            }
            let instances = first..assessment.instances.len();
            candidates.extend(
                instances
                    .clone()
                    .filter_map(|index| Candidate::new(rule, index, &assessment.instances[index])),
            );
            let population = population.clone();
            assessment.populations.push(Assessed { population, rule: *rule, learned, instances });
        }
        choose_victims(&mut assessment.instances, candidates, hosts, eligibility, now, stale_after);
        assessment
    }

    /// The instances that ask for a restart, those that would give back most first.
    pub(crate) fn candidates(&self) -> Vec<&Judgement> {
        let mut wishes: Vec<_> =
            self.instances.iter().filter(|instance| instance.verdict.wants_restart()).collect();
        wishes.sort_by_key(|wish| Reverse(wish.reclaimable_bytes));
        wishes
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod leaks;
