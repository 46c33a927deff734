//! What a program's instances hold is what the guest itself says: `memory.size` × 64 KiB.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ebb_host::meter::Meter;
use ebb_units::{Generation, Replica};
use proptest::prelude::*;

use super::{Binary, Program};
use crate::{
    config::{Config, PAGE_BYTES},
    engine::Engines,
    exchange::state::Server,
    guest::{End, turns::Places},
    kind::Kind,
    threads::Threads,
};

#[path = "../../tests/runner/component.rs"]
mod component;

use component::component;

/// What the whole instance may hold, and what one memory may hold by its own declaration, in pages.
const LIMIT: u64 = 40;
const OWN_MAX: u64 = 25;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A preview1 core module with `memory`: `body` runs in `_start`.
fn core(memory: &str, body: &str) -> String {
    format!(r#"(module {memory} (func (export "_start") {body}))"#)
}

/// A request to grow memory 0 or 1 by some pages.
type Grow = (usize, u64);

/// What the memories hold after `grows` and how many were refused, by the rules alone.
fn model(mut sizes: [u64; 2], max: [u64; 2], grows: &[Grow]) -> (Vec<[u64; 2]>, u64) {
    let (mut steps, mut refused) = (Vec::new(), 0);
    for &(memory, pages) in grows {
        let fits = sizes.iter().sum::<u64>() + pages <= LIMIT && sizes[memory] + pages <= max[memory];
        if fits {
            sizes[memory] += pages;
        } else {
            refused += 1;
        }
        steps.push(sizes);
    }
    (steps, refused)
}

/// Wasm that grows as told, and traps unless `memory.size` is what the model says, after each step.
fn body(grows: &[Grow], steps: &[[u64; 2]], memories: usize) -> String {
    grows
        .iter()
        .zip(steps)
        .map(|(&(memory, pages), sizes)| {
            let checks: String = (0..memories)
                .map(|index| {
                    let size = sizes[index];
                    format!("(if (i32.ne (memory.size {index}) (i32.const {size})) (then (unreachable)))\n")
                })
                .collect();
            format!("(drop (memory.grow {memory} (i32.const {pages})))\n{checks}")
        })
        .collect()
}

/// Runs `wat` to its end; what the meter says of linear memory, and how many requests were refused.
fn run(wat: &str) -> (u64, u64) {
    let (meter, refused) = metered(wat);
    (meter.bytes().0, refused)
}

/// Runs `wat` to its end; its meter, and how many requests were refused.
fn metered(wat: &str) -> (Arc<Meter>, u64) {
    let (program, threads) = (program(wat), Threads::start(None).unwrap());
    let refused = Arc::new(AtomicU64::new(0));
    let server = Server { replica: Replica(0), generation: Generation(1) };
    let handles = threads.handles();
    let places = Places { home: &handles.guests, busy: &handles.busy, host_calls: &handles.guests };
    let meter = handles.starts.block_on(async {
        let prepare = program.prepare(
            server.replica,
            server.generation,
            Arc::clone(&refused),
            Some(Arc::default()),
            TIMEOUT,
        );
        let prepared = prepare.await.unwrap();
        let meter = Arc::clone(prepared.meter());
        let remains = prepared.launch(&places, server).ended().await.unwrap();
        assert!(matches!(remains.end, End::Exit), "{:?}\n{wat}", remains.end);
        meter
    });
    (meter, refused.load(Ordering::Relaxed))
}

/// `wat` as a command that may hold [`LIMIT`].
fn program(wat: &str) -> Arc<Program> {
    let (config, binary) = command(wat);
    let engines = Engines::new(&config.engine).unwrap();
    Arc::new(Program::new(&engines, &config.modules[0], &Kind::Command, &binary, None).unwrap())
}

/// The config of a runner whose one module is `wat`, and the module's file.
fn command(wat: &str) -> (Config, Binary) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("guest.wat"), wat).unwrap();
    let text = format!(
        "engine: {{compile_cache: \"off\"}}\nmodules:\n  - {{name: guest, path: guest.wat, kind: command, \
         memory_limit: {}}}\n",
        LIMIT * PAGE_BYTES
    );
    let config = Config::parse(&folder.path().join("runner.yml"), &text).unwrap();
    let binary = Binary::read(&config.modules[0]).unwrap();
    (config, binary)
}

#[test]
fn a_module_that_becomes_one_of_another_kind_does_not_keep_its_program() {
    let wat = core("", "");
    let (program, (mut config, binary)) = (program(&wat), command(&wat));
    assert!(program.fits(&config.modules[0], &binary));
    let text = "modules: [{name: guest, path: guest.wat, kind: http}]\n";
    let http = Config::parse(&config.file, text).unwrap();
    config.modules[0].kind = http.modules[0].kind.clone();
    assert!(!program.fits(&config.modules[0], &binary));
}

