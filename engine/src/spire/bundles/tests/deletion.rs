//! Deletions in their three modes, and prunes.

use super::*;

#[test]
fn delete_of_a_bundle_without_entries_is_the_same_in_every_mode() {
    for mode in [DeleteMode::Restrict, DeleteMode::Delete, DeleteMode::Dissociate] {
        let mut store = holding(full(TD));
        store.submit(create(bundle("other", b"A")));
        store.plant_entries(&[entry("e1", &["other"]), entry("e2", &[])]);
        let before = entries(&store);
        assert_eq!(store.finish(&delete(TD, mode)), [1]);
        assert_eq!(ids(&store), ["other"]);
        assert_eq!(entries(&store), before);
        assert_eq!(store.registrations(0), []);
        assert_eq!(store.refuse(delete(TD, mode)), not_found());
    }
}

#[test]
fn restrict_refuses_while_entries_federate() {
    for (federated, text) in [
        (1, "datastore-sql: cannot delete bundle; federated with 1 registration entries"),
        (3, "datastore-sql: cannot delete bundle; federated with 3 registration entries"),
    ] {
        let mut store = holding(full(TD));
        let planted: Vec<_> = (0..federated).map(|number| entry(&format!("e{number}"), &[TD])).collect();
        store.plant_entries(&planted);
        assert_eq!(store.refuse(delete(TD, DeleteMode::Restrict)), refusal(Code::FailedPrecondition, text));
        assert_eq!(fetch(&store, TD), Some(full(TD)));
    }
}

fn federated_store() -> Datastore {
    let mut store = holding(full(TD));
    store.submit(create(bundle("other", b"A")));
    store.plant_entries(&[
        entry("only", &[TD]),
        entry("both", &["other", TD]),
        entry("other", &["other"]),
        entry("none", &[]),
    ]);
    store
}

#[test]
fn delete_takes_the_entries_along_and_announces_each() {
    let mut store = federated_store();
    assert_eq!(store.finish(&delete(TD, DeleteMode::Delete)), [3]);
    assert_eq!(entries(&store), [entry("other", &["other"]), entry("none", &[])]);
    assert_eq!(ids(&store), ["other"]);
    let items = store.registrations(0);
    let keys: Vec<_> = items.iter().map(|item| (item.sequence.0, item.key.as_ref(), item.change)).collect();
    assert_eq!(keys, [(1, &b"only"[..], Some(0)), (2, &b"both"[..], Some(1))]);
    assert_eq!(store.finish(&delete("other", DeleteMode::Delete)), [2], "nothing is left of the deleted entry");
}

#[test]
fn dissociate_keeps_the_entries_raises_their_revision_and_announces_each() {
    let mut store = federated_store();
    assert_eq!(store.finish(&delete(TD, DeleteMode::Dissociate)), [3]);
    let raised = |id, federates_with: &[&str]| Entry { revision_number: 4, ..entry(id, federates_with) };
    assert_eq!(
        entries(&store),
        [raised("only", &[]), raised("both", &["other"]), entry("other", &["other"]), entry("none", &[])]
    );
    let keys: Vec<_> = store.registrations(0).into_iter().map(|item| item.key).collect();
    assert_eq!(keys, [&b"only"[..], &b"both"[..]]);
    store.submit(create(bundle(TD, b"A")));
    assert_eq!(store.finish(&delete(TD, DeleteMode::Restrict)), [1], "a new bundle has no entries");
}

#[test]
fn delete_goes_in_bounded_steps() {
    for mode in [DeleteMode::Delete, DeleteMode::Dissociate] {
        let mut store = holding(full(TD));
        let planted: Vec<_> = (0..=STEP_ENTRIES_MAX).map(|number| entry(&format!("e{number}"), &[TD])).collect();
        store.plant_entries(&planted);
        let step = STEP_ENTRIES_MAX as u64;
        assert_eq!(store.submit(delete(TD, mode)), Answer::Progress { changed: step, more: true });
        assert_eq!(fetch(&store, TD), Some(full(TD)), "the bundle goes last");
        let text = "datastore-sql: cannot delete bundle; federated with 1 registration entries";
        assert_eq!(store.refuse(delete(TD, DeleteMode::Restrict)), refusal(Code::FailedPrecondition, text));
        assert_eq!(store.submit(delete(TD, mode)), Answer::Progress { changed: 2, more: false });
        assert_eq!(fetch(&store, TD), None);
        let sequences: Vec<_> = store.registrations(0).iter().map(|item| item.sequence.0).collect();
        assert_eq!(sequences, (1..=step + 1).collect::<Vec<_>>());
        assert!(entries(&store).iter().all(|entry| entry.federates_with.is_empty() && entry.revision_number == 4));
    }
}

#[test]
fn delete_stops_at_the_byte_budget() {
    for mode in [DeleteMode::Delete, DeleteMode::Dissociate] {
        let mut store = holding(full(TD));
        let large = |id| Entry { hint: "x".repeat(PRUNE_STEP_BYTES), ..entry(id, &[TD]) };
        store.plant_entries(&[large("e1"), large("e2")]);
        assert_eq!(store.finish(&delete(TD, mode)), [1, 2]);
    }
}

