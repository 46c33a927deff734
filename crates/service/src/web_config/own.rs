//! How a program's own commands speak to it: by the certificate that its listener shows.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::{error::WebConfigError, section::Section};

/// What speaks to the listener of the web config at `path`, if that is by TLS. It believes the certificate that stands there and no
/// other, and shows the same where clients need one.
///
/// # Errors
/// [`WebConfigError`], which names the file that is wrong.
pub(crate) fn own_client(path: &Path) -> Result<Option<Arc<ClientConfig>>, WebConfigError> {
    let Some(tls) = Section::load(path)?.tls_server_config else { return Ok(None) };
    let (chain, key) = tls.chain_and_key()?;
    let builder = builder(chain.first().cloned());
    let config = if tls.asks_for_certificates() {
        let shown = builder.with_client_auth_cert(chain, key);
        shown.map_err(|error| WebConfigError::unusable(path, error.to_string()))?
    } else {
        builder.with_no_client_auth()
    };
    Ok(Some(Arc::new(config)))
}

/// What speaks to any server: for whoever says nothing that others may not know.
pub(crate) fn any_client() -> Arc<ClientConfig> {
    Arc::new(builder(None).with_no_client_auth())
}

fn builder(
    certificate: Option<CertificateDer<'static>>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let pinned = Pinned { certificate, provider: Arc::clone(&provider) };
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
}

/// Believes one certificate, or any.
#[derive(Debug)]
struct Pinned {
    certificate: Option<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.certificate {
            Some(certificate) if certificate != end_entity => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
