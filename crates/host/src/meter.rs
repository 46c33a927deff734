//! How much memory an instance holds: kept at every grow, read by anyone, exact.
//!
//! Wasmtime asks before a memory grows and reports when a grow that was allowed fails after all; the sum
//! of the differences is what the instance holds, however many memories there are. The figures cover
//! linear memories and the heap of garbage-collected objects, each by itself: not tables, not the host's
//! own bookkeeping. The limit is for both together.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ebb_units::ByteCount;
use wasmtime::ResourceLimiter;

/// What Wasmtime tells the limiter as the maximum of a heap of garbage-collected objects: all that 32 bits can address.
const GC_HEAP_BYTES_MAX: usize = 1 << 32;

/// The memory of one instance, in bytes.
#[derive(Debug, Default)]
pub struct Meter {
    linear: AtomicU64,
    gc_heap: AtomicU64,
}

impl Meter {
    /// The sum of the instance's linear memories, now.
    #[must_use]
    pub fn bytes(&self) -> ByteCount {
        ByteCount(self.linear.load(Ordering::Acquire))
    }

    /// The size of the instance's heap of garbage-collected objects, now; zero if it has none.
    #[must_use]
    pub fn gc_heap_bytes(&self) -> ByteCount {
        ByteCount(self.gc_heap.load(Ordering::Acquire))
    }

    /// Says that nothing is held: Wasmtime does not report memories that go away with a failed instantiation.
    pub fn reset(&self) {
        self.linear.store(0, Ordering::Release);
        self.gc_heap.store(0, Ordering::Release);
    }
}

/// Keeps a [`Meter`], and the instance within its limit.
#[derive(Debug)]
pub struct Limiter {
    meter: Arc<Meter>,
    gc_heap_initial_bytes: Option<usize>,
    limit: ByteCount,
    /// Requests that were denied or failed, over all lifetimes of the slot.
    grow_failures: Arc<AtomicU64>,
    /// The last grow that was allowed, until the next one.
    last: Option<Grow>,
    /// What all tables take, in bytes.
    table_bytes: u64,
}

/// What an element of a table takes: a reference to a function, and nothing takes more.
const ELEMENT_BYTES: u64 = 8;

/// A memory that grows from one size to another, in bytes.
#[derive(Clone, Copy, Debug)]
struct Grow {
    from: usize,
    to: usize,
    is_heap: bool,
}

impl Limiter {
    /// A limiter of a new instance.
    ///
    /// `gc_heap_initial_bytes`: the engine's `gc_heap_initial_size`; none if it knows no garbage-collected objects. `limit`:
    /// for the sum of its linear memories and its heap. `grow_failures`: counts what was denied or failed.
    #[must_use]
    pub fn new(
        gc_heap_initial_bytes: Option<usize>,
        limit: ByteCount,
        grow_failures: Arc<AtomicU64>,
    ) -> Self {
        Self {
            meter: Arc::default(),
            gc_heap_initial_bytes,
            limit,
            grow_failures,
            last: None,
            table_bytes: 0,
        }
    }

    /// The meter that this limiter keeps.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Whether it is the heap that grows: to the limiter, Wasmtime's heap is a memory like any other.
    ///
    /// The heap has no maximum but the address space's, begins with what its engine says, and at least
    /// doubles when it grows. A linear memory passes for it only if it has no maximum either, is as large as the
    /// heap to the byte, and at least doubles.
    fn is_heap(&self, from: usize, to: usize, maximum: Option<usize>) -> bool {
        let Some(initial) = self.gc_heap_initial_bytes else { return false };
        let heap = self.meter.gc_heap_bytes().0;
        let grows_so = if heap == 0 {
            from == 0 && to == initial
        } else {
            from as u64 == heap && to >= from.saturating_mul(2).min(GC_HEAP_BYTES_MAX)
        };
        maximum == Some(GC_HEAP_BYTES_MAX) && grows_so
    }

    fn resize(&self, Grow { from, to, is_heap }: Grow) {
        let gauge = if is_heap { &self.meter.gc_heap } else { &self.meter.linear };
        // Only this instance's thread writes; the atomics are for the readers.
        let bytes = gauge.load(Ordering::Acquire) + to as u64 - from as u64;
        gauge.store(bytes, Ordering::Release);
    }