#[test]
fn prune_worked_example() {
    let [nine, ten, eleven, twelve] = [9, 10, 11, 12].map(|hour| hour * 3_600);
    let (r1, r2) = (root(authority(b"1", ten)), root(authority(b"2", twelve)));
    let before = Bundle {
        trust_domain_id: TD.into(),
        root_cas: vec![r1, r2.clone()],
        jwt_signing_keys: vec![key("k1", nine), key("k2", twelve)],
        sequence_number: 42,
        ..Bundle::default()
    };
    let mut store = holding(before.clone());
    let revision = store.revision();
    assert_eq!(store.submit(prune(8 * 3_600)), Answer::Changed(false));
    assert_eq!(store.revision(), revision);
    let text = "prune failed: would prune all certificates";
    assert_eq!(store.refuse(prune(twelve)), refusal(Code::Unknown, text));
    assert_eq!(fetch(&store, TD), Some(before.clone()));
    assert_eq!(store.submit(prune(eleven)), Answer::Changed(true));
    let after = Bundle { root_cas: vec![r2], jwt_signing_keys: vec![key("k2", twelve)], sequence_number: 43, ..before };
    assert_eq!(fetch(&store, TD), Some(after));
    assert_eq!(store.submit(prune(eleven)), Answer::Changed(false));
}

#[test]
fn prune_of_each_kind_of_element() {
    let live = root(authority(b"live", 1_000));
    let chain = |times: &[i64]| root(times.iter().flat_map(|&time| authority(b"c", time)).collect::<Vec<u8>>());
    let (long, short) = (chain(&[300, 200]), chain(&[300, 100]));
    let stale_leaf = root(leaf(100, 0));
    let taint_stays = tainted_root(authority(b"t", 500));
    let eternal = key("eternal", 0);
    let before = Bundle {
        trust_domain_id: TD.into(),
        root_cas: vec![stale_leaf, long.clone(), taint_stays.clone(), short, live.clone()],
        jwt_signing_keys: vec![key("at", 100), eternal.clone(), key("after", 101)],
        wit_signing_keys: vec![key("stale", 99), tainted_key("eternal, tainted")],
        refresh_hint: 60,
        sequence_number: 5,
        unknown_fields: vec![0x78, 1],
    };
    let mut store = holding(before.clone());
    assert_eq!(store.submit(prune(100)), Answer::Changed(true));
    let after = Bundle {
        root_cas: vec![long, taint_stays, live],
        jwt_signing_keys: vec![eternal, key("after", 101)],
        wit_signing_keys: vec![tainted_key("eternal, tainted")],
        sequence_number: 6,
        ..before
    };
    assert_eq!(fetch(&store, TD), Some(after));
}

#[test]
fn prune_refuses() {
    let roots = || vec![root(authority(b"live", 1_000))];
    let whole = |root_cas, jwt, wit| Bundle {
        trust_domain_id: TD.into(),
        root_cas,
        jwt_signing_keys: jwt,
        wit_signing_keys: wit,
        ..Bundle::default()
    };
    let mut truncated = authority(b"live", 1_000);
    truncated.pop();
    let mut followed = authority(b"live", 1_000);
    followed.push(0);
    let stale = || vec![key("stale", 1)];
    for (bundle, expires_before, text) in [
        (whole(roots(), vec![], vec![]), 0, "expiration time is zero value"),
        (whole(vec![], vec![], vec![]), 100, "would prune all certificates"),
        (whole(roots(), vec![], vec![]), 1_000, "would prune all certificates"),
        (whole(roots(), stale(), vec![]), 100, "would prune all JWT signing keys"),
        (whole(roots(), vec![], stale()), 100, "would prune all WIT signing keys"),
        (whole(roots(), stale(), stale()), 100, "would prune all JWT signing keys"),
        (whole(vec![root(*b"A")], vec![], vec![]), 100, "cannot parse certificates: x509: malformed certificate"),
        (whole(vec![root(truncated)], vec![], vec![]), 100, "cannot parse certificates: x509: malformed certificate"),
        (whole(vec![root(followed)], vec![], vec![]), 100, "cannot parse certificates: x509: malformed certificate"),
    ] {
        let mut store = holding(bundle);
        let text = format!("prune failed: {text}");
        assert_eq!(store.refuse(prune(expires_before)), refusal(Code::Unknown, &text));
    }
}

#[test]
fn prune_of_nothing() {
    let mut store = Datastore::new();
    for expires_before in [0, 100] {
        assert_eq!(store.submit(prune(expires_before)), Answer::Changed(false), "an absent bundle comes first");
    }
    let mut store = holding(bundle(TD, &[]));
    let roots = Bundle { root_cas: vec![root(authority(b"live", 1_000)), root([])], ..bundle(TD, &[]) };
    store.submit(set(roots));
    assert_eq!(store.submit(prune(100)), Answer::Changed(false), "an element without certificates never expires");
}
