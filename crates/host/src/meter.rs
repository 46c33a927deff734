//! How much memory an instance holds: kept at every grow, read by anyone, exact.
//!
//! Wasmtime asks before a memory grows and reports when a grow that was allowed fails after all; the sum
//! of the differences is what the instance holds, however many memories there are. Linear memories, the heap of
//! garbage-collected objects and table elements are counted each by themselves; the host's own bookkeeping is not. The limit
//! is for linear memories and heap together.
//!
//! Shared memories grow without asking a limiter, and are not seen. A memory with pages of one byte that asks for 4 GiB is
//! refused without asking, too; where such memories are enabled, that may take back the grow before it.

use std::sync::atomic::{AtomicU64, Ordering};

use ebb_units::ByteCount;

/// The memory of one instance. Any thread may read it while the instance runs.
#[derive(Debug, Default)]
pub struct Meter {
    pub(crate) linear: AtomicU64,
    pub(crate) gc_heap: AtomicU64,
    pub(crate) table_elements: AtomicU64,
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

    /// The elements of all of the instance's tables, now.
    #[must_use]
    pub fn table_elements(&self) -> u64 {
        self.table_elements.load(Ordering::Acquire)
    }

    /// Says what the instance's linear memories hold. For hosts whose engine tells it by other means than a limiter.
    pub fn set_bytes(&self, bytes: ByteCount) {
        self.linear.store(bytes.0, Ordering::Release);
    }

    /// Says that nothing is held: Wasmtime does not report memories that go away with a failed instantiation.
    pub fn reset(&self) {
        for gauge in [&self.linear, &self.gc_heap, &self.table_elements] {
            gauge.store(0, Ordering::Release);
        }
    }
}
