//! What the growth profile costs.
//!
//! | key | meaning |
//! | --- | --- |
//! | `rps_over_without_hello`, `rps_over_without_storage` | requests per second of a module with its profile, over those without; medians of rounds with new processes, whose order alternates |
//! | `us_per_captured_grow` | what a grow takes whose stack of 20 functions is taken, less what one takes without a profile; medians of paired rounds |
//! | `mib_per_module` | resident memory of two profiles, the most that a module has, both full; mean of 40 |
//! | `failed_requests` | answers with another status, and broken connections |
//!
//! Runners and load tool share the machine's processors.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use ebb_host::{growth::Profile, limiter::Limiter};
use ebb_testbed::{paths, runner::Runner};
use ebb_units::ByteCount;
use tempfile::TempDir;
use wasmtime::{Config, Engine, Instance, Module, Store, TypedFunc, UpdateDeadline};

use crate::{
    cpu::resident_bytes,
    http::load_tool::{Measured, measure},
    report::{Aim, Report},
    statistics::median,
};

const ROUNDS: usize = 15;

/// What the profile of an instance takes at once; after that, one stands for several.
const GROWS: i32 = 100;

#[tokio::main]
pub(crate) async fn run() {
    let mut report = Report::new("growth");
    let mut failed = 0;
    for module in ["hello", "storage"] {
        failed += throughput(module, &mut report).await;
    }
    report.aimed_figure("failed_requests", failed as f64, Aim::AtMost(0.0));
    let over: Vec<f64> = (0..50).map(|_| us_per_grow(true) - us_per_grow(false)).collect();
    report.aimed_figure("us_per_captured_grow", median(over), Aim::AtMost(20.0));
    report.aimed_figure("mib_per_module", 2.0 * mib_per_profile(), Aim::AtMost(1.0));
    report.publish();
}

/// Requests per second, with and without, in turn. Returns the failed requests.
async fn throughput(module: &str, report: &mut Report) -> u64 {
    let volume = TempDir::new().expect("a folder for objects");
    let replicas = std::thread::available_parallelism().map_or(2, usize::from);
    let start = async |with: bool| {
        let modules = format!(
            "  - name: {module}\n    path: {}\n    kind: http\n    replicas: {replicas}\n    growth_profile: {with}\n    \
             dirs: [{{host: {}, guest: /volume}}]\n",
            paths::guest(module).display(),
            volume.path().display()
        );
        Runner::start_quiet(&modules).await
    };
    let mut rounds: Vec<[Measured; 2]> = Vec::new();
    for round in 0..ROUNDS {
        // Where code and data come to lie differs from process to process, by more than what is measured.
        let (with, without) = (start(true).await, start(false).await);
        let order = if round % 2 == 0 { [&with, &without] } else { [&without, &with] };
        for runner in order {
            measure(&runner.http_address);
        }
        let mut measured = order.map(|runner| measure(&runner.http_address));
        if round % 2 == 1 {
            measured.reverse();
        }
        rounds.push(measured);
    }
    let ratio = rounds.iter().map(|[with, without]| with.requests_per_second / without.requests_per_second);
    report.ratio(format!("rps_over_without_{module}"), median(ratio.collect()), Some(Aim::AtLeast(0.99)));
    rounds.iter().map(|[with, without]| with.failed + without.failed).sum()
}

struct Guest {
    engine: Engine,
    module: Module,
}

/// An instance of a guest, profiled in `profile` if there is one.
fn started(
    Guest { engine, module }: &Guest,
    profile: Option<&Arc<Profile>>,
) -> (Store<Limiter>, TypedFunc<(i32, i32), ()>) {
    let ready = Arc::new(AtomicBool::new(false));
    let mut limiter = Limiter::new(ByteCount(u64::MAX));
    if let Some(profile) = profile {
        limiter = limiter.profiling(engine, Arc::clone(profile), Arc::clone(&ready));
    }
    let mut store = Store::new(engine, limiter);
    store.limiter(|limiter| limiter);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        Limiter::take_stack(store, |limiter| limiter);
        Ok(UpdateDeadline::Continue(1))
    });
    let instance = Instance::new(&mut store, module, &[]).expect("it has no imports");
    ready.store(true, Ordering::Relaxed);
    let run = instance.get_typed_func(&mut store, "run").expect("the guest exports it");
    (store, run)
}

