//! What can be asked of bundles.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use std::collections::HashSet;
use std::hash::Hash;

use super::records::{Bundle, indexes};
use super::{Error, authorities, deletion, limits, pruning};
use crate::spire::limits::check_bytes;
use crate::spire::{Answer, AnswerSource, tables};
use crate::transaction::{ChangeError, Transaction};
use crate::view::{ReaderExtension, Record};

/// A change to bundles.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 5.1; `None` stands for a request without bundle.
    Create(Option<Bundle>),
    /// 5.5
    Set(Option<Bundle>),
    /// 5.6; no mask means all fields.
    Update(Option<Bundle>, Option<BundleMask>),
    /// 5.7
    Append(Option<Bundle>),
    /// 5.8; bounded: answers [`super::super::Answer::Progress`] with `more` until the bundle is gone.
    Delete {
        /// Which bundle.
        trust_domain_id: String,
        /// What becomes of entries that federate with it.
        mode: DeleteMode,
    },
    /// 5.9
    Prune {
        /// Which bundle.
        trust_domain_id: String,
        /// Unix seconds; 0 stands for the zero time.
        expires_before: i64,
    },
    /// 6.1
    TaintX509 {
        /// Which bundle.
        trust_domain_id: String,
        /// Lower-case hexadecimal.
        subject_key_id: String,
    },
    /// 6.2
    RevokeX509 {
        /// Which bundle.
        trust_domain_id: String,
        /// Lower-case hexadecimal.
        subject_key_id: String,
    },
    /// 6.3
    TaintJwt {
        /// Which bundle.
        trust_domain_id: String,
        /// Key id.
        key_id: String,
    },
    /// 6.4
    RevokeJwt {
        /// Which bundle.
        trust_domain_id: String,
        /// Key id.
        key_id: String,
    },
}

/// What becomes of entries that federate with a bundle when it is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub enum DeleteMode {
    /// Refuse.
    #[default]
    Restrict,
    /// Delete them.
    Delete,
    /// Take the bundle out of them.
    Dissociate,
}

