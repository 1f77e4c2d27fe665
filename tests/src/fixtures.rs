//! The registration entries that the conformance suite keeps in files.

use serde::Deserialize;
use steeple_client::types::{AdditionalAttributes, RegistrationEntry, Selector};

/// Five entries of two parents.
pub const ENTRIES: &str = include_str!("../fixtures/entries.json");
/// The same five, federating with up to four trust domains.
pub const ENTRIES_FEDERATES_WITH: &str = include_str!("../fixtures/entries_federates_with.json");
/// Entries that can be created one after the other.
pub const VALID: &str = include_str!("../fixtures/valid_registration_entries.json");
/// Entries none of which can be created.
pub const INVALID: &str = include_str!("../fixtures/invalid_registration_entries.json");

/// Keys that are not named here are ignored.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    selectors: Vec<EntrySelector>,
    parent_id: String,
    spiffe_id: String,
    x509_svid_ttl: i32,
    jwt_svid_ttl: i32,
    federates_with: Vec<String>,
    entry_id: String,
    dns_names: Vec<String>,
    store_svid: bool,
    hint: String,
    additional_attributes: Option<Attributes>,
}

#[derive(Deserialize)]
struct EntrySelector {
    r#type: String,
    value: String,
}

#[derive(Deserialize)]
struct Attributes {
    disable_x509_svid_prefetch: bool,
}

/// The entries of a file; none stands for a request without entry.
///
/// # Panics
/// When the file is no list of entries.
#[must_use]
pub fn load(json: &str) -> Vec<Option<RegistrationEntry>> {
    let entries: Vec<Option<Entry>> = serde_json::from_str(json).expect("a list of entries");
    entries.into_iter().map(|entry| entry.map(Into::into)).collect()
}

impl From<Entry> for RegistrationEntry {
    fn from(entry: Entry) -> Self {
        let selector = |selector: EntrySelector| Selector { r#type: selector.r#type, value: selector.value };
        Self {
            selectors: entry.selectors.into_iter().map(selector).collect(),
            parent_id: entry.parent_id,
            spiffe_id: entry.spiffe_id,
            x509_svid_ttl: entry.x509_svid_ttl,
            jwt_svid_ttl: entry.jwt_svid_ttl,
            federates_with: entry.federates_with,
            entry_id: entry.entry_id,
            dns_names: entry.dns_names,
            store_svid: entry.store_svid,
            hint: entry.hint,
            additional_attributes: entry.additional_attributes.map(|attributes| AdditionalAttributes {
                disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}
