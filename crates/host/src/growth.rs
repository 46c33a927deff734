//! Which functions made memory grow: a profile of a module's instances, over all of their lifetimes.
//!
//! Bytes are counted at every grow, so the sums are those of the meters. A stack is taken of each grow of an instance while these
//! are a hundred a second at most. Beyond that, one stands for all in a hundredth of a second, chosen by chance in proportion
//! to its bytes (Chao, *A General Purpose Unequal Probability Sampling Plan*, 1982). So the cost is bounded however often memory
//! grows, and the share of each function is right on average.
//!
//! [`Limiter::profiling`](crate::limiter::Limiter::profiling) fills it.

mod pprof;
pub(crate) mod recorder;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

/// Stacks that are told apart. What comes after them counts, and its stack is not told. Together with the next three: about
/// half a mebibyte at most.
const STACKS_MAX: usize = 1_000;

/// Functions that are told apart, likewise.
const FUNCTIONS_MAX: usize = 1_000;

/// The longest name of a function, in bytes.
const NAME_BYTES_MAX: usize = 160;

/// Frames of a stack that are kept: those next to the grow.
pub(crate) const FRAMES_MAX: usize = 64;

/// The growth of the linear memories of all instances of one binary since this host runs.
#[derive(Default)]
pub struct Growth(Mutex<State>);

#[derive(Clone, Default)]
struct State {
    lifetimes: u64,
    initial_bytes: u64,
    /// The hash of what a function is known by, which may be long → its place in `functions`.
    places: HashMap<u64, u32>,
    hashes: RandomState,
    functions: Vec<Box<str>>,
    /// Functions from the innermost to the outermost → their place in `sums`, and so on.
    stacks: HashMap<Box<[u32]>, usize>,
    /// By stack; the first one is that of grows whose stack is not known.
    sums: Vec<Sum>,
}

/// What grew at one stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    bytes: [u64; 2],
    grows: u64,
}

/// A stack of a profile: where it stands there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stack(usize);

/// When memory grew: before its instance was ready, or after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Start,
    Run,
}

impl fmt::Debug for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Growth")
            .field("lifetimes", &state.lifetimes)
            .field("stacks", &state.stacks.len())
            .finish_non_exhaustive()
    }
}

impl Growth {
    /// Another instance begins.
    pub(crate) fn begin(&self) {
        self.state().lifetimes += 1;
    }

    /// A memory begins with so much; taken back where that fails.
    pub(crate) fn add_initial(&self, bytes: u64, takes_back: bool) {
        let mut state = self.state();
        add(&mut state.initial_bytes, bytes, takes_back);
    }

    /// A memory grows by so much, at `stack`; taken back where that fails.
    pub(crate) fn add(&self, stack: Stack, phase: Phase, bytes: u64, takes_back: bool) {
        let mut state = self.state();
        let sum = state.sum(stack);
        add(&mut sum.bytes[phase as usize], bytes, takes_back);
        add(&mut sum.grows, 1, takes_back);
    }

    /// What counted at one stack counts at another: so much in so many grows.
    pub(crate) fn transfer(&self, from: Stack, to: Stack, phase: Phase, bytes: u64, grows: u64) {
        let mut state = self.state();
        for (stack, takes_back) in [(from, true), (to, false)] {
            let sum = state.sum(stack);
            add(&mut sum.bytes[phase as usize], bytes, takes_back);
            add(&mut sum.grows, grows, takes_back);
        }
    }

