//! What every benchmark shares: a report with its aims, and the CPU time of a process.
//!
//! A benchmark is a program `bench-NAME`. It starts the real thing and its peer, measures both in the same
//! run, prints a table and writes `target/bench/NAME.json`.

mod cpu;
mod report;

pub use self::{
    cpu::{CpuClock, resident_bytes},
    report::{Aim, Report},
};

/// The middle one of `values`; of an even number, the mean of the two in the middle.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs at least one value");
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn a_median_is_the_middle_value_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
    }
}
