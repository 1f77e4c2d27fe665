//! Dropping expired authorities from a bundle (5.9), unless that would leave nothing to trust.

use super::commands::{find, raise_sequence_number, store};
use super::errors::PruneError;
use super::records::{Bundle, Certificate, PublicKey};
use super::{Error, certificates};
use crate::spire::{Answer, AnswerSource};
use crate::transaction::Transaction;

/// Prunes a trust domain's bundle and answers whether that changed it.
pub(super) fn prune(
    transaction: &mut Transaction<'_>,
    trust_domain_id: &str,
    expires_before: i64,
) -> Result<AnswerSource, Error> {
    let Some(record) = find(transaction, trust_domain_id)? else { return Ok(changed(false)) };
    if expires_before == 0 {
        return Err(PruneError::ZeroTime.into());
    }
    let mut bundle = Bundle::decode(&record.body)?;
    if !drop_expired(&mut bundle, expires_before)? {
        return Ok(changed(false));
    }
    raise_sequence_number(&mut bundle);
    store(transaction, &record, &bundle)?;
    Ok(changed(true))
}

fn changed(changed: bool) -> AnswerSource {
    AnswerSource::Inline(Answer::Changed(changed))
}

/// Whether anything was dropped.
fn drop_expired(bundle: &mut Bundle, expires_before: i64) -> Result<bool, PruneError> {
    let before = bundle.root_cas.len() + bundle.jwt_signing_keys.len() + bundle.wit_signing_keys.len();
    let root_cas = live_certificates(std::mem::take(&mut bundle.root_cas), expires_before)?;
    if root_cas.is_empty() {
        return Err(PruneError::AllCertificates);
    }
    bundle.root_cas = root_cas;
    drop_expired_keys(&mut bundle.jwt_signing_keys, expires_before, PruneError::AllJwtKeys)?;
    drop_expired_keys(&mut bundle.wit_signing_keys, expires_before, PruneError::AllWitKeys)?;
    let after = bundle.root_cas.len() + bundle.jwt_signing_keys.len() + bundle.wit_signing_keys.len();
    Ok(after < before)
}

/// An element lives as long as the first of its certificates to expire.
fn live_certificates(elements: Vec<Certificate>, expires_before: i64) -> Result<Vec<Certificate>, PruneError> {
    let mut live = Vec::with_capacity(elements.len());
    for element in elements {
        let times = certificates::not_after_times(&element.der_bytes)?;
        if times.iter().all(|&not_after| not_after > expires_before) {
            live.push(element);
        }
    }
    Ok(live)
}

/// A key without expiry is never dropped: SPIRE's message definition says so, and its reference forgets it.
fn drop_expired_keys(
    keys: &mut Vec<PublicKey>,
    expires_before: i64,
    would_drop_all: PruneError,
) -> Result<(), PruneError> {
    let some = !keys.is_empty();
    keys.retain(|key| key.not_after == 0 || key.not_after > expires_before);
    if some && keys.is_empty() { Err(would_drop_all) } else { Ok(()) }
}
