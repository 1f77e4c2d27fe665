use steeple_client::types::{RegistrationEntry, RegistrationEntryFilter as Filter};
use steeple_tests::check::not_found;
use steeple_tests::records::{bundle, entry, entry_event_ids, selector};
use steeple_tests::server::{namespace, run};

#[test]
fn test_delete_registration_entry() {
    run(async {
        let datastore = namespace().await;
        not_found(datastore.delete_registration_entry("badid").await);
        datastore.create_bundle(bundle("spiffe://otherdomain.org", &[1])).await.unwrap();
        let full = RegistrationEntry {
            x509_svid_ttl: 1,
            jwt_svid_ttl: 2,
            admin: true,
            downstream: true,
            entry_expiry: 4_000_000_000,
            hint: "hint".into(),
            dns_names: vec!["b".into(), "a".into()],
            federates_with: vec!["spiffe://otherdomain.org".into()],
            ..entry("ParentId", "SpiffeId", vec![selector("Type2", "Value2"), selector("Type1", "Value1")])
        };
        let first = datastore.create_registration_entry(full).await.unwrap();
        let second = datastore
            .create_registration_entry(entry("ParentId", "SpiffeId2", vec![selector("Type1", "Value1")]))
            .await
            .unwrap();
        assert_eq!(datastore.delete_registration_entry(first.entry_id.as_str()).await.unwrap(), first);
        assert_eq!(datastore.fetch_registration_entry(first.entry_id.as_str()).await.unwrap(), None);
        not_found(datastore.delete_registration_entry(first.entry_id.as_str()).await);
        assert_eq!(datastore.list_registration_entries(Filter::default()).await.unwrap(), [second]);
        assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3]);
    });
}
