//! PURE: a verdict → a sentence that an operator understands without a manual.

use ebb_service::units::{ByteCount, Span};

use crate::rule::{
    policy::{Learned, Rule, Threshold},
    verdict::{Verdict, reclaimable_bytes},
};

/// The reason of `verdict`, with the figures it rests on: `9.4 MiB > 8.1 MiB, the upper end of the
/// prediction interval at level 0.95 of 37 lifetimes (mean 6.0 MiB, deviation 1.0 MiB)`.
#[must_use]
pub fn explain(rule: &Rule, learned: &Learned, memory_bytes: u64, verdict: Verdict) -> String {
    let size = ByteCount(memory_bytes);
    let rails = &rule.guard_rails;
    match verdict {
        Verdict::AboveThreshold => {
            format!("{} > {}", exact_if_close(size, learned), threshold(rule, learned))
        }
        Verdict::Within => format!("{size} ≤ {}", threshold(rule, learned)),
        Verdict::AboveMaxBytes => {
            format!("{size} > {}, the module's max_bytes", rails.max_bytes.unwrap_or_default())
        }
        Verdict::TooYoung => format!("younger than min_age {}", Span(rails.min_age.0)),
        Verdict::TooFewLifetimes => match learned.threshold {
            Threshold::Unavailable(reason) => format!("no threshold: {reason}"),
            Threshold::Bytes(_) | Threshold::NotSought => "no threshold".to_owned(),
        },
        Verdict::TooLittleToReclaim => format!(
            "{size} is too much, but a restart would give back only {}, less than min_reclaim {}",
            ByteCount(reclaimable_bytes(size.0, learned)),
            rails.min_reclaim
        ),
        Verdict::NoThreshold => format!("{} has no threshold", rule.describe()),
    }
}

/// The size; with the difference in bytes where its rounded form looks like the threshold's.
fn exact_if_close(size: ByteCount, learned: &Learned) -> String {
    match learned.threshold {
        Threshold::Bytes(threshold) if rounded(threshold).to_string() == size.to_string() => {
            format!("{size} (and {:.0} B)", size.as_f64() - threshold)
        }
        _ => size.to_string(),
    }
}

fn threshold(rule: &Rule, learned: &Learned) -> String {
    let (Threshold::Bytes(threshold), Some(estimate)) = (learned.threshold, learned.estimate) else {
        return rule.describe();
    };
    format!(
        "{}, the {} of {} lifetimes (mean {}, deviation {})",
        rounded(threshold),
        rule.describe(),
        estimate.lifetimes,
        rounded(estimate.mean_bytes),
        rounded(estimate.stddev_bytes)
    )
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(bytes: f64) -> ByteCount {
    ByteCount(bytes.max(0.0).round() as u64)
}
