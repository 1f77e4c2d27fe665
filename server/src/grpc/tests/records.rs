//! Entries, nodes and everything else of a namespace: written, found, pruned.

use super::*;

#[tokio::test]
async fn entries_are_created_found_changed_and_deleted() {
    let Served { spire, .. } = serve().await;
    let created = spire.create_or_return_registration_entry(entry("a", &["uid:1", "gid:2"])).await.unwrap();
    assert!(!created.existing);
    let similar_but_another = spire.create_or_return_registration_entry(entry("b", &["gid:2", "uid:1"])).await.unwrap();
    assert!(!similar_but_another.existing);
    let again = spire.create_or_return_registration_entry(entry("a", &["gid:2", "uid:1"])).await.unwrap();
    assert!(again.existing && again.entry == created.entry);
    assert_eq!(spire.fetch_registration_entry("a").await.unwrap(), Some(created.entry.clone()));
    assert_eq!(spire.fetch_registration_entry("x").await.unwrap(), None);
    let some = spire.fetch_registration_entries(vec!["b".into(), "x".into(), "a".into(), "b".into()]).await.unwrap();
    assert_eq!(some.iter().map(|entry| entry.entry_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let by_selectors = BySelectors { r#match: MatchBehavior::Superset.into(), selectors: vec![selector("uid:1")] };
    let filter = RegistrationEntryFilter { by_selectors: Some(by_selectors), ..Default::default() };
    assert_eq!(spire.count_registration_entries(filter.clone()).await.unwrap(), 2);
    assert_eq!(spire.list_registration_entries(filter).await.unwrap().len(), 2);

    let mask = RegistrationEntryMask { hint: true, ..Default::default() };
    let change = RegistrationEntry { hint: "h".into(), ..entry("a", &[]) };
    let updated = spire.update_registration_entry(change, Some(mask)).await.unwrap();
    assert_eq!((updated.hint.as_str(), updated.revision_number, updated.selectors.len()), ("h", 1, 2));
    assert_eq!(spire.delete_registration_entry("a").await.unwrap(), updated);
    let error = spire.delete_registration_entry("a").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::NotFound, "datastore-sql: record not found"));
    let error = spire.create_registration_entry(entry("c", &[])).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.to_string(), "datastore-validation: invalid registration entry: missing selector list");
    let events = spire.list_registration_entry_events(0, 0).await.unwrap();
    assert_eq!(events.iter().map(|event| event.event_id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(spire.fetch_registration_entry_event(3).await.unwrap(), events[2]);
    assert!(spire.fetch_registration_entry_event(5).await.unwrap_err().is_not_found());
    let bounds = spire.fetch_event_bounds().await.unwrap();
    assert_eq!((bounds.0.oldest_event_id, bounds.0.last_event_id, bounds.1.last_event_id), (1, 4, 0));
    assert_eq!(spire.prune_registration_entry_events(Duration::ZERO).await.unwrap(), 4);
    assert!(spire.list_registration_entry_events(0, 0).await.unwrap().is_empty());
    let error = spire.list_registration_entry_events(1, 2).await.unwrap_err();
    assert_eq!(error.to_string(), "datastore-sql: can't set both greater and less than event id");
    assert_eq!(spire.prune_registration_entries(1_000_000).await.unwrap().pruned, 0);
}

#[tokio::test]
async fn nodes_and_their_selectors_are_kept_apart() {
    let Served { spire, .. } = serve().await;
    spire.create_attested_node(agent("n1")).await.unwrap();
    spire.set_node_selectors("n1", vec![selector("b"), selector("a")]).await.unwrap();
    spire.set_node_selectors("orphan", vec![selector("c")]).await.unwrap();
    assert!(spire.create_attested_node(agent("n1")).await.unwrap_err().is_already_exists());
    let node = spire.fetch_attested_node("n1").await.unwrap().unwrap();
    assert!(node.selectors.is_empty());
    let nodes = spire.fetch_attested_nodes(vec!["n1".into(), "n2".into()]).await.unwrap();
    assert_eq!((nodes.len(), &nodes[0].selectors), (1, &vec![selector("b"), selector("a")]));
    let filter = AttestedNodeFilter { by_spiffe_ids: vec!["n1".into()], ..Default::default() };
    assert_eq!(spire.list_attested_nodes(filter.clone(), true).await.unwrap(), nodes);
    assert_eq!(spire.count_attested_nodes(filter.clone()).await.unwrap(), 1);
    let streamed: Vec<_> = spire.stream_attested_nodes(filter, false).await.unwrap().collect().await;
    assert_eq!(streamed.into_iter().map(Result::unwrap).collect::<Vec<_>>(), std::slice::from_ref(&node));
    assert_eq!(spire.get_node_selectors("orphan").await.unwrap(), [selector("c")]);
    assert_eq!(spire.list_node_selectors(0).await.unwrap().len(), 2);
    let renewed = AttestedNode { cert_serial_number: "7".into(), cert_not_after: 100, ..node };
    spire.update_attested_node(renewed, None).await.unwrap();
    assert_eq!(spire.list_node_selectors(99_999_999).await.unwrap().len(), 1);
    assert_eq!(spire.list_node_selectors(100_000_000).await.unwrap().len(), 0);
    let kept = spire.prune_attested_expired_nodes(100_000_000, true, 0).await.unwrap();
    let pruned = spire.prune_attested_expired_nodes(100_000_001, true, 0).await.unwrap();
    assert_eq!((kept.pruned, pruned.pruned, pruned.more), (0, 1, false));
    assert!(spire.delete_attested_node("n1").await.unwrap_err().is_not_found());
    assert_eq!(spire.list_attested_node_events(0, 0).await.unwrap().len(), 5);
    assert_eq!(spire.fetch_attested_node_event(1).await.unwrap().spiffe_id, "n1");
    assert_eq!(spire.prune_attested_node_events(Duration::from_secs(3600)).await.unwrap(), 0);
}

#[tokio::test]
async fn bundles_relationships_tokens_and_journals_go_through() {
    let Served { spire, .. } = serve().await;
    let bundle = Bundle { trust_domain_id: "spiffe://other".into(), refresh_hint: 7, ..Default::default() };
    assert_eq!(spire.create_bundle(bundle.clone()).await.unwrap(), bundle);
    assert!(spire.create_bundle(bundle.clone()).await.unwrap_err().is_already_exists());
    assert_eq!(spire.set_bundle(bundle.clone()).await.unwrap(), bundle);
    assert_eq!(spire.update_bundle(bundle.clone(), None).await.unwrap(), bundle);
    assert_eq!(spire.append_bundle(bundle.clone()).await.unwrap(), bundle);
    assert_eq!(spire.fetch_bundle("spiffe://other").await.unwrap(), Some(bundle.clone()));
    assert_eq!((spire.count_bundles().await.unwrap(), spire.list_bundles().await.unwrap()), (1, vec![bundle.clone()]));
    assert_eq!(spire.list_bundles_page("", 5).await.unwrap(), (vec![bundle.clone()], "1".into()));
    assert_eq!(spire.list_bundles_page("1", 5).await.unwrap(), (vec![], String::new()));
    let error = spire.list_bundles_page("", 0).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot paginate with pagesize = 0");
    let error = spire.prune_bundle("spiffe://other", 0).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::Unknown, "prune failed: expiration time is zero value")
    );
    let error = spire.taint_x509_ca("spiffe://other", "aa").await.unwrap_err();
    assert_eq!(error.to_string(), "no ca found with provided subject key ID");
    assert!(spire.revoke_x509_ca("spiffe://x", "aa").await.unwrap_err().is_not_found());
    assert!(spire.taint_jwt_key("spiffe://other", "k").await.unwrap_err().is_not_found());
    assert!(spire.revoke_jwt_key("spiffe://other", "k").await.unwrap_err().is_not_found());

    let relationship = FederationRelationship {
        trust_domain: "other".into(),
        bundle_endpoint_url: "https://other/bundle".into(),
        bundle_endpoint_profile: "https_web".into(),
        ..Default::default()
    };
    spire.create_federation_relationship(relationship.clone()).await.unwrap();
    let found = spire.fetch_federation_relationship("other").await.unwrap().unwrap();
    assert_eq!(found, FederationRelationship { trust_domain_bundle: Some(bundle), ..relationship.clone() });
    assert_eq!(spire.list_federation_relationships().await.unwrap(), std::slice::from_ref(&found));
    assert_eq!(spire.list_federation_relationships_page("", 1).await.unwrap().1, "1");
    assert_eq!(spire.update_federation_relationship(relationship, None).await.unwrap(), found);
    spire.delete_federation_relationship("other").await.unwrap();
    spire.delete_bundle("spiffe://other", DeleteMode::Restrict).await.unwrap();

    spire.create_join_token("t0ken", 50).await.unwrap();
    assert_eq!(spire.fetch_join_token("t0ken").await.unwrap().unwrap().expires_at, 50);
    assert_eq!(spire.fetch_join_token("other").await.unwrap(), None);
    assert_eq!(spire.prune_join_tokens(50_999_999).await.unwrap(), 0);
    assert_eq!(spire.prune_join_tokens(51_000_000).await.unwrap(), 1);
    assert!(spire.delete_join_token("t0ken").await.unwrap_err().is_not_found());

    let journal = CaJournal { id: 0, active_x509_authority_id: "a".into(), data: vec![] };
    let stored = spire.set_ca_journal(journal).await.unwrap();
    assert_eq!((stored.id, spire.fetch_ca_journal("a").await.unwrap()), (1, Some(stored.clone())));
    assert_eq!(spire.list_ca_journals().await.unwrap(), [stored]);
    assert_eq!(spire.prune_ca_journals(1).await.unwrap(), 1);
}

