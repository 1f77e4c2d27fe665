//! Deleting a bundle, and what becomes of the entries that federate with it (5.8).
//!
//! A bundle may have any number of such entries, so a deletion that touches them goes in steps of
//! [`STEP_ENTRIES_MAX`] entries and a few megabytes ([`StepBudget`]), each an event of its own; the last one removes the bundle. Until then the
//! bundle is there and an entry may still be made to federate with it, which the next step then finds.
//!
//! On purpose unlike the reference, each affected entry gets an item in the registrations stream, and a
//! dissociated one a higher revision number: caches would otherwise serve the entry as it was.

use super::Error;
use super::commands::{DeleteMode, find};
use crate::ids::Sequence;
use crate::index::{Predicate, Query};
use crate::spire::entries::records::{Entry, indexes};
use crate::spire::limits::StepBudget;
use crate::spire::{Answer, AnswerSource, REGISTRATIONS, tables};
use crate::transaction::Transaction;
use crate::view::{ReaderExtension, Record};

/// Entries that one step deletes or dissociates at the most.
pub(super) const STEP_ENTRIES_MAX: usize = 1_000;

/// One step of deleting a bundle.
pub(super) fn delete(
    transaction: &mut Transaction<'_>,
    trust_domain_id: &str,
    mode: DeleteMode,
) -> Result<AnswerSource, Error> {
    let bundle = find(transaction, trust_domain_id)?.ok_or(Error::NotFound)?;
    let key = trust_domain_id.as_bytes().to_vec();
    let query = Query::all().and(Predicate::Is { index: indexes::FEDERATES_WITH, key });
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let federated = reader.count(namespace, tables::ENTRIES, &query);
    if federated > 0 && mode == DeleteMode::Restrict {
        return Err(Error::Federated { entries: federated });
    }
    let mut budget = StepBudget::new(STEP_ENTRIES_MAX);
    let mut changed = 0;
    for sequence in reader.select(namespace, tables::ENTRIES, &query, Sequence::ZERO, budget.records_left()) {
        let record = reader.get_listed(namespace, tables::ENTRIES, sequence)?;
        if !budget.take(record.body.len()) {
            break;
        }
        release(transaction, &record, trust_domain_id, mode)?;
        changed += 1;
    }
    let more = changed < federated;
    if !more {
        transaction.delete(tables::BUNDLES, &bundle);
        changed += 1;
    }
    Ok(AnswerSource::Inline(Answer::Progress { changed, more }))
}

/// Makes an entry stop federating with the trust domain, and says so in the stream.
fn release(
    transaction: &mut Transaction<'_>,
    record: &Record,
    trust_domain_id: &str,
    mode: DeleteMode,
) -> Result<(), Error> {
    let mut entry = Entry::decode(&record.body)?;
    let change = match mode {
        DeleteMode::Delete => transaction.delete(tables::ENTRIES, record),
        DeleteMode::Restrict | DeleteMode::Dissociate => {
            entry.federates_with.retain(|id| id != trust_domain_id);
            entry.revision_number = entry.revision_number.saturating_add(1);
            transaction.update(tables::ENTRIES, record, entry.encode())?
        }
    };
    transaction.emit(REGISTRATIONS, entry.entry_id, Some(change));
    Ok(())
}