fn grows(memories: usize) -> impl Strategy<Value = Vec<Grow>> {
    // Mostly small, now and then beyond every limit, up to what overflows 32 bits of bytes.
    let pages = prop_oneof![4 => 0..8u64, 1 => 20..60u64, 1 => Just(65_536), 1 => Just(u64::from(u32::MAX))];
    prop::collection::vec((0..memories, pages), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_meter_of_a_core_module_is_its_memory_size(grows in grows(1)) {
        let (steps, refused) = model([1, 0], [OWN_MAX, 0], &grows);
        let memory = format!(r#"(memory (export "memory") 1 {OWN_MAX})"#);
        let wat = core(&memory, &body(&grows, &steps, 1));
        let last = steps.last().map_or(1, |sizes| sizes[0]);
        prop_assert_eq!(run(&wat), (last * PAGE_BYTES, refused));
    }

    #[test]
    fn the_meter_of_a_module_with_two_memories_is_their_sum(grows in grows(2)) {
        let (steps, refused) = model([1, 3], [OWN_MAX, u64::MAX], &grows);
        let memory = format!(r#"(memory (export "memory") 1 {OWN_MAX}) (memory 3)"#);
        let wat = core(&memory, &body(&grows, &steps, 2));
        let last = steps.last().map_or(4, |sizes| sizes.iter().sum());
        prop_assert_eq!(run(&wat), (last * PAGE_BYTES, refused));
    }

    #[test]
    fn the_meter_of_a_component_is_the_sum_of_its_instances(grows in grows(1)) {
        // The second core instance holds its first page throughout.
        let (steps, refused) = model([1, 1], [u64::MAX, u64::MAX], &grows);
        let wat = component(&body(&grows, &steps, 1));
        let last = steps.last().map_or(2, |sizes| sizes.iter().sum());
        prop_assert_eq!(run(&wat), (last * PAGE_BYTES, refused));
    }
}

#[test]
fn exceptions_are_thrown_and_caught() {
    // As C++ (wasi-sdk), GHC and clang's setjmp emit them.
    let (meter, refused) = metered(
        r#"(module (tag $e (param i32)) (memory (export "memory") 1) (func (export "_start") (local i32)
            (local.set 0 (block $caught (result i32)
                (try_table (catch $e $caught) (throw $e (i32.const 7))) (i32.const 0)))
            (if (i32.ne (local.get 0) (i32.const 7)) (then (unreachable)))))"#,
    );
    assert_eq!((meter.bytes().0, refused), (PAGE_BYTES, 0));
    assert!(meter.gc_heap_bytes().0 > 0, "exceptions are kept in a heap");
}

#[test]
fn garbage_collected_objects_are_counted_apart_from_linear_memory() {
    // As Kotlin, Dart, Java and OCaml compile to. 10,000 objects of at least 16 bytes are kept, 100,000 are garbage.
    let (meter, refused) = metered(
        r#"(module
            (type $node (struct (field (ref null $node)) (field i64)))
            (memory (export "memory") 1)
            (global $kept (mut (ref null $node)) (ref.null $node))
            (func (export "_start") (local $n i32)
                (loop $l
                    (global.set $kept (struct.new $node (global.get $kept) (i64.const 1)))
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $l (i32.lt_u (local.get $n) (i32.const 10000))))
                (loop $l
                    (drop (struct.new $node (ref.null $node) (i64.const 2)))
                    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                    (br_if $l (i32.gt_s (local.get $n) (i32.const -90000))))))"#,
    );
    assert_eq!((meter.bytes().0, refused), (PAGE_BYTES, 0));
    let heap = meter.gc_heap_bytes().0;
    assert!((10_000 * 16..=LIMIT * PAGE_BYTES).contains(&heap), "{heap}");
}

#[test]
fn a_module_without_garbage_collected_objects_has_no_heap() {
    let (meter, _) = metered(&core(r#"(memory (export "memory") 3)"#, ""));
    assert_eq!((meter.bytes().0, meter.gc_heap_bytes().0), (3 * PAGE_BYTES, 0));
}

#[test]
fn a_failed_instantiation_leaves_the_meter_at_zero() {
    // The first memory fits, the second does not: what was counted for the first is taken back.
    let program = program(&core(r#"(memory (export "memory") 30) (memory 30)"#, ""));
    let refused = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let prepare =
        program.prepare(Replica(0), Generation(1), Arc::clone(&refused), Some(Arc::default()), TIMEOUT);
    assert!(runtime.block_on(prepare).is_err());
    assert_eq!(refused.load(Ordering::Relaxed), 1);
}
