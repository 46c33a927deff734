//! Compiled code on disk: Wasmtime's cache, in files that carry a checksum of what they hold.
//!
//! Wasmtime keeps code as zstd frames without a checksum, and runs what it finds in them. A frame may carry a checksum
//! of its content, which every reader then verifies. So what Wasmtime has written is written again with one, and a
//! file without is removed before anything is read. A file that is not what it was is a miss: its module is compiled
//! again. So is one that cannot be written: nothing here keeps a module from running.

use std::{
    env,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tracing::warn;
use wasmtime::{Cache, CacheConfig};

use crate::config::OwnFolder;

/// How a zstd frame begins (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// In the byte after that: the frame ends with a checksum of its content.
const HAS_CHECKSUM: u8 = 1 << 2;

/// What a file is called while it is written. A crash or a full disk leaves it behind, and Wasmtime then writes that
/// one no more.
const UNFINISHED: &str = "wip-";

/// Nobody writes for that long.
const UNFINISHED_AFTER: Duration = Duration::from_secs(600);

/// Wasmtime's cache in a folder.
#[derive(Debug)]
pub(crate) struct CodeCache {
    cache: Cache,
    folder: PathBuf,
    /// How many misses were seen when the folder was last sealed.
    misses: AtomicUsize,
}

impl CodeCache {
    /// The cache in the folder of `choice`. One that cannot be used is done without.
    pub(crate) fn open(choice: &OwnFolder) -> Option<Self> {
        let folder = folder(choice)?;
        Self::open_in(&folder)
            .inspect_err(|error| warn!(folder = %folder.display(), "no compile cache: {error:#}"))
            .ok()
    }

    fn open_in(folder: &Path) -> wasmtime::Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        for entry in entries(&folder)? {
            if !entry.is_sealed()? {
                remove(&entry.path)?;
            }
        }
        let mut config = CacheConfig::new();
        config
            .with_directory(folder.clone())
            // Wasmtime would compress often used files anew, without a checksum.
            .with_optimized_compression_usage_counter_threshold(u64::MAX);
        Ok(Self { cache: Cache::new(config)?, folder, misses: AtomicUsize::new(0) })
    }

    /// What to give to an engine's config.
    pub(crate) fn wasmtime(&self) -> Cache {
        self.cache.clone()
    }

    /// Gives what was compiled since the last time its checksum. To be called after each compilation.
    pub(crate) fn seal(&self) {
        let misses = self.cache.cache_misses();
        if self.misses.swap(misses, Ordering::Relaxed) == misses {
            return;
        }
        let seal = |entry: &Entry| if entry.is_sealed()? { Ok(()) } else { entry.seal() };
        let all = |entries: Vec<Entry>| {
            // Each of them, whatever becomes of the others.
            let failed: Vec<_> = entries.iter().filter_map(|entry| seal(entry).err()).collect();
            failed.into_iter().next().map_or(Ok(()), Err)
        };
        let sealed = entries(&self.folder).and_then(all);
        if let Err(error) = sealed {
            warn!(folder = %self.folder.display(), %error,
                "compiled code could not be saved, so a module is compiled again at the next start; is the disk \
                 full, or may the runner not write there?");
        }
    }
}

fn folder(choice: &OwnFolder) -> Option<PathBuf> {
    match choice {
        OwnFolder::Off => None,
        OwnFolder::Folder(folder) => Some(folder.clone()),
        // No fallback to a shared temporary folder: code found in the cache is run as it is, so nobody
        // else may be able to put some there.
        OwnFolder::Default => {
            let of = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let Some(base) = of("XDG_CACHE_HOME").or_else(|| of("HOME").map(|home| home.join(".cache")))
            else {
                warn!(
                    "no compile cache: neither XDG_CACHE_HOME nor HOME is set; name a folder in engine.compile_cache"
                );
                return None;
            };
            Some(base.join("ebb").join("compiled"))
        }
    }
}

/// A file of compiled code.
struct Entry {
    path: PathBuf,
}

/// The files of compiled code in a cache's folder. What was left behind unfinished is removed on the way.
fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    // A folder for each version of Wasmtime.
    for version in listed(&folder.join("modules"))?.into_iter().filter(|path| path.is_dir()) {
        for path in listed(&version)? {
            match path.extension().and_then(|extension| extension.to_str()) {
                None => found.push(Entry { path }),
                Some(extension) if extension.starts_with(UNFINISHED) && is_left_behind(&path) => {
                    remove(&path)?;
                }
                // Files that are being written, and how often each was used.
                Some(_) => {}
            }
        }
    }
    Ok(found)
}

