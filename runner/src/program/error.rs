//! Why a module cannot be run.

use std::{fmt, io, num::NonZeroU32, path::PathBuf};

use ebb_units::ModuleName;

use crate::{
    config::ModuleConfig,
    engine::{PoolSize, WASMTIME_MAJOR},
    guest::view::FolderError,
    host,
};

/// Why a module cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("module \"{name}\" ({})", path.display())]
pub struct ProgramError {
    name: ModuleName,
    path: PathBuf,
    source: ProgramErrorCause,
}

/// What was wrong with it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramErrorCause {
    #[error("reading the file; is it built, and is the path right?")]
    Read(#[source] io::Error),
    #[error("expected a WebAssembly binary or text; translating the text")]
    Text(#[source] wat::Error),
    #[error(
        "expected a WebAssembly binary (\\0asm, then version 1 or 13), got one that starts with {0:02x?}; \
         is the file complete?"
    )]
    NotWasm(Vec<u8>),
    #[error(
        "compiling; is the file complete, and are its proposals supported by Wasmtime {}?",
        WASMTIME_MAJOR
    )]
    Compile(#[source] wasmtime::Error),
    #[error("linking it as kind `{kind}`")]
    Link { kind: &'static str, source: wasmtime::Error },
    #[error(transparent)]
    Unfit(Box<Unfit>),
    #[error(
        "http.concurrency: {0}: an instance of a wasi:http 0.2 component takes one request at a time; expected 1, \
         or a component that exports `wasi:http/handler@0.3`"
    )]
    Concurrency(NonZeroU32),
    #[error("it imports whole modules, which nobody could supply; compose it first (`wac plug`)")]
    ImportsModules,
    #[error(transparent)]
    MemoryMaps(host::MemoryMapsError),
    #[error("reserving address space for {} instances; each memory takes 4 GiB", .0.instances)]
    Pool(PoolSize, #[source] wasmtime::Error),
    #[error(transparent)]
    Folder(FolderError),
    #[error("starting threads for the module's host calls")]
    Threads(#[source] io::Error),
}

impl ProgramErrorCause {
    pub(super) fn of(self, config: &ModuleConfig) -> ProgramError {
        ProgramError { name: config.name.clone(), path: config.path.clone(), source: self }
    }
}

/// Why a binary cannot be run as `kind`, as far as its imports and exports tell.
#[derive(Debug, thiserror::Error)]
pub(super) struct Unfit {
    pub(super) kind: &'static str,
    /// What was expected to be exported, and what is.
    pub(super) entry: Option<(&'static str, String)>,
    /// What is imported and not offered.
    pub(super) missing: Vec<String>,
    pub(super) offered: &'static str,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, entry, missing, offered } = self;
        if let Some((expected, found)) = entry {
            write!(f, "kind `{kind}` expects {expected}; the file {found}")?;
        }
        if !missing.is_empty() {
            let and = if entry.is_some() { ". Besides, it" } else { "the file" };
            write!(f, "{and} imports {}; kind `{kind}` offers {offered}", listed(missing.iter().cloned()))?;
        }
        Ok(())
    }
}

/// How many names an error tells.
pub(super) const NAMES_MAX: usize = 20;

/// The first of `names`, and how many more there are.
pub(super) fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let shown = names.take(NAMES_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and at least {more} more") }
}
