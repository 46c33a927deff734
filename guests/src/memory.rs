//! Linear memory: how much there is, and holding more of it.

use core::arch::wasm32;
use std::hint::black_box;

/// The size of one WebAssembly page, in bytes: the unit in which linear memory grows.
pub const PAGE_BYTES: u64 = 65_536;

/// Not zero, so that writing it cannot be answered with untouched pages of the host.
const FILLING: u8 = 0xEB;

/// The size of this guest's linear memory, in bytes: what its host should report for it.
#[must_use]
pub fn memory_bytes() -> u64 {
    wasm32::memory_size(0) as u64 * PAGE_BYTES
}

/// Memory of the given size, every byte of it written.
///
/// Linear memory grows by what the allocator does not have at hand: over many calls about the sum of the
/// sizes, in one call up to a page more or less. A guest that is refused memory says so on stderr and traps.
#[must_use]
pub fn filled(bytes: u64) -> Vec<u8> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    // The optimizer would otherwise remove memory that nobody reads.
    black_box(vec![FILLING; bytes])
}

/// Holds this much memory until the guest ends.
pub fn leak(bytes: u64) {
    filled(bytes).leak();
}

/// Leaks until linear memory has at least the given size; it then has less than one page more.
pub fn grow_to(bytes: u64) {
    while memory_bytes() < bytes {
        // Half a page and the allocator's header never need more than one page at a time.
        leak(PAGE_BYTES / 2);
    }
}
