//! `ebb-runner`: [`ebb_runner::cli`], and the allocator.

use std::process::ExitCode;

/// A request is a dozen allocations on one thread, freed on another: a tenth of its cost with glibc's allocator,
/// a twentieth with this one. Linear memories are not its business; they are mapped and unmapped as a whole.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ebb_runner::cli::main()
}
