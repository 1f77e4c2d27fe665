//! What can be asked of registration entries.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::{AdditionalAttributes, Entry, indexes};
use super::validation;
use super::{Error, queries};
use crate::ids::NamespaceId;
use crate::spire::bundles::records::indexes::TRUST_DOMAIN_ID;
use crate::spire::limits::{self, StepBudget};
use crate::spire::selectors;
use crate::spire::{self, Answer, AnswerSource, REGISTRATIONS, tables};
use crate::transaction::{ChangeError, Transaction};
use crate::view::{Reader, ReaderExtension, Record};

/// A change to registration entries.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 7.3 and 7.4: answers the similar entry where there is one. `None` stands for a request without entry.
    CreateOrReturn(Option<Entry>),
    /// 7.8; no mask means all fields.
    Update(Option<Entry>, Option<EntryMask>),
    /// 7.9
    Delete {
        /// Which entry.
        entry_id: String,
    },
    /// 7.10; bounded: answers [`super::super::Answer::Progress`].
    Prune {
        /// Unix seconds.
        expires_before: i64,
        /// Entries at the most.
        limit: u32,
    },
}

/// Which fields an update sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct EntryMask {
    pub selectors: bool,
    pub parent_id: bool,
    pub spiffe_id: bool,
    pub x509_svid_ttl: bool,
    pub federates_with: bool,
    pub admin: bool,
    pub downstream: bool,
    pub expiry: bool,
    pub dns_names: bool,
    pub store_svid: bool,
    pub jwt_svid_ttl: bool,
    pub hint: bool,
    pub additional_attributes: bool,
}

impl EntryMask {
    /// Every field.
    pub const ALL: Self = Self {
        selectors: true,
        parent_id: true,
        spiffe_id: true,
        x509_svid_ttl: true,
        federates_with: true,
        admin: true,
        downstream: true,
        expiry: true,
        dns_names: true,
        store_svid: true,
        jwt_svid_ttl: true,
        hint: true,
        additional_attributes: true,
    };
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, spire::Error> {
        match self {
            Self::CreateOrReturn(entry) => create_or_return(transaction, entry),
            Self::Update(entry, mask) => update(transaction, entry.as_ref(), mask.unwrap_or(EntryMask::ALL)),
            Self::Delete { entry_id } => delete(transaction, &entry_id),
            Self::Prune { expires_before, limit } => prune(transaction, expires_before, limit),
        }
    }
}

fn create_or_return(transaction: &mut Transaction<'_>, entry: Option<Entry>) -> Result<AnswerSource, spire::Error> {
    let entry = validation::check_new(entry)?;
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    if let Some(similar) = queries::find_similar(reader, namespace, &entry)? {
        let entry = Entry::decode(&similar.body)?;
        return Ok(AnswerSource::Inline(Answer::Entry { entry, existing: true }));
    }
    validation::check_attributes(entry.additional_attributes.as_ref())?;
    if reader.find(namespace, tables::ENTRIES, indexes::ENTRY_ID, entry.entry_id.as_bytes()).is_some() {
        return Err(Error::EntryIdTaken.into());
    }
    check_bundles(reader, namespace, &entry.federates_with)?;
    check_duplicates(&entry)?;
    let entry = Entry {
        entry_id: if entry.entry_id.is_empty() { transaction.random_uuid() } else { entry.entry_id },
        federates_with: as_set(entry.federates_with),
        additional_attributes: without_defaults(entry.additional_attributes),
        revision_number: 0,
        created_at: transaction.now().seconds(),
        ..entry
    };
    let (_, change) = transaction.insert(tables::ENTRIES, encode(&entry)?).map_err(entry_error)?;
    transaction.emit(REGISTRATIONS, entry.entry_id, Some(change));
    Ok(AnswerSource::After(change))
}

fn update(
    transaction: &mut Transaction<'_>,
    input: Option<&Entry>,
    mask: EntryMask,
) -> Result<AnswerSource, spire::Error> {
    let input = validation::check_update(input, &mask)?;
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let record = queries::fetch_entry_record(reader, namespace, &input.entry_id)?.ok_or(Error::NotFound)?;
    let mut entry = Entry::decode(&record.body)?;
    assign(&mut entry, input, mask);
    validation::check_store_svid(&entry)?;
    if mask.additional_attributes {
        validation::check_attributes(input.additional_attributes.as_ref())?;
    }
    if mask.federates_with {
        check_bundles(reader, namespace, &input.federates_with)?;
    }
    check_duplicates(&entry)?;
    entry.revision_number = entry.revision_number.saturating_add(1);
    let change = transaction.update(tables::ENTRIES, &record, encode(&entry)?).map_err(entry_error)?;
    transaction.emit(REGISTRATIONS, entry.entry_id, Some(change));
    Ok(AnswerSource::After(change))
}

