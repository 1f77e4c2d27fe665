use steeple_client::Namespace;
use steeple_client::types::{DeleteMode, RegistrationEntry};
use steeple_tests::check::{case, refused};
use steeple_tests::records::{bundle, entry, entry_event_ids, selector};
use steeple_tests::server::{namespace, run};
use tonic::Code;

fn federated(ids: &[&str]) -> RegistrationEntry {
    RegistrationEntry {
        federates_with: ids.iter().map(|id| (*id).to_owned()).collect(),
        ..entry("spiffe://example.org/foo", "spiffe://example.org/bar", vec![selector("TYPE", "VALUE")])
    }
}

async fn with_bundles(ids: &[&str]) -> Namespace {
    let datastore = namespace().await;
    for id in ids {
        datastore.create_bundle(bundle(id, &[1])).await.unwrap();
    }
    datastore
}

#[test]
fn test_registration_entries_federates_with_against_missing_bundle() {
    run(async {
        let datastore = with_bundles(&["spiffe://a"]).await;
        let text = "unable to find federated bundle \"spiffe://otherdomain.org\"";
        for ids in
            [&["spiffe://otherdomain.org"][..], &["spiffe://a", "spiffe://otherdomain.org", "spiffe://missing-too"]]
        {
            refused(datastore.create_registration_entry(federated(ids)).await, Code::Unknown, text);
        }
        let created = datastore.create_registration_entry(federated(&["spiffe://a"])).await.unwrap();
        let update = RegistrationEntry { federates_with: vec!["spiffe://otherdomain.org".into()], ..created.clone() };
        refused(datastore.update_registration_entry(update, None).await, Code::Unknown, text);
        let stored = datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap();
        assert_eq!(stored, Some(created));
        assert_eq!(entry_event_ids(&datastore).await, [1]);
    });
}

#[test]
fn test_registration_entries_federates_with_success() {
    run(async {
        let datastore = with_bundles(&["spiffe://otherdomain.org", "spiffe://otherdomain2.org"]).await;
        let created = datastore.create_registration_entry(federated(&["spiffe://otherdomain.org"])).await.unwrap();
        assert_eq!(created.federates_with, ["spiffe://otherdomain.org"]);
        let fetched = datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap();
        assert_eq!(fetched, Some(created));
    });
}

#[test]
fn test_registration_entries_federates_with_multiple_bundles() {
    run(async {
        let datastore = with_bundles(&["spiffe://td4", "spiffe://td3", "spiffe://td2", "spiffe://td1"]).await;
        let created = datastore.create_registration_entry(federated(&["spiffe://td2", "spiffe://td1"])).await.unwrap();
        assert_eq!(created.federates_with, ["spiffe://td1", "spiffe://td2"]);
        let fetched = datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap();
        assert_eq!(fetched, Some(created.clone()));
        let update = RegistrationEntry {
            federates_with: vec!["spiffe://td4".into(), "spiffe://td1".into(), "spiffe://td3".into()],
            ..created
        };
        let updated = datastore.update_registration_entry(update, None).await.unwrap();
        assert_eq!(updated.federates_with, ["spiffe://td1", "spiffe://td3", "spiffe://td4"]);
        // What it no longer federates with no longer holds it.
        datastore.delete_bundle("spiffe://td2", DeleteMode::Restrict).await.unwrap();
        refused(
            datastore.delete_bundle("spiffe://td3", DeleteMode::Restrict).await,
            Code::FailedPrecondition,
            "datastore-sql: cannot delete bundle; federated with 1 registration entries",
        );
    });
}

#[test]
fn test_registration_entries_federates_with_duplicate_trust_domain() {
    run(async {
        let datastore = with_bundles(&["spiffe://td1", "spiffe://td2"]).await;
        let doubled = federated(&["spiffe://td1", "spiffe://td2", "spiffe://td1"]);
        let created = datastore.create_registration_entry(doubled).await.unwrap();
        assert_eq!(created.federates_with, ["spiffe://td1", "spiffe://td2"]);
        let update =
            RegistrationEntry { federates_with: vec!["spiffe://td2".into(), "spiffe://td2".into()], ..created };
        let updated = datastore.update_registration_entry(update, None).await.unwrap();
        assert_eq!(updated.federates_with, ["spiffe://td2"]);
    });
}

#[test]
fn test_registration_entries_without_federates_with() {
    run(async {
        let datastore = namespace().await;
        let created = datastore.create_registration_entry(federated(&[])).await.unwrap();
        assert!(created.federates_with.is_empty());
        let updated = datastore.update_registration_entry(created.clone(), None).await.unwrap();
        assert!(updated.federates_with.is_empty());
        let deleted = datastore.delete_registration_entry(created.entry_id).await.unwrap();
        assert!(deleted.federates_with.is_empty());
    });
}

// ---- deletion of bundles that entries federate with

