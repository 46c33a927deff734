//! Growth as a profile that `go tool pprof`, speedscope and Pyroscope open.
//!
//! Source: `proto/profile.proto` of github.com/google/pprof.

use std::collections::HashMap;

use prost::Message;

use super::report::{Grown, Report};

/// `perftools.profiles.Profile`, as far as it is needed. Strings are places in `string_table`, whose first one is empty.
#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    /// The innermost first.
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Report {
    /// Growth while instances ran, and how often, as a protobuf.
    #[must_use]
    pub fn pprof(&self) -> Vec<u8> {
        let mut strings = Strings::default();
        let [_, grows, count, growth, bytes] =
            ["", "grows", "count", "growth", "bytes"].map(|text| strings.place(text));
        let mut profile = Profile {
            sample_type: [(grows, count), (growth, bytes)]
                .map(|(r#type, unit)| ValueType { r#type, unit })
                .to_vec(),
            default_sample_type: growth,
            ..Profile::default()
        };
        let unknown = (self.unknown_bytes > 0).then(|| Grown {
            functions: vec!["[unknown]".to_owned()],
            bytes: self.unknown_bytes,
            start_bytes: 0,
            grows: 0,
        });
        let mut ids = HashMap::new();
        for stack in self.stacks.iter().chain(&unknown).filter(|stack| stack.bytes > 0) {
            let locations = stack.functions.iter().rev().map(|name| {
                let next = ids.len() as u64 + 1;
                *ids.entry(name.clone()).or_insert_with(|| {
                    // Nothing is known of lines: a place is a function.
                    profile.function.push(Function { id: next, name: strings.place(name) });
                    profile.location.push(Location { id: next, line: vec![Line { function_id: next }] });
                    next
                })
            });
            let location_id = locations.collect();
            let value = [stack.grows, stack.bytes].map(|value| i64::try_from(value).unwrap_or(i64::MAX));
            profile.sample.push(Sample { location_id, value: value.to_vec() });
        }
        profile.string_table = strings.0;
        profile.encode_to_vec()
    }
}

#[derive(Default)]
struct Strings(Vec<String>);

impl Strings {
    fn place(&mut self, text: &str) -> i64 {
        self.0.push(text.to_owned());
        i64::try_from(self.0.len()).unwrap_or(i64::MAX) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_has_each_stack_from_the_innermost_function_out() {
        let stack = |functions: &[&str], bytes, grows| Grown {
            functions: functions.iter().map(ToString::to_string).collect(),
            bytes,
            start_bytes: 0,
            grows,
        };
        let report = Report {
            lifetimes: 1,
            bytes: 108,
            unknown_bytes: 8,
            stacks: vec![stack(&["main", "leak"], 70, 7), stack(&["main", "cache"], 30, 3)],
            ..Report::default()
        };
        let profile = Profile::decode(&*report.pprof()).unwrap();
        let name = |id: &u64| {
            let function = profile.function.iter().find(|function| function.id == *id).unwrap();
            profile.string_table[function.name as usize].as_str()
        };
        let told: Vec<_> = profile
            .sample
            .iter()
            .map(|sample| (sample.location_id.iter().map(name).collect::<Vec<_>>(), sample.value.clone()))
            .collect();
        let expected = [
            (vec!["leak", "main"], vec![7, 70]),
            (vec!["cache", "main"], vec![3, 30]),
            (vec!["[unknown]"], vec![0, 8]),
        ];
        assert_eq!(told, expected);
        let text = |place: i64| profile.string_table[place as usize].as_str();
        assert_eq!((text(0), text(profile.default_sample_type)), ("", "growth"));
        assert_eq!(text(profile.sample_type[1].unit), "bytes");
    }
}
