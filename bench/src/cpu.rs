//! CPU time and memory of a process, read from outside.

use std::fs;

use nix::{
    time::{ClockId, clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// The CPU clock of a process: user and system time of all its threads, those that have ended included.
///
/// `/proc/PID/stat` counts the same in ticks of 10 ms, as long as an evaluation; this clock counts nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock(ClockId);

impl CpuClock {
    /// The clock of process `id`.
    ///
    /// # Panics
    /// When there is no such process.
    pub(crate) fn of(id: u32) -> Self {
        let pid = Pid::from_raw(i32::try_from(id).expect("process numbers fit into 31 bits"));
        Self(clock_getcpuclockid(pid).unwrap_or_else(|error| panic!("CPU clock of process {id}: {error}")))
    }

    /// CPU-seconds since the process began.
    ///
    /// # Panics
    /// When the process is gone.
    pub(crate) fn seconds(self) -> f64 {
        let time = clock_gettime(self.0).expect("the CPU clock of a living process can be read");
        std::time::Duration::from(time).as_secs_f64()
    }
}

/// Resident memory of process `id`, in bytes.
///
/// # Panics
/// When there is no such process.
pub(crate) fn resident_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status"))
        .unwrap_or_else(|error| panic!("memory of process {id}: {error}"));
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).expect("Linux tells VmRSS in kB");
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_computes_uses_cpu_time_and_memory() {
        let clock = CpuClock::of(std::process::id());
        let before = clock.seconds();
        while clock.seconds() - before < 0.01 {}
        assert!(resident_bytes(std::process::id()) > 100_000);
    }
}
