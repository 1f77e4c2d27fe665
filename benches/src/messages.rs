//! A deployment as clients send it and ask for it, and many mutations at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use steeple_client::types::{
    ByFederatesWith, BySelectors, CreateRegistrationEntryRequest, DeleteRegistrationEntryRequest, MatchBehavior,
    RegistrationEntry, RegistrationEntryFilter, Selector, UpdateRegistrationEntryRequest,
};
use steeple_client::{Error, Namespace, Operation, WriterOptions};
use steeple_engine::spire::entries::queries::EntryFilter;
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::selectors::{self, Match, SelectorFilter};

/// Mutations under way while much is written.
const IN_FLIGHT: usize = 1_024;

/// An entry as a message.
#[must_use]
pub fn entry(entry: Entry) -> RegistrationEntry {
    RegistrationEntry {
        entry_id: entry.entry_id,
        spiffe_id: entry.spiffe_id,
        parent_id: entry.parent_id,
        selectors: entry.selectors.into_iter().map(selector).collect(),
        dns_names: entry.dns_names,
        federates_with: entry.federates_with,
        x509_svid_ttl: entry.x509_svid_ttl,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        downstream: entry.downstream,
        hint: entry.hint,
        entry_expiry: entry.expiry,
        ..RegistrationEntry::default()
    }
}

/// An entry of a message, of which only what [`entry`] fills in.
#[must_use]
pub fn record(entry: RegistrationEntry) -> Entry {
    Entry {
        entry_id: entry.entry_id,
        spiffe_id: entry.spiffe_id,
        parent_id: entry.parent_id,
        selectors: entry.selectors.into_iter().map(record_selector).collect(),
        dns_names: entry.dns_names,
        federates_with: entry.federates_with,
        x509_svid_ttl: entry.x509_svid_ttl,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        downstream: entry.downstream,
        hint: entry.hint,
        expiry: entry.entry_expiry,
        ..Entry::default()
    }
}

/// A filter as a message. Hints and downstream entries are not asked for by anybody here.
#[must_use]
pub fn filter(filter: EntryFilter) -> RegistrationEntryFilter {
    RegistrationEntryFilter {
        by_parent_id: filter.parent_id,
        by_spiffe_id: filter.spiffe_id,
        by_selectors: filter.selectors.map(|filter| BySelectors {
            r#match: behavior(filter.matching).into(),
            selectors: filter.selectors.into_iter().map(selector).collect(),
        }),
        by_federates_with: filter.federates_with.map(|(matching, trust_domain_ids)| ByFederatesWith {
            r#match: behavior(matching).into(),
            trust_domain_ids,
        }),
        ..RegistrationEntryFilter::default()
    }
}

/// A filter of a message, of which only what [`filter`] fills in.
#[must_use]
pub fn record_filter(filter: RegistrationEntryFilter) -> EntryFilter {
    EntryFilter {
        parent_id: filter.by_parent_id,
        spiffe_id: filter.by_spiffe_id,
        selectors: filter.by_selectors.map(|filter| SelectorFilter {
            matching: matching(filter.r#match()),
            selectors: filter.selectors.into_iter().map(record_selector).collect(),
        }),
        federates_with: filter.by_federates_with.map(|filter| (matching(filter.r#match()), filter.trust_domain_ids)),
        ..EntryFilter::default()
    }
}

/// The mutation that creates an entry.
#[must_use]
pub fn creation(entry: RegistrationEntry) -> Operation {
    Operation::CreateRegistrationEntry(CreateRegistrationEntryRequest { context: None, entry: Some(entry) })
}

/// The mutation that replaces an entry.
#[must_use]
pub fn update(entry: RegistrationEntry) -> Operation {
    let entry = Some(entry);
    Operation::UpdateRegistrationEntry(UpdateRegistrationEntryRequest { context: None, entry, mask: None })
}

/// The mutation that deletes an entry.
#[must_use]
pub fn deletion(entry: RegistrationEntry) -> Operation {
    let entry_id = entry.entry_id;
    Operation::DeleteRegistrationEntry(DeleteRegistrationEntryRequest { context: None, entry_id })
}

/// Carries out mutations over one stream, many at a time, and waits for all of them. Answers the longest time in which none
/// was answered.
///
/// # Errors
/// The first that failed.
pub async fn write_all(namespace: &Namespace, operations: impl Iterator<Item = Operation>) -> Result<Duration, Error> {
    let writer = namespace.writer(WriterOptions { in_flight_max: IN_FLIGHT });
    let mut under_way = VecDeque::new();
    let (mut answered, mut longest_pause) = (Instant::now(), Duration::ZERO);
    let mut note_answer = || {
        longest_pause = longest_pause.max(answered.elapsed());
        answered = Instant::now();
    };
    for operation in operations {
        under_way.push_back(writer.write(operation).await);
        if under_way.len() >= IN_FLIGHT
            && let Some(oldest) = under_way.pop_front()
        {
            oldest.await.answer?;
            note_answer();
        }
    }
    for written in under_way {
        written.await.answer?;
        note_answer();
    }
    Ok(longest_pause)
}

fn behavior(matching: Match) -> MatchBehavior {
    match matching {
        Match::Exact => MatchBehavior::Exact,
        Match::Subset => MatchBehavior::Subset,
        Match::Superset => MatchBehavior::Superset,
        Match::Any => MatchBehavior::Any,
    }
}

fn matching(behavior: MatchBehavior) -> Match {
    match behavior {
        MatchBehavior::Exact => Match::Exact,
        MatchBehavior::Subset => Match::Subset,
        MatchBehavior::Superset => Match::Superset,
        MatchBehavior::Any => Match::Any,
    }
}

fn record_selector(selector: Selector) -> selectors::Selector {
    selectors::Selector { kind: selector.r#type, value: selector.value }
}

fn selector(selector: selectors::Selector) -> Selector {
    Selector { r#type: selector.kind, value: selector.value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deployment::{Deployment, list_forms};

    #[test]
    fn what_is_sent_comes_back_as_it_was() {
        let deployment = Deployment::new(1, 1_000);
        for number in 0..100 {
            let sent = deployment.entry(number);
            assert_eq!(record(entry(sent.clone())), sent);
        }
        // Hints and downstream entries are not asked for by anybody.
        let asked = |name: &str| !["hint", "downstream"].contains(&name);
        let forms: Vec<_> = list_forms(&deployment, 7).into_iter().filter(|(name, _)| asked(name)).collect();
        assert!(forms.len() >= 7, "{forms:?}");
        for (name, form) in forms {
            assert_eq!(record_filter(filter(form.clone())), form, "{name}");
        }
    }
}
