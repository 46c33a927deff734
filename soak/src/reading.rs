//! What a process holds, read from `/proc`.

use procfs::{ProcResult, WithCurrentSystemInfo as _, process::Process};

/// What one process held at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Held {
    /// Resident memory, in bytes.
    pub(crate) resident_bytes: f64,
    /// Of that what is beyond its guests' linear memory, in bytes; of a runner alone.
    pub(crate) own_bytes: Option<f64>,
    /// Open descriptors.
    pub(crate) descriptors: f64,
    /// Threads.
    pub(crate) threads: f64,
    /// Memory maps.
    pub(crate) maps: f64,
}

impl Held {
    /// What process `id` holds now, whose guests have `linear_bytes` of linear memory, if it has guests.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn read(id: u32, linear_bytes: Option<f64>) -> ProcResult<Self> {
        let process = Process::new(i32::try_from(id).expect("process numbers fit into 31 bits"))?;
        let stat = process.stat()?;
        let resident_bytes = stat.rss_bytes().get() as f64;
        Ok(Self {
            resident_bytes,
            own_bytes: linear_bytes.map(|linear| resident_bytes - linear),
            descriptors: process.fd_count()? as f64,
            threads: stat.num_threads as f64,
            maps: process.maps()?.len() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::Held;

    #[test]
    fn a_descriptor_more_is_seen() {
        let held = || Held::read(std::process::id(), Some(4096.0)).unwrap();
        let before = held();
        // More than other tests of this process open and close in the meantime.
        let files: Vec<File> = (0..64).map(|_| File::open("/proc/self/stat").unwrap()).collect();
        let with = held();
        assert!(with.descriptors >= before.descriptors + 32.0, "{before:?} {with:?}, {} files", files.len());
        assert!(with.threads >= 1.0 && with.maps > 10.0 && with.resident_bytes > 1e6);
        assert_eq!(with.own_bytes, Some(with.resident_bytes - 4096.0));
    }
}
