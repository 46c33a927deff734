//! A limiter of a Wasmtime store that keeps a [`Meter`], and the instance within its limit.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use ebb_units::ByteCount;
use wasmtime::{Engine, ResourceLimiter, ResourceLimiterAsync, StoreContextMut, StoreLimits};

use crate::{
    growth::{
        Profile, Route,
        recorder::{self, Recorder},
    },
    meter::Meter,
};

/// What Wasmtime tells the limiter as the maximum of a heap of garbage-collected objects: all that 32 bits can address.
const GC_HEAP_BYTES_MAX: usize = 1 << 32;

/// What an element of a table takes: a reference to a function, and nothing takes more.
const ELEMENT_BYTES: u64 = 8;

/// Keeps a [`Meter`], and the instance within its limit. What that allows, the limiter `R` that the host has besides may still
/// deny.
///
/// ```
/// use ebb_host::limiter::Limiter;
/// use ebb_units::ByteCount;
/// use wasmtime::{Engine, Instance, Module, Store, StoreLimitsBuilder};
///
/// let engine = Engine::default();
/// let own = StoreLimitsBuilder::new().instances(1).build();
/// let limiter = Limiter::new(ByteCount::mib(1)).wrapping(own);
/// let meter = limiter.meter();
/// let mut store = Store::new(&engine, limiter);
/// store.limiter(|limiter| limiter);
///
/// let module = Module::new(&engine, r#"(module (memory (export "memory") 2))"#)?;
/// let instance = Instance::new(&mut store, &module, &[])?;
/// let memory = instance.get_memory(&mut store, "memory").expect("it is exported");
/// memory.grow(&mut store, 3)?;
/// assert_eq!(meter.bytes(), ByteCount(5 * 65_536));
/// assert!(memory.grow(&mut store, 12).is_err(), "a mebibyte is 16 pages");
/// # Ok::<(), wasmtime::Error>(())
/// ```
#[derive(Debug)]
pub struct Limiter<R = StoreLimits> {
    meter: Arc<Meter>,
    gc_heap_initial_bytes: Option<usize>,
    limit: ByteCount,
    /// Requests that were denied or failed, of all instances of the module.
    grow_failures: Arc<AtomicU64>,
    /// The last grow that was allowed, until the next one.
    last: Option<Grow>,
    last_table: Option<(usize, usize)>,
    recorder: Option<Recorder>,
    inner: R,
}

/// A memory that grows from one size to another, in bytes.
#[derive(Clone, Copy, Debug)]
struct Grow {
    from: usize,
    to: usize,
    is_heap: bool,
}

impl Limiter {
    /// A limiter of a new instance, which may hold `limit`. Whatever else Wasmtime asks is answered as [`StoreLimits::default`]
    /// does.
    #[must_use]
    pub fn new(limit: ByteCount) -> Self {
        Self {
            meter: Arc::default(),
            gc_heap_initial_bytes: None,
            limit,
            grow_failures: Arc::default(),
            last: None,
            last_table: None,
            recorder: None,
            inner: StoreLimits::default(),
        }
    }
}

impl<R> Limiter<R> {
    /// The same, which keeps `meter`.
    #[must_use]
    pub fn keeping(self, meter: Arc<Meter>) -> Self {
        Self { meter, ..self }
    }

    /// The same, which counts in `grow_failures` what was denied or failed.
    #[must_use]
    pub fn counting(self, grow_failures: Arc<AtomicU64>) -> Self {
        Self { grow_failures, ..self }
    }

    /// The same for an engine with garbage-collected objects, whose `gc_heap_initial_size` this is. Without it, their heap
    /// counts as a linear memory.
    #[must_use]
    pub fn with_gc_heap(self, initial_bytes: usize) -> Self {
        Self { gc_heap_initial_bytes: Some(initial_bytes), ..self }
    }

