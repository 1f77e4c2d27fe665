//! Reading what pruning, tainting and revoking need to know of a certificate.
//!
//! Elements of a bundle are stored unparsed, so anything may be in them: leaf certificates, serial number 0,
//! several certificates one after the other, or no certificate at all.

use std::fmt::Write as _;

use thiserror::Error;
use x509_parser::asn1_rs::{Any, FromDer as _, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER;

/// Bytes that are no certificate. The texts begin as SPIRE's own do, because its tests compare the first one.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum Error {
    /// No complete DER sequence.
    #[error("x509: malformed certificate")]
    Malformed,
    /// One certificate was expected and something follows it.
    #[error("x509: trailing data")]
    TrailingData,
    /// A DER sequence, but of something else.
    #[error("x509: {0}")]
    Content(X509Error),
    /// The subject key identifier extension cannot be read.
    #[error("x509: invalid subject key identifier")]
    SubjectKeyId,
}

/// Not-after times, in Unix seconds, of the certificates that stand one after the other in `der`.
pub(super) fn not_after_times(mut der: &[u8]) -> Result<Vec<i64>, Error> {
    let mut times = Vec::new();
    while !der.is_empty() {
        let (rest, certificate) = parse(der)?;
        times.push(certificate.validity().not_after.timestamp());
        der = rest;
    }
    Ok(times)
}

/// The subject key identifier of the one certificate in `der`: lower-case hexadecimal, empty when it has none.
pub(super) fn subject_key_id(der: &[u8]) -> Result<String, Error> {
    let (rest, certificate) = parse(der)?;
    if !rest.is_empty() {
        return Err(Error::TrailingData);
    }
    let extension = certificate
        .tbs_certificate
        .get_extension_unique(&OID_X509_EXT_SUBJECT_KEY_IDENTIFIER)
        .map_err(Error::Content)?;
    match extension.map(|extension| extension.parsed_extension()) {
        None => Ok(String::new()),
        Some(ParsedExtension::SubjectKeyIdentifier(identifier)) => Ok(hexadecimal(identifier.0)),
        Some(_) => Err(Error::SubjectKeyId),
    }
}

fn parse(der: &[u8]) -> Result<(&[u8], X509Certificate<'_>), Error> {
    match Any::from_der(der) {
        Ok((_, element)) if element.tag() == Tag::Sequence => {}
        _ => return Err(Error::Malformed),
    }
    X509Certificate::from_der(der).map_err(|error| Error::Content(error.into()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
