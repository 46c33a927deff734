//! What an instance may see of the host. Nothing but what the config grants: no input, no network unless
//! allowed, the folders listed, the environment listed plus its own name.

use std::{fs, io, path::PathBuf};

use wasmtime_wasi::{FsPerms, WasiCtxBuilder, p1::WasiP1Ctx};

use super::{
    StartError,
    output::{GuestLog, Stream},
};
use crate::{
    config::GuestConfig,
    units::{Generation, ModuleName, Replica},
};

/// A preopened folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("folder {} (dirs.host): expected a folder that the runner may read", host.display())]
pub struct FolderError {
    host: PathBuf,
    source: io::Error,
}

/// Checks that every folder is there, so that a slip in the config is found before any instance starts.
///
/// # Errors
/// [`FolderError`] for the first that is not.
pub fn check_folders(config: &GuestConfig) -> Result<(), FolderError> {
    for dir in &config.dirs {
        fs::read_dir(&dir.host).map_err(|source| FolderError { host: dir.host.clone(), source })?;
    }
    Ok(())
}

/// The view of one lifetime.
///
/// # Errors
/// [`StartError::View`] when a folder has gone since [`check_folders`].
pub fn view(
    config: &GuestConfig,
    module: &ModuleName,
    replica: Replica,
    generation: Generation,
) -> Result<WasiP1Ctx, StartError> {
    let mut builder = WasiCtxBuilder::new();
    builder.arg(module.as_str()).args(&config.args);
    for (name, value) in &config.env {
        builder.env(name, value);
    }
    builder
        .env("EBB_MODULE", module.as_str())
        .env("EBB_REPLICA", replica.to_string())
        .env("EBB_GENERATION", generation.to_string());
    let log = |stream| GuestLog::new(stream, module.clone(), replica, generation);
    builder.stdout(log(Stream::Stdout)).stderr(log(Stream::Stderr));
    if config.inherit_network {
        builder.inherit_network().allow_ip_name_lookup(true);
    }
    for dir in &config.dirs {
        let perms = if dir.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder.preopened_dir(&dir.host, &dir.guest, perms).map_err(StartError::View)?;
    }
    Ok(builder.build_p1())
}