fn listed(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(listed) => listed.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes a file, if another runner that shares the folder has not done so already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_left_behind(path: &Path) -> bool {
    let age = path.metadata().and_then(|file| file.modified()).map(|written| written.elapsed());
    age.is_ok_and(|age| age.is_ok_and(|age| age > UNFINISHED_AFTER))
}

impl Entry {
    /// Whether whoever reads it verifies a checksum. Other runners may share the folder: what one of them has removed
    /// meanwhile needs none.
    fn is_sealed(&self) -> io::Result<bool> {
        if !self.path.symlink_metadata().is_ok_and(|found| found.is_file()) {
            return Ok(!self.path.exists());
        }
        let mut begin = [0; ZSTD_MAGIC.len() + 1];
        match File::open(&self.path).and_then(|mut file| file.read_exact(&mut begin)) {
            Ok(()) => Ok(begin.starts_with(&ZSTD_MAGIC) && begin[ZSTD_MAGIC.len()] & HAS_CHECKSUM != 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes it again with a checksum, or removes it.
    fn seal(&self) -> io::Result<()> {
        let sealed = self.path.with_extension(format!("{UNFINISHED}seal-{}", process::id()));
        let written = with_checksum(&self.path).and_then(|frame| fs::write(&sealed, frame));
        match written.and_then(|()| fs::rename(&sealed, &self.path)) {
            // Another runner has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.path.exists() => Ok(()),
            Err(error) => {
                // It is the first error that tells what is wrong.
                let _ = remove(&sealed).and(remove(&self.path));
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }
}

fn with_checksum(path: &Path) -> io::Result<Vec<u8>> {
    let code = zstd::decode_all(File::open(path)?)?;
    let mut encoder = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
    encoder.include_checksum(true)?;
    io::copy(&mut code.as_slice(), &mut encoder)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use wasmtime::{Config, Engine, Module};

    use super::*;

    const WAT: &str =
        r#"(module (func (export "f") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))"#;

    /// Compiles through the cache in `folder`; whether it had the code.
    fn compile(folder: &Path) -> bool {
        let cache = CodeCache::open(&OwnFolder::Folder(folder.to_owned())).unwrap();
        let mut config = Config::new();
        config.cache(Some(cache.wasmtime()));
        Module::new(&Engine::new(&config).unwrap(), WAT).unwrap();
        cache.seal();
        cache.cache.cache_hits() == 1
    }

    fn only_entry(folder: &Path) -> Entry {
        let mut entries = entries(&folder.canonicalize().unwrap()).unwrap();
        assert_eq!(entries.len(), 1);
        entries.remove(0)
    }

    fn filled() -> (TempDir, Entry) {
        let folder = tempfile::tempdir().unwrap();
        assert!(!compile(folder.path()), "there was nothing to find");
        let entry = only_entry(folder.path());
        (folder, entry)
    }

    #[test]
    fn what_was_compiled_is_found_again() {
        let (folder, entry) = filled();
        assert!(entry.is_sealed().unwrap());
        assert!(compile(folder.path()));
    }

    #[test]
    fn no_single_flipped_bit_is_read_as_other_code() {
        let (_folder, entry) = filled();
        let file = fs::read(&entry.path).unwrap();
        let code = zstd::decode_all(file.as_slice()).unwrap();
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = zstd::decode_all(flipped.as_slice()) {
                assert!(read == code, "bit {bit} of {}", file.len() * 8);
            }
        }
    }

    #[test]
    fn a_file_that_is_not_what_it_was_is_a_miss_and_is_written_anew() {
        let (folder, entry) = filled();
        let file = fs::read(&entry.path).unwrap();
        let flipped = |byte: usize| {
            let mut flipped = file.clone();
            flipped[byte] ^= 1;
            flipped
        };
        for damaged in [
            Vec::new(),
            file[..file.len() / 2].to_vec(),
            file[..file.len() - 1].to_vec(),
            vec![0; file.len()],
            flipped(file.len() / 2),
            flipped(file.len() - 1),
        ] {
            fs::write(&entry.path, damaged).unwrap();
            assert!(!compile(folder.path()), "it was taken as it was");
            assert!(only_entry(folder.path()).is_sealed().unwrap());
            assert!(compile(folder.path()));
        }
    }

    #[test]
    fn what_has_no_checksum_is_not_read() {
        let (folder, entry) = filled();
        let code = zstd::decode_all(File::open(&entry.path).unwrap()).unwrap();
        fs::write(&entry.path, zstd::encode_all(code.as_slice(), 3).unwrap()).unwrap();
        assert!(!compile(folder.path()));
        // Nor waited for.
        fs::remove_file(&entry.path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&entry.path).status().unwrap().success());
        assert!(!compile(folder.path()));
        assert!(compile(folder.path()));
    }

    #[test]
    fn a_write_that_broke_off_is_tried_again_later() {
        let (folder, entry) = filled();
        let unfinished = entry.path.with_extension("wip-atomic-write-mod");
        fs::rename(&entry.path, &unfinished).unwrap();
        assert!(!compile(folder.path()));
        assert!(unfinished.exists(), "somebody may be writing it");
        let long_ago = std::time::SystemTime::now() - 2 * UNFINISHED_AFTER;
        File::options().append(true).open(&unfinished).unwrap().set_modified(long_ago).unwrap();
        assert!(!compile(folder.path()));
        assert!(!unfinished.exists());
        assert!(compile(folder.path()));
    }

    #[test]
    fn a_file_that_cannot_be_sealed_keeps_no_other_from_it() {
        let (folder, entry) = filled();
        let code = zstd::decode_all(File::open(&entry.path).unwrap()).unwrap();
        let without_checksum = zstd::encode_all(code.as_slice(), 3).unwrap();
        // In the order of the folder either may come first.
        for name in ["0-broken", "z-broken"] {
            fs::write(entry.path.with_file_name(name), b"no frame").unwrap();
        }
        fs::write(&entry.path, without_checksum).unwrap();
        let cache = CodeCache::open_in(&tempfile::tempdir().unwrap().keep()).unwrap();
        let shared = CodeCache {
            cache: cache.cache.clone(),
            folder: folder.path().canonicalize().unwrap(),
            misses: AtomicUsize::new(9),
        };
        shared.seal();
        assert!(only_entry(folder.path()).is_sealed().unwrap());
    }

    #[test]
    fn what_another_runner_removed_meanwhile_is_no_error() {
        let (_folder, entry) = filled();
        fs::remove_file(&entry.path).unwrap();
        entry.seal().unwrap();
        remove(&entry.path).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_done_without() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(CodeCache::open(&OwnFolder::Folder(folder.path().join("file/below"))).is_none());
        assert!(CodeCache::open(&OwnFolder::Off).is_none());
    }
}
