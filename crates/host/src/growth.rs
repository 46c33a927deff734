//! Which functions, and which requests, made memory grow: a profile of a module's instances, over all of their lifetimes.
//!
//! Bytes are counted at every grow, so the sums are those of the meters. A stack is taken of each grow of an instance while these
//! are a hundred a second at most. Beyond that, one stands for all in a hundredth of a second, chosen by chance in proportion
//! to its bytes (Chao, *A General Purpose Unequal Probability Sampling Plan*, 1982). So the cost is bounded however often memory
//! grows, and the share of each function is right on average.
//!
//! [`Limiter::profiling`](crate::limiter::Limiter::profiling) fills it.

mod allocators;
mod pprof;
pub(crate) mod recorder;
mod report;
mod routes;
mod sampling;

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use report::{Function, Grown, OfBinary, Report, Requests};
pub use routes::Route;
use routes::{Again, Routes};
pub(crate) use sampling::Grows;

/// Stacks that are told apart. What comes after them counts, and its stack is not told. Together with functions and routes: about
/// half a mebibyte at most.
const STACKS_MAX: usize = 800;

/// Functions that are told apart, likewise.
const FUNCTIONS_MAX: usize = 800;

/// The longest name of a function, in bytes.
const NAME_BYTES_MAX: usize = 160;

/// Frames of a stack that are kept: those next to the grow.
pub(crate) const FRAMES_MAX: usize = 64;

/// The growth of the linear memories of all instances of one binary since this host runs.
#[derive(Default)]
pub struct Profile(Mutex<State>);

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
    routes: Routes,
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

/// Where a grow counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) phase: Phase,
    pub(crate) stack: Stack,
    /// None outside of requests, and while that is not known.
    pub(crate) route: Option<Route>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Profile")
            .field("lifetimes", &state.lifetimes)
            .field("stacks", &state.stacks.len())
            .finish_non_exhaustive()
    }
}

impl Profile {
    /// Another instance begins.
    pub(crate) fn begin(&self) {
        self.state().lifetimes += 1;
    }

    /// Another request begins, with this method and path.
    pub(crate) fn request(&self, method: &str, path: &str) -> (Route, Again) {
        self.state().routes.begin_again(method, path)
    }

    /// A memory begins with so much.
    pub(crate) fn add_initial(&self, bytes: u64) {
        self.state().initial_bytes += bytes;
    }

    /// So much of what memories began with was none of theirs.
    pub(crate) fn subtract_initial(&self, bytes: u64) {
        let mut state = self.state();
        state.initial_bytes = state.initial_bytes.saturating_sub(bytes);
    }

    pub(crate) fn add(&self, place: Place, grows: Grows) {
        self.state().add(place, grows);
    }

    pub(crate) fn subtract(&self, place: Place, grows: Grows) {
        self.state().subtract(place, grows);
    }

