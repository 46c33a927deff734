//! Files that operators name: read whole, if they are what they should be.
//!
//! Whoever opens a named pipe waits until somebody writes to it, and a device such as `/dev/zero` has no end. Neither
//! may keep a program from starting, or from its next reload.

use std::{
    fs::{FileType, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use ebb_units::ByteCount;

/// The longest file of a secret or of certificates that is read. A bundle of all public authorities has a quarter of
/// a mebibyte.
pub const SECRET_BYTES_MAX: u64 = 4 << 20;

/// Reads the regular file at `path`, which may be a link to one, of at most `bytes_max` bytes. Does not wait for
/// anybody.
///
/// # Errors
/// What the operating system says; [`io::ErrorKind::InvalidInput`] for anything but a regular file, and
/// [`io::ErrorKind::FileTooLarge`] beyond `bytes_max`.
pub fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    // Without waiting for the other end of a pipe. Of no effect on regular files.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        let found = kind(metadata.file_type());
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("expected a regular file, found {found}"),
        ));
    }
    let too_large = || {
        let limit = ByteCount(bytes_max);
        io::Error::new(io::ErrorKind::FileTooLarge, format!("expected a file of at most {limit}"))
    };
    if metadata.len() > bytes_max {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // It may grow meanwhile.
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max { Err(too_large()) } else { Ok(bytes) }
}

/// As [`read`], of a text.
///
/// # Errors
/// As [`read`]; [`io::ErrorKind::InvalidData`] when the file is not UTF-8.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(path, bytes_max)?).map_err(|error| {
        // Without the text, which may be a secret.
        let error = error.utf8_error();
        io::Error::new(io::ErrorKind::InvalidData, format!("expected UTF-8 text, found other bytes: {error}"))
    })
}

fn kind(found: FileType) -> &'static str {
    match found {
        found if found.is_dir() => "a folder",
        found if found.is_fifo() => "a named pipe",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, process::Command};

    use super::*;

    #[test]
    fn a_regular_file_is_read_also_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "text").unwrap();
        symlink("a", folder.path().join("link")).unwrap();
        assert_eq!(read_text(&folder.path().join("link"), 4).unwrap(), "text");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let check = |path: &Path, found: &str| {
            let error = read(path, 1 << 30).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), format!("expected a regular file, found {found}"));
        };
        check(&pipe, "a named pipe");
        check(folder.path(), "a folder");
        check(Path::new("/dev/zero"), "a device");
    }

    #[test]
    fn text_that_is_none_is_refused_without_a_word_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, b"secret\xff").unwrap();
        let error = read_text(&path, 1 << 20).unwrap_err();
        assert!(error.to_string().starts_with("expected UTF-8 text, found other bytes: "), "{error}");
        // As numbers, too: s, e, c, r.
        let debug = format!("{error:?}");
        assert!(!debug.contains("secret") && !debug.contains("115, 101, 99, 114"), "{debug}");
    }

    #[test]
    fn a_file_beyond_the_bound_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        // A hole: it takes no room, and would take forty minutes to read.
        fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
        let error = read(&path, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "expected a file of at most 1.0 MiB");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_file_that_does_not_tell_its_length_is_read() {
        assert!(read_text(Path::new("/proc/self/status"), 1 << 20).unwrap().contains("VmRSS"));
    }
}
