//! PURE: what several runners tell of a module's growth → one profile for each binary.

use std::{cmp::Reverse, collections::HashMap};

use ebb_service::quote;
use ebb_units::{ByteCount, Digest};
use serde::Deserialize;

/// Growth of the instances of one binary of a module, as runners tell it. Sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Profile {
    /// The binary's.
    pub digest: String,
    /// How many instances there were.
    pub lifetimes: u64,
    /// What their memories began with.
    pub initial_bytes: u64,
    /// By how much they grew before they were ready.
    pub start_bytes: u64,
    /// By how much they have grown since.
    pub bytes: u64,
    /// How much of `bytes` grew where no stack was taken.
    pub unknown_bytes: u64,
    /// The functions that asked for memory.
    pub functions: Vec<Function>,
    /// The requests during which it grew.
    #[serde(default)]
    pub requests: Vec<Requests>,
    /// Where it grew.
    pub stacks: Vec<Stack>,
}

/// Binaries of which a runner tells.
const BINARIES_MAX: usize = 2;

/// Functions, routes, or stacks of one of them: more than a runner keeps.
const ROWS_MAX: usize = 2_000;

/// Frames of a stack.
const FRAMES_MAX: usize = 64;

/// Reads what a runner answers, up to what a runner keeps at most. Names are clipped like all text from outside.
///
/// # Errors
/// When it is no list of profiles.
pub(super) fn parse(answer: &[u8]) -> Result<Vec<Profile>, serde_json::Error> {
    let mut profiles: Vec<Profile> = serde_json::from_slice(answer)?;
    profiles.retain(|profile| profile.digest.parse::<Digest>().is_ok());
    profiles.truncate(BINARIES_MAX);
    for profile in &mut profiles {
        profile.functions.truncate(ROWS_MAX);
        profile.requests.truncate(ROWS_MAX);
        profile.stacks.truncate(ROWS_MAX);
        profile.stacks.iter_mut().for_each(|stack| stack.functions.truncate(FRAMES_MAX));
        let functions = profile.functions.iter_mut().map(|of| &mut of.function);
        let requests = profile.requests.iter_mut().flat_map(|of| [&mut of.method, &mut of.route]);
        let stacks = profile.stacks.iter_mut().flat_map(|of| &mut of.functions);
        for name in functions.chain(requests).chain(stacks) {
            *name = quote::clipped(name);
        }
    }
    Ok(profiles)
}

/// Growth by one function.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Function {
    /// Its name.
    pub function: String,
    /// What it, or an allocator that it called, asked for.
    pub bytes: u64,
}

/// Growth during requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Requests {
    /// Their method.
    pub method: String,
    /// Their path, with `*` for what varies.
    pub route: String,
    /// How many there were.
    pub requests: u64,
    /// What grew during them.
    pub bytes: u64,
}

/// Growth at one stack.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Stack {
    /// The functions, the outermost first.
    pub functions: Vec<String>,
    /// What grew while instances ran.
    pub bytes: u64,
}

/// A profile for each binary, those first that come first in `answers`, which has one for each runner.
pub(super) fn merged(answers: impl IntoIterator<Item = Vec<Profile>>) -> Vec<Profile> {
    let mut merged: Vec<Profile> = Vec::new();
    for profile in answers.into_iter().flatten() {
        match merged.iter_mut().find(|known| known.digest == profile.digest) {
            Some(known) => known.add(profile),
            None => merged.push(profile),
        }
    }
    for profile in &mut merged {
        profile.sort();
    }
    merged
}

impl Profile {
    /// By how much of what has grown a part of it is, as a percentage.
    pub(crate) fn percent(&self, bytes: u64) -> f64 {
        100.0 * bytes as f64 / self.bytes.max(1) as f64
    }

    /// Where most of it grew, in a sentence; none while nothing has.
    pub(crate) fn sentence(&self) -> Option<String> {
        let Function { function, bytes } = self.functions.first().filter(|function| function.bytes > 0)?;
        let all = ByteCount(self.bytes);
        let mut sentence = format!(
            "Of {all} by which instances of this binary have grown, {:.0} % were asked for by {function}",
            self.percent(*bytes)
        );
        if let Some(Requests { method, route, requests, bytes }) =
            self.requests.first().filter(|request| request.bytes > 0)
        {
            sentence +=
                &format!(", and {:.0} % during {method} {route} ({requests} requests)", self.percent(*bytes));
        }
        Some(sentence + ".")
    }

    fn add(&mut self, other: Self) {
        for (sum, more) in [
            (&mut self.lifetimes, other.lifetimes),
            (&mut self.initial_bytes, other.initial_bytes),
            (&mut self.start_bytes, other.start_bytes),
            (&mut self.bytes, other.bytes),
            (&mut self.unknown_bytes, other.unknown_bytes),
        ] {
            add(sum, more);
        }
        join(
            &mut self.functions,
            other.functions,
            |of| of.function.clone(),
            |of, more| add(&mut of.bytes, more.bytes),
        );
        let route = |of: &Requests| (of.method.clone(), of.route.clone());
        join(&mut self.requests, other.requests, route, |of, more| {
            add(&mut of.requests, more.requests);
            add(&mut of.bytes, more.bytes);
        });
        join(
            &mut self.stacks,
            other.stacks,
            |of| of.functions.clone(),
            |of, more| add(&mut of.bytes, more.bytes),
        );
    }

