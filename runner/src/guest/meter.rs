//! How much linear memory an instance holds: kept at every grow, read by anyone, exact.
//!
//! Wasmtime asks before a memory grows and reports when a grow that was allowed fails after all; the sum
//! of the differences is the sum of the instance's memories, however many there are. The figure covers
//! what is linear memory: not tables, not the host's own bookkeeping.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ebb_service::units::ByteCount;
use wasmtime::ResourceLimiter;

/// The linear memory of one instance, in bytes.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// The sum of the instance's linear memories, now.
    #[must_use]
    pub fn bytes(&self) -> ByteCount {
        ByteCount(self.0.load(Ordering::Acquire))
    }

    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// Keeps a [`Meter`], and the instance within its limit.
#[derive(Debug)]
pub struct Limiter {
    meter: Arc<Meter>,
    limit: ByteCount,
    /// Requests that were denied or failed, over all lifetimes of the slot.
    grow_failures: Arc<AtomicU64>,
    /// What the last allowed grow added, until the next one.
    last_delta: u64,
}

impl Limiter {
    /// A limiter of a new instance. `limit`: for the sum of its linear memories.
    #[must_use]
    pub fn new(limit: ByteCount, grow_failures: Arc<AtomicU64>) -> Self {
        Self { meter: Arc::default(), limit, grow_failures, last_delta: 0 }
    }

    /// The meter that this limiter keeps.
    #[must_use]
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }
}

impl ResourceLimiter for Limiter {
    /// Called with `current == 0` for a memory's initial size, and for every `memory.grow`.
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let delta = (desired - current) as u64;
        let total = self.meter.bytes().0.saturating_add(delta);
        // A grow beyond the memory's own maximum fails whatever is answered; denied here, it is
        // counted in one place, and the sum never shows bytes that nobody will get.
        let beyond_maximum = maximum.is_some_and(|maximum| desired > maximum);
        if beyond_maximum || total > self.limit.0 {
            self.grow_failures.fetch_add(1, Ordering::Relaxed);
            self.last_delta = 0;
            return Ok(false);
        }
        // Only this instance's thread writes; the atomic is for the readers.
        self.meter.0.store(total, Ordering::Release);
        self.last_delta = delta;
        Ok(true)
    }

    /// Called when a grow that was allowed fails: the host is short of memory or of memory maps. It is
    /// never called without `memory_growing` before it, as custom page sizes are switched off.
    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.grow_failures.fetch_add(1, Ordering::Relaxed);
        self.meter.0.fetch_sub(std::mem::take(&mut self.last_delta), Ordering::AcqRel);
        Ok(())
    }

    /// Tables are bounded by the pool (`table_elements`), not by the memory limit.
    fn table_growing(
        &mut self,
        _current: usize,
        _desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 65_536;

    fn limiter(pages: u64) -> (Limiter, Arc<Meter>, Arc<AtomicU64>) {
        let failures = Arc::new(AtomicU64::new(0));
        let limiter = Limiter::new(ByteCount(pages * PAGE as u64), Arc::clone(&failures));
        let meter = limiter.meter();
        (limiter, meter, failures)
    }

    fn pages(meter: &Meter) -> u64 {
        meter.bytes().0 / PAGE as u64
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

    #[test]
    fn a_request_near_the_end_of_the_address_space_does_not_overflow() {
        let (mut limiter, meter, _) = limiter(8);
        assert!(limiter.memory_growing(0, PAGE, None).unwrap());
        assert!(!limiter.memory_growing(0, usize::MAX - PAGE + 1, None).unwrap());
        assert_eq!(pages(&meter), 1);
    }
}
