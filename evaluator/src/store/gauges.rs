//! Names of the gauges that are read.

/// Name of the gauge that tells an instance's memory.
pub const MEMORY_METRIC: &str = "wasm_linear_memory_bytes";
/// Name of the gauge that tells when an instance was started.
pub const START_TIME_METRIC: &str = "wasm_instance_start_time_seconds";
/// Name of the gauge that tells how much memory a module's instances may hold.
pub(super) const LIMIT_METRIC: &str = "wasm_linear_memory_limit_bytes";
/// Name of the gauge that tells the memory of a runner's host.
pub(super) const HOST_TOTAL_METRIC: &str = "ebb_runner_host_memory_total_bytes";
/// Name of the gauge that tells what of it is available.
pub(super) const HOST_AVAILABLE_METRIC: &str = "ebb_runner_host_memory_available_bytes";
