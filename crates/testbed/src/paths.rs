//! Where programs and guests lie.

use std::path::{Path, PathBuf};

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.skip(2).map(Path::to_owned).next().expect("this crate lies in a folder of the root")
}

/// A program of this workspace, of the profile that the caller was built with.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("this program has a path");
    // Tests lie in `deps/`, one folder below the programs.
    let folders = this.ancestors().take(3);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built beside {}: run `cargo build --workspace --bins`", this.display())
    })
}

/// A guest compiled from Rust, such as `leaky`.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    existing(root().join(format!("guests/target/wasm32-wasip2/release/{name}.wasm")), "make guests")
}

/// An app that others wrote, or others' toolchains made, such as `python`.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn foreign(name: &str) -> PathBuf {
    existing(root().join(format!("target/foreign/{name}.wasm")), "make foreign")
}

/// A hand-written core module, such as `growing`.
///
/// # Panics
/// When there is none of this name.
#[must_use]
pub fn wat(name: &str) -> PathBuf {
    existing(root().join(format!("guests/wat/{name}.wat")), "git status: the file belongs to the repository")
}

/// `path`, if it is there.
///
/// # Panics
/// With `advice` when it is not.
#[must_use]
pub fn existing(path: PathBuf, advice: &str) -> PathBuf {
    assert!(path.is_file(), "{} is missing: run `{advice}`", path.display());
    path
}
