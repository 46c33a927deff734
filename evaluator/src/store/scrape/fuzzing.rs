//! What must hold for whatever a runner answers a scrape with.

use ebb_core::history::Sample;
use ebb_units::SeriesId;

use super::*;

/// An exposition: says the same line by line, and with what is not ours between the lines; labels that were read are, written
/// anew, read as the same.
///
/// # Panics
/// When that does not hold.
pub(crate) fn exposition(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(whole) = taken(&[text]) else { return };
    assert!(whole.0 <= text.len() / MEMORY_METRIC.len(), "{} series", whole.0);
    let lines: Vec<String> = text.lines().map(|line| format!("# by itself\n{line}\nother 1\n")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(taken(&lines), Ok(whole), "line by line");
    for line in text.lines() {
        let Some((pairs, rest)) = line.split_once('{').and_then(|(_, labels)| label_pairs(labels)) else {
            continue;
        };
        let escaped = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let written: Vec<_> =
            pairs.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        assert_eq!(label_pairs(&format!("{}}}{rest}", written.join(","))), Some((pairs, rest)), "{line}");
    }
}

/// What was found in `texts`, one answer each: series, those without a name, and the samples.
type Taken = (usize, usize, Vec<(SeriesId, Vec<Sample>)>);

fn taken(texts: &[&str]) -> Result<Taken, String> {
    let (mut numbers, mut fetched) = (Numbers::default(), Fetched::default());
    let mut readings = <(Readings, RunnerReadings)>::default();
    for text in texts {
        take(text, "runner:9742", Millis(7), &mut numbers, &mut readings, &mut fetched)?;
    }
    let mut samples = Vec::new();
    readings
        .0
        .join(&numbers, &mut fetched, &mut |series, found| samples.push((series.clone(), found.to_vec())));
    Ok((fetched.series, fetched.nameless_series, samples))
}