    /// The same, which asks `inner` before it allows something.
    #[must_use]
    pub fn wrapping<S>(self, inner: S) -> Limiter<S> {
        let Self { meter, gc_heap_initial_bytes, limit, grow_failures, last, last_table, recorder, inner: _ } =
            self;
        Limiter { meter, gc_heap_initial_bytes, limit, grow_failures, last, last_table, recorder, inner }
    }

    /// The same, which tells `profile` which functions made linear memory grow. `ready`: set once the instance is ready; what grew
    /// before is told apart.
    ///
    /// For that, the store needs epochs, a deadline one tick ahead, and a callback with [`Limiter::take_stack`]. Without these,
    /// bytes are counted and no stacks are told. Stacks have as many frames as `Config::wasm_backtrace_max_frames` says, 20 by
    /// default; 64 are kept.
    ///
    /// The epoch of `engine` advances with grows as well, so it is no clock: a deadline of several ticks comes sooner.
    ///
    /// ```
    /// # use std::sync::{Arc, atomic::AtomicBool};
    /// # use ebb_host::{growth::Profile, limiter::Limiter};
    /// # use ebb_units::ByteCount;
    /// # use wasmtime::{Config, Engine, Store, UpdateDeadline};
    /// let engine = Engine::new(Config::new().epoch_interruption(true))?;
    /// let profile = Arc::<Profile>::default();
    /// let ready = Arc::new(AtomicBool::new(false));
    /// let limiter = Limiter::new(ByteCount::mib(64)).profiling(&engine, Arc::clone(&profile), ready);
    /// let mut store = Store::new(&engine, limiter);
    /// store.limiter(|limiter| limiter);
    /// store.set_epoch_deadline(1);
    /// store.epoch_deadline_callback(|store| {
    ///     Limiter::take_stack(store, |limiter| limiter);
    ///     // Or `Yield(1)`, where guests are called asynchronously.
    ///     Ok(UpdateDeadline::Continue(1))
    /// });
    /// # Ok::<(), wasmtime::Error>(())
    /// ```
    #[must_use]
    pub fn profiling(self, engine: &Engine, profile: Arc<Profile>, ready: Arc<AtomicBool>) -> Self {
        Self { recorder: Some(Recorder::new(profile, engine.clone(), ready)), ..self }
    }

    /// Counts a request of this method and path in the profile: what grows during it is told by its route, in which segments of
    /// the path that vary are one. None without a profile.
    pub fn request(&mut self, method: &str, path: &str) -> Option<Route> {
        self.recorder.as_mut().map(|recorder| recorder.request(method, path))
    }

