//! Trust bundles.

use steeple_engine::spire::bundles::commands::{BundleMask, DeleteMode};
use steeple_engine::spire::bundles::records::{Bundle, Certificate, PublicKey};
use steeple_wire::spire::v1 as wire;

pub(crate) fn from_wire(bundle: wire::Bundle) -> Bundle {
    Bundle {
        trust_domain_id: bundle.trust_domain_id,
        root_cas: bundle.root_cas.into_iter().map(certificate_from_wire).collect(),
        jwt_signing_keys: bundle.jwt_signing_keys.into_iter().map(key_from_wire).collect(),
        wit_signing_keys: bundle.wit_signing_keys.into_iter().map(key_from_wire).collect(),
        refresh_hint: bundle.refresh_hint,
        sequence_number: bundle.sequence_number,
        unknown_fields: bundle.unknown_fields,
    }
}

pub(crate) fn to_wire(bundle: Bundle) -> wire::Bundle {
    wire::Bundle {
        trust_domain_id: bundle.trust_domain_id,
        root_cas: bundle.root_cas.into_iter().map(certificate_to_wire).collect(),
        jwt_signing_keys: bundle.jwt_signing_keys.into_iter().map(key_to_wire).collect(),
        wit_signing_keys: bundle.wit_signing_keys.into_iter().map(key_to_wire).collect(),
        refresh_hint: bundle.refresh_hint,
        sequence_number: bundle.sequence_number,
        unknown_fields: bundle.unknown_fields,
    }
}

pub(crate) fn mask_from_wire(mask: wire::BundleMask) -> BundleMask {
    BundleMask {
        root_cas: mask.root_cas,
        jwt_signing_keys: mask.jwt_signing_keys,
        wit_signing_keys: mask.wit_signing_keys,
        refresh_hint: mask.refresh_hint,
        sequence_number: mask.sequence_number,
    }
}

/// An unknown mode is treated like the first one, which refuses.
pub(crate) fn mode_from_wire(mode: i32) -> DeleteMode {
    match wire::DeleteMode::try_from(mode) {
        Ok(wire::DeleteMode::Delete) => DeleteMode::Delete,
        Ok(wire::DeleteMode::Dissociate) => DeleteMode::Dissociate,
        Ok(wire::DeleteMode::Restrict) | Err(_) => DeleteMode::Restrict,
    }
}

fn certificate_from_wire(certificate: wire::Certificate) -> Certificate {
    let wire::Certificate { der_bytes, tainted_key, unknown_fields } = certificate;
    Certificate { der_bytes, tainted_key, unknown_fields }
}

fn certificate_to_wire(certificate: Certificate) -> wire::Certificate {
    let Certificate { der_bytes, tainted_key, unknown_fields } = certificate;
    wire::Certificate { der_bytes, tainted_key, unknown_fields }
}

fn key_from_wire(key: wire::PublicKey) -> PublicKey {
    let wire::PublicKey { pkix_bytes, kid, not_after, tainted_key, unknown_fields } = key;
    PublicKey { pkix_bytes, kid, not_after, tainted_key, unknown_fields }
}

pub(crate) fn key_to_wire(key: PublicKey) -> wire::PublicKey {
    let PublicKey { pkix_bytes, kid, not_after, tainted_key, unknown_fields } = key;
    wire::PublicKey { pkix_bytes, kid, not_after, tainted_key, unknown_fields }
}