    /// What counted at one place counts at another.
    pub(crate) fn transfer(&self, from: Place, to: Place, grows: Grows) {
        let mut state = self.state();
        state.subtract(from, grows);
        state.add(to, grows);
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
        let state = {
            let mut state = self.state();
            state.routes.collect();
            state.clone()
        };
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
        let requests = state.routes.told().into_iter();
        let requests =
            requests.map(|(method, route, requests, bytes)| Requests { method, route, requests, bytes });
        let mut requests: Vec<_> = requests.collect();
        requests.sort_by_key(|told| Reverse((told.bytes, told.requests)));
        let total = |phase: usize| state.sums.iter().map(|sum| sum.bytes[phase]).sum();
        Report {
            lifetimes: state.lifetimes,
            initial_bytes: state.initial_bytes,
            start_bytes: total(Phase::Start as usize),
            bytes: total(Phase::Run as usize),
            unknown_bytes: unknown.bytes[Phase::Run as usize],
            functions: report::functions(&stacks),
            requests,
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

    fn add(&mut self, Place { phase, stack, route }: Place, grows: Grows) {
        let sum = self.sum(stack);
        sum.bytes[phase as usize] += grows.bytes;
        sum.grows += grows.number;
        if let Some(route) = route {
            self.routes.add(route, grows.bytes);
        }
    }

    fn subtract(&mut self, Place { phase, stack, route }: Place, grows: Grows) {
        let sum = self.sum(stack);
        sum.bytes[phase as usize] -= grows.bytes;
        sum.grows -= grows.number;
        if let Some(route) = route {
            self.routes.subtract(route, grows.bytes);
        }
    }
}

fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(profile: &Profile, stack: &[&str]) -> Place {
        Place {
            phase: Phase::Run,
            stack: profile.stack(stack.iter().copied(), str::to_uppercase),
            ..Place::default()
        }
    }

    #[test]
    fn what_grows_is_told_by_stack_and_by_the_function_that_asked() {
        let profile = Profile::default();
        profile.begin();
        profile.add_initial(10);
        let (leak, cache) = (at(&profile, &["malloc", "leak", "main"]), at(&profile, &["cache", "main"]));
        profile.add(leak, Grows::one(70));
        profile.add(cache, Grows::one(30));
        profile.add(Place { phase: Phase::Start, ..cache }, Grows::one(5));
        profile.add(at(&profile, &[]), Grows::one(8));
        profile.add(leak, Grows::one(1000));
        profile.subtract(leak, Grows::one(1000));
        let report = profile.report();
        assert_eq!((report.lifetimes, report.initial_bytes, report.start_bytes), (1, 10, 5));
        assert_eq!((report.bytes, report.unknown_bytes), (108, 8));
        assert_eq!(report.stacks[0].functions, ["MAIN", "LEAK", "MALLOC"]);
        assert_eq!((report.stacks[0].grows, report.stacks[1].grows, report.stacks[1].start_bytes), (1, 2, 5));
        assert_eq!(report.folded(), "MAIN;LEAK;MALLOC 70\nMAIN;CACHE 30\n[unknown] 8\n");
    }

    #[test]
    fn what_counted_elsewhere_is_moved_and_nothing_is_lost() {
        let profile = Profile::default();
        let (one, other) = (at(&profile, &["one"]), at(&profile, &["other"]));
        profile.add(one, Grows::one(3));
        profile.add(one, Grows::one(4));
        profile.transfer(one, other, Grows { bytes: 7, number: 2 });
        let report = profile.report();
        assert_eq!(
            report.stacks,
            [Grown { functions: vec!["OTHER".into()], bytes: 7, start_bytes: 0, grows: 2 }]
        );
        assert_eq!(report.bytes, 7);
    }

    #[test]
    fn a_profile_stays_small_and_counts_all_the_same() {
        let profile = Profile::default();
        for number in 0..10_000 {
            let (name, other) = (format!("{}{number}", "x".repeat(1000)), format!("f{number}"));
            let stack = at(&profile, &[&name, &other]);
            profile.add(stack, Grows::one(1));
        }
        let report = profile.report();
        assert_eq!(report.bytes, 10_000);
        assert!(report.stacks.len() <= STACKS_MAX && report.unknown_bytes >= 9_000, "{report:?}");
        let longest = report.stacks.iter().flat_map(|stack| &stack.functions).map(String::len).max();
        assert_eq!(longest, Some(NAME_BYTES_MAX));
    }

    #[test]
    fn what_grows_during_requests_is_told_by_their_route() {
        let profile = Profile::default();
        let (upload, again) = profile.request("POST", "/upload/17?a");
        let (other, _) = profile.request("POST", "/upload/18");
        let place = at(&profile, &["main"]);
        profile.add(place, Grows::one(5));
        profile.add(Place { route: Some(upload), ..place }, Grows::one(70));
        profile.add(Place { route: Some(other), ..place }, Grows::one(30));
        profile.request("GET", "/");
        assert_eq!(again.begin(), Some(upload));
        let told: Vec<_> = profile
            .report()
            .requests
            .into_iter()
            .map(|told| (told.route, told.requests, told.bytes))
            .collect();
        assert_eq!(told, [("/upload/*".to_owned(), 3, 100), ("/".to_owned(), 1, 0)]);
    }
}