    /// What grows from now on does so during this request, or during none.
    ///
    /// An instance that works on several at once says so before each stack that is taken, if
    /// [`Limiter::waits_for_stack`]: `StoreContextMut::async_call_stack` tells which task runs.
    pub fn serve(&mut self, request: Option<Route>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.serve(request);
        }
    }

    /// Whether [`Limiter::take_stack`] would take one.
    pub fn waits_for_stack(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recorder::waits)
    }

    /// Takes the stack of what has just grown, if that is to be told: to be called when the guest finds that the epoch has
    /// advanced. `of`: where the store keeps its limiter.
    pub fn take_stack<T: 'static>(mut store: StoreContextMut<'_, T>, of: impl Fn(&mut T) -> &mut Self) {
        if of(store.data_mut()).waits_for_stack() {
            let stack = recorder::stack(&store);
            if let Some(recorder) = &mut of(store.data_mut()).recorder {
                recorder.take(&stack);
            }
        }
    }

    /// The meter that this limiter keeps.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Tells the limiter how large the heap is: Wasmtime knows, but only while the instance does not run.
    pub fn correct_gc_heap(&self, bytes: usize) {
        let bytes = bytes as u64;
        let (linear, heap) = (self.meter.bytes().0, self.meter.gc_heap_bytes().0);
        self.meter.gc_heap.store(bytes, Ordering::Release);
        let corrected = (linear + heap).saturating_sub(bytes);
        self.meter.linear.store(corrected, Ordering::Release);
        if let Some(recorder) = &self.recorder {
            recorder.correct_initial(linear.saturating_sub(corrected));
        }
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

    /// The grow, if it stays within limit and maximum. One beyond the memory's own maximum fails whatever is answered; denied
    /// here, it is counted in one place, and the sum never shows bytes that nobody will get.
    fn within_limit(&self, from: usize, to: usize, maximum: Option<usize>) -> Option<Grow> {
        let total = self.meter.bytes().0 + self.meter.gc_heap_bytes().0;
        let total = total.saturating_add((to - from) as u64);
        let fits = total <= self.limit.0 && maximum.is_none_or(|maximum| to <= maximum);
        fits.then(|| Grow { from, to, is_heap: self.is_heap(from, to, maximum) })
    }

    /// Takes note of a grow that is allowed, or of none.
    fn note(&mut self, allowed: Option<Grow>) -> bool {
        self.last = allowed;
        match allowed {
            Some(grow) => {
                self.resize(grow);
                if let Some(recorder) = self.recorder.as_mut().filter(|_| !grow.is_heap) {
                    recorder.note(grow.from, grow.to);
                }
            }
            None => self.count_failure(),
        }
        allowed.is_some()
    }

    fn resize(&self, Grow { from, to, is_heap }: Grow) {
        resize(if is_heap { &self.meter.gc_heap } else { &self.meter.linear }, from, to);
    }

    fn count_failure(&self) {
        self.grow_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// A grow that was allowed fails: the host is short of memory or of memory maps.
    fn take_back(&mut self) {
        self.count_failure();
        if let Some(Grow { from, to, is_heap }) = self.last.take() {
            self.resize(Grow { from: to, to: from, is_heap });
            if let Some(recorder) = self.recorder.as_mut().filter(|_| !is_heap) {
                recorder.take_back(from, to);
            }
        }
    }

    /// Whether tables may grow so: each is bounded by its maximum, and all together may take as much as the memories may, besides
    /// them.
    fn table_within_limit(&self, from: usize, to: usize, maximum: Option<usize>) -> bool {
        let total = self.meter.table_elements().saturating_add((to - from) as u64);
        maximum.is_none_or(|maximum| to <= maximum) && total.saturating_mul(ELEMENT_BYTES) <= self.limit.0
    }

    fn note_table(&mut self, from: usize, to: usize, allowed: bool) -> bool {
        self.last_table = allowed.then_some((from, to));
        if allowed {
            resize(&self.meter.table_elements, from, to);
        }
        allowed
    }

    fn take_back_table(&mut self) {
        if let Some((from, to)) = self.last_table.take() {
            resize(&self.meter.table_elements, to, from);
        }
    }
}

fn resize(gauge: &AtomicU64, from: usize, to: usize) {
    // Only this instance's thread writes; the atomics are for the readers.
    gauge.store(gauge.load(Ordering::Acquire) + to as u64 - from as u64, Ordering::Release);
}

impl<R: ResourceLimiter> ResourceLimiter for Limiter<R> {
    /// Called with `current == 0` for a memory's initial size, and for every grow.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let Some(grow) = self.within_limit(current, desired, maximum) else { return Ok(self.note(None)) };
        let answer = self.inner.memory_growing(current, desired, maximum);
        self.note(matches!(answer, Ok(true)).then_some(grow));
        answer
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        self.inner.memory_grow_failed(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if !self.table_within_limit(current, desired, maximum) {
            return Ok(self.note_table(current, desired, false));
        }
        let answer = self.inner.table_growing(current, desired, maximum);
        self.note_table(current, desired, matches!(answer, Ok(true)));
        answer
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back_table();
        self.inner.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.inner.instances()
    }

    fn tables(&self) -> usize {
        self.inner.tables()
    }

    fn memories(&self) -> usize {
        self.inner.memories()
    }
}

#[async_trait::async_trait]
impl<R: ResourceLimiterAsync> ResourceLimiterAsync for Limiter<R> {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let Some(grow) = self.within_limit(current, desired, maximum) else { return Ok(self.note(None)) };
        let answer = self.inner.memory_growing(current, desired, maximum).await;
        self.note(matches!(answer, Ok(true)).then_some(grow));
        answer
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        self.inner.memory_grow_failed(error)
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if !self.table_within_limit(current, desired, maximum) {
            return Ok(self.note_table(current, desired, false));
        }
        let answer = self.inner.table_growing(current, desired, maximum).await;
        self.note_table(current, desired, matches!(answer, Ok(true)));
        answer
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back_table();
        self.inner.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.inner.instances()
    }

    fn tables(&self) -> usize {
        self.inner.tables()
    }

    fn memories(&self) -> usize {
        self.inner.memories()
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
        let limiter = Limiter::new(ByteCount(pages * PAGE as u64))
            .with_gc_heap(GC_HEAP_INITIAL_BYTES)
            .counting(Arc::clone(&failures));
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
        assert_eq!(meter.table_elements(), 16_384);
    }

    #[test]
    fn a_table_that_the_host_cannot_grow_is_taken_back_once() {
        let (mut limiter, meter, _) = limiter(2);
        assert!(
            limiter.table_growing(0, 100, None).unwrap() && limiter.table_growing(100, 300, None).unwrap()
        );
        for _ in 0..2 {
            limiter.table_grow_failed(wasmtime::format_err!("out of memory")).unwrap();
            assert_eq!(meter.table_elements(), 100);
        }
    }

    #[test]
    fn what_a_hosts_own_limiter_turns_into_a_trap_is_counted_as_denied() {
        let failures = Arc::default();
        let own = wasmtime::StoreLimitsBuilder::new().memory_size(PAGE).trap_on_grow_failure(true).build();
        let limiter = Limiter::new(ByteCount(8 * PAGE as u64)).counting(Arc::clone(&failures));
        let mut limiter = limiter.wrapping(own);
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(limiter.memory_growing(PAGE, 2 * PAGE, None).is_err());
        assert_eq!((pages(&limiter.meter()), failures.load(Ordering::Relaxed)), (1, 1));
    }

    /// Denies memories and tables beyond these sizes.
    struct Own(usize, usize);

    #[async_trait::async_trait]
    impl ResourceLimiterAsync for Own {
        async fn memory_growing(&mut self, _: usize, to: usize, _: Option<usize>) -> wasmtime::Result<bool> {
            tokio::task::yield_now().await;
            Ok(to <= self.0)
        }

        async fn table_growing(&mut self, _: usize, to: usize, _: Option<usize>) -> wasmtime::Result<bool> {
            Ok(to <= self.1)
        }
    }

    #[tokio::test]
    async fn a_hosts_own_limiter_may_deny_what_the_limit_allows() {
        let failures = Arc::default();
        let limiter = Limiter::new(ByteCount(8 * PAGE as u64)).counting(Arc::clone(&failures));
        let limiter = limiter.wrapping(Own(3 * PAGE, 10));
        let meter = limiter.meter();
        let engine = Engine::default();
        let mut store = Store::new(&engine, limiter);
        store.limiter_async(|limiter| limiter);
        let grower = r#"(module (memory (export "memory") 1) (table (export "table") 4 funcref))"#;
        let module = Module::new(&engine, grower).unwrap();
        let instance = Instance::new_async(&mut store, &module, &[]).await.unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        assert!(
            memory.grow_async(&mut store, 2).await.is_ok() && memory.grow_async(&mut store, 1).await.is_err()
        );
        let table = instance.get_table(&mut store, "table").unwrap();
        let null = || wasmtime::Ref::Func(None);
        assert!(table.grow_async(&mut store, 6, null()).await.is_ok());
        assert!(table.grow_async(&mut store, 1, null()).await.is_err());
        assert_eq!((pages(&meter), meter.table_elements(), failures.load(Ordering::Relaxed)), (3, 10, 1));
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
