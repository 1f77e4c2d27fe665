//! Which files a client uses, and what they mean for its connections.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

use super::{PemFile, TlsError};

/// The files of a client, each in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that may vouch for nodes.
    pub authority: PathBuf,
    /// Who the client is; none to stay anonymous, which nodes that know roles refuse.
    pub identity: Option<IdentityFiles>,
    /// The name to expect in nodes' certificates; none for that of the address.
    pub server_name: Option<String>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// The certificate, followed by those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Verifies nodes by the authorities in this file.
    #[must_use]
    pub fn new(authority: impl Into<PathBuf>) -> Self {
        Self { authority: authority.into(), identity: None, server_name: None }
    }

    /// With this certificate and key to show to nodes.
    #[must_use]
    pub fn with_identity(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some(IdentityFiles { certificate: certificate.into(), key: key.into() });
        self
    }

    /// Expects this name in the certificates of all nodes, whatever their addresses are.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Reads the files.
    ///
    /// # Errors
    /// When one of them is of no use, the key is not the certificate's, or no certificate can have the name that is expected.
    pub fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        self.server_name.as_deref().map(server_name).transpose()?;
        let authorities = PemFile::read(&self.authority)?.authorities()?;
        let identity = self.identity.as_ref().map(|files| {
            let certificates = PemFile::read(&files.certificate)?.certificates()?;
            Ok((certificates, PemFile::read(&files.key)?.private_key()?))
        });
        client_config(authorities, identity.transpose()?)
    }
}

/// A name that certificates can have.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))
}

/// The cryptography that both sides use.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// How a side connects that trusts these authorities and shows this certificate.
///
/// # Errors
/// When the key is not the certificate's.
pub fn client_config(
    authorities: RootCertStore,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let unusable = |source| TlsError::Material { what: "certificate and key".into(), source };
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&version::TLS13]).map_err(unusable)?;
    let builder = builder.with_root_certificates(authorities);
    let mut config = match identity {
        Some((certificates, key)) => builder.with_client_auth_cert(certificates, key).map_err(unusable)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would live on from a certificate that is no longer shown.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