fn guest(functions: &str) -> Guest {
    let engine = Engine::new(
        Config::new().epoch_interruption(true).wasm_backtrace_max_frames(std::num::NonZeroUsize::new(64)),
    );
    let engine = engine.expect("epochs are always to be had");
    let text = format!(
        r#"(module (memory 1)
            (func $malloc (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable))) (loop))
            {functions})"#
    );
    let module = Module::new(&engine, text).expect("it is valid");
    Guest { engine, module }
}

/// Time of a grow by a page twenty functions deep, in microseconds.
fn us_per_grow(profiled: bool) -> f64 {
    let mut functions = r#"(func $f18 (call $malloc))"#.to_owned();
    for depth in (0..18).rev() {
        let _ = write!(functions, "(func $f{depth} (call $f{}))", depth + 1);
    }
    functions.push_str(
        r#"(func (export "run") (param i32 i32)
            (loop (call $f0) (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))"#,
    );
    let guest = guest(&functions);
    let profile = Arc::<Profile>::default();
    let (mut store, run) = started(&guest, profiled.then_some(&profile));
    let started = Instant::now();
    run.call(&mut store, (GROWS, 0)).expect("it grows");
    let seconds = started.elapsed().as_secs_f64();
    if profiled {
        let stack = &profile.report().stacks[0];
        assert_eq!((stack.grows, stack.functions.len()), (GROWS as u64, 21), "every stack is taken");
    }
    seconds * 1e6 / f64::from(GROWS)
}

/// Resident memory of a profile that is full: of functions with long names, and of deep stacks.
fn mib_per_profile() -> f64 {
    const PROFILES: u32 = 40;
    const LEAKS: i32 = 1000;
    let mut functions = format!("(table {LEAKS} funcref) (type $leak (func))\n");
    for leak in 0..LEAKS {
        let name = format!("{leak}{}", "x".repeat(200));
        let _ = writeln!(functions, "(func ${name} (call $malloc)) (elem (i32.const {leak}) ${name})");
    }
    functions.push_str(
        r#"(func $deep (param i32 i32)
            (if (local.get 0)
                (then (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))
                (else (call_indirect (type $leak) (local.get 1)))))
        (func (export "run") (param i32 i32) (call $deep (local.get 0) (local.get 1)))"#,
    );
    let guest = guest(&functions);
    let fill = || {
        let profile = Arc::<Profile>::default();
        for begin in (0..LEAKS).step_by(GROWS as usize) {
            // Another instance, whose stacks are all taken again.
            let (mut store, run) = started(&guest, Some(&profile));
            for route in 0..10_000 {
                store.data_mut().request("GET", &path(route));
            }
            for leak in begin..begin + GROWS {
                run.call(&mut store, (61, leak)).expect("it grows");
            }
        }
        profile
    };
    let first = fill();
    let report = first.report();
    assert!(report.unknown_bytes > 0 && report.stacks[0].functions.len() == 64, "it is full");
    let before = resident_bytes(std::process::id());
    let profiles: Vec<_> = (0..PROFILES).map(|_| fill()).collect();
    let grown = resident_bytes(std::process::id()).saturating_sub(before);
    drop(profiles);
    grown as f64 / f64::from(PROFILES) / f64::from(1 << 20)
}

/// One of many paths of long words.
fn path(number: u32) -> String {
    let words = [number % 7, number % 41, number % 997].map(|number| {
        let word =
            number.to_string().bytes().map(|digit| char::from(digit - b'0' + b'a')).collect::<String>();
        format!("/{word:x>40}")
    });
    words.concat()
}
