//! Which records an import can take over: the same rules as the node's, asked beforehand.

use std::collections::HashSet;

use prost::Message as _;
use steeple_client::types::imported_record::Record;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::kind::{Counts, Kind, imported, key};
use super::origin::{Found, Origin};
use crate::cli::exit::CommandError;
use crate::grpc::convert::imports::record_from_wire;

/// Refused records that are told one by one.
const TOLD_MAX: usize = 1_000;

/// A record that cannot be taken over.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What it is.
    pub(super) what: String,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// Decides about records in their order. Asked twice about the same records, it decides the same.
#[derive(Default)]
pub(super) struct Judge {
    /// Hashes of the keys that are taken: there may be a million.
    keys: HashSet<u128>,
    bundles: HashSet<String>,
    last_journal: u64,
}

impl Judge {
    /// The record as it is to be sent, or why it cannot be taken over.
    pub(super) fn judge(&mut self, record: Record) -> Result<Record, Refusal> {
        let (kind, key, record) = (Kind::of(&record), key(&record), normal(record));
        match self.reason_against(kind, &key, &record) {
            Some(reason) => Err(Refusal { what: kind.name(&key), reason }),
            None => Ok(record),
        }
    }

    fn reason_against(&mut self, kind: Kind, key: &str, record: &Record) -> Option<String> {
        let checked = match record_from_wire(imported(record.clone())) {
            Ok(record) => record.check().map_err(|error| error.to_string()),
            Err(status) => Err(status.message().to_owned()),
        };
        if let Err(reason) = checked {
            return Some(reason);
        }
        match record {
            Record::RegistrationEntry(entry) => {
                if let Some(missing) = entry.federates_with.iter().find(|id| !self.bundles.contains(*id)) {
                    return Some(format!("it federates with {missing:?}, which has no bundle"));
                }
            }
            Record::CaJournal(journal) if journal.id <= self.last_journal || i64::try_from(journal.id).is_err() => {
                return Some(format!("its number does not come behind {}", self.last_journal));
            }
            _ => {}
        }
        let hash = xxh3_128(format!("{} {key}", kind.plural()).as_bytes());
        if !self.keys.insert(hash) {
            return Some("there is another one with this key before it".to_owned());
        }
        match record {
            Record::Bundle(bundle) => {
                self.bundles.insert(bundle.trust_domain_id.clone());
            }
            Record::CaJournal(journal) => self.last_journal = journal.id,
            _ => {}
        }
        None
    }
}

/// A record in the one form that is stored and compared.
pub(super) fn normal(mut record: Record) -> Record {
    match &mut record {
        Record::RegistrationEntry(entry) => {
            entry.federates_with.sort_unstable();
            entry.federates_with.dedup();
            entry.additional_attributes.take_if(|attributes| *attributes == Default::default());
        }
        Record::AttestedNode(node) => node.selectors.clear(),
        Record::FederationRelationship(relationship) => {
            relationship.trust_domain_bundle = None;
            if relationship.bundle_endpoint_profile != "https_spiffe" {
                relationship.endpoint_spiffe_id.clear();
            }
        }
        Record::Bundle(_) | Record::NodeSelectors(_) | Record::JoinToken(_) | Record::CaJournal(_) => {}
    }
    record
}

/// What there is to import.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Records that can be taken over.
    pub(super) counts: Counts,
    /// The rest, as far as they are told: what, and why.
    pub(super) refused: Vec<(String, String)>,
    /// How many they are.
    pub(super) refused_total: u64,
    /// Rows without owner, by table.
    pub(super) orphans: Vec<(String, u64)>,
    /// Of all records that can be taken over.
    pub(super) fingerprint: [u8; 16],
}

impl Survey {
    /// Looks at everything once.
    pub(super) async fn of(origin: &mut Origin) -> Result<Self, CommandError> {
        let (mut survey, mut judge, mut hash) = (Self::default(), Judge::default(), Xxh3::new());
        origin
            .read(async |found| {
                survey.note(found, &mut judge, &mut hash);
                Ok(())
            })
            .await?;
        survey.fingerprint = hash.digest128().to_be_bytes();
        Ok(survey)
    }

    fn note(&mut self, found: Found, judge: &mut Judge, hash: &mut Xxh3) {
        match found {
            Found::Record(record) => match judge.judge(record) {
                Ok(record) => {
                    self.counts.add(Kind::of(&record));
                    hash.update(&imported(record).encode_length_delimited_to_vec());
                }
                Err(Refusal { what, reason }) => self.refuse(what, reason),
            },
            Found::Unreadable { what, reason } => self.refuse(what, reason),
            Found::Orphans { table, rows } => self.orphans.push((table, rows)),
        }
    }

    fn refuse(&mut self, what: String, reason: String) {
        self.refused_total += 1;
        if self.refused.len() < TOLD_MAX {
            self.refused.push((what, reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use steeple_client::types::{AdditionalAttributes, Bundle, CaJournal, JoinToken, RegistrationEntry};

    use super::*;

    fn entry(id: &str, federates_with: &[&str]) -> Record {
        Record::RegistrationEntry(RegistrationEntry {
            entry_id: id.into(),
            federates_with: federates_with.iter().map(ToString::to_string).collect(),
            ..Default::default()
        })
    }

    fn reason(judge: &mut Judge, record: Record) -> String {
        judge.judge(record).map(|_| ()).expect_err("it was taken").reason
    }

    #[test]
    fn what_the_node_would_refuse_is_refused() {
        let mut judge = Judge::default();
        assert!(reason(&mut judge, entry("a", &["spiffe://b"])).contains("spiffe://b"));
        judge.judge(Record::Bundle(Bundle { trust_domain_id: "spiffe://b".into(), ..Default::default() })).unwrap();
        judge.judge(entry("a", &["spiffe://b"])).unwrap();
        assert!(reason(&mut judge, entry("a", &[])).contains("another one"));
        let long = Record::RegistrationEntry(RegistrationEntry {
            entry_id: "long".into(),
            hint: "h".repeat(2_000),
            ..Default::default()
        });
        assert_eq!(reason(&mut judge, long), "hint is 2000 bytes long, 1024 are allowed");
        let journal = |id| Record::CaJournal(CaJournal { id, ..Default::default() });
        judge.judge(journal(3)).unwrap();
        assert!(reason(&mut judge, journal(3)).contains("behind 3"));
        assert!(reason(&mut judge, journal(u64::MAX)).contains("behind 3"));
        // Keys of different kinds do not meet.
        judge.judge(Record::JoinToken(JoinToken { token: "a".into(), expires_at: 1 })).unwrap();
    }

    #[test]
    fn records_have_one_form() {
        let one = RegistrationEntry {
            federates_with: vec!["b".into(), "a".into(), "b".into()],
            additional_attributes: Some(AdditionalAttributes::default()),
            ..Default::default()
        };
        let other = RegistrationEntry { federates_with: vec!["a".into(), "b".into()], ..Default::default() };
        assert_eq!(normal(Record::RegistrationEntry(one)), Record::RegistrationEntry(other));
    }
}
