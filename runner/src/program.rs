//! A module's file → a program that can be instantiated: read, compiled, linked, given a pool.
//!
//! Everything that can be wrong with a module is found here, before an instance is touched.

use std::{fs, io, path::PathBuf, sync::Arc, sync::atomic::AtomicU64};

use tokio::time::timeout;
use wasmtime::{
    Engine, Linker, Module,
    component::{self, Component},
};
use wasmtime_wasi::{p1, p2, p2::bindings::CommandPre};

use crate::{
    config::{GuestConfig, Kind, ModuleConfig},
    engine::{Engines, PoolSize},
    guest::{
        GuestState, Linked, Prepared, StartError,
        meter::Limiter,
        view::{self, FolderError},
    },
    host::{self, Fit},
    units::{Digest, Generation, ModuleName, Replica},
};

/// The first four bytes of every WebAssembly binary, and the four after them in a core module and in a
/// component.
const MAGIC: &[u8] = b"\0asm";
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];
const COMPONENT_VERSION: &[u8] = &[0x0d, 0, 1, 0];

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
enum ProgramErrorCause {
    #[error("reading the file; is it built, and is the path right?")]
    Read(#[source] io::Error),
    #[error("expected a WebAssembly binary or text; translating the text")]
    Text(#[source] wat::Error),
    #[error(
        "expected a WebAssembly binary (\\0asm, then version 1 or 13), got one that starts with {0:02x?}; \
         is the file complete?"
    )]
    NotWasm(Vec<u8>),
    #[error("compiling; is the file complete, and are its proposals supported by Wasmtime 48?")]
    Compile(#[source] wasmtime::Error),
    #[error("linking: kind `command` offers {offered}")]
    Link { offered: &'static str, source: wasmtime::Error },
    #[error("kind `command` expects {expected}; the file exports {found}")]
    NoEntry { expected: &'static str, found: String },
    #[error("it imports whole modules, which nobody could supply; compose it first (`wac plug`)")]
    ImportsModules,
    #[error(transparent)]
    MemoryMaps(host::MemoryMapsError),
    #[error("making room for {} instances; each memory takes 4 GiB of address space", .0.instances)]
    Pool(PoolSize, #[source] wasmtime::Error),
    #[error(transparent)]
    Folder(FolderError),
}

/// A module, ready to be instantiated.
pub struct Program {
    /// The module's name.
    pub name: ModuleName,
    /// Which binary this is.
    pub digest: Digest,
    /// What its instances may see and use.
    pub guest: GuestConfig,
    /// What its pool holds.
    pub size: PoolSize,
    linked: Linked,
}

/// A module's file, read and named, not yet compiled.
pub struct Binary {
    bytes: Vec<u8>,
    /// Which binary this is.
    pub digest: Digest,
}

impl Binary {
    /// Reads the module's file, and translates it if it is text.
    ///
    /// # Errors
    /// [`ProgramError`] when it is not WebAssembly.
    pub fn read(config: &ModuleConfig) -> Result<Self, ProgramError> {
        let fail = |source| ProgramError { name: config.name.clone(), path: config.path.clone(), source };
        let bytes = fs::read(&config.path).map_err(|error| fail(ProgramErrorCause::Read(error)))?;
        let bytes = if bytes.starts_with(MAGIC) {
            bytes
        } else if std::str::from_utf8(&bytes).is_ok_and(|text| text.contains('(')) {
            wat::parse_bytes(&bytes)
                .map_err(|mut error| {
                    error.set_path(&config.path);
                    fail(ProgramErrorCause::Text(error))
                })?
                .into_owned()
        } else {
            bytes
        };
        let version = bytes.get(4..8);
        if !bytes.starts_with(MAGIC) || !(version == Some(CORE_VERSION) || version == Some(COMPONENT_VERSION))
        {
            return Err(fail(ProgramErrorCause::NotWasm(bytes.iter().copied().take(8).collect())));
        }
        Ok(Self { digest: Digest::of(&bytes), bytes })
    }

    fn is_component(&self) -> bool {
        self.bytes[4..8] == *COMPONENT_VERSION
    }
}

impl Program {
    /// Compiles and links `binary` with room for the module's instances. Takes as long as compiling
    /// does, on all processors.
    ///
    /// # Errors
    /// [`ProgramError`] names the module, its file, what was tried and what was expected.
    pub fn new(engines: &Engines, config: &ModuleConfig, binary: &Binary) -> Result<Self, ProgramError> {
        let Kind::Command = config.kind;
        build(engines, config, binary).map_err(|source| ProgramError {
            name: config.name.clone(),
            path: config.path.clone(),
            source,
        })
    }

    /// Whether instances of both are alike: the same binary, which may see and use the same.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        self.digest == other.digest && self.guest == other.guest
    }

    /// Instantiates a new lifetime, which then waits to be run.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn prepare(
        self: Arc<Self>,
        replica: Replica,
        generation: Generation,
        grow_failures: Arc<AtomicU64>,
        start_timeout: std::time::Duration,
    ) -> Result<Prepared, StartError> {
        let wasi = view::view(&self.guest, &self.name, replica, generation)?;
        let limiter = Limiter::new(self.guest.memory_limit, grow_failures);
        timeout(start_timeout, Prepared::new(&self.linked, wasi, limiter))
            .await
            .unwrap_or(Err(StartError::Timeout(start_timeout)))
    }
}

/// Instances of a module that may be live at once: its replicas, and the successors of those that are
/// being restarted.
#[must_use]
pub fn instances(config: &ModuleConfig) -> u32 {
    config.replicas.saturating_add(config.max_restarting.get().min(config.replicas.max(1)))
}

fn build(engines: &Engines, config: &ModuleConfig, binary: &Binary) -> Result<Program, ProgramErrorCause> {
    view::check_folders(&config.guest).map_err(ProgramErrorCause::Folder)?;
    let probe = engines.probe().map_err(ProgramErrorCause::Compile)?;
    let required = if binary.is_component() {
        Component::from_binary(&probe, &binary.bytes)
            .map_err(ProgramErrorCause::Compile)?
            .resources_required()
            .ok_or(ProgramErrorCause::ImportsModules)?
    } else {
        Module::from_binary(&probe, &binary.bytes).map_err(ProgramErrorCause::Compile)?.resources_required()
    };
    let size = PoolSize::new(instances(config), &required, config.guest.memory_limit.0);
    // Before the pool takes them; all modules together are judged later.
    if let Fit::No(error) = host::judge_memory_maps(size.memory_maps()) {
        return Err(ProgramErrorCause::MemoryMaps(error));
    }
    let engine = engines.pooled(size).map_err(|error| ProgramErrorCause::Pool(size, error))?;
    let linked = if binary.is_component() {
        link_component(&engine, &binary.bytes)?
    } else {
        link_core(&engine, &binary.bytes)?
    };
    Ok(Program {
        name: config.name.clone(),
        digest: binary.digest.clone(),
        guest: config.guest.clone(),
        size,
        linked,
    })
}

fn link_core(engine: &Engine, bytes: &[u8]) -> Result<Linked, ProgramErrorCause> {
    let module = Module::from_binary(engine, bytes).map_err(ProgramErrorCause::Compile)?;
    let is_start = |ty: wasmtime::ExternType| {
        ty.func().is_some_and(|func| func.params().len() == 0 && func.results().len() == 0)
    };
    if !module.get_export("_start").is_some_and(is_start) {
        return Err(ProgramErrorCause::NoEntry {
            expected: "a core module with a function `_start` without parameters and results",
            found: listed(module.exports().map(|export| export.name().to_owned())),
        });
    }
    let link = |source| ProgramErrorCause::Link { offered: "wasi_snapshot_preview1", source };
    let mut linker = Linker::new(engine);
    p1::add_to_linker_async(&mut linker, GuestState::preview1).map_err(link)?;
    linker.instantiate_pre(&module).map(Linked::Core).map_err(link)
}

fn link_component(engine: &Engine, bytes: &[u8]) -> Result<Linked, ProgramErrorCause> {
    let component = Component::from_binary(engine, bytes).map_err(ProgramErrorCause::Compile)?;
    let exports: Vec<_> =
        component.component_type().exports(engine).map(|(name, _)| name.to_owned()).collect();
    if !exports.iter().any(|name| name.starts_with("wasi:cli/run@0.2.")) {
        return Err(ProgramErrorCause::NoEntry {
            expected: "a component that exports `wasi:cli/run@0.2`",
            found: listed(exports.into_iter()),
        });
    }
    let link = |source| ProgramErrorCause::Link { offered: "wasi:cli/imports@0.2", source };
    let mut linker = component::Linker::new(engine);
    p2::add_to_linker_async(&mut linker).map_err(link)?;
    let pre = linker.instantiate_pre(&component).map_err(link)?;
    CommandPre::new(pre).map(Linked::Component).map_err(link)
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
