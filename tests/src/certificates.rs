//! X.509 certificates made for the test at hand.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyIdMethod, KeyPair, SerialNumber};
use steeple_client::types::Certificate;

/// A certificate as an element of a bundle.
#[must_use]
pub fn root(der_bytes: impl Into<Vec<u8>>) -> Certificate {
    Certificate { der_bytes: der_bytes.into(), ..Certificate::default() }
}

/// DER of a self-signed CA with this subject key id, expiring at `not_after` (Unix seconds).
#[must_use]
pub fn authority(subject_key_id: &[u8], not_after: u64) -> Vec<u8> {
    certificate(IsCa::Ca(BasicConstraints::Unconstrained), subject_key_id, not_after)
}

/// DER of a self-signed certificate that is no CA and has no subject key id.
#[must_use]
pub fn leaf(not_after: u64) -> Vec<u8> {
    certificate(IsCa::NoCa, &[], not_after)
}

fn certificate(is_ca: IsCa, subject_key_id: &[u8], not_after: u64) -> Vec<u8> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = is_ca;
    parameters.key_identifier_method = KeyIdMethod::PreSpecified(subject_key_id.to_vec());
    parameters.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(not_after);
    // The reference's tests store certificates with serial number 0, which strict parsers refuse.
    parameters.serial_number = Some(SerialNumber::from(0u64));
    let key = KeyPair::generate().expect("a key pair");
    parameters.self_signed(&key).expect("a certificate").der().to_vec()
}
