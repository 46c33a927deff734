//! What an instance may see of the host. Nothing but what the config grants: no input, no network unless
//! allowed, the folders listed, the environment listed plus its own name.

use std::{
    fs, io,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
};

use ebb_units::{Generation, ModuleName, Replica};
use tokio::net::TcpSocket;
use tracing::warn;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, p1::WasiP1Ctx, sockets::SocketAddrUse};

use super::{
    StartError,
    output::{GuestLog, Stream},
};
use crate::config::GuestConfig;

/// A preopened folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("directory {} (dirs.host): expected a directory that the runner may read", host.display())]
pub(crate) struct FolderError {
    host: PathBuf,
    source: io::Error,
}

/// Checks that every folder is there, so that a slip in the config is found before any instance starts.
///
/// # Errors
/// [`FolderError`] for the first that is not.
pub(crate) fn check_folders(config: &GuestConfig) -> Result<(), FolderError> {
    for dir in &config.dirs {
        fs::read_dir(&dir.host).map_err(|source| FolderError { host: dir.host.clone(), source })?;
    }
    Ok(())
}

/// Whether the guest is about to be refused `address` because somebody has it. It is told by an error code only, and most
/// programs do not say which address it was.
fn is_taken(address: SocketAddr, usage: SocketAddrUse) -> bool {
    // Port 0 is any that is free.
    if address.port() == 0 {
        return false;
    }
    let bound = match usage {
        SocketAddrUse::TcpBind => {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
            // As Wasmtime binds. Nobody can connect, as nobody listens.
            socket.and_then(|socket| socket.set_reuseaddr(true).and_then(|()| socket.bind(address)))
        }
        SocketAddrUse::UdpBind => UdpSocket::bind(address).map(drop),
        _ => return false,
    };
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// The view of one lifetime.
///
/// # Errors
/// [`StartError::View`] when a folder has gone since [`check_folders`].
pub(crate) fn view(
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
        let (module, replica) = (module.clone(), replica.0);
        builder.allow_ip_name_lookup(true).allow_tcp(true).allow_udp(true).socket_addr_check(
            move |address, usage| {
                if is_taken(address, usage) {
                    warn!(%module, replica, generation = generation.0, %address,
                        "the instance cannot bind this address: it is in use. Replicas share the host's ports; \
                         give each one its own (EBB_REPLICA tells them apart), or set replicas to 1");
                }
                Box::pin(async { true })
            },
        );
    }
    for dir in &config.dirs {
        let perms = if dir.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder.preopened_dir(&dir.host, &dir.guest, perms).map_err(StartError::View)?;
    }
    Ok(builder.build_p1())
}