fn assign(entry: &mut Entry, input: &Entry, mask: EntryMask) {
    fn set<T: Clone>(in_scope: bool, field: &mut T, value: &T) {
        if in_scope {
            field.clone_from(value);
        }
    }
    set(mask.selectors, &mut entry.selectors, &input.selectors);
    set(mask.parent_id, &mut entry.parent_id, &input.parent_id);
    set(mask.spiffe_id, &mut entry.spiffe_id, &input.spiffe_id);
    set(mask.x509_svid_ttl, &mut entry.x509_svid_ttl, &input.x509_svid_ttl);
    set(mask.federates_with, &mut entry.federates_with, &as_set(input.federates_with.clone()));
    set(mask.admin, &mut entry.admin, &input.admin);
    set(mask.downstream, &mut entry.downstream, &input.downstream);
    set(mask.expiry, &mut entry.expiry, &input.expiry);
    set(mask.dns_names, &mut entry.dns_names, &input.dns_names);
    set(mask.store_svid, &mut entry.store_svid, &input.store_svid);
    set(mask.jwt_svid_ttl, &mut entry.jwt_svid_ttl, &input.jwt_svid_ttl);
    set(mask.hint, &mut entry.hint, &input.hint);
    let attributes = without_defaults(input.additional_attributes.clone());
    set(mask.additional_attributes, &mut entry.additional_attributes, &attributes);
}

fn delete(transaction: &mut Transaction<'_>, entry_id: &str) -> Result<AnswerSource, spire::Error> {
    let record =
        queries::fetch_entry_record(transaction.reader(), transaction.namespace(), entry_id)?.ok_or(Error::NotFound)?;
    Ok(AnswerSource::Before(remove(transaction, &record)?))
}

fn prune(transaction: &mut Transaction<'_>, expires_before: i64, limit: u32) -> Result<AnswerSource, spire::Error> {
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let mut budget = StepBudget::of_command(limit);
    let one_more = budget.records_left() + 1;
    let expired = reader.select_lowest(namespace, tables::ENTRIES, indexes::EXPIRY, expires_before, one_more);
    let mut removed = 0;
    for sequence in &expired {
        let record = reader.get_listed(namespace, tables::ENTRIES, *sequence)?;
        if !budget.take(record.body.len()) {
            break;
        }
        remove(transaction, &record)?;
        removed += 1;
    }
    Ok(AnswerSource::Inline(Answer::Progress { changed: removed as u64, more: removed < expired.len() }))
}

/// Deletes an entry, announces it, and returns the position of the change.
pub(crate) fn remove(transaction: &mut Transaction<'_>, record: &Record) -> Result<u16, spire::Error> {
    let entry_id = Entry::view(&record.body)?.entry_id.as_bytes().to_vec();
    let change = transaction.delete(tables::ENTRIES, record);
    transaction.emit(REGISTRATIONS, entry_id, Some(change));
    Ok(change)
}

/// The body of an entry that is taken over as it is: what the API would not let pass today may well be stored.
///
/// # Errors
/// When it is above a limit, or a selector or DNS name is there twice.
pub(in crate::spire) fn prepare(entry: &Entry) -> Result<Vec<u8>, spire::Error> {
    validation::check_stored(entry)?;
    check_duplicates(entry)?;
    let entry = Entry {
        federates_with: as_set(entry.federates_with.clone()),
        additional_attributes: without_defaults(entry.additional_attributes.clone()),
        ..entry.clone()
    };
    Ok(encode(&entry)?)
}

/// Checks that each of these trust domains has a bundle.
pub(in crate::spire) fn check_bundles<'a>(
    reader: &dyn Reader,
    namespace: NamespaceId,
    trust_domain_ids: impl IntoIterator<Item = &'a String>,
) -> Result<(), Error> {
    let known = |id: &&String| reader.find(namespace, tables::BUNDLES, TRUST_DOMAIN_ID, id.as_bytes()).is_some();
    match trust_domain_ids.into_iter().find(|id| !known(id)) {
        Some(missing) => Err(Error::MissingBundle(missing.clone())),
        None => Ok(()),
    }
}

fn check_duplicates(entry: &Entry) -> Result<(), Error> {
    if selectors::has_duplicates(&entry.selectors) {
        return Err(Error::DuplicateSelector);
    }
    if selectors::has_duplicates(&entry.dns_names) {
        return Err(Error::DuplicateDnsName);
    }
    Ok(())
}

fn as_set(mut set: Vec<String>) -> Vec<String> {
    set.sort_unstable();
    set.dedup();
    set
}

/// Attributes that all have their defaults read back as absent.
fn without_defaults(attributes: Option<AdditionalAttributes>) -> Option<AdditionalAttributes> {
    attributes.filter(|attributes| *attributes != AdditionalAttributes::default())
}

fn encode(entry: &Entry) -> Result<Vec<u8>, limits::Error> {
    let body = entry.encode();
    limits::check_bytes("registration entry", body.len(), limits::RECORD_BYTES_MAX)?;
    Ok(body)
}

/// The entry id is the only unique key, so a collision is always about it.
fn entry_error(error: ChangeError) -> Error {
    match error {
        ChangeError::Duplicate { .. } => Error::EntryIdTaken,
        error => Error::Change(error),
    }
}
