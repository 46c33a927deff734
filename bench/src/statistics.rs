//! PURE: many measurements → one.

/// The middle one of `values`; of an even number, the mean of the two in the middle.
///
/// # Panics
/// When there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs at least one value");
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// The value that the share `share` of `values` stays within.
///
/// # Panics
/// When there is none.
pub(crate) fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    assert!(!values.is_empty(), "a percentile needs at least one value");
    values.sort_by(f64::total_cmp);
    let rank = ((values.len() - 1) as f64 * share).ceil() as usize;
    values[rank]
}

#[cfg(test)]
mod tests {
    use super::{median, percentile};

    #[test]
    fn a_percentile_is_a_value_that_as_many_stay_within() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(values.clone(), 0.99), 100.0);
        assert_eq!(percentile(values, 0.5), 51.0);
        assert_eq!(percentile(vec![3.0], 0.99), 3.0);
    }

    #[test]
    fn a_median_is_the_middle_value_or_the_mean_of_the_two_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
    }
}
