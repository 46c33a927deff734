//! What a growth profile tells.

use std::{cmp::Reverse, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::allocators::asking;

/// Growth of the linear memories of all instances of one binary, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many instances there were, those included whose start failed.
    pub lifetimes: u64,
    /// What their memories began with.
    pub initial_bytes: u64,
    /// By how much they grew before they were ready.
    pub start_bytes: u64,
    /// By how much they have grown since.
    pub bytes: u64,
    /// How much of `bytes` grew where no stack was taken.
    pub unknown_bytes: u64,
    /// The functions that asked allocators for `bytes`, those first that asked for most.
    pub functions: Vec<Function>,
    /// The requests during which `bytes` grew, those first during which most did. What is left grew outside of requests, or
    /// during which is not known.
    pub requests: Vec<Requests>,
    /// Where all of that grew, those first where most did.
    pub stacks: Vec<Grown>,
}

/// Growth of the instances of one binary of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfBinary {
    /// The binary's digest.
    pub digest: String,
    /// What is known.
    #[serde(flatten)]
    pub growth: Report,
}

/// Growth by one function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub function: String,
    /// How much grew when it, or an allocator that it called, asked for memory.
    pub bytes: u64,
}

/// Growth during requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Their method.
    pub method: String,
    /// Their path, with `*` for segments that vary.
    pub route: String,
    /// How many there were.
    pub requests: u64,
    /// How much grew during them.
    pub bytes: u64,
}

/// Growth at one stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grown {
    /// The functions that called each other, the outermost first.
    pub functions: Vec<String>,
    /// How much grew while instances ran.
    pub bytes: u64,
    /// How much grew before they were ready.
    pub start_bytes: u64,
    /// In how many grows.
    pub grows: u64,
}

impl Report {
    /// Growth while instances ran, one stack a line, as flame graphs are made of: `outer;inner bytes`.
    #[must_use]
    pub fn folded(&self) -> String {
        let known = self.stacks.iter().filter(|stack| stack.bytes > 0);
        let lines = known.map(|stack| {
            let functions: Vec<_> =
                stack.functions.iter().map(|name| name.replace([';', '\n'], ",")).collect();
            format!("{} {}\n", functions.join(";"), stack.bytes)
        });
        let unknown = (self.unknown_bytes > 0).then(|| format!("[unknown] {}\n", self.unknown_bytes));
        lines.chain(unknown).collect()
    }
}

/// By the functions that asked for memory.
pub(super) fn functions(stacks: &[Grown]) -> Vec<Function> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for stack in stacks.iter().filter(|stack| stack.bytes > 0) {
        // What has no name is known by its number and by where it was called: here, by its number alone.
        let asking = asking(&stack.functions);
        let function =
            asking.rsplit_once("> 0x").map_or(asking, |(nameless, _)| &asking[..nameless.len() + 1]);
        *sums.entry(function).or_default() += stack.bytes;
    }
    let mut functions: Vec<_> =
        sums.into_iter().map(|(function, bytes)| Function { function: function.to_owned(), bytes }).collect();
    functions.sort_by_key(|function| Reverse(function.bytes));
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_without_a_name_is_one_wherever_it_was_called() {
        let stack = |innermost: &str, bytes| Grown {
            functions: vec!["main".into(), innermost.into()],
            bytes,
            start_bytes: 0,
            grows: 1,
        };
        let told = functions(&[
            stack("app!<wasm function 7> 0x1a2b", 3),
            stack("app!<wasm function 7> 0x1c00", 4),
            stack("app!<wasm function 8> 0x2000", 5),
        ]);
        let told: Vec<_> = told.iter().map(|told| (told.function.as_str(), told.bytes)).collect();
        assert_eq!(told, [("app!<wasm function 7>", 7), ("app!<wasm function 8>", 5)]);
    }
}
