//! PURE: a verdict → a sentence that an operator understands without a manual.

use ebb_units::{ByteCount, Elapsed, Span};

use crate::{
    decide::judgement::Judgement,
    policy::{Learned, Rule, Threshold, Verdict},
};

/// The reason of a judgement's verdict, with the figures it rests on: `9.4 MiB > 8.1 MiB, the upper end of the
/// prediction interval at level 0.95 of 37 lifetimes (mean 6.0 MiB, deviation 1.0 MiB)`.
#[must_use]
pub fn explain(rule: &Rule, learned: &Learned, judgement: &Judgement) -> String {
    let size = ByteCount(judgement.memory_bytes);
    let age = Span::whole_secs(judgement.age.as_seconds());
    let rails = &rule.guard_rails;
    match judgement.verdict {
        Verdict::AboveThreshold => {
            format!("{} > {}", exact_if_close(size, judgement), threshold(rule, learned, judgement))
        }
        Verdict::Within if judgement.bound.threshold_bytes.is_some() => {
            format!("{size} ≤ {}", threshold(rule, learned, judgement))
        }
        Verdict::Within => {
            format!("{size}, {age} old: {} does not ask for a restart", rule.policy.describe(None))
        }
        Verdict::AboveMaxBytes => {
            format!("{size} > {}, the module's max_bytes", rails.max_bytes.unwrap_or_default())
        }
        Verdict::AboveMaxAge => format!("{age} old: {}", rule.policy.describe(None)),
        Verdict::HostShortOfMemory => {
            format!("{size}, {age} old: the host is short of memory, {}", rule.policy.describe(None))
        }
        Verdict::HostMemoryUnknown => {
            format!("{size}, {age} old: no recent host memory reading, {}", rule.policy.describe(None))
        }
        Verdict::TooYoung if judgement.starts_ahead > Elapsed::ZERO => {
            let ahead = Span::whole_secs(judgement.starts_ahead.as_seconds());
            format!(
                "younger than min_age {}; its start is {ahead} in the future: its runner's clock is ahead, or this one is behind",
                rails.min_age
            )
        }
        Verdict::TooYoung => format!("younger than min_age {}", rails.min_age),
        Verdict::TooFewLifetimes | Verdict::NotObserved => match learned.threshold {
            Threshold::Unavailable(reason) => format!("no threshold: {reason}"),
            Threshold::Bytes(_) | Threshold::NotSought => "no threshold: seen only once".to_owned(),
        },
        Verdict::TooLittleToReclaim => format!(
            "{size} is too much, but a restart would give back only {}, less than min_reclaim {}",
            ByteCount(judgement.reclaimable_bytes),
            rails.min_reclaim
        ),
        Verdict::NoThreshold => format!("{} has no threshold", rule.policy.describe(None)),
    }
}

/// The size; with the difference in bytes where its rounded form looks like the threshold's.
fn exact_if_close(size: ByteCount, judgement: &Judgement) -> String {
    match judgement.bound.threshold_bytes {
        Some(threshold) if ByteCount::rounded(threshold).to_string() == size.to_string() => {
            format!("{size} (and {:.0} B)", size.as_f64() - threshold)
        }
        _ => size.to_string(),
    }
}

fn threshold(rule: &Rule, learned: &Learned, judgement: &Judgement) -> String {
    let bound = &judgement.bound;
    let policy = rule.policy.describe(bound.confidence_level);
    match bound.threshold_bytes {
        Some(threshold) => {
            let basis = rule.policy.basis(learned, bound);
            format!("{}, the {policy}{basis}", ByteCount::rounded(threshold))
        }
        None => policy,
    }
}
