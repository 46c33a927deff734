//! A metrics registry → the exposition format that the scraper asks for.
//!
//! prometheus-client writes OpenMetrics 1.0. Prometheus' text format 0.0.4, which `promtool check
//! metrics` and older scrapers read, names a counter's family by its sample (`_total`) and knows
//! neither `# UNIT` nor `# EOF`; `text_0_0_4` makes the one out of the other.

use std::fmt;

use axum::http::{HeaderMap, header};
use prometheus_client::{
    encoding::{MetricEncoder, NoLabelSet, text},
    metrics::exemplar::Exemplar,
    registry::Registry,
};

/// An exposition format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
}

impl Format {
    /// The format to answer in, by the request's `Accept` header. Text unless OpenMetrics is asked for.
    #[must_use]
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        Self::accepted(values.flat_map(|value| value.split(',')))
    }

    /// The same by the media ranges that are accepted.
    pub fn accepted<'a>(ranges: impl IntoIterator<Item = &'a str>) -> Self {
        let accepts_openmetrics = ranges
            .into_iter()
            .filter(|range| !is_refused(range))
            .any(|range| range.trim_start().starts_with("application/openmetrics-text"));
        if accepts_openmetrics { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of an answer in this format.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Whether a media range has a quality of 0: it is listed as not acceptable.
fn is_refused(range: &str) -> bool {
    let quality = range.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
    quality.and_then(|quality| quality.trim().parse::<f32>().ok()) == Some(0.0)
}

/// Writes every metric of `registry` in `format`. `capacity` is a guess of the length in bytes, best
/// the length of the last answer, so that the buffer grows once.
///
/// # Errors
/// [`fmt::Error`] when a collector refuses to encode itself.
pub fn render(registry: &Registry, format: Format, capacity: usize) -> Result<String, fmt::Error> {
    let mut openmetrics = String::with_capacity(capacity + capacity / 8);
    text::encode(&mut openmetrics, registry)?;
    Ok(match format {
        Format::OpenMetrics => openmetrics,
        Format::Text => text_0_0_4(&openmetrics),
    })
}

/// Writes a counter's value, for collectors.
///
/// # Errors
/// [`fmt::Error`] when it cannot be written.
pub fn encode_counter(mut encoder: MetricEncoder<'_>, value: u64) -> fmt::Result {
    encoder.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)
}

/// OpenMetrics text 1.0 → Prometheus text 0.0.4. The samples stay as they are.
pub(crate) fn text_0_0_4(openmetrics: &str) -> String {
    let mut output = String::with_capacity(openmetrics.len());
    let mut help = None;
    let mut rest = openmetrics;
    while !rest.is_empty() {
        // Samples come in long runs between comments, and are copied as such: label values escape line
        // breaks, so a comment starts wherever a line starts with its sign.
        let samples =
            if rest.starts_with('#') { 0 } else { rest.find("\n#").map_or(rest.len(), |at| at + 1) };
        output.push_str(&rest[..samples]);
        rest = &rest[samples..];
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|text| text.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take() {
                output.extend(["# HELP ", name, suffix, " ", help, "\n"]);
            }
            output.extend(["# TYPE ", name, suffix, " ", kind, "\n"]);
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use prometheus_client::{metrics::counter::Counter, metrics::info::Info, registry::Unit};

    use super::*;

    #[test]
    fn counters_infos_and_units_are_translated_to_text_0_0_4() {
        let mut registry = Registry::default();
        let counter: Counter = Counter::default();
        counter.inc_by(3);
        registry.register_with_unit("reclaimed", "Bytes given back", Unit::Bytes, counter);
        registry.register("build", "Version", Info::new([("version", "1.0")]));
        let text = render(&registry, Format::Text, 0).unwrap();
        assert_eq!(
            text,
            "# HELP reclaimed_bytes_total Bytes given back.\n\
             # TYPE reclaimed_bytes_total counter\n\
             reclaimed_bytes_total 3\n\
             # HELP build_info Version.\n\
             # TYPE build_info gauge\n\
             build_info{version=\"1.0\"} 1\n"
        );
    }

    #[test]
    fn openmetrics_is_written_only_when_asked_for() {
        let check = |accept: &str, expected: Format| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Format::negotiate(&headers), expected, "{accept}");
        };
        check(
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4",
            Format::OpenMetrics,
        );
        check("text/plain, application/openmetrics-text; version=1.0.0", Format::OpenMetrics);
        check("application/openmetrics-text;q=0", Format::Text);
        check("application/openmetrics-text; q=0.0, */*", Format::Text);
        check("text/plain;version=0.0.4", Format::Text);
        check("*/*", Format::Text);
    }
}
