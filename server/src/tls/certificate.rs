//! What a certificate says about its holder and for how long.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::authorization::Identity;

/// What matters of a certificate. Whether anybody vouches for it is for the handshake to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is; none when it does not say so in a way that is understood here.
    pub identity: Option<Identity>,
    /// From when on it holds.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

/// Why a certificate cannot be used now.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// Not a certificate.
    #[error("is no X.509 certificate: {0}")]
    Malformed(String),
    /// Its time has passed.
    #[error("expired at {}", time(.0))]
    Expired(SystemTime),
    /// Its time has not come.
    #[error("is not valid before {}", time(.0))]
    NotYetValid(SystemTime),
}

impl Certificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = X509Certificate::from_der(der);
        let (_, certificate) = parsed.map_err(|error| CertificateError::Malformed(error.to_string()))?;
        let validity = certificate.validity();
        Ok(Self {
            identity: identity(&certificate),
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
        })
    }

    /// Whether its time is now.
    ///
    /// # Errors
    /// When it is not.
    pub fn check(&self, now: SystemTime) -> Result<(), CertificateError> {
        match now {
            now if now < self.not_before => Err(CertificateError::NotYetValid(self.not_before)),
            now if now >= self.not_after => Err(CertificateError::Expired(self.not_after)),
            _ => Ok(()),
        }
    }
}

/// The SPIFFE ID if it has a name in the form of a URI, else its common name. A certificate with a SPIFFE ID has no other
/// identity: who decides about SPIFFE IDs need not be who decides about common names. Two of either say nothing, and
/// neither does a certificate with a name that cannot be read.
fn identity(certificate: &X509Certificate<'_>) -> Option<Identity> {
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = || alternatives.iter().flat_map(|extension| &extension.value.general_names);
    if names().any(|name| matches!(name, GeneralName::Invalid(..))) {
        return None;
    }
    let mut uris = names().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Identity::spiffe(uri).ok(),
        (Some(_), Some(_)) => None,
        (None, _) => {
            let mut names = certificate.subject().iter_common_name();
            let name = names.next()?.as_str().ok()?;
            if names.next().is_some() { None } else { Identity::common_name(name).ok() }
        }
    }
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    let time = if time.timestamp() < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    time.unwrap_or(UNIX_EPOCH)
}

fn time(time: &SystemTime) -> String {
    humantime::format_rfc3339_seconds(*time).to_string()
}
