use steeple_client::types::RegistrationEntry;
use steeple_tests::check::case;
use steeple_tests::records::{entry, selector};
use steeple_tests::server::{namespace, run};

#[test]
fn test_fetch_registration_entry() {
    run(async {
        let datastore = namespace().await;
        let selectors = || vec![selector("Type1", "Value1"), selector("Type1", "Value2"), selector("Type1", "Value3")];
        let base = || entry("ParentId", "SpiffeId", selectors());
        let dns = RegistrationEntry {
            x509_svid_ttl: 1,
            jwt_svid_ttl: 1,
            dns_names: vec!["abcd.efg".into()],
            selectors: vec![selector("Type1", "Value1"), selector("Type2", "Value2"), selector("Type3", "Value3")],
            ..base()
        };
        let store = RegistrationEntry { x509_svid_ttl: 1, store_svid: true, ..base() };
        let hint = RegistrationEntry { hint: "external".into(), ..base() };
        let mut created = Vec::new();
        for (name, entry) in [("entry with dns", dns), ("entry with store svid", store), ("entry with hint", hint)] {
            let _case = case(name);
            let entry = datastore.create_registration_entry(entry).await.unwrap();
            assert_eq!(datastore.fetch_registration_entry(entry.entry_id.as_str()).await.unwrap(), Some(entry.clone()));
            created.push(entry);
        }
        assert_eq!(created[2], created[1], "the third is similar to the second");
        assert_ne!(created[0].entry_id, created[1].entry_id);
    });
}

#[test]
fn test_fetch_registration_entry_does_not_exist() {
    run(async {
        assert_eq!(namespace().await.fetch_registration_entry("does-not-exist").await.unwrap(), None);
    });
}

#[test]
fn test_fetch_inexistent_registration_entry() {
    run(async {
        assert_eq!(namespace().await.fetch_registration_entry("INEXISTENT").await.unwrap(), None);
        assert_eq!(namespace().await.fetch_registration_entry("").await.unwrap(), None);
    });
}

#[test]
fn test_fetch_registration_entries() {
    run(async {
        let datastore = namespace().await;
        let mut created = Vec::new();
        for number in 1..=3 {
            let entry = entry("ParentId", &format!("SpiffeId{number}"), vec![selector("Type", &number.to_string())]);
            created.push(datastore.create_registration_entry(entry).await.unwrap());
        }
        let deleted = datastore
            .create_registration_entry(entry("ParentId", "SpiffeIdDeleted", vec![selector("Type", "4")]))
            .await
            .unwrap();
        datastore.delete_registration_entry(deleted.entry_id.as_str()).await.unwrap();
        let id = |position: usize| created[position - 1].entry_id.clone();
        let cases = [
            ("No entries", vec![], vec![]),
            ("Entries 1 and 2", vec![id(1), id(2)], vec![1, 2]),
            ("Entries 1 and 3", vec![id(1), id(3)], vec![1, 3]),
            ("Entries 1, 2, and 3", vec![id(1), id(2), id(3)], vec![1, 2, 3]),
            ("Deleted entry", vec![id(2), deleted.entry_id.clone()], vec![2]),
            ("empty, unknown and doubled IDs", vec![id(3), String::new(), id(3), "unknown".into()], vec![3]),
        ];
        for (name, ids, expected) in cases {
            let _case = case(name);
            let mut found = datastore.fetch_registration_entries(ids).await.unwrap();
            found.sort_by_key(|entry| entry.spiffe_id.clone());
            let expected: Vec<_> = expected.iter().map(|position| created[position - 1].clone()).collect();
            assert_eq!(found, expected);
        }
    });
}

#[test]
fn a_bulk_fetch_answers_in_creation_order() {
    run(async {
        let datastore = namespace().await;
        let mut ids = Vec::new();
        for number in 0..5 {
            let entry = entry("p", &format!("w{number}"), vec![selector("a", "1")]);
            ids.push(datastore.create_registration_entry(entry).await.unwrap().entry_id);
        }
        let backwards: Vec<_> = ids.iter().rev().cloned().collect();
        let found = datastore.fetch_registration_entries(backwards).await.unwrap();
        assert_eq!(found.into_iter().map(|entry| entry.entry_id).collect::<Vec<_>>(), ids);
    });
}