    /// The stack of these functions, from the innermost to the outermost: each by what it is known by. `name` makes a name for
    /// people of that, where it is new.
    pub(crate) fn stack<'a>(
        &self,
        functions: impl Iterator<Item = &'a str>,
        name: impl Fn(&str) -> String,
    ) -> Stack {
        let mut state = self.state();
        let mut places = Vec::with_capacity(FRAMES_MAX);
        for known_by in functions.take(FRAMES_MAX) {
            let hash = state.hashes.hash_one(known_by);
            let place = match state.places.get(&hash) {
                Some(place) => *place,
                None if state.functions.len() >= FUNCTIONS_MAX => return Stack::default(),
                None => {
                    let place = u32::try_from(state.functions.len()).unwrap_or(u32::MAX);
                    state.functions.push(shortened(&name(known_by)).into());
                    state.places.insert(hash, place);
                    place
                }
            };
            places.push(place);
        }
        if places.is_empty() {
            return Stack::default();
        }
        if let Some(stack) = state.stacks.get(&*places) {
            return Stack(*stack);
        }
        if state.stacks.len() >= STACKS_MAX {
            return Stack::default();
        }
        // The first place is that of what is not known.
        let stack = state.stacks.len() + 1;
        state.stacks.insert(places.into(), stack);
        Stack(stack)
    }

    /// What the profile tells now.
    #[must_use]
    pub fn report(&self) -> Report {
        // Guests that grow wait for a copy, not for a report.
        let state = self.state().clone();
        let sum = |stack: usize| state.sums.get(stack).copied().unwrap_or_default();
        let unknown = sum(0);
        let mut stacks: Vec<_> = state
            .stacks
            .iter()
            .map(|(places, stack)| {
                let functions = places.iter().rev();
                let functions = functions.map(|place| state.functions[*place as usize].to_string());
                let Sum { bytes: [start_bytes, bytes], grows } = sum(*stack);
                Grown { functions: functions.collect(), bytes, start_bytes, grows }
            })
            .filter(|stack| stack.grows > 0)
            .collect();
        stacks.sort_by(|a, b| {
            (b.bytes, b.start_bytes, &a.functions).cmp(&(a.bytes, a.start_bytes, &b.functions))
        });
        let total = |phase: usize| state.sums.iter().map(|sum| sum.bytes[phase]).sum();
        Report {
            lifetimes: state.lifetimes,
            initial_bytes: state.initial_bytes,
            start_bytes: total(Phase::Start as usize),
            bytes: total(Phase::Run as usize),
            unknown_bytes: unknown.bytes[Phase::Run as usize],
            functions: functions(&stacks),
            stacks,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Sums are whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn sum(&mut self, Stack(stack): Stack) -> &mut Sum {
        if self.sums.len() <= stack {
            self.sums.resize(stack + 1, Sum::default());
        }
        &mut self.sums[stack]
    }
}

fn add(sum: &mut u64, more: u64, takes_back: bool) {
    *sum = if takes_back { sum.saturating_sub(more) } else { sum.saturating_add(more) };
}

fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

/// Growth of the linear memories of all instances of one binary, in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
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
    /// The functions that asked allocators for `bytes`, those first that asked for most.
    pub functions: Vec<Function>,
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

fn functions(stacks: &[Grown]) -> Vec<Function> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for stack in stacks.iter().filter(|stack| stack.bytes > 0) {
        *sums.entry(asking(&stack.functions)).or_default() += stack.bytes;
    }
    let mut functions: Vec<_> =
        sums.into_iter().map(|(function, bytes)| Function { function: function.to_owned(), bytes }).collect();
    functions.sort_by_key(|function| Reverse(function.bytes));
    functions
}

/// The innermost of `functions` that is no part of an allocator.
fn asking(functions: &[String]) -> &str {
    let own = functions.iter().rev().find(|function| !is_allocator(function));
    own.or(functions.last()).map_or("", String::as_str)
}

