//! Files with certificates and keys.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// Size above which a file surely holds something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The content of a PEM file.
#[derive(Clone, PartialEq, Eq)]
pub struct PemFile {
    path: PathBuf,
    content: Vec<u8>,
}

impl PemFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is too large.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let mut content = Vec::new();
        let reading = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content));
        reading.map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
        if content.len() as u64 > FILE_BYTES_MAX {
            return Err(TlsError::TooLarge { path: path.to_owned(), maximum: FILE_BYTES_MAX });
        }
        Ok(Self { path: path.to_owned(), content })
    }

    /// Where it was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All certificates in it, at least one.
    ///
    /// # Errors
    /// When there is none or the file is damaged.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(&self.content).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| self.damaged(&error))?;
        if certificates.is_empty() {
            return Err(TlsError::content(&self.path, "holds no certificate (a PEM block that says CERTIFICATE)"));
        }
        Ok(certificates)
    }

    /// The private key in it.
    ///
    /// # Errors
    /// When there is none or the file is damaged.
    pub fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.content).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                TlsError::content(&self.path, "holds no private key (a PEM block that says PRIVATE KEY)")
            }
            error => self.damaged(&error),
        })
    }

    /// The certificates in it as authorities, at least one.
    ///
    /// # Errors
    /// When there is none, or one of them cannot be an authority.
    pub fn authorities(&self) -> Result<RootCertStore, TlsError> {
        let mut authorities = RootCertStore::empty();
        for certificate in self.certificates()? {
            let added = authorities.add(certificate);
            added.map_err(|source| TlsError::Material { what: self.path.display().to_string(), source })?;
        }
        Ok(authorities)
    }

    fn damaged(&self, error: &pem::Error) -> TlsError {
        TlsError::content(&self.path, format!("is damaged: {error}"))
    }
}

// The content may be a private key.
impl std::fmt::Debug for PemFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PemFile").field("path", &self.path).finish_non_exhaustive()
    }
}
