//! CA journals, case by case from section 13 of the specification.

use super::Command;
use super::content::tests::journal as content;
use super::limits::{AUTHORITY_ID_BYTES_MAX, DATA_BYTES_MAX};
use super::queries::{fetch_journal, list_journals};
use super::records::Journal;
use crate::spire::fixture::Datastore;
use crate::spire::notices::Notice;
use crate::spire::{self, Answer, Code};

fn journal(id: u64, authority_id: &str, data: &[u8]) -> Journal {
    Journal { id, data: data.to_vec(), active_x509_authority_id: authority_id.into() }
}

fn set(journal: Journal) -> spire::Command {
    spire::Command::Journal(Command::Set(Some(journal)))
}

fn prune(keep_after: i64) -> spire::Command {
    spire::Command::Journal(Command::Prune { keep_after, limit: 100 })
}

fn fetch(store: &Datastore, authority_id: &str) -> Option<Journal> {
    store.query(|reader, namespace| fetch_journal(reader, namespace, authority_id)).unwrap()
}

fn ids(store: &Datastore) -> Vec<u64> {
    let journals = store.query(list_journals).unwrap();
    journals.iter().map(|journal| journal.id).collect()
}

#[test]
fn set_creates_and_replaces() {
    let mut store = Datastore::new();
    assert_eq!(store.submit(set(journal(0, "a", b"text"))), Answer::Journal(journal(1, "a", b"text")));
    assert_eq!(store.submit(set(journal(0, "a", b"more"))), Answer::Journal(journal(2, "a", b"more")));
    assert_eq!(store.submit(set(journal(1, "b", b"new"))), Answer::Journal(journal(1, "b", b"new")));
    assert_eq!(fetch(&store, "a"), Some(journal(2, "a", b"more")));
    assert_eq!(fetch(&store, "b"), Some(journal(1, "b", b"new")));
    assert_eq!(ids(&store), [1, 2]);
}

#[test]
fn set_refuses() {
    let mut store = Datastore::new();
    let missing = spire::Command::Journal(Command::Set(None));
    assert_eq!(store.refuse(missing), (Code::InvalidArgument, "ca journal is required".into()));
    assert_eq!(store.refuse(set(journal(999, "a", b""))), (Code::NotFound, "datastore-sql: record not found".into()));
    let large = vec![0; DATA_BYTES_MAX + 1];
    assert_eq!(
        store.refuse(set(journal(0, "a", &large))),
        (Code::InvalidArgument, "data is 16777216 bytes long, 16777215 are allowed".into())
    );
    store.submit(set(journal(0, "a", &large[1..])));
    let long = "x".repeat(AUTHORITY_ID_BYTES_MAX + 1);
    assert_eq!(store.refuse(set(journal(0, &long, b""))).0, Code::InvalidArgument);
}

#[test]
fn fetch_finds_the_newest() {
    let mut store = Datastore::new();
    assert_eq!(fetch(&store, "a"), None);
    for data in [b"1", b"2", b"3"] {
        store.submit(set(journal(0, "a", data)));
    }
    store.submit(set(journal(1, "a", b"replaced")));
    assert_eq!(fetch(&store, "a"), Some(journal(3, "a", b"3")));
    let refusal = store.query(|reader, namespace| fetch_journal(reader, namespace, "")).unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert_eq!(refusal.to_string(), "active X509 authority ID is required");
}

#[test]
fn prune_keeps_journals_with_a_live_key() {
    for (x509, jwt, wit, keep_after, kept) in [
        (&[100][..], &[200][..], &[][..], 99, true),
        (&[100], &[200], &[], 150, true),
        (&[100], &[200], &[], 199, true),
        (&[100], &[200], &[], 200, false),
        (&[200], &[100], &[], 150, true),
        (&[200], &[100], &[], 201, false),
        // WIT keys count too.
        (&[100], &[], &[200], 150, true),
        (&[100], &[], &[200], 200, false),
        // A journal without keys is always stale.
        (&[], &[], &[], i64::MIN, false),
    ] {
        let mut store = Datastore::new();
        store.submit(set(journal(0, "a", &content(x509, jwt, wit))));
        assert_eq!(store.finish(&prune(keep_after)), [u64::from(!kept)]);
        assert_eq!(fetch(&store, "a").is_some(), kept, "{x509:?} {jwt:?} {wit:?} at {keep_after}");
    }
}

#[test]
fn prune_refuses_what_it_cannot_read_and_prunes_nothing() {
    let mut store = Datastore::new();
    store.submit(set(journal(0, "stale", &content(&[1], &[], &[]))));
    store.submit(set(journal(0, "text", b"arbitrary text")));
    let (code, text) = store.refuse(prune(1_000));
    assert_eq!(code, Code::Internal);
    let prefix = "unable to unmarshal entries from CA journal record: ";
    assert!(text.starts_with(prefix) && text.len() > prefix.len(), "{text}");
    assert_eq!(ids(&store), [1, 2]);

    store.submit(set(journal(2, "text", &content(&[2_000], &[], &[]))));
    assert_eq!(store.finish(&prune(1_000)), [1]);
    let lines = store.notices(&prune(1_000));
    assert_eq!(lines, [Notice::StaleJournal { id: 1 }]);
    assert_eq!(
        (lines[0].message(), lines[0].fields()),
        ("Pruned stale CA journal record", vec![("ca_journal_id", "1".to_owned())])
    );
    assert_eq!(ids(&store), [2]);
}

#[test]
fn prune_goes_in_bounded_steps() {
    let mut store = Datastore::new();
    for _ in 0..5 {
        store.submit(set(journal(0, "a", &content(&[1], &[], &[]))));
    }
    let two = spire::Command::Journal(Command::Prune { keep_after: 1, limit: 2 });
    assert_eq!(store.finish(&two), [2, 2, 1]);

    // One certificate of 3 MiB each: a second one does not fit into a step.
    let mut large = content(&[1], &[], &[]);
    large.extend_from_slice(&[0x7a, 0x80, 0x80, 0xc0, 0x01]);
    large.resize(large.len() + (3 << 20), 0);
    for _ in 0..3 {
        store.submit(set(journal(0, "a", &large)));
    }
    assert_eq!(store.finish(&prune(1)), [1, 1, 1]);
    assert_eq!(store.submit(set(journal(0, "a", b""))), Answer::Journal(journal(9, "a", b"")), "ids are not reused");
}