/// Whether a function is a part of allocators of Rust, C, C++, Go or AssemblyScript, or of a collection that asks one for room.
fn is_allocator(function: &str) -> bool {
    const NAMES: [&str; 12] = [
        "malloc",
        "calloc",
        "realloc",
        "aligned_alloc",
        "posix_memalign",
        "sbrk",
        "__sbrk",
        "cabi_realloc",
        "internal_memalign",
        "internal_realloc",
        "prepend_alloc",
        "sys_alloc",
    ];
    const BEGINNINGS: [&str; 18] = [
        "dlmalloc",
        "dlcalloc",
        "dlrealloc",
        "__rust_alloc",
        "__rust_realloc",
        "__rdl_",
        "__rustc::",
        "__rustc[",
        "alloc::",
        "std::alloc::",
        "std::collections::",
        "hashbrown::",
        "std::__2::",
        "__rg_",
        "std::sys::alloc::",
        "operator new",
        "runtime.alloc",
        "~lib/rt/",
    ];
    // A method of a generic type or a trait, `<alloc::vec::Vec<T> as …>::f`, is named by what stands first.
    let name = function.trim_start_matches('<');
    NAMES.contains(&name) || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(growth: &Growth, stack: &[&str]) -> Stack {
        growth.stack(stack.iter().copied(), str::to_uppercase)
    }

    #[test]
    fn what_grows_is_told_by_stack_and_by_the_function_that_asked() {
        let growth = Growth::default();
        growth.begin();
        growth.add_initial(10, false);
        let (leak, cache) = (at(&growth, &["malloc", "leak", "main"]), at(&growth, &["cache", "main"]));
        growth.add(leak, Phase::Run, 70, false);
        growth.add(cache, Phase::Run, 30, false);
        growth.add(cache, Phase::Start, 5, false);
        growth.add(Stack::default(), Phase::Run, 8, false);
        growth.add(leak, Phase::Run, 1000, false);
        growth.add(leak, Phase::Run, 1000, true);
        let report = growth.report();
        assert_eq!((report.lifetimes, report.initial_bytes, report.start_bytes), (1, 10, 5));
        assert_eq!((report.bytes, report.unknown_bytes), (108, 8));
        assert_eq!(report.stacks[0].functions, ["MAIN", "LEAK", "MALLOC"]);
        assert_eq!((report.stacks[0].grows, report.stacks[1].grows, report.stacks[1].start_bytes), (1, 2, 5));
        assert_eq!(report.folded(), "MAIN;LEAK;MALLOC 70\nMAIN;CACHE 30\n[unknown] 8\n");
    }

    #[test]
    fn what_counted_elsewhere_is_moved_and_nothing_is_lost() {
        let growth = Growth::default();
        let (one, other) = (at(&growth, &["one"]), at(&growth, &["other"]));
        growth.add(one, Phase::Run, 3, false);
        growth.add(one, Phase::Run, 4, false);
        growth.transfer(one, other, Phase::Run, 7, 2);
        let report = growth.report();
        assert_eq!(
            report.stacks,
            [Grown { functions: vec!["OTHER".into()], bytes: 7, start_bytes: 0, grows: 2 }]
        );
        assert_eq!(report.bytes, 7);
    }

    #[test]
    fn a_profile_stays_small_and_counts_all_the_same() {
        let growth = Growth::default();
        for number in 0..10_000 {
            let (name, other) = (format!("{}{number}", "x".repeat(1000)), format!("f{number}"));
            let stack = at(&growth, &[&name, &other]);
            growth.add(stack, Phase::Run, 1, false);
        }
        let report = growth.report();
        assert_eq!(report.bytes, 10_000);
        assert!(report.stacks.len() <= STACKS_MAX && report.unknown_bytes >= 9_000, "{report:?}");
        let longest = report.stacks.iter().flat_map(|stack| &stack.functions).map(String::len).max();
        assert_eq!(longest, Some(NAME_BYTES_MAX));
    }

    #[test]
    fn allocators_are_told_from_those_who_ask_them() {
        for (stack, expected) in [
            (
                &[
                    "leaky::main",
                    "ebb_guests::memory::leak",
                    "<alloc::raw_vec::RawVecInner>::try_allocate_in",
                    "__rustc::__rust_alloc",
                    "malloc",
                    "dlmalloc",
                ][..],
                "ebb_guests::memory::leak",
            ),
            (&["main", "grow(int)", "operator new(unsigned long)", "malloc"], "grow(int)"),
            (&["main", "mallocs"], "mallocs"),
            (&["malloc"], "malloc"),
        ] {
            let stack: Vec<_> = stack.iter().map(ToString::to_string).collect();
            assert_eq!(asking(&stack), expected);
        }
    }
}
