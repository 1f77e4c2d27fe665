//! What the files of a node hold, checked before it is used.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use steeple_client::tls::{PemFile, TlsError, client_config, provider};
use thiserror::Error;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore, ServerConfig, version};

use super::{Certificate, CertificateError};

/// The files of a node, each in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, followed by those between it and the authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Certificates of the authorities that may vouch for clients and peers. Without them nobody is asked who he is.
    pub authority: Option<PathBuf>,
}

/// Why the files are of no use.
#[derive(Debug, Error)]
pub enum MaterialError {
    /// A file, or what they make together.
    #[error(transparent)]
    File(#[from] TlsError),
    /// The certificate does not hold now.
    #[error("{path} {reason}", path = .path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: CertificateError,
    },
    /// The authorities cannot be used to verify anybody.
    #[error("{path}: {reason}", path = .path.display())]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The content of the files, as it was read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    certificate: PemFile,
    key: PemFile,
    authority: Option<PemFile>,
}

impl Content {
    pub(super) fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: PemFile::read(&files.certificate)?,
            key: PemFile::read(&files.key)?,
            authority: files.authority.as_deref().map(PemFile::read).transpose()?,
        })
    }
}

/// Settings for both directions.
#[derive(Clone, Debug)]
pub struct Material {
    /// For connections that others make.
    pub server: Arc<ServerConfig>,
    /// For connections that the node makes; none without an authority.
    pub client: Option<Arc<ClientConfig>>,
    /// The node's own certificate.
    pub certificate: Certificate,
}

impl Material {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// See [`MaterialError`].
    pub fn load(files: &TlsFiles, now: SystemTime) -> Result<Self, MaterialError> {
        Self::new(&Content::read(files)?, now)
    }

    pub(super) fn new(content: &Content, now: SystemTime) -> Result<Self, MaterialError> {
        let (file, chain) = (&content.certificate, content.certificate.certificates()?);
        let unusable = |reason| MaterialError::Certificate { path: file.path().to_owned(), reason };
        let leaf = chain.first().map_or(&[][..], |leaf| leaf.as_ref());
        let certificate = Certificate::parse(leaf).map_err(unusable)?;
        certificate.check(now).map_err(unusable)?;
        let authorities = match &content.authority {
            Some(authority) => Some((authority, authority.authorities()?)),
            None => None,
        };
        let server = server_config(content, authorities.clone())?;
        let client = match authorities {
            Some((_, authorities)) => Some(client_config(authorities, Some((chain, content.key.private_key()?)))?),
            None => None,
        };
        Ok(Self { server, client, certificate })
    }
}

fn not_together(content: &Content, source: Error) -> TlsError {
    let certificate = content.certificate.path().display();
    match source {
        Error::InconsistentKeys(_) => TlsError::Content {
            path: content.key.path().to_owned(),
            reason: format!("is not the key of the certificate in {certificate}"),
        },
        source => TlsError::Material { what: format!("{certificate} and {}", content.key.path().display()), source },
    }
}

fn server_config(
    content: &Content,
    authorities: Option<(&PemFile, RootCertStore)>,
) -> Result<Arc<ServerConfig>, MaterialError> {
    let unusable = |source| not_together(content, source);
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(&[&version::TLS13]).map_err(unusable)?;
    let builder = match authorities {
        Some((file, authorities)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| MaterialError::Authority {
                path: file.path().to_owned(),
                reason: error.to_string(),
            })?)
        }
        None => builder.with_no_client_auth(),
    };
    let chain = content.certificate.certificates()?;
    let mut config = builder.with_single_cert(chain, content.key.private_key()?).map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would live on from a certificate that has expired or an authority that was taken out.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