/// Which fields an update sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct BundleMask {
    pub root_cas: bool,
    pub jwt_signing_keys: bool,
    pub wit_signing_keys: bool,
    pub refresh_hint: bool,
    pub sequence_number: bool,
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(&self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, crate::spire::Error> {
        Ok(self.decide_here(transaction)?)
    }

    fn decide_here(&self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, Error> {
        match self {
            Self::Create(bundle) => create(transaction, given(bundle.as_ref())?),
            Self::Set(bundle) => set(transaction, given(bundle.as_ref())?),
            Self::Update(bundle, mask) => update(transaction, bundle.as_ref(), mask.as_ref()),
            Self::Append(bundle) => append(transaction, given(bundle.as_ref())?),
            Self::Delete { trust_domain_id, mode } => deletion::delete(transaction, trust_domain_id, *mode),
            Self::Prune { trust_domain_id, expires_before } => {
                pruning::prune(transaction, trust_domain_id, *expires_before)
            }
            Self::TaintX509 { trust_domain_id, subject_key_id } => {
                authorities::taint_x509(transaction, trust_domain_id, subject_key_id)
            }
            Self::RevokeX509 { trust_domain_id, subject_key_id } => {
                authorities::revoke_x509(transaction, trust_domain_id, subject_key_id)
            }
            Self::TaintJwt { trust_domain_id, key_id } => authorities::taint_jwt(transaction, trust_domain_id, key_id),
            Self::RevokeJwt { trust_domain_id, key_id } => {
                authorities::revoke_jwt(transaction, trust_domain_id, key_id)
            }
        }
    }
}

/// The bundle of a request, within its limits.
fn given(bundle: Option<&Bundle>) -> Result<&Bundle, Error> {
    let bundle = bundle.ok_or(Error::Missing)?;
    limits::check(bundle)?;
    Ok(bundle)
}

fn create(transaction: &mut Transaction<'_>, bundle: &Bundle) -> Result<AnswerSource, Error> {
    let body = encode(bundle)?;
    match transaction.insert(tables::BUNDLES, body) {
        Ok((_, change)) => Ok(AnswerSource::After(change)),
        Err(ChangeError::Duplicate { .. }) => Err(Error::AlreadyExists),
        Err(error) => Err(error.into()),
    }
}

fn set(transaction: &mut Transaction<'_>, bundle: &Bundle) -> Result<AnswerSource, Error> {
    match find(transaction, &bundle.trust_domain_id)? {
        None => create(transaction, bundle),
        Some(record) => store(transaction, &record, bundle),
    }
}

/// Creates or replaces the bundle that comes with another request.
///
/// # Errors
/// As for [`Command::Set`].
pub(in crate::spire) fn set_within(transaction: &mut Transaction<'_>, bundle: &Bundle) -> Result<(), Error> {
    set(transaction, given(Some(bundle))?).map(drop)
}

fn update(
    transaction: &mut Transaction<'_>,
    bundle: Option<&Bundle>,
    mask: Option<&BundleMask>,
) -> Result<AnswerSource, Error> {
    let bundle = bundle.ok_or(Error::Missing)?;
    limits::check_id(bundle)?;
    let (record, stored) = existing(transaction, &bundle.trust_domain_id)?;
    let result = match mask {
        None => bundle.clone(),
        Some(mask) => masked(stored, bundle, mask),
    };
    // Fields out of the mask may be anything.
    limits::check(&result)?;
    store(transaction, &record, &result)
}

fn masked(mut stored: Bundle, bundle: &Bundle, mask: &BundleMask) -> Bundle {
    if mask.root_cas {
        stored.root_cas.clone_from(&bundle.root_cas);
    }
    if mask.jwt_signing_keys {
        stored.jwt_signing_keys.clone_from(&bundle.jwt_signing_keys);
    }
    if mask.wit_signing_keys {
        stored.wit_signing_keys.clone_from(&bundle.wit_signing_keys);
    }
    if mask.refresh_hint {
        stored.refresh_hint = bundle.refresh_hint;
    }
    if mask.sequence_number {
        stored.sequence_number = bundle.sequence_number;
    }
    stored
}

fn append(transaction: &mut Transaction<'_>, bundle: &Bundle) -> Result<AnswerSource, Error> {
    let Some(record) = find(transaction, &bundle.trust_domain_id)? else { return create(transaction, bundle) };
    let mut stored = Bundle::decode(&record.body)?;
    let added = append_new(&mut stored.root_cas, &bundle.root_cas)
        + append_new(&mut stored.jwt_signing_keys, &bundle.jwt_signing_keys)
        + append_new(&mut stored.wit_signing_keys, &bundle.wit_signing_keys);
    if added > 0 {
        raise_sequence_number(&mut stored);
        limits::check(&stored)?;
    }
    store(transaction, &record, &stored)
}

/// Appends what is not in the list yet. Only the list as stored counts, so duplicates within the request stay.
fn append_new<T: Clone + Eq + Hash>(stored: &mut Vec<T>, given: &[T]) -> usize {
    let held: HashSet<&T> = stored.iter().collect();
    let new: Vec<T> = given.iter().filter(|element| !held.contains(element)).cloned().collect();
    let added = new.len();
    stored.extend(new);
    added
}

/// As the reference does, a number that cannot rise any more starts over.
pub(super) fn raise_sequence_number(bundle: &mut Bundle) {
    bundle.sequence_number = bundle.sequence_number.wrapping_add(1);
}

/// The record of a trust domain's bundle.
pub(in crate::spire) fn find(transaction: &Transaction<'_>, trust_domain_id: &str) -> Result<Option<Record>, Error> {
    let key = trust_domain_id.as_bytes();
    let reader = transaction.reader();
    Ok(reader.get_by_key(transaction.namespace(), tables::BUNDLES, indexes::TRUST_DOMAIN_ID, key)?)
}

/// The bundle of a trust domain, which has to be there.
pub(super) fn existing(transaction: &Transaction<'_>, trust_domain_id: &str) -> Result<(Record, Bundle), Error> {
    let record = find(transaction, trust_domain_id)?.ok_or(Error::NotFound)?;
    let bundle = Bundle::decode(&record.body)?;
    Ok((record, bundle))
}

/// Replaces a bundle and answers it. Replacing it by an equal one is no event.
pub(super) fn store(
    transaction: &mut Transaction<'_>,
    record: &Record,
    bundle: &Bundle,
) -> Result<AnswerSource, Error> {
    let body = encode(bundle)?;
    if record.body == body {
        return Ok(AnswerSource::Inline(Answer::Bundle(bundle.clone())));
    }
    Ok(AnswerSource::After(transaction.update(tables::BUNDLES, record, body)?))
}

/// The body of a bundle that is taken over as it is.
///
/// # Errors
/// When it is above a limit.
pub(in crate::spire) fn prepare(bundle: &Bundle) -> Result<Vec<u8>, Error> {
    limits::check(bundle)?;
    encode(bundle)
}

fn encode(bundle: &Bundle) -> Result<Vec<u8>, Error> {
    let body = bundle.encode();
    check_bytes("bundle", body.len(), limits::BUNDLE_BYTES_MAX)?;
    Ok(body)
}
