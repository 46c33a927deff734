//! Generations that increase across processes: a lifetime's start is its name, also when the clock was set back between
//! two runs.
//!
//! The newest generation of all is kept in a file, written at each start of an instance. A runner that begins takes none up
//! to that. The file outlives the process, not a crash of the machine.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ebb_units::Generation;
use tracing::warn;

use crate::config::OwnFolder;

/// The newest generation of all slots.
#[derive(Debug, Default)]
pub(super) struct Generations {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Of the processes before this one, and of slots that were closed: what begins anew goes on from there.
    before: Option<Generation>,
    generation: Option<Generation>,
    file: Option<File>,
}

/// A number of this width overwrites every other one.
const DIGITS: usize = 20;

impl Generations {
    /// Those of the runner whose control listener is configured to be `listen`. Where they cannot be kept, they are not: it
    /// is no reason to run nothing.
    pub(super) fn open(choice: &OwnFolder, listen: SocketAddr) -> Self {
        // A port that the system chooses is another one at the next start.
        if listen.port() == 0 {
            return Self::default();
        }
        let Some(folder) = folder(choice) else {
            if *choice == OwnFolder::Default {
                warn!(
                    "the newest generation is not saved: neither XDG_STATE_HOME nor HOME is set; set state_dir"
                );
            }
            return Self::default();
        };
        let path = folder.join(format!("generation-{}", listen.to_string().replace([':', '[', ']'], "-")));
        match open(&path) {
            Ok((file, before)) => {
                if let Some(ahead) = before.and_then(ahead) {
                    let ahead_s = ahead.as_secs();
                    warn!(path = %path.display(), ahead_s, "generations continue from one in the future: this clock \
                        was ahead earlier. To start again from the clock, stop the runner and remove the file");
                }
                Self { kept: Mutex::new(Kept { before, generation: before, file: Some(file) }) }
            }
            Err(error) => {
                let path = path.display();
                warn!(%path, %error, "the newest generation is not saved: set state_dir to a directory, or to off");
                Self::default()
            }
        }
    }

    /// The generation of a lifetime that starts at `now_unix_ms` in a slot whose last one was `last`.
    pub(super) fn next(&self, last: Option<Generation>, now_unix_ms: u64) -> Generation {
        Generation::next(last.max(self.kept().before), now_unix_ms)
    }

    /// A slot whose last generation this was is closed. Another of its name may be opened.
    pub(super) fn close(&self, last: Option<Generation>) {
        let mut kept = self.kept();
        kept.before = kept.before.max(last);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lifetime of this generation has begun.
    pub(super) fn keep(&self, generation: Generation) {
        let mut newest = self.kept();
        if newest.generation >= Some(generation) {
            return;
        }
        newest.generation = Some(generation);
        let Some(file) = &newest.file else { return };
        if let Err(error) = file.write_all_at(format!("{:0DIGITS$}\n", generation.0).as_bytes(), 0) {
            warn!(%error, "the newest generation is not kept any more");
            newest.file = None;
        }
    }
}

fn open(path: &Path) -> io::Result<(File, Option<Generation>)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let mut text = [0; DIGITS];
    let found = match file.read_exact_at(&mut text, 0) {
        Ok(()) => {
            str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).map(Generation).filter(is_sane)
        }
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(error) => return Err(error),
    };
    if found.is_none() && file.metadata()?.len() > 0 {
        warn!(path = %path.display(), "expected a generation of {DIGITS} digits; it is written anew");
    }
    Ok((file, found))
}

/// Nobody takes a start after the year 9999 for one.
fn is_sane(generation: &Generation) -> bool {
    generation.0 < 253_402_300_800_000
}

/// How far a start lies in the future, if by more than clocks usually differ.
fn ahead(generation: Generation) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ahead = Duration::from_millis(generation.0).saturating_sub(now);
    (ahead > Duration::from_secs(60)).then_some(ahead)
}

fn folder(choice: &OwnFolder) -> Option<PathBuf> {
    let of = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    match choice {
        OwnFolder::Off => None,
        OwnFolder::Folder(folder) => Some(folder.clone()),
        OwnFolder::Default => of("STATE_DIRECTORY")
            .and_then(|folders| first(&folders))
            .or_else(|| {
                // A relative one is to be ignored, says the specification.
                let base = of("XDG_STATE_HOME").map(PathBuf::from).filter(|base| base.is_absolute());
                base.map(|base| base.join("ebb"))
            })
            .or_else(|| of("HOME").map(|home| PathBuf::from(home).join(".local/state/ebb"))),
    }
}

/// systemd tells several folders with colons between them.
fn first(folders: &OsString) -> Option<PathBuf> {
    env::split_paths(folders).next()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn generations(folder: &Path) -> Generations {
        Generations::open(&OwnFolder::Folder(folder.into()), "127.0.0.1:9742".parse().unwrap())
    }

    #[test]
    fn generations_increase_across_processes_though_the_clock_is_set_back() {
        let folder = TempDir::new().unwrap();
        let first = generations(folder.path());
        assert_eq!(first.next(None, 5000), Generation(5000));
        for generation in [5000, 7000, 6000] {
            first.keep(Generation(generation));
        }
        // The next process starts an hour earlier. Each slot goes on by itself.
        let second = generations(folder.path());
        assert_eq!(second.next(None, 4000), Generation(7001));
        assert_eq!(second.next(Some(Generation(7001)), 4001), Generation(7002));
        assert_eq!(second.next(None, 9000), Generation(9000));
        second.keep(Generation(7002));
        assert_eq!(generations(folder.path()).next(None, 0), Generation(7003));
        // A slot that is closed and opened anew, at an earlier time.
        second.close(Some(Generation(9500)));
        assert_eq!(second.next(None, 9200), Generation(9501));
    }

    #[test]
    fn runners_on_one_machine_do_not_share_generations() {
        let folder = TempDir::new().unwrap();
        generations(folder.path()).keep(Generation(7000));
        let choice = OwnFolder::Folder(folder.path().into());
        let other = Generations::open(&choice, "[::1]:9742".parse().unwrap());
        assert_eq!(other.next(None, 1), Generation(1));
    }

    #[test]
    fn where_nothing_can_be_kept_generations_go_by_the_clock() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        generations(&folder.path().join("file")).keep(Generation(1));
        assert_eq!(generations(&folder.path().join("file")).next(None, 5), Generation(5));
        let listen = "127.0.0.1:0".parse().unwrap();
        Generations::open(&OwnFolder::Folder(folder.path().into()), listen).keep(Generation(7));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(folder.path().join("generation-127.0.0.1-9742"), "not twenty digits at all").unwrap();
        assert_eq!(generations(folder.path()).next(None, 5), Generation(5));
    }
}