/// An entry of only that trust domain, one of it and another, one of the other alone, one without federation.
async fn mixed() -> (Namespace, Vec<RegistrationEntry>) {
    let datastore = with_bundles(&["spiffe://gone", "spiffe://kept"]).await;
    let sets: [&[&str]; 4] = [&["spiffe://gone"], &["spiffe://gone", "spiffe://kept"], &["spiffe://kept"], &[]];
    let mut entries = Vec::new();
    for (number, ids) in sets.into_iter().enumerate() {
        let entry = RegistrationEntry { spiffe_id: format!("w{number}"), ..federated(ids) };
        entries.push(datastore.create_registration_entry(entry).await.unwrap());
    }
    (datastore, entries)
}

#[test]
fn test_delete_bundle_restricted_by_registration_entries() {
    run(async {
        let datastore = with_bundles(&["spiffe://otherdomain.org"]).await;
        datastore.create_registration_entry(federated(&["spiffe://otherdomain.org"])).await.unwrap();
        refused(
            datastore.delete_bundle("spiffe://otherdomain.org", DeleteMode::Restrict).await,
            Code::FailedPrecondition,
            "datastore-sql: cannot delete bundle; federated with 1 registration entries",
        );
        assert_eq!(datastore.count_bundles().await.unwrap(), 1);
        assert_eq!(entry_event_ids(&datastore).await, [1]);
    });
}

#[test]
fn test_delete_bundle_delete_registration_entries() {
    run(async {
        let (datastore, entries) = mixed().await;
        datastore.delete_bundle("spiffe://gone", DeleteMode::Delete).await.unwrap();
        assert_eq!(datastore.fetch_bundle("spiffe://gone").await.unwrap(), None);
        assert_eq!(datastore.list_registration_entries(Default::default()).await.unwrap(), entries[2..]);
        // Unlike the reference, each deleted entry has its event (quirk 10).
        let events = datastore.list_registration_entry_events(4, 0).await.unwrap();
        let ids: Vec<_> = events.iter().map(|event| (event.event_id, event.entry_id.as_str())).collect();
        assert_eq!(ids, [(5, entries[0].entry_id.as_str()), (6, entries[1].entry_id.as_str())]);
        // Nothing of the deleted entries holds the other bundle.
        refused(
            datastore.delete_bundle("spiffe://kept", DeleteMode::Restrict).await,
            Code::FailedPrecondition,
            "datastore-sql: cannot delete bundle; federated with 1 registration entries",
        );
    });
}

#[test]
fn test_delete_bundle_dissociate_registration_entries() {
    run(async {
        let (datastore, mut entries) = mixed().await;
        datastore.delete_bundle("spiffe://gone", DeleteMode::Dissociate).await.unwrap();
        assert_eq!(datastore.fetch_bundle("spiffe://gone").await.unwrap(), None);
        for (entry, left) in [(0, vec![]), (1, vec!["spiffe://kept".to_owned()])] {
            // Unlike the reference, agents see that something changed (quirk 10).
            entries[entry].federates_with = left;
            entries[entry].revision_number = 1;
        }
        assert_eq!(datastore.list_registration_entries(Default::default()).await.unwrap(), entries);
        assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn every_mode_deletes_a_bundle_without_entries() {
    run(async {
        for mode in [DeleteMode::Restrict, DeleteMode::Delete, DeleteMode::Dissociate] {
            let _case = case(format!("{mode:?}"));
            let (datastore, entries) = mixed().await;
            datastore.create_bundle(bundle("spiffe://alone", &[1])).await.unwrap();
            datastore.delete_bundle("spiffe://alone", mode).await.unwrap();
            assert_eq!(datastore.fetch_bundle("spiffe://alone").await.unwrap(), None);
            assert_eq!(datastore.list_registration_entries(Default::default()).await.unwrap(), entries);
            assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3, 4]);
        }
    });
}

/// A deletion in several steps is one for the caller.
#[test]
fn a_bundle_with_many_entries_is_deleted_in_one_call() {
    run(async {
        for mode in [DeleteMode::Delete, DeleteMode::Dissociate] {
            let _case = case(format!("{mode:?}"));
            let datastore = with_bundles(&["spiffe://gone"]).await;
            let entry = |number| RegistrationEntry { spiffe_id: format!("w{number}"), ..federated(&["spiffe://gone"]) };
            let operations = (0..1_500).map(|number| super::create_operation(entry(number))).collect();
            super::batch(&datastore, operations).await;
            datastore.delete_bundle("spiffe://gone", mode).await.unwrap();
            assert_eq!(datastore.count_bundles().await.unwrap(), 0);
            let left = if mode == DeleteMode::Delete { 0 } else { 1_500 };
            assert_eq!(datastore.count_registration_entries(Default::default()).await.unwrap(), left);
            assert_eq!(entry_event_ids(&datastore).await, (1..=3_000).collect::<Vec<_>>());
        }
    });
}
