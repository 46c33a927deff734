//! `tls_server_config`: certificates and keys → what rustls needs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use serde::Deserialize;

use super::error::WebConfigError;
use crate::file::{self, SECRET_BYTES_MAX};

/// The section, as exporter-toolkit has it. Of its keys, these are read; any other is refused, rather than passed over.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsServerConfig {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    client_auth_type: ClientAuth,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    min_version: Version,
}

/// Whether clients need certificates, by Go's names. Those that would ask for one and not verify it are left out.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
enum Version {
    #[default]
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

impl TlsServerConfig {
    /// The same with paths below `folder`, unless they are absolute.
    pub(super) fn below(self, folder: &Path) -> Self {
        Self {
            cert_file: folder.join(self.cert_file),
            key_file: folder.join(self.key_file),
            client_ca_file: self.client_ca_file.map(|path| folder.join(path)),
            ..self
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.cert_file, &self.key_file].into_iter().chain(&self.client_ca_file).map(PathBuf::as_path)
    }

    pub(super) fn chain_and_key(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), WebConfigError> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key_file)?).map_err(|error| {
            WebConfigError::unusable(&self.key_file, format!("expected a private key as PEM: {error}"))
        });
        Ok((certificates(&self.cert_file)?, key?))
    }

    pub(super) fn asks_for_certificates(&self) -> bool {
        self.client_auth_type != ClientAuth::NoClientCert
    }

    pub(super) fn requires_certificates(&self) -> bool {
        self.client_auth_type == ClientAuth::RequireAndVerifyClientCert
    }

    /// What makes TLS of connections. `path`: where the section stands.
    pub(super) fn server_config(
        &self,
        path: &Path,
        protocols: &[Vec<u8>],
    ) -> Result<Arc<ServerConfig>, WebConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[_] = match self.min_version {
            Version::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            Version::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| WebConfigError::unusable(path, error.to_string()))?;
        let builder = match (self.client_auth_type, &self.client_ca_file) {
            (ClientAuth::NoClientCert, None) => builder.with_no_client_auth(),
            (ClientAuth::NoClientCert, Some(_)) => {
                let problem = "client_ca_file is of no effect without client_auth_type: expected \
                               RequireAndVerifyClientCert or VerifyClientCertIfGiven";
                return Err(WebConfigError::unusable(path, problem));
            }
            (_, None) => {
                let problem =
                    "client_auth_type needs client_ca_file: the authorities whose certificates are accepted";
                return Err(WebConfigError::unusable(path, problem));
            }
            (kind, Some(authorities)) => {
                let roots = Arc::new(roots(authorities)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = if kind == ClientAuth::VerifyClientCertIfGiven {
                    verifier.allow_unauthenticated()
                } else {
                    verifier
                };
                let verifier = verifier
                    .build()
                    .map_err(|error| WebConfigError::unusable(authorities, error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, key) = self.chain_and_key()?;
        is_valid_now(&self.cert_file, &chain)?;
        let mut config = builder.with_single_cert(chain, key).map_err(|error| {
            let problem = format!("expected the key of {}: {error}", self.cert_file.display());
            WebConfigError::unusable(&self.key_file, problem)
        })?;
        config.alpn_protocols = protocols.to_vec();
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, WebConfigError> {
    file::read(path, SECRET_BYTES_MAX)
        .map_err(|error| WebConfigError::unusable(path, format!("reading: {error}")))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, WebConfigError> {
    let refused =
        |problem: String| WebConfigError::unusable(path, format!("expected certificates as PEM: {problem}"));
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let certificates = certificates.map_err(|error| refused(error.to_string()))?;
    if certificates.is_empty() { Err(refused("found none".to_owned())) } else { Ok(certificates) }
}

fn roots(path: &Path) -> Result<RootCertStore, WebConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| WebConfigError::unusable(path, error.to_string()))?;
    }
    Ok(roots)
}

/// Clients would refuse a certificate that is not valid any more, each with a message of its own.
fn is_valid_now(path: &Path, chain: &[CertificateDer<'_>]) -> Result<(), WebConfigError> {
    use webpki::{Error, KeyUsage};
    let unusable = |problem: &str| Err(WebConfigError::unusable(path, problem));
    let [first, others @ ..] = chain else { return Ok(()) };
    let Ok(certificate) = webpki::EndEntityCert::try_from(first) else {
        return unusable("expected a certificate of X.509 version 3");
    };
    let verified = certificate.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[],
        others,
        UnixTime::now(),
        KeyUsage::server_auth(),
        None,
        None,
    );
    // Who has issued it is for clients to judge.
    match verified {
        Err(Error::CertExpired { .. }) => unusable("the certificate has expired"),
        Err(Error::CertNotValidYet { .. }) => unusable("the certificate is not valid yet"),
        _ => Ok(()),
    }
}
