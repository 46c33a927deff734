//! The file as it is written.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::{error::WebConfigError, tls::TlsServerConfig};
use crate::config_file;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) tls_server_config: Option<TlsServerConfig>,
    /// Accepted, since it stands in files that others read, too: listeners speak what they speak.
    #[serde(rename = "http_server_config", default)]
    _http_server_config: HttpServerConfig,
    #[serde(default)]
    pub(super) basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpServerConfig {
    #[serde(rename = "http2", default)]
    _http2: Option<bool>,
}

impl Section {
    /// What stands in the file at `path`; paths are beside it, as Prometheus has it.
    pub(super) fn load(path: &Path) -> Result<Self, WebConfigError> {
        let text = config_file::read(path)?;
        let section: Self =
            if text.trim().is_empty() { Self::default() } else { config_file::parse(path, &text)? };
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self { tls_server_config: section.tls_server_config.map(|tls| tls.below(folder)), ..section })
    }
}
