use steeple_client::types::{CaJournal, SetCaJournalRequest, SetCaJournalResponse};
use steeple_tests::check::{case, not_found, refused, refused_starting, status};
use steeple_tests::journals::content;
use steeple_tests::raw;
use steeple_tests::records::NOW;
use steeple_tests::server::{namespace, run, shared};
use steeple_wire::common::v1::RequestContext;
use tonic::Code;

fn journal(id: u64, authority: &str, data: impl Into<Vec<u8>>) -> CaJournal {
    CaJournal { id, active_x509_authority_id: authority.into(), data: data.into() }
}

#[test]
fn test_set_ca_journal() {
    run(async {
        let datastore = namespace().await;
        {
            let _case = case("creating a new CA journal succeeds");
            let created = datastore.set_ca_journal(journal(0, "x509-authority-id", "test data")).await.unwrap();
            assert_eq!(created, journal(1, "x509-authority-id", "test data"));
            assert_eq!(datastore.list_ca_journals().await.unwrap(), [created]);
        }
        {
            let _case = case("nil CA journal");
            let context = Some(RequestContext { namespace: datastore.name().into(), request_id: vec![] });
            let request = SetCaJournalRequest { context, journal: None };
            let answer: Result<SetCaJournalResponse, _> =
                raw::unary(&shared().channel, raw::DATASTORE, "SetCAJournal", &request).await;
            status(answer, Code::InvalidArgument, "ca journal is required");
        }
        let _case = case("try to update a non existing CA journal");
        not_found(datastore.set_ca_journal(journal(999, "x509-authority-id", "")).await);
    });
}

#[test]
fn test_fetch_ca_journal() {
    run(async {
        let datastore = namespace().await;
        {
            let _case = case("fetching an existent CA journal");
            let created = datastore.set_ca_journal(journal(0, "x509-authority-id", "test data")).await.unwrap();
            assert_eq!(datastore.fetch_ca_journal("x509-authority-id").await.unwrap(), Some(created));
        }
        {
            let _case = case("non-existent X509 authority ID returns nil");
            assert_eq!(datastore.fetch_ca_journal("non-existent").await.unwrap(), None);
        }
        let _case = case("fetching without specifying an active authority ID fails");
        refused(datastore.fetch_ca_journal("").await, Code::InvalidArgument, "active X509 authority ID is required");
    });
}

#[test]
fn test_prune_ca_journal() {
    run(async {
        // The last row is what the reference forgets (quirk 11).
        for (name, data) in [
            ("X.509 CA first", content(&[NOW], &[NOW + 60], &[])),
            ("JWT key first", content(&[NOW + 60], &[NOW], &[])),
            ("WIT key last", content(&[NOW], &[], &[NOW + 60])),
        ] {
            let _case = case(name);
            let datastore = namespace().await;
            let stored = datastore.set_ca_journal(journal(0, "x509-authority-1", data)).await.unwrap();
            for (instant, stays) in [(NOW - 10, true), (NOW + 10, true), (NOW + 59, true), (NOW + 60, false)] {
                assert_eq!(datastore.prune_ca_journals(instant).await.unwrap(), u64::from(!stays));
                let found = datastore.fetch_ca_journal("x509-authority-1").await.unwrap();
                assert_eq!(found, stays.then(|| stored.clone()), "at {instant}");
            }
        }
    });
}

// ---- what the suite does not cover

#[test]
fn a_journal_is_replaced_under_its_id() {
    run(async {
        let datastore = namespace().await;
        let first = datastore.set_ca_journal(journal(0, "a", "1")).await.unwrap();
        let second = datastore.set_ca_journal(journal(0, "a", "2")).await.unwrap();
        assert_eq!((first.id, second.id), (1, 2));
        // Of several, the newest record (quirk 22), also when an older one is written later.
        assert_eq!(datastore.fetch_ca_journal("a").await.unwrap(), Some(second.clone()));
        let first = datastore.set_ca_journal(journal(1, "a", "3")).await.unwrap();
        assert_eq!(datastore.fetch_ca_journal("a").await.unwrap(), Some(second));
        let second = datastore.set_ca_journal(journal(2, "b", "4")).await.unwrap();
        assert_eq!(datastore.fetch_ca_journal("a").await.unwrap(), Some(first.clone()));
        assert_eq!(datastore.fetch_ca_journal("b").await.unwrap(), Some(second.clone()));
        assert_eq!(datastore.list_ca_journals().await.unwrap(), [first, second]);
    });
}

#[test]
fn an_unreadable_journal_stops_pruning() {
    run(async {
        let datastore = namespace().await;
        datastore.set_ca_journal(journal(0, "stale", content(&[1], &[1], &[]))).await.unwrap();
        datastore.set_ca_journal(journal(0, "bad", "test data")).await.unwrap();
        refused_starting(
            datastore.prune_ca_journals(NOW).await,
            Code::Internal,
            "unable to unmarshal entries from CA journal record: ",
        );
        assert_eq!(datastore.list_ca_journals().await.unwrap().len(), 2);
        // An empty journal has nothing to keep it.
        datastore.set_ca_journal(journal(2, "empty", "")).await.unwrap();
        assert_eq!(datastore.prune_ca_journals(NOW).await.unwrap(), 2);
        let next = datastore.set_ca_journal(journal(0, "next", "")).await.unwrap();
        assert_eq!(next.id, 3);
    });
}
