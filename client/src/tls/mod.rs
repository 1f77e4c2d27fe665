//! Encrypted connections to nodes, and who this side says that it is.
//!
//! [`TlsFiles`] names the files; [`Connector`] makes connections with them. The files are read again for every
//! connection, so certificates that are renewed in place take effect without a restart: a connection lasts at most as long
//! as the certificate that it was made with, and the next one is made with what the files hold then.

mod connector;
mod error;
mod files;
mod pem;

pub use connector::{Connector, Encrypted};
pub use error::TlsError;
pub use files::{IdentityFiles, TlsFiles, client_config, provider};
pub use pem::PemFile;
/// What [`Connector::new`] takes, as the TLS library has it.
pub use tokio_rustls::rustls::ClientConfig;