/// More nodes than one event may remove, and one more than the batch.
#[tokio::test]
async fn a_batch_larger_than_a_step_is_pruned_whole_and_once() {
    let Served { spire, .. } = serve().await;
    let count = PRUNE_NODES_MAX as i32 + 2;
    let create = |number: i32| {
        let attestation_data_type = if number == 0 { "join_token" } else { "t" }.to_owned();
        let expired = AttestedNode {
            cert_not_after: i64::from(number) + 1,
            cert_serial_number: "1".into(),
            can_reattest: true,
            attestation_data_type,
            ..agent(&format!("n{number}"))
        };
        Operation::CreateAttestedNode(CreateAttestedNodeRequest { context: None, node: Some(expired) })
    };
    for first in (0..count).step_by(limits::BATCH_MUTATIONS_MAX) {
        let last = (first + limits::BATCH_MUTATIONS_MAX as i32).min(count);
        let outcomes = spire.batch((first..last).map(create).collect()).await;
        assert!(outcomes.iter().all(|outcome| outcome.answer.is_ok()));
    }
    let selectors = vec![Selector { r#type: "spiffe_id".into(), value: "n0".into() }];
    let alias = RegistrationEntry { parent_id: "n0".into(), selectors, ..entry("alias", &[]) };
    let alias = spire.create_registration_entry(alias).await.unwrap();

    let chosen = spire.with_request(RequestId([6; 16]));
    let pruned = chosen.prune_attested_expired_nodes(i64::MAX, false, count - 1).await.unwrap();
    assert_eq!((pruned.pruned, pruned.more), (count as u64 - 1, true));
    assert_eq!(pruned.cascaded, [pruned_entry(&alias)]);
    let again = chosen.prune_attested_expired_nodes(i64::MAX, false, count - 1).await.unwrap();
    assert_eq!(again, pruned, "a repeated request is carried out once");
    let rest = spire.prune_attested_expired_nodes(i64::MAX, false, 0).await.unwrap();
    assert_eq!((rest.pruned, rest.more), (1, false));
}

fn pruned_entry(entry: &RegistrationEntry) -> PrunedEntry {
    PrunedEntry {
        spiffe_id: entry.spiffe_id.clone(),
        parent_id: entry.parent_id.clone(),
        entry_id: entry.entry_id.clone(),
    }
}

#[tokio::test]
async fn prunes_tell_what_they_removed() {
    let Served { channel, spire, .. } = serve().await;
    let create = |number: i64| {
        let entry = RegistrationEntry { entry_expiry: number, ..entry(&format!("e{number}"), &["uid:1"]) };
        spire.create_registration_entry(entry)
    };
    let (first, second) = (create(1).await.unwrap(), create(2).await.unwrap());
    create(3).await.unwrap();
    let pruned = spire.prune_registration_entries(3_000_000).await.unwrap();
    assert_eq!(pruned.entries, [pruned_entry(&first), pruned_entry(&second)]);
    assert_eq!((pruned.pruned, pruned.truncated), (2, false));

    spire
        .create_attested_node(AttestedNode { attestation_data_type: "join_token".into(), ..agent("n") })
        .await
        .unwrap();
    let selectors = vec![Selector { r#type: "spiffe_id".into(), value: "n".into() }];
    let alias = RegistrationEntry { parent_id: "n".into(), selectors, ..entry("alias", &[]) };
    let alias = spire.create_registration_entry(alias).await.unwrap();
    let mut raw = DatastoreClient::new(channel);
    let context = Some(RequestContext { namespace: "prod".into(), request_id: Vec::new() });
    let request = DeleteAttestedNodeRequest { context: context.clone(), spiffe_id: "n".into() };
    let deleted = raw.delete_attested_node(request).await.unwrap().into_inner();
    assert_eq!((deleted.cascaded.as_slice(), deleted.cascaded_truncated), (&[pruned_entry(&alias)][..], false));

    let stale = spire.set_ca_journal(CaJournal::default()).await.unwrap();
    let request = PruneCaJournalsRequest { context, all_expire_before: 1 };
    let pruned = raw.prune_ca_journals(request).await.unwrap().into_inner();
    assert_eq!((pruned.pruned, pruned.ids, pruned.truncated), (1, vec![stale.id], false));
}
