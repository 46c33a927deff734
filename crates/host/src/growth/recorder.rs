//! Takes stacks of grows for a profile.
//!
//! Inside a grow no stack can be taken: the limiter has no store. So it advances the engine's epoch, and the guest
//! calls the host at the next function or loop that it enters, which is right after the grow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use wasmtime::{AsContext, Engine, FrameInfo, WasmBacktrace};

use super::{
    Again, Grows, Phase, Place, Profile, Route,
    sampling::{Move, Sampling},
};
use crate::chance::chance;

/// Requests that are asked for again and again, of which an instance remembers the routes.
const ASKED_MAX: usize = 4;

/// A request that was asked for.
#[derive(Debug)]
struct Asked {
    method: String,
    path: String,
    again: Again,
}

/// Notes the grows of one instance.
#[derive(Debug)]
pub(crate) struct Recorder {
    profile: Arc<Profile>,
    engine: Engine,
    /// Whether the instance is ready.
    ready: Arc<AtomicBool>,
    phase: Phase,
    /// The request that it works on.
    serves: Option<Route>,
    /// The last requests, and which of them is forgotten next.
    asked: Vec<Asked>,
    next_asked: usize,
    sampling: Sampling<Place>,
    /// The last grow was a memory's beginning.
    began: bool,
}

impl Recorder {
    pub(crate) fn new(profile: Arc<Profile>, engine: Engine, ready: Arc<AtomicBool>) -> Self {
        profile.begin();
        Self {
            profile,
            engine,
            ready,
            phase: Phase::Start,
            serves: None,
            asked: Vec::new(),
            next_asked: 0,
            sampling: Sampling::new(Instant::now()),
            began: false,
        }
    }

    /// A request begins, with this method and path.
    pub(crate) fn request(&mut self, method: &str, path: &str) -> Route {
        /// Longer ones are names of one thing.
        const PATH_BYTES_MAX: usize = 96;
        let known = self.asked.iter().find(|asked| asked.path == path && asked.method == method);
        if let Some(route) = known.and_then(|asked| asked.again.begin()) {
            return route;
        }
        let (route, again) = self.profile.request(method, path);
        if path.len() <= PATH_BYTES_MAX {
            let place = self.next_asked % ASKED_MAX;
            self.next_asked = place + 1;
            self.asked.retain(|asked| asked.path != path || asked.method != method);
            let asked = Asked { method: method.to_owned(), path: path.to_owned(), again };
            if self.asked.len() < ASKED_MAX {
                self.asked.push(asked);
            } else {
                self.asked[place] = asked;
            }
        }
        route
    }

    /// What grows from now on does so during requests of this route.
    pub(crate) fn serve(&mut self, request: Option<Route>) {
        self.serves = request;
    }

    /// A memory grows from one size to another.
    pub(crate) fn note(&mut self, from: usize, to: usize) {
        let bytes = (to - from) as u64;
        if self.phase == Phase::Start && self.ready.load(Ordering::Relaxed) {
            self.phase = Phase::Run;
            self.sampling.forget();
        }
        // One that begins with nothing may grow from there, later.
        self.began = from == 0 && self.phase == Phase::Start;
        if self.began {
            self.profile.add_initial(bytes);
            return;
        }
        let (place, chosen) = self.sampling.note(bytes, Instant::now(), chance());
        self.profile.add(Place { phase: self.phase, ..place }, Grows::one(bytes));
        if chosen {
            self.engine.increment_epoch();
        }
    }

    /// The last grow that was noted has failed.
    pub(crate) fn take_back(&mut self, from: usize, to: usize) {
        let bytes = (to - from) as u64;
        if self.began {
            self.profile.subtract_initial(bytes);
        } else if let Some(place) = self.sampling.take_back(bytes) {
            self.profile.subtract(Place { phase: self.phase, ..place }, Grows::one(bytes));
        }
    }

    /// So much of what memories began with was none of theirs.
    pub(crate) fn correct_initial(&self, bytes: u64) {
        self.profile.subtract_initial(bytes);
    }

    /// Whether the stack of a grow is to be taken now.
    pub(crate) fn waits(&self) -> bool {
        self.sampling.waits()
    }

    /// Takes the stack that [`Recorder::waits`] for.
    pub(crate) fn take(&mut self, stack: &WasmBacktrace) {
        let known_by: Vec<_> = stack.frames().iter().map(known_by).collect();
        let stack = self.profile.stack(known_by.iter().map(String::as_str), name);
        let place = Place { phase: self.phase, stack, route: self.serves };
        if let Some(Move { from, grows }) = self.sampling.settle(place) {
            self.profile.transfer(Place { phase: self.phase, ..from }, place, grows);
        }
    }
}

/// The stack of what runs in `store`.
pub(crate) fn stack(store: impl AsContext) -> WasmBacktrace {
    WasmBacktrace::force_capture(store)
}

