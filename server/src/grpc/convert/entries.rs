//! Registration entries.

use steeple_engine::spire::entries::commands::EntryMask;
use steeple_engine::spire::entries::records::{AdditionalAttributes, ArchivedEntry, Entry};
use steeple_wire::packed::{put_element, put_flag, put_message, put_number, put_text};
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

/// Writes the bytes of [`to_wire`] as a field of a message, straight from what is stored.
pub(crate) fn put(bytes: &mut Vec<u8>, number: u32, entry: &ArchivedEntry) {
    put_message(bytes, number, |bytes| {
        for selector in entry.selectors.iter() {
            put_message(bytes, 1, |bytes| {
                put_text(bytes, 1, &selector.kind);
                put_text(bytes, 2, &selector.value);
            });
        }
        put_text(bytes, 2, &entry.parent_id);
        put_text(bytes, 3, &entry.spiffe_id);
        put_number(bytes, 4, entry.x509_svid_ttl.to_native().into());
        entry.federates_with.iter().for_each(|id| put_element(bytes, 5, id.as_bytes()));
        put_text(bytes, 6, &entry.entry_id);
        put_flag(bytes, 7, entry.admin);
        put_flag(bytes, 8, entry.downstream);
        put_number(bytes, 9, entry.expiry.to_native());
        entry.dns_names.iter().for_each(|name| put_element(bytes, 10, name.as_bytes()));
        put_number(bytes, 11, entry.revision_number.to_native());
        put_flag(bytes, 12, entry.store_svid);
        put_number(bytes, 13, entry.jwt_svid_ttl.to_native().into());
        put_text(bytes, 14, &entry.hint);
        put_number(bytes, 15, entry.created_at.to_native());
        if let Some(attributes) = entry.additional_attributes.as_ref() {
            put_message(bytes, 16, |bytes| {
                put_flag(bytes, 1, attributes.disable_x509_svid_prefetch);
                put_flag(bytes, 2, attributes.jwt_svid_include_jti);
                if !attributes.unknown_fields.is_empty() {
                    put_element(bytes, 100, &attributes.unknown_fields);
                }
            });
        }
    });
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
