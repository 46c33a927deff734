//! A clock that a test sets: programs that run on it see the time of day step, while their steady clocks go on.
//!
//! By libfaketime, which is loaded into a program before it starts. It reaches what asks the C library, as the runner and
//! the evaluator do; programs in Go ask the kernel.

use std::{ffi::OsString, fs, path::PathBuf};

use tempfile::TempDir;

use crate::paths;

/// A clock that is ahead of the true one, or behind it.
#[derive(Debug)]
pub struct Clock {
    dir: TempDir,
}

impl Clock {
    /// A clock that is `seconds` ahead; behind if that is negative.
    ///
    /// # Panics
    /// When its file cannot be written.
    #[must_use]
    pub fn ahead_by(seconds: i64) -> Self {
        let clock = Self { dir: TempDir::new().expect("a temporary folder can be made") };
        clock.set(seconds);
        clock
    }

    /// Sets it to be `seconds` ahead, for programs that run and those that start.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn set(&self, seconds: i64) {
        // Replaced at once: half a file would be another time.
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{seconds:+}s\n")).expect("a clock can be written");
        fs::rename(new, self.file()).expect("a clock can be replaced");
    }

    /// What a program's environment must say to run on this clock.
    ///
    /// # Panics
    /// When libfaketime is not there.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", library().into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            ("DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("faketime")
    }
}

fn library() -> PathBuf {
    let lib = paths::root().join("target/tools/faketime/usr/lib");
    let found = fs::read_dir(&lib).into_iter().flatten().flatten();
    let library =
        found.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.is_file());
    paths::existing(library.unwrap_or(lib), "scripts/install-faketime.sh")
}