    /// Tells the limiter how large the heap is: Wasmtime knows, but only while the instance does not run.
    pub fn correct_gc_heap(&self, bytes: usize) {
        let bytes = bytes as u64;
        let (linear, heap) = (self.meter.bytes().0, self.meter.gc_heap_bytes().0);
        self.meter.gc_heap.store(bytes, Ordering::Release);
        self.meter.linear.store((linear + heap).saturating_sub(bytes), Ordering::Release);
    }
}

impl ResourceLimiter for Limiter {
    /// Called with `current == 0` for a memory's initial size, and for every grow.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.meter.bytes().0 + self.meter.gc_heap_bytes().0;
        let total = total.saturating_add((desired - current) as u64);
        // A grow beyond the memory's own maximum fails whatever is answered; denied here, it is
        // counted in one place, and the sum never shows bytes that nobody will get.
        let beyond_maximum = maximum.is_some_and(|maximum| desired > maximum);
        if beyond_maximum || total > self.limit.0 {
            self.grow_failures.fetch_add(1, Ordering::Relaxed);
            self.last = None;
            return Ok(false);
        }
        let grow = Grow { from: current, to: desired, is_heap: self.is_heap(current, desired, maximum) };
        self.resize(grow);
        self.last = Some(grow);
        Ok(true)
    }

    /// Called when a grow that was allowed fails: the host is short of memory or of memory maps. It is
    /// never called without `memory_growing` before it, as custom page sizes are switched off.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_failures.fetch_add(1, Ordering::Relaxed);
        if let Some(Grow { from, to, is_heap }) = self.last.take() {
            self.resize(Grow { from: to, to: from, is_heap });
        }
        Ok(())
    }

    /// Called as [`ResourceLimiter::memory_growing`] is. Each table is bounded by the pool, too (`table_elements`); all together
    /// may take as much as the memories may, besides them.
    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = (desired - current) as u64;
        let total = self.table_bytes.saturating_add(grown.saturating_mul(ELEMENT_BYTES));
        if maximum.is_some_and(|maximum| desired > maximum) || total > self.limit.0 {
            return Ok(false);
        }
        self.table_bytes = total;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmtime::{Config, Engine, Instance, Module, Store};

    use super::*;

    const PAGE: usize = 65_536;
    const GC_HEAP_INITIAL_BYTES: usize = 3 * PAGE;

    fn limiter(pages: u64) -> (Limiter, Arc<Meter>, Arc<AtomicU64>) {
        let failures = Arc::new(AtomicU64::new(0));
        let limiter =
            Limiter::new(Some(GC_HEAP_INITIAL_BYTES), ByteCount(pages * PAGE as u64), Arc::clone(&failures));
        let meter = limiter.meter();
        (limiter, meter, failures)
    }

    fn pages(meter: &Meter) -> u64 {
        meter.bytes().0 / PAGE as u64
    }

    #[test]
    fn all_tables_together_take_no_more_than_the_memories_may() {
        // Two pages: 16,384 elements.
        let (mut limiter, meter, failures) = limiter(2);
        let mut grow = |current, desired, maximum| limiter.table_growing(current, desired, maximum).unwrap();
        assert!(grow(0, 10_000, None) && grow(0, 6_000, Some(7_000)));
        assert!(!grow(6_000, 7_001, Some(7_000)), "beyond its maximum");
        assert!(grow(6_000, 6_384, Some(7_000)) && !grow(10_000, 10_001, None));
        assert_eq!((meter.bytes().0, failures.load(Ordering::Relaxed)), (0, 0), "they are no linear memory");
    }

    #[test]
    fn several_memories_share_one_limit() {
        let (mut limiter, meter, failures) = limiter(4);
        assert!(limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(limiter.memory_growing(0, 2 * PAGE, None).unwrap());
        assert!(!limiter.memory_growing(2 * PAGE, 3 * PAGE, None).unwrap());
        assert_eq!((pages(&meter), failures.load(Ordering::Relaxed)), (4, 1));
    }

    #[test]
    fn a_grow_that_the_host_cannot_serve_is_taken_back_once() {
        let (mut limiter, meter, failures) = limiter(8);
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(limiter.memory_growing(PAGE, 3 * PAGE, None).unwrap());
        limiter.memory_grow_failed(wasmtime::format_err!("out of memory")).unwrap();
        assert_eq!((pages(&meter), failures.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn a_grow_beyond_the_memorys_own_maximum_is_denied_and_counted_once() {
        let (mut limiter, meter, failures) = limiter(8);
        assert!(!limiter.memory_growing(0, 3 * PAGE, Some(2 * PAGE)).unwrap());
        assert_eq!((pages(&meter), failures.load(Ordering::Relaxed)), (0, 1));
    }

    /// Grows two linear memories and a heap as told, the one memory without a maximum of its own.
    const GROWER: &str = r#"(module
        (type $bytes (array (mut i8)))
        (type $node (struct (field (ref null $node)) (field (ref $bytes))))
        (memory (export "open") 1)
        (memory (export "bounded") 2 20)
        (global $kept (mut (ref null $node)) (ref.null $node))
        (func (export "grow-open") (param i32) (drop (memory.grow 0 (local.get 0))))
        (func (export "grow-bounded") (param i32) (drop (memory.grow 1 (local.get 0))))
        (func (export "keep") (param i32)
            (global.set $kept (struct.new $node (global.get $kept) (array.new_default $bytes (local.get 0)))))
        (func (export "forget") (param i32) (global.set $kept (ref.null $node))))"#;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        GrowOpen(i32),
        GrowBounded(i32),
        Keep(i32),
        Forget,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..9).prop_map(Step::GrowOpen),
            2 => (0..9).prop_map(Step::GrowBounded),
            4 => (0..400_000).prop_map(Step::Keep),
            1 => Just(Step::Keep(3_000_000)),
            1 => Just(Step::Forget),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn linear_memories_and_the_heap_are_told_apart_to_the_byte(steps in steps()) {
            let mut config = Config::new();
            config.wasm_gc(true).wasm_function_references(true).gc_heap_initial_size(GC_HEAP_INITIAL_BYTES as u64);
            let engine = Engine::new(&config).unwrap();
            let (limiter, meter, _) = limiter(200);
            let mut store = Store::new(&engine, limiter);
            store.limiter(|limiter| limiter);
            let module = Module::new(&engine, GROWER).unwrap();
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let memories = ["open", "bounded"].map(|name| instance.get_memory(&mut store, name).unwrap());
            for step in steps {
                let (name, argument) = match step {
                    Step::GrowOpen(pages) => ("grow-open", pages),
                    Step::GrowBounded(pages) => ("grow-bounded", pages),
                    Step::Keep(bytes) => ("keep", bytes),
                    Step::Forget => ("forget", 0),
                };
                let open = memories[0].data_size(&store);
                // The one grow that passes for the heap's.
                if name == "grow-open" && open == store.gc_heap_capacity() && argument as usize * PAGE >= open {
                    continue;
                }
                let step = instance.get_typed_func::<i32, ()>(&mut store, name).unwrap();
                // At the limit, an allocation traps; what is held is the same.
                let _ = step.call(&mut store, argument);
                let linear: usize = memories.iter().map(|memory| memory.data_size(&store)).sum();
                let heap = store.gc_heap_capacity();
                prop_assert_eq!((meter.bytes().0, meter.gc_heap_bytes().0), (linear as u64, heap as u64));
                prop_assert!(linear + heap <= 200 * PAGE);
            }
        }
    }

    #[test]
    fn a_memory_that_passed_for_the_heap_is_corrected_when_the_heap_is_known() {
        let (mut limiter, meter, _) = limiter(64);
        assert!(limiter.memory_growing(0, GC_HEAP_INITIAL_BYTES, Some(GC_HEAP_BYTES_MAX)).unwrap());
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert_eq!(meter.gc_heap_bytes().0, GC_HEAP_INITIAL_BYTES as u64);
        limiter.correct_gc_heap(0);
        assert_eq!((pages(&meter), meter.gc_heap_bytes().0), (4, 0));
    }

    #[test]
    fn heap_and_linear_memory_share_one_limit() {
        let (mut limiter, meter, failures) = limiter(4);
        assert!(limiter.memory_growing(0, GC_HEAP_INITIAL_BYTES, Some(GC_HEAP_BYTES_MAX)).unwrap());
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(!limiter.memory_growing(PAGE, 2 * PAGE, None).unwrap());
        assert!(!limiter.memory_growing(3 * PAGE, 6 * PAGE, Some(GC_HEAP_BYTES_MAX)).unwrap());
        assert_eq!((pages(&meter), failures.load(Ordering::Relaxed)), (1, 2));
    }

    #[test]
    fn a_request_near_the_end_of_the_address_space_does_not_overflow() {
        let (mut limiter, meter, _) = limiter(8);
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(!limiter.memory_growing(0, usize::MAX - PAGE + 1, None).unwrap());
        assert_eq!(pages(&meter), 1);
    }
}
