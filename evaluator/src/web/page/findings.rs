//! PURE: what was found of how a population's memory grows, in sentences: for page, API and `explain`.

use ebb_core::policy::{Policy, Renewal};

use crate::snapshot::{PopulationSnapshot, Snapshot};

/// All of it.
pub(in crate::web) fn findings(snapshot: &Snapshot, population: &PopulationSnapshot) -> Vec<String> {
    let mut findings = Vec::new();
    if let Some(growth) = &population.growth {
        findings.push(format!("growth with age: {}: {growth}", growth.kind.name()));
    }
    findings.extend(warm_up(population));
    if let Some((slot, found)) = snapshot.outlook.first.get(&population.population) {
        findings.push(format!(
            "replica {} on {} is the first to reach its limit: {found}",
            slot.replica, slot.runner
        ));
    }
    if let Some(comparison) = &population.comparison {
        let verdict = if comparison.is_regression {
            "this version needs more memory"
        } else {
            "beside the version before"
        };
        findings.push(format!("{verdict}: {comparison}"));
    }
    findings
}

/// That instances are restarted again and again for what they only fill up again, if so.
pub(super) fn warm_up(population: &PopulationSnapshot) -> Option<String> {
    let plateau = population.growth?.plateau?;
    let Policy::Renewal(Renewal { restart_price, .. }) = population.rule.policy else { return None };
    plateau.restarted_at(restart_price)
}
