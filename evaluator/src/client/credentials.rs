//! Certificates and passwords with which the evaluator asks others.

use std::path::{Path, PathBuf};

use ebb_service::file::{self, SECRET_BYTES_MAX};
use reqwest::{Certificate, ClientBuilder, Identity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// User name and password.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BasicAuth {
    /// Name of the user.
    pub username: String,
    /// File with the password; read at each request, so that it can be changed.
    pub password_file: PathBuf,
}

/// Certificates.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("dependencies" = {"cert_file": ["key_file"], "key_file": ["cert_file"]}))]
pub(crate) struct TlsConfig {
    /// Authority that signed the server's certificate, as PEM. Otherwise the system's authorities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Client certificate, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<PathBuf>,
    /// Its key, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

impl TlsConfig {
    pub(crate) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.ca_file, &mut self.cert_file, &mut self.key_file].into_iter().flatten()
    }

    /// What is wrong with it, if something is.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        let differ = self.cert_file.is_some() != self.key_file.is_some();
        differ.then_some("expected cert_file and key_file together, or neither")
    }

    /// A client that goes by it.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub(crate) fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, String> {
        builder = builder.tls_danger_accept_invalid_certs(self.insecure_skip_verify);
        if let Some(path) = &self.ca_file {
            let authorities =
                Certificate::from_pem_bundle(&read(path)?).map_err(|error| unusable(path, &error))?;
            builder = builder.tls_certs_only(authorities);
        }
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            let mut pem = read(certificate)?;
            pem.extend(read(key)?);
            builder =
                builder.identity(Identity::from_pem(&pem).map_err(|error| unusable(certificate, &error))?);
        }
        Ok(builder)
    }
}

impl BasicAuth {
    /// The password as it is now.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn password(&self) -> Result<String, String> {
        read_line(&self.password_file)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    file::read(path, SECRET_BYTES_MAX).map_err(|error| format!("reading {}: {error}", path.display()))
}

/// The one line of a file.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn read_line(path: &Path) -> Result<String, String> {
    let text = file::read_text(path, SECRET_BYTES_MAX)
        .map_err(|error| format!("reading {}: {error}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn unusable(path: &Path, error: &reqwest::Error) -> String {
    format!("{}: expected certificates and keys as PEM: {error}", path.display())
}
