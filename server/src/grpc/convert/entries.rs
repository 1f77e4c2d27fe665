//! Registration entries.

use steeple_engine::spire::entries::commands::EntryMask;
use steeple_engine::spire::entries::records::{AdditionalAttributes, Entry};
use steeple_wire::spire::v1 as wire;

use super::filters::{selectors_from_wire, selectors_to_wire};

pub(crate) fn from_wire(entry: wire::RegistrationEntry) -> Entry {
    Entry {
        entry_id: entry.entry_id,
        spiffe_id: entry.spiffe_id,
        parent_id: entry.parent_id,
        selectors: selectors_from_wire(entry.selectors),
        dns_names: entry.dns_names,
        federates_with: entry.federates_with,
        x509_svid_ttl: entry.x509_svid_ttl,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        admin: entry.admin,
        downstream: entry.downstream,
        store_svid: entry.store_svid,
        hint: entry.hint,
        expiry: entry.entry_expiry,
        revision_number: entry.revision_number,
        created_at: entry.created_at,
        additional_attributes: entry.additional_attributes.map(attributes_from_wire),
    }
}

pub(crate) fn to_wire(entry: Entry) -> wire::RegistrationEntry {
    wire::RegistrationEntry {
        selectors: selectors_to_wire(entry.selectors),
        parent_id: entry.parent_id,
        spiffe_id: entry.spiffe_id,
        x509_svid_ttl: entry.x509_svid_ttl,
        federates_with: entry.federates_with,
        entry_id: entry.entry_id,
        admin: entry.admin,
        downstream: entry.downstream,
        entry_expiry: entry.expiry,
        dns_names: entry.dns_names,
        revision_number: entry.revision_number,
        store_svid: entry.store_svid,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        hint: entry.hint,
        created_at: entry.created_at,
        additional_attributes: entry.additional_attributes.map(attributes_to_wire),
    }
}

pub(crate) fn mask_from_wire(mask: wire::RegistrationEntryMask) -> EntryMask {
    EntryMask {
        selectors: mask.selectors,
        parent_id: mask.parent_id,
        spiffe_id: mask.spiffe_id,
        x509_svid_ttl: mask.x509_svid_ttl,
        federates_with: mask.federates_with,
        admin: mask.admin,
        downstream: mask.downstream,
        expiry: mask.entry_expiry,
        dns_names: mask.dns_names,
        store_svid: mask.store_svid,
        jwt_svid_ttl: mask.jwt_svid_ttl,
        hint: mask.hint,
        additional_attributes: mask.additional_attributes,
    }
}

fn attributes_from_wire(attributes: wire::AdditionalAttributes) -> AdditionalAttributes {
    let wire::AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti, unknown_fields } = attributes;
    AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti, unknown_fields }
}

fn attributes_to_wire(attributes: AdditionalAttributes) -> wire::AdditionalAttributes {
    let AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti, unknown_fields } = attributes;
    wire::AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti, unknown_fields }
}
