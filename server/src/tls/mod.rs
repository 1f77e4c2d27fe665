//! Encrypted connections: who may connect at all, and who is on the other side.
//!
//! One certificate, key and authority serve clients and peers alike, in both directions. [`Tls`] holds what was loaded
//! last and follows the files; [`incoming`] accepts connections with it, [`Tls::connector`] makes them. Both look at it once
//! for each connection, so new certificates take effect with the next one and cut none off. A connection ends when the
//! certificate that its other side showed expires.
//!
//! TLS 1.3 only, and no session is resumed: every connection proves anew who is at its ends.

mod certificate;
mod incoming;
mod live;
mod material;
pub mod throwaway;

#[cfg(test)]
mod tests;

pub use certificate::{Certificate, CertificateError};
pub use incoming::{Caller, Connection, incoming};
pub use live::{RELOAD_INTERVAL, Reloaded, Tls};
pub use material::{Material, MaterialError, TlsFiles};
