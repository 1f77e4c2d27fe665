//! Imports through the client, over a real node in memory.

use steeple_client::types::imported_record::Record;
use steeple_client::types::{AttestedNode, CaJournal, ImportedRecord, JoinToken, RegistrationEntry};
use steeple_client::{Client, Error, ImportBatch, Namespace};
use tonic::Code;

use super::connect;
use crate::node::{Node, NodeOptions, NodeParts};

async fn serve() -> Namespace {
    let node = tokio::task::spawn_blocking(|| Node::start(NodeOptions::in_memory(), NodeParts::default()));
    let channel = connect(node.await.unwrap().unwrap()).await.unwrap();
    Client::from_channel(channel).admin().open_namespace("prod").await.unwrap()
}

fn batch(total: u64, position: u64, records: Vec<Record>) -> ImportBatch {
    let records = records.into_iter().map(|record| ImportedRecord { record: Some(record) }).collect();
    ImportBatch { fingerprint: [3; 16], source: "a test".into(), total, position, records }
}

fn token(text: &str) -> Record {
    Record::JoinToken(JoinToken { token: text.into(), expires_at: 77 })
}

#[tokio::test]
async fn an_import_goes_on_after_a_break_and_keeps_what_the_source_chose() {
    let spire = serve().await;
    assert_eq!(spire.fetch_import().await.unwrap(), None);
    let entry = RegistrationEntry {
        entry_id: "e".into(),
        spiffe_id: "spiffe://td/e".into(),
        revision_number: 8,
        created_at: 123,
        ..Default::default()
    };
    let journal = CaJournal { id: 40, active_x509_authority_id: "a".into(), data: vec![] };
    let first = vec![Record::RegistrationEntry(entry.clone()), token("one")];
    let import = spire.import_records(batch(4, 0, first)).await.unwrap();
    assert_eq!((import.accepted, import.total, import.source.as_str()), (2, 4, "a test"));
    let early = spire.create_join_token("early", 99).await;
    assert!(matches!(early, Err(Error::Refused { code: Code::FailedPrecondition, .. })), "{early:?}");

    let standing = spire.fetch_import().await.unwrap().unwrap();
    assert_eq!(standing.accepted, 2);
    let last = vec![token("two"), Record::CaJournal(journal.clone())];
    spire.import_records(batch(4, standing.accepted, last)).await.unwrap();
    assert_eq!(spire.fetch_registration_entry("e").await.unwrap(), Some(entry));
    assert_eq!(spire.list_ca_journals().await.unwrap(), [journal]);
    let bounds = spire.fetch_event_bounds().await.unwrap();
    assert_eq!((bounds.0.last_event_id, bounds.1.last_event_id), (0, 0));

    let (page, next) = spire.list_join_tokens_page("", 1).await.unwrap();
    assert_eq!(page, [JoinToken { token: "one".into(), expires_at: 77 }]);
    let (page, next) = spire.list_join_tokens_page(&next, 10).await.unwrap();
    assert_eq!(page, [JoinToken { token: "two".into(), expires_at: 77 }]);
    assert_eq!(spire.list_join_tokens_page(&next, 10).await.unwrap(), (vec![], String::new()));
    spire.create_join_token("late", 99).await.unwrap();
}

#[tokio::test]
async fn what_is_no_import_is_refused() {
    let spire = serve().await;
    let nothing = ImportBatch { records: vec![ImportedRecord { record: None }], ..batch(1, 0, vec![]) };
    let refused = spire.import_records(nothing).await;
    assert!(matches!(refused, Err(Error::Refused { code: Code::InvalidArgument, .. })), "{refused:?}");
    let refused = spire.import_records(batch(1, 0, vec![token("")])).await.unwrap_err().to_string();
    assert_eq!(refused, "record 1 of the import, join token: token and expiry are required");
    spire.create_attested_node(AttestedNode { spiffe_id: "n".into(), ..Default::default() }).await.unwrap();
    let refused = spire.import_records(batch(1, 0, vec![token("a")])).await;
    assert!(matches!(refused, Err(Error::Refused { code: Code::FailedPrecondition, .. })), "{refused:?}");
}