    fn sort(&mut self) {
        self.functions.sort_by_key(|of| Reverse(of.bytes));
        self.requests.sort_by_key(|of| Reverse((of.bytes, of.requests)));
        self.stacks.sort_by_key(|of| Reverse(of.bytes));
    }
}

/// Whatever runners answer, nothing overflows.
fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

/// All of them together.
pub(crate) fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// Adds `more` to `all`: to what has the same key, if there is one.
fn join<T, K: Eq + std::hash::Hash>(
    all: &mut Vec<T>,
    more: Vec<T>,
    key: impl Fn(&T) -> K,
    add: impl Fn(&mut T, T),
) {
    let mut places: HashMap<K, usize> = all.iter().enumerate().map(|(place, of)| (key(of), place)).collect();
    for one in more {
        match places.get(&key(&one)) {
            Some(place) => add(&mut all[*place], one),
            None => {
                places.insert(key(&one), all.len());
                all.push(one);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(digest: &str, function: &str, bytes: u64, route: &str) -> Profile {
        Profile {
            digest: digest.to_owned(),
            lifetimes: 1,
            initial_bytes: 10,
            bytes,
            functions: vec![Function { function: function.to_owned(), bytes }],
            requests: vec![Requests {
                method: "GET".to_owned(),
                route: route.to_owned(),
                requests: 2,
                bytes,
            }],
            stacks: vec![Stack { functions: vec!["main".to_owned(), function.to_owned()], bytes }],
            ..Profile::default()
        }
    }

    #[test]
    fn runners_add_up_by_binary_function_and_route() {
        let merged = merged([
            vec![profile("new", "leak", 70, "/upload"), profile("old", "leak", 5, "/")],
            vec![profile("new", "cache", 90, "/")],
            vec![profile("new", "leak", 40, "/upload")],
        ]);
        let [new, old] = &*merged else { panic!("{merged:?}") };
        assert_eq!((&*new.digest, new.lifetimes, new.initial_bytes, new.bytes), ("new", 3, 30, 200));
        assert_eq!((&*old.digest, old.bytes), ("old", 5));
        let functions: Vec<_> = new.functions.iter().map(|of| (&*of.function, of.bytes)).collect();
        assert_eq!(functions, [("leak", 110), ("cache", 90)]);
        let requests: Vec<_> = new.requests.iter().map(|of| (&*of.route, of.requests, of.bytes)).collect();
        assert_eq!(requests, [("/upload", 4, 110), ("/", 2, 90)]);
        assert_eq!(new.stacks.iter().map(|of| of.bytes).collect::<Vec<_>>(), [110, 90]);
    }

    #[test]
    fn whatever_runners_answer_is_bounded() {
        let most = u64::MAX;
        let one = format!(
            r#"{{"digest": "0123456789ab", "lifetimes": {most}, "initial_bytes": {most}, "start_bytes": {most}, "bytes": {most},
                "unknown_bytes": {most}, "functions": [{{"function": "f", "bytes": {most}}}], "stacks": [
                {{"functions": [{}"f"], "bytes": {most}}}]}}"#,
            r#""f","#.repeat(10_000)
        );
        let other = one.replace("0123456789ab", "<b>");
        let answer = format!("[{other},{one},{one},{one}]");
        let profiles = parse(answer.as_bytes()).unwrap();
        assert_eq!((profiles.len(), profiles[0].stacks[0].functions.len()), (BINARIES_MAX, FRAMES_MAX));
        let merged = merged([profiles.clone(), profiles]);
        assert_eq!((merged.len(), merged[0].bytes, merged[0].functions[0].bytes), (1, most, most));
    }

    #[test]
    fn names_from_outside_are_clipped() {
        let answer = format!(
            r#"[{{"digest": "0123456789ab", "lifetimes": 1, "initial_bytes": 0, "start_bytes": 0, "bytes": 1, "unknown_bytes": 0,
                "functions": [{{"function": "{0}", "bytes": 1}}],
                "requests": [{{"method": "GET", "route": "/\u001b{0}", "requests": 1, "bytes": 1}}],
                "stacks": [{{"functions": ["main", "{0}"], "bytes": 1, "start_bytes": 0, "grows": 1}}]}}]"#,
            "x".repeat(100_000)
        );
        let profile = &parse(answer.as_bytes()).unwrap()[0];
        let names =
            [&profile.functions[0].function, &profile.requests[0].route, &profile.stacks[0].functions[1]];
        for name in names {
            assert!(name.len() < 400 && !name.contains('\u{1b}'), "{name}");
        }
        assert!(parse(b"{}").is_err());
    }

    #[test]
    fn the_sentence_names_the_function_and_the_request_with_most() {
        let sentence = profile("d", "app::leak", 1 << 20, "/upload/*").sentence().unwrap();
        assert_eq!(
            sentence,
            "Of 1.0 MiB by which instances of this binary have grown, 100 % were asked for by app::leak, and 100 % during \
             GET /upload/* (2 requests)."
        );
        assert_eq!(Profile::default().sentence(), None);
    }
}
