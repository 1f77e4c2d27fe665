//! Tainting and revoking authorities (section 6).
//!
//! A taint says that a key is no longer to be trusted for signing; only what is tainted can be revoked.

use super::commands::{existing, raise_sequence_number, store};
use super::records::{Bundle, PublicKey};
use super::{Error, certificates};
use crate::spire::{Answer, AnswerSource};
use crate::transaction::Transaction;
use crate::view::Record;

/// 6.1: every element with the subject key id is tainted.
pub(super) fn taint_x509(
    transaction: &mut Transaction<'_>,
    trust_domain_id: &str,
    subject_key_id: &str,
) -> Result<AnswerSource, Error> {
    let (record, mut bundle) = existing(transaction, trust_domain_id)?;
    let mut found = false;
    for authority in &mut bundle.root_cas {
        if certificates::subject_key_id(&authority.der_bytes).map_err(Error::TaintUnparsable)? != subject_key_id {
            continue;
        }
        if authority.tainted_key {
            return Err(Error::CaTainted);
        }
        authority.tainted_key = true;
        found = true;
    }
    if !found {
        return Err(Error::TaintNoCa);
    }
    finish(transaction, &record, bundle, Answer::Nothing)
}

/// 6.2: every element with the subject key id is removed, and it may be the last.
pub(super) fn revoke_x509(
    transaction: &mut Transaction<'_>,
    trust_domain_id: &str,
    subject_key_id: &str,
) -> Result<AnswerSource, Error> {
    let (record, mut bundle) = existing(transaction, trust_domain_id)?;
    let before = bundle.root_cas.len();
    let mut kept = Vec::with_capacity(before);
    for authority in bundle.root_cas {
        if certificates::subject_key_id(&authority.der_bytes).map_err(Error::RevokeUnparsable)? != subject_key_id {
            kept.push(authority);
        } else if !authority.tainted_key {
            return Err(Error::CaUntainted);
        }
    }
    if kept.len() == before {
        return Err(Error::RevokeNoCa);
    }
    bundle.root_cas = kept;
    finish(transaction, &record, bundle, Answer::Nothing)
}

/// 6.3
pub(super) fn taint_jwt(
    transaction: &mut Transaction<'_>,
    trust_domain_id: &str,
    key_id: &str,
) -> Result<AnswerSource, Error> {
    let (record, mut bundle) = existing(transaction, trust_domain_id)?;
    let mut tainted: Option<PublicKey> = None;
    for key in bundle.jwt_signing_keys.iter_mut().filter(|key| key.kid == key_id) {
        if key.tainted_key {
            return Err(Error::JwtKeyTainted);
        }
        if tainted.is_some() {
            return Err(Error::TaintAmbiguous);
        }
        key.tainted_key = true;
        tainted = Some(key.clone());
    }
    let key = tainted.ok_or(Error::NoJwtKey)?;
    finish(transaction, &record, bundle, Answer::Key(key))
}

/// 6.4
pub(super) fn revoke_jwt(
    transaction: &mut Transaction<'_>,
    trust_domain_id: &str,
    key_id: &str,
) -> Result<AnswerSource, Error> {
    let (record, mut bundle) = existing(transaction, trust_domain_id)?;
    let mut revoked = None;
    for (place, key) in bundle.jwt_signing_keys.iter().enumerate().filter(|(_, key)| key.kid == key_id) {
        if revoked.is_some() {
            return Err(Error::RevokeAmbiguous);
        }
        if !key.tainted_key {
            return Err(Error::JwtKeyUntainted);
        }
        revoked = Some(place);
    }
    let key = bundle.jwt_signing_keys.remove(revoked.ok_or(Error::NoJwtKey)?);
    finish(transaction, &record, bundle, Answer::Key(key))
}

fn finish(
    transaction: &mut Transaction<'_>,
    record: &Record,
    mut bundle: Bundle,
    answer: Answer,
) -> Result<AnswerSource, Error> {
    raise_sequence_number(&mut bundle);
    store(transaction, record, &bundle)?;
    Ok(AnswerSource::Inline(answer))
}
