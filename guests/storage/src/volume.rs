//! Files and folders of the Volume.

use std::{
    cell::Cell,
    env, fs,
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::Serialize;

use crate::{
    date, media_type,
    path::{HIDDEN_PREFIX, VolumePath},
};

/// No upload pauses for as long: the runner's own time limit is far shorter.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Where the Volume is mounted, unless `VOLUME` says otherwise.
const DEFAULT_ROOT: &str = "/volume";

/// What is known of a file or folder.
#[derive(Debug, Serialize)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) size: u64,
    #[serde(rename = "type")]
    pub(crate) media_type: &'static str,
    pub(crate) modified: String,
    #[serde(skip)]
    pub(crate) modified_seconds: u64,
    #[serde(skip)]
    pub(crate) modified_nanos: u32,
    #[serde(skip)]
    pub(crate) is_folder: bool,
}

impl Metadata {
    /// Changes with the content.
    pub(crate) fn entity_tag(&self) -> String {
        format!("\"{:x}-{:x}-{:x}\"", self.size, self.modified_seconds, self.modified_nanos)
    }
}

/// Where `path` is, as this guest sees it.
pub(crate) fn locate(path: &VolumePath) -> PathBuf {
    let mut located = PathBuf::from(env::var_os("VOLUME").unwrap_or_else(|| DEFAULT_ROOT.into()));
    located.extend(&path.names);
    located
}

/// What is known of `path`. Links are not followed: they are no files of the Volume.
pub(crate) fn metadata(path: &Path, name: &str) -> io::Result<Metadata> {
    describe(&fs::symlink_metadata(path)?, name)
}

/// A file to read, and what is known of it: of that file, should another get its name meanwhile.
pub(crate) fn open(path: &Path, name: &str) -> io::Result<(Metadata, File)> {
    metadata(path, name)?;
    let file = File::open(path)?;
    Ok((describe(&file.metadata()?, name)?, file))
}

fn describe(found: &fs::Metadata, name: &str) -> io::Result<Metadata> {
    if !found.is_dir() && !found.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let modified = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Metadata {
        name: name.to_owned(),
        size: if found.is_dir() { 0 } else { found.len() },
        media_type: if found.is_dir() { "directory" } else { media_type::of(name) },
        modified: date::rfc3339(modified.as_secs()),
        modified_seconds: modified.as_secs(),
        modified_nanos: modified.subsec_nanos(),
        is_folder: found.is_dir(),
    })
}

/// What is in a folder, by name. What is being written is not there yet.
pub(crate) fn entries(folder: &Path) -> io::Result<Vec<Metadata>> {
    // A file that vanishes while the folder is read, such as an upload's temporary one, ends the reading with
    // "not found". It is begun again then; a folder in which that happens each time is being emptied.
    const ATTEMPTS: u32 = 100;
    for _ in 1..ATTEMPTS {
        match read_entries(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {}
            read => return read,
        }
    }
    read_entries(folder)
}

fn read_entries(folder: &Path) -> io::Result<Vec<Metadata>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with(HIDDEN_PREFIX) {
            continue;
        }
        // Gone since the folder was read, or no file: not listed.
        if let Ok(found) = metadata(&entry.path(), &name) {
            entries.push(found);
        }
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Removes what uploads left behind whose instance was ended in the middle.
pub(crate) fn remove_abandoned(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with(HIDDEN_PREFIX);
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if is_hidden && age > ABANDONED_AFTER {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A file being written under a temporary name. Dropped, nothing is left of it.
pub(crate) struct Draft {
    file: Option<File>,
    temporary: PathBuf,
    target: PathBuf,
}

impl Draft {
    /// Begins to write `target`. The folders above it are made.
    pub(crate) fn begin(target: PathBuf) -> io::Result<Self> {
        thread_local! {
            static COUNT: Cell<u64> = const { Cell::new(0) };
        }
        let folder = target.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        COUNT.set(COUNT.get() + 1);
        // Other instances write to the same folders: a name for each of them, and for each of its files.
        let of = |name| env::var(name).unwrap_or_default();
        let (replica, generation) = (of("EBB_REPLICA"), of("EBB_GENERATION"));
        let temporary = folder.join(format!("{HIDDEN_PREFIX}{replica}-{generation}-{}", COUNT.get()));
        let file = File::create_new(&temporary)?;
        Ok(Self { file: Some(file), temporary, target })
    }

    pub(crate) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(piece))
    }

    /// Gives the file its name. `true`: there was none of that name.
    pub(crate) fn publish(mut self) -> io::Result<bool> {
        if let Some(file) = self.file.take() {
            // Before it has its name: what is there under it survives a power cut.
            file.sync_all()?;
        }
        let is_new = fs::symlink_metadata(&self.target).is_err();
        fs::rename(&self.temporary, &self.target)?;
        self.temporary = PathBuf::new();
        Ok(is_new)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        drop(self.file.take());
        if !self.temporary.as_os_str().is_empty() {
            // What cannot be removed now has a name that nobody sees.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
