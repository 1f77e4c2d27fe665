//! What an entry must look like, in the order in which the contract asks (7.2, 7.8).
//!
//! SPIFFE IDs, DNS names, hints and expiries are not parsed here: SPIRE's API does that.

use thiserror::Error;

use super::commands::EntryMask;
use super::records::{AdditionalAttributes, Entry};
use crate::spire::selectors::{self, Selector};
use crate::spire::{self, limits};

/// What is wrong with an entry. The texts are part of the contract.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Invalid {
    /// The request has no entry.
    #[error("invalid request: missing registered entry")]
    MissingEntry,
    /// No selectors.
    #[error("invalid registration entry: missing selector list")]
    MissingSelectors,
    /// Pushed into a secret store, and fetched on demand only.
    #[error("specifying cache behaviour is incompatible with storable SVIDs")]
    PrefetchWithStoreSvid,
    /// Pushed into a secret store, with selectors of several types.
    #[error("invalid registration entry: selector types must be the same when store SVID is enabled")]
    MixedSelectorTypes,
    /// Above [`limits::ENTRY_ID_BYTES_MAX`].
    #[error("invalid registration entry: entry ID too long")]
    EntryIdTooLong,
    /// Anything but ASCII letters, digits and `-._`.
    #[error("invalid registration entry: entry ID contains invalid characters")]
    EntryIdCharacters,
    /// No SPIFFE ID.
    #[error("invalid registration entry: missing SPIFFE ID")]
    MissingSpiffeId,
    /// Negative X.509 SVID time to live.
    #[error("invalid registration entry: X509SvidTtl is not set")]
    NegativeX509SvidTtl,
    /// Negative JWT SVID time to live.
    #[error("invalid registration entry: JwtSvidTtl is not set")]
    NegativeJwtSvidTtl,
    /// Above [`limits::ADDITIONAL_ATTRIBUTES_BYTES_MAX`].
    #[error(
        "invalid registration entry: additional attributes size exceeds the maximum allowed size of {} bytes",
        limits::ADDITIONAL_ATTRIBUTES_BYTES_MAX
    )]
    AdditionalAttributesTooLarge,
}

/// Checks an entry to be created: rows 1 to 9 of 7.2, then the limits.
pub(super) fn check_new(entry: Option<Entry>) -> Result<Entry, spire::Error> {
    let entry = entry.ok_or(Invalid::MissingEntry)?;
    check_new_fields(&entry)?;
    check_limits(&entry, &EntryMask::ALL)?;
    Ok(entry)
}

fn check_new_fields(entry: &Entry) -> Result<(), Invalid> {
    if entry.selectors.is_empty() {
        return Err(Invalid::MissingSelectors);
    }
    let prefetch_disabled =
        entry.additional_attributes.as_ref().is_some_and(|attributes| attributes.disable_x509_svid_prefetch);
    if entry.store_svid && prefetch_disabled {
        return Err(Invalid::PrefetchWithStoreSvid);
    }
    check_store_svid(entry)?;
    check_entry_id(&entry.entry_id)?;
    check_scalars(entry, &EntryMask::ALL)
}

/// Checks an update's input: rows 1 to 5 of 7.8, then the limits. What the mask leaves out is not looked at.
pub(super) fn check_update<'a>(entry: Option<&'a Entry>, mask: &EntryMask) -> Result<&'a Entry, spire::Error> {
    let entry = entry.ok_or(Invalid::MissingEntry)?;
    if mask.selectors && entry.selectors.is_empty() {
        return Err(Invalid::MissingSelectors.into());
    }
    check_scalars(entry, mask)?;
    check_limits(entry, mask)?;
    Ok(entry)
}

/// Entries for a secret store have selectors of one type.
pub(super) fn check_store_svid(entry: &Entry) -> Result<(), Invalid> {
    let one_type = entry.selectors.windows(2).all(|pair| pair[0].kind == pair[1].kind);
    if entry.store_svid && !one_type { Err(Invalid::MixedSelectorTypes) } else { Ok(()) }
}

/// Row 10 of 7.2.
pub(super) fn check_attributes(attributes: Option<&AdditionalAttributes>) -> Result<(), Invalid> {
    let bytes = attributes.map_or(0, AdditionalAttributes::serialized_bytes);
    if bytes > limits::ADDITIONAL_ATTRIBUTES_BYTES_MAX { Err(Invalid::AdditionalAttributesTooLarge) } else { Ok(()) }
}

fn check_entry_id(entry_id: &str) -> Result<(), Invalid> {
    if entry_id.len() > limits::ENTRY_ID_BYTES_MAX {
        return Err(Invalid::EntryIdTooLong);
    }
    if entry_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        Ok(())
    } else {
        Err(Invalid::EntryIdCharacters)
    }
}

fn check_scalars(entry: &Entry, mask: &EntryMask) -> Result<(), Invalid> {
    if mask.spiffe_id && entry.spiffe_id.is_empty() {
        return Err(Invalid::MissingSpiffeId);
    }
    if mask.x509_svid_ttl && entry.x509_svid_ttl < 0 {
        return Err(Invalid::NegativeX509SvidTtl);
    }
    if mask.jwt_svid_ttl && entry.jwt_svid_ttl < 0 {
        return Err(Invalid::NegativeJwtSvidTtl);
    }
    Ok(())
}

/// Checks an entry that is taken over from another store: its sizes only.
pub(super) fn check_stored(entry: &Entry) -> Result<(), spire::Error> {
    if entry.entry_id.len() > limits::ENTRY_ID_BYTES_MAX {
        return Err(Invalid::EntryIdTooLong.into());
    }
    check_attributes(entry.additional_attributes.as_ref())?;
    check_limits(entry, &EntryMask::ALL)?;
    Ok(())
}

fn check_limits(entry: &Entry, mask: &EntryMask) -> Result<(), limits::Error> {
    let none: &[Selector] = &[];
    let texts = [
        (mask.spiffe_id, "SPIFFE ID", &entry.spiffe_id, limits::SPIFFE_ID_BYTES_MAX),
        (mask.parent_id, "parent ID", &entry.parent_id, limits::SPIFFE_ID_BYTES_MAX),
        (mask.hint, "hint", &entry.hint, limits::HINT_BYTES_MAX),
    ];
    for (_, what, text, max) in texts.into_iter().filter(|(in_scope, ..)| *in_scope) {
        limits::check_bytes(what, text.len(), max)?;
    }
    selectors::check_limits(if mask.selectors { &entry.selectors } else { none })?;
    if mask.dns_names {
        check_texts("DNS name", "DNS names", &entry.dns_names, limits::DNS_NAME_BYTES_MAX, limits::DNS_NAMES_MAX)?;
    }
    if mask.federates_with {
        check_trust_domains(&entry.federates_with)?;
    }
    Ok(())
}

/// Checks the number and the lengths of federated trust domain ids.
pub(super) fn check_trust_domains(ids: &[String]) -> Result<(), limits::Error> {
    let (what, many) = ("federated trust domain ID", "federated trust domains");
    check_texts(what, many, ids, limits::SPIFFE_ID_BYTES_MAX, limits::FEDERATES_WITH_MAX)
}

fn check_texts(
    what: &'static str,
    many: &'static str,
    texts: &[String],
    bytes_max: usize,
    count_max: usize,
) -> Result<(), limits::Error> {
    limits::check_count(many, texts.len(), count_max)?;
    texts.iter().try_for_each(|text| limits::check_bytes(what, text.len(), bytes_max))
}

impl From<Invalid> for spire::Error {
    fn from(invalid: Invalid) -> Self {
        super::Error::Invalid(invalid).into()
    }
}