/// What a function is known by: its symbol. Without one, its module, its number and where in the binary it is, for tools that know more.
fn known_by(frame: &FrameInfo) -> String {
    if let Some(symbol) = frame.func_name() {
        return symbol.to_owned();
    }
    let module = frame.module().name().unwrap_or("<module>");
    let function = frame.func_index();
    frame.module_offset().map_or_else(
        || format!("{module}!<wasm function {function}>"),
        |offset| format!("{module}!<wasm function {function}> {offset:#x}"),
    )
}

/// A symbol of Rust or C++ as people write it; any other as it is.
fn name(symbol: &str) -> String {
    if let Ok(rust) = rustc_demangle::try_demangle(symbol) {
        // Without the hash at its end.
        return format!("{rust:#}");
    }
    let cpp = cpp_demangle::Symbol::new(symbol).ok().and_then(|symbol| symbol.demangle().ok());
    cpp.unwrap_or_else(|| symbol.to_owned())
}

#[cfg(test)]
mod tests {
    use ebb_units::ByteCount;
    use wasmtime::{Config, Instance, Module, Store, UpdateDeadline};

    use super::*;
    use crate::{growth::Report, limiter::Limiter, meter::Meter};

    /// What grew in `calls` of a guest with two leaks, a page in seven calls of ten and a page in three, and its meter. Its memory
    /// begins with so many pages.
    fn leaks(pages: u32, calls: i32) -> (Report, Arc<Meter>) {
        let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        let text = format!(
            r#"(module
            (memory {pages})
            (func $malloc (drop (memory.grow (i32.const 1))) (loop))
            (func $_ZN3app5leaky17h0123456789abcdefE (call $malloc))
            (func $_ZN3app6leaky217h0123456789abcdefE (call $malloc))
            (func (export "run") (param i32)
                (loop
                    (if (i32.lt_u (i32.rem_u (local.get 0) (i32.const 10)) (i32.const 7))
                        (then (call $_ZN3app5leaky17h0123456789abcdefE))
                        (else (call $_ZN3app6leaky217h0123456789abcdefE)))
                    (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"#
        );
        let profile = Arc::<Profile>::default();
        let ready = Arc::new(AtomicBool::new(false));
        let limiter =
            Limiter::new(ByteCount::mib(4096)).profiling(&engine, Arc::clone(&profile), Arc::clone(&ready));
        let meter = limiter.meter();
        let mut store = Store::new(&engine, limiter);
        store.limiter(|limiter| limiter);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            Limiter::take_stack(store, |limiter| limiter);
            Ok(UpdateDeadline::Continue(1))
        });
        let module = Module::new(&engine, text).unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        ready.store(true, Ordering::Relaxed);
        instance.get_typed_func::<i32, ()>(&mut store, "run").unwrap().call(&mut store, calls).unwrap();
        (profile.report(), meter)
    }

    #[test]
    fn what_grows_now_and_then_is_told_to_the_byte() {
        let (report, meter) = leaks(3, 100);
        assert_eq!((report.initial_bytes, report.bytes), (3 * 65_536, 100 * 65_536));
        assert_eq!(report.initial_bytes + report.start_bytes + report.bytes, meter.bytes().0);
        let told: Vec<_> =
            report.functions.iter().map(|told| (told.function.as_str(), told.bytes / 65_536)).collect();
        assert_eq!(told, [("app::leaky", 70), ("app::leaky2", 30)], "{report:#?}");
        let innermost = report.stacks[0].functions.last().map(String::as_str);
        assert_eq!((innermost, report.unknown_bytes), (Some("malloc"), 0));
    }

    #[test]
    fn a_memory_that_begins_with_nothing_grows_like_others() {
        let (report, meter) = leaks(0, 10);
        assert_eq!((report.initial_bytes, report.bytes, report.unknown_bytes), (0, meter.bytes().0, 0));
        assert_eq!(report.functions[0].bytes, 7 * 65_536, "{report:#?}");
    }

    #[test]
    fn what_grows_all_the_time_counts_to_the_byte_in_few_stacks() {
        let (report, meter) = leaks(3, 60_000);
        assert_eq!(report.initial_bytes + report.bytes, meter.bytes().0);
        let stacks: u64 = report.stacks.iter().map(|stack| stack.bytes).sum();
        assert_eq!(stacks + report.unknown_bytes, report.bytes);
        assert!(report.functions.iter().any(|told| told.function == "app::leaky"), "{report:#?}");
        // Whoever stands for others counts for their grows as well.
        assert_eq!(report.stacks.iter().map(|stack| stack.grows).sum::<u64>(), 60_000);
    }

    #[test]
    fn symbols_of_rust_and_cpp_are_names() {
        for (symbol, expected) in [
            ("_ZN10ebb_guests6memory4leak17h0123456789abcdefE", "ebb_guests::memory::leak"),
            ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
            ("_Z4leakj", "leak(unsigned int)"),
            ("_Znwm", "operator new(unsigned long)"),
            ("dlmalloc", "dlmalloc"),
            ("PyObject_Malloc", "PyObject_Malloc"),
            ("ebb_guests::memory::leak", "ebb_guests::memory::leak"),
        ] {
            assert_eq!(name(symbol), expected);
        }
    }
}
