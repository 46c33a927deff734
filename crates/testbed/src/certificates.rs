//! An authority of a test's own, and certificates that it issues for loopback.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// Issues certificates into a folder that ends with it.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: TempDir,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Where the certificate is.
    pub cert_file: PathBuf,
    /// Where its key is.
    pub key_file: PathBuf,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// One that nobody else knows.
    ///
    /// # Panics
    /// When no key can be made, or no file written.
    #[must_use]
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary folder can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "testbed");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("it can be signed");
        fs::write(dir.path().join("ca.pem"), certificate.pem()).expect("a file can be written");
        Self { issuer: Issuer::new(params, key), dir }
    }

    /// Its certificate, as PEM.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// A certificate for loopback, for servers and clients alike, in files of this name: those that were there are replaced.
    ///
    /// # Panics
    /// When it cannot be made or written.
    pub fn issue(&self, name: &str) -> Issued {
        self.issue_until(name, 2099)
    }

    /// One that expired long ago.
    ///
    /// # Panics
    /// When it cannot be made or written.
    pub fn issue_expired(&self, name: &str) -> Issued {
        self.issue_until(name, 2021)
    }

    fn issue_until(&self, name: &str, year: i32) -> Issued {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("they are names");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("it can be signed");
        let issued = Issued {
            cert_file: self.dir.path().join(format!("{name}.pem")),
            key_file: self.dir.path().join(format!("{name}.key")),
        };
        // Each at once: whoever reads sees the old one or the new one.
        for (path, text) in [(&issued.key_file, key.serialize_pem()), (&issued.cert_file, certificate.pem())]
        {
            let beside = path.with_extension("new");
            fs::write(&beside, text).expect("a file can be written");
            fs::rename(&beside, path).expect("a file can be renamed");
        }
        issued
    }
}
