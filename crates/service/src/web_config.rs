//! TLS and users of a listener, in the format that Prometheus' own programs read (exporter-toolkit's `web.config.file`): one file serves
//! them all. What it names is read again when it changes, so that certificates are replaced without a restart.
//!
//! | file | subject |
//! | --- | --- |
//! | `tls.rs` | certificates and keys → what rustls needs |
//! | `own.rs` | how a program's own commands speak to it |
//! | `users.rs` | who a request is from: names and bcrypt hashes of passwords |

mod error;
mod own;
mod section;
mod tls;
mod users;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use axum::http::{HeaderMap, header};
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

pub use self::error::WebConfigError;
pub(crate) use self::own::{any_client, own_client};
use self::{section::Section, tls::TlsServerConfig, users::Users};
use crate::{logging::Chain, problem::Problem, secret::BearerToken};

/// Files are looked at so often.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// What the file says, with all that it names.
#[derive(Debug)]
struct Loaded {
    tls: Option<Arc<ServerConfig>>,
    users: Users,
    requires_certificates: bool,
    /// What was read, as it was then.
    files: Vec<(PathBuf, Stamp)>,
}

/// By which a file that was replaced is told from the one before.
type Stamp = Option<(SystemTime, u64, u64)>;

/// A listener's TLS and users.
#[derive(Debug)]
pub struct WebConfig {
    path: PathBuf,
    /// Protocols to agree on, the preferred one first.
    protocols: Vec<Vec<u8>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    loaded: Arc<Loaded>,
    looked_at: Instant,
    /// What was found when it could not be read: it is said once.
    refused: Vec<(PathBuf, Stamp)>,
}

impl WebConfig {
    /// Reads the file at `path`. `protocols`: what ALPN offers, the preferred one first.
    ///
    /// # Errors
    /// [`WebConfigError`], which names the file that is wrong.
    pub fn load(path: &Path, protocols: &[&str]) -> Result<Arc<Self>, WebConfigError> {
        let protocols: Vec<_> = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let loaded = Arc::new(load(path, &protocols)?);
        let state = State { loaded, looked_at: Instant::now(), refused: Vec::new() };
        Ok(Arc::new(Self { path: path.to_owned(), protocols, state: Mutex::new(state) }))
    }

    /// What makes TLS of a connection, if the file asks for TLS.
    pub fn acceptor(&self) -> Option<TlsAcceptor> {
        self.loaded().tls.clone().map(TlsAcceptor::from)
    }

    /// Whether whoever has neither certificate nor password is refused.
    pub fn keeps_others_out(&self) -> bool {
        let loaded = self.loaded();
        !loaded.users.is_empty() || loaded.requires_certificates
    }

    /// Whether connections are TLS.
    pub fn is_tls(&self) -> bool {
        self.loaded().tls.is_some()
    }

    /// Whether a request with `headers` is from a user, if the file names any. Who has the `token` is one.
    ///
    /// # Errors
    /// The answer: 401.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        token: Option<&BearerToken>,
    ) -> Result<(), Problem> {
        let loaded = self.loaded();
        let carried = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let has_token = token.zip(carried).is_some_and(|(token, carried)| token.is_carried_by(carried));
        if loaded.users.is_empty() || has_token {
            return Ok(());
        }
        loaded.users.authenticate(headers).await
    }

    /// What was read last. If files have changed since, they are read again; what then cannot be used changes nothing.
    fn loaded(&self) -> Arc<Loaded> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked_at.elapsed() < LOOKED_AT_EVERY {
            return Arc::clone(&state.loaded);
        }
        state.looked_at = Instant::now();
        let now = stamps(state.loaded.files.iter().map(|(path, _)| path.as_path()));
        if now != state.loaded.files && now != state.refused {
            match load(&self.path, &self.protocols) {
                Ok(loaded) => {
                    info!(path = %self.path.display(), "certificates and users read again");
                    state.loaded = Arc::new(loaded);
                    state.refused.clear();
                }
                Err(problem) => {
                    error!("certificates and users not read again, the old ones stay: {}", Chain(&problem));
                    state.refused = now;
                }
            }
        }
        Arc::clone(&state.loaded)
    }
}

fn load(path: &Path, protocols: &[Vec<u8>]) -> Result<Loaded, WebConfigError> {
    let Section { tls_server_config: tls, basic_auth_users, .. } = Section::load(path)?;
    let named = tls.iter().flat_map(TlsServerConfig::files);
    let files = stamps(std::iter::once(path).chain(named));
    let requires_certificates = tls.as_ref().is_some_and(TlsServerConfig::requires_certificates);
    let tls = tls.as_ref().map(|tls| tls.server_config(path, protocols)).transpose()?;
    let users = Users::new(basic_auth_users).map_err(|problem| WebConfigError::unusable(path, problem))?;
    Ok(Loaded { tls, users, requires_certificates, files })
}

fn stamps<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<(PathBuf, Stamp)> {
    let stamp = |path: &Path| -> io::Result<_> {
        let metadata = fs::metadata(path)?;
        Ok((metadata.modified()?, metadata.len(), metadata.ino()))
    };
    paths.map(|path| (path.to_owned(), stamp(path).ok())).collect()
}

#[cfg(test)]
mod tests;
