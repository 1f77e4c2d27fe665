use steeple_client::types::RegistrationEntry;
use steeple_tests::check::case;
use steeple_tests::records::{MICROS, NOW, entry, entry_event_ids, selector};
use steeple_tests::server::{namespace, run};

/// What the test asserts about log lines is in `logs`.
#[test]
fn test_prune_registration_entries() {
    run(async {
        let datastore = namespace().await;
        let expiring = RegistrationEntry {
            x509_svid_ttl: 1,
            jwt_svid_ttl: 1,
            entry_expiry: NOW,
            ..entry("ParentId", "SpiffeId", vec![selector("Type1", "Value1"), selector("Type2", "Value2")])
        };
        let expiring = datastore.create_registration_entry(expiring).await.unwrap();
        // An entry without expiry is never pruned.
        let lasting = entry("ParentId", "Lasting", vec![selector("Type1", "Value1")]);
        let lasting = datastore.create_registration_entry(lasting).await.unwrap();
        let cases = [
            ("Don't prune valid entries", NOW - 10, true),
            ("Don't prune exact ExpiresBefore", NOW, true),
            ("Prune old entries", NOW + 10, false),
        ];
        for (name, expires_before, stays) in cases {
            let _case = case(name);
            let pruned = datastore.prune_registration_entries(expires_before * MICROS).await.unwrap().pruned;
            assert_eq!(pruned, u64::from(!stays));
            let found = datastore.fetch_registration_entry(expiring.entry_id.as_str()).await.unwrap();
            assert_eq!(found, stays.then(|| expiring.clone()));
            let events = datastore.list_registration_entry_events(2, 0).await.unwrap();
            assert_eq!(events.len(), usize::from(!stays));
            assert!(events.iter().all(|event| event.event_id == 3 && event.entry_id == expiring.entry_id));
        }
        assert_eq!(datastore.fetch_registration_entry(lasting.entry_id.as_str()).await.unwrap(), Some(lasting));
        assert_eq!(datastore.prune_registration_entries((NOW + 10) * MICROS).await.unwrap().pruned, 0);
        assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3]);
    });
}

/// Whole seconds are compared: a fraction of a second does not make an entry expire early.
#[test]
fn fractions_of_a_second_are_dropped() {
    run(async {
        let datastore = namespace().await;
        let entry = RegistrationEntry { entry_expiry: NOW, ..entry("p", "w", vec![selector("a", "1")]) };
        datastore.create_registration_entry(entry).await.unwrap();
        assert_eq!(datastore.prune_registration_entries(NOW * MICROS + MICROS - 1).await.unwrap().pruned, 0);
        assert_eq!(datastore.prune_registration_entries((NOW + 1) * MICROS).await.unwrap().pruned, 1);
    });
}

/// More than one step of the store's own, and each of them an event of many items.
#[test]
fn many_entries_are_pruned_with_one_event_each() {
    run(async {
        let datastore = namespace().await;
        let mut operations = Vec::new();
        for number in 0..2_300i64 {
            let entry = RegistrationEntry {
                entry_expiry: NOW + number,
                ..entry("p", &format!("w{number}"), vec![selector("a", "1")])
            };
            operations.push(super::create_operation(entry));
        }
        super::batch(&datastore, operations).await;
        // All but the last 100 have expired.
        assert_eq!(datastore.prune_registration_entries((NOW + 2_200) * MICROS).await.unwrap().pruned, 2_200);
        assert_eq!(datastore.count_registration_entries(Default::default()).await.unwrap(), 100);
        let events = entry_event_ids(&datastore).await;
        assert_eq!(events, (1..=4_500).collect::<Vec<_>>());
    });
}
