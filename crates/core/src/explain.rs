//! PURE: a verdict → a sentence that an operator understands without a manual.

use ebb_units::{ByteCount, Span};

use crate::{
    decide::verdict::{Judgement, Verdict},
    policy::{CostBasis, Learned, Rule, Threshold},
};

/// The reason of a judgement's verdict, with the figures it rests on: `9.4 MiB > 8.1 MiB, the upper end of the
/// prediction interval at level 0.95 of 37 lifetimes (mean 6.0 MiB, deviation 1.0 MiB)`.
#[must_use]
pub fn explain(rule: &Rule, learned: &Learned, judgement: &Judgement) -> String {
    let size = ByteCount(judgement.memory_bytes);
    let age = Span::secs(u64::try_from(judgement.age_millis / 1000).unwrap_or(0));
    let rails = &rule.guard_rails;
    match judgement.verdict {
        Verdict::AboveThreshold => {
            format!("{} > {}", exact_if_close(size, judgement), threshold(rule, learned, judgement))
        }
        Verdict::Within if judgement.bound.threshold_bytes.is_some() => {
            format!("{size} ≤ {}", threshold(rule, learned, judgement))
        }
        Verdict::Within => format!("{size}, {age} old: {} does not ask for a restart", rule.describe(None)),
        Verdict::AboveMaxBytes => {
            format!("{size} > {}, the module's max_bytes", rails.max_bytes.unwrap_or_default())
        }
        Verdict::AboveMaxAge => format!("{age} old: {}", rule.describe(None)),
        Verdict::HostShortOfMemory => {
            format!("{size}, {age} old: the host is short of memory, {}", rule.describe(None))
        }
        Verdict::HostMemoryUnknown => {
            format!("{size}, {age} old: no recent host memory reading, {}", rule.describe(None))
        }
        Verdict::TooYoung if judgement.starts_ahead_millis > 0 => {
            let ahead = Span::secs(judgement.starts_ahead_millis.unsigned_abs() / 1000);
            format!(
                "younger than min_age {}; it starts {ahead} from now: the clock of its runner is ahead, or this one behind",
                rails.min_age
            )
        }
        Verdict::TooYoung => format!("younger than min_age {}", rails.min_age),
        Verdict::TooFewLifetimes => match learned.threshold {
            Threshold::Unavailable(reason) => format!("no threshold: {reason}"),
            Threshold::Bytes(_) | Threshold::NotSought => "no threshold".to_owned(),
        },
        Verdict::NotObserved => "no threshold: seen once only".to_owned(),
        Verdict::TooLittleToReclaim => format!(
            "{size} is too much, but a restart would give back only {}, less than min_reclaim {}",
            ByteCount(judgement.reclaimable_bytes),
            rails.min_reclaim
        ),
        Verdict::NoThreshold => format!("{} has no threshold", rule.describe(None)),
    }
}

/// The size; with the difference in bytes where its rounded form looks like the threshold's.
fn exact_if_close(size: ByteCount, judgement: &Judgement) -> String {
    match judgement.bound.threshold_bytes {
        Some(threshold) if rounded(threshold).to_string() == size.to_string() => {
            format!("{size} (and {:.0} B)", size.as_f64() - threshold)
        }
        _ => size.to_string(),
    }
}

fn threshold(rule: &Rule, learned: &Learned, judgement: &Judgement) -> String {
    let bound = &judgement.bound;
    let policy = rule.describe(bound.confidence_level);
    let Some(threshold) = bound.threshold_bytes.map(rounded) else { return policy };
    if let Some(cost) = &bound.cost {
        return format!("{threshold}, the {policy} ({})", costs(cost));
    }
    let Some(estimate) = learned.estimate else { return policy };
    let slope = bound.slope.map_or_else(String::new, |slope| {
        format!(", growing {}/h where its module grows {}/h", hourly(slope), hourly(learned.mean_slope))
    });
    format!(
        "{threshold}, the {policy} of {} lifetimes (mean {}, deviation {}{slope})",
        estimate.lifetimes,
        rounded(estimate.mean_bytes),
        rounded(estimate.stddev_bytes)
    )
}

fn costs(cost: &CostBasis) -> String {
    let unseen = if cost.unseen_seconds >= 1.0 {
        format!("; its first {} were not seen", whole_seconds(cost.unseen_seconds))
    } else {
        String::new()
    };
    let falls = match cost.falls {
        0 => String::new(),
        1 => " and 1 fall of memory without one".to_owned(),
        falls => format!(" and {falls} falls of memory without one"),
    };
    let own = format!(
        "mean {} and {} {}{falls} in {}{unseen}",
        rounded(cost.average_memory_bytes),
        cost.restarts,
        if cost.restarts == 1 { "restart" } else { "restarts" },
        whole_seconds(cost.observed_seconds)
    );
    match cost.others_average_bytes {
        Some(average) => format!(
            "{own}; the other replicas' average {} weighs like {}",
            rounded(average),
            whole_seconds(cost.others_weight_seconds)
        ),
        None => own,
    }
}

fn hourly(bytes_per_second: f64) -> ByteCount {
    rounded(bytes_per_second * 3600.0)
}

fn rounded(bytes: f64) -> ByteCount {
    ByteCount(bytes.max(0.0).round() as u64)
}

fn whole_seconds(seconds: f64) -> Span {
    Span::secs(seconds.max(0.0) as u64)
}
