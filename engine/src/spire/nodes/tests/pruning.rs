//! Pruning (9.8).

use super::*;
use crate::spire::limits;
use crate::spire::notices::notices;

fn prune(expired_before: i64, include_non_reattestable: bool, batch_size: i32) -> spire::Command {
    spire::Command::Node(Command::Prune { expired_before, include_non_reattestable, batch_size })
}

/// What a batch removed, and whether more is left.
fn batch(store: &mut Datastore, command: spire::Command) -> (u64, bool) {
    match store.submit(command) {
        Answer::Batch { removed, more } => (removed, more),
        other => panic!("a prune answered {other:?}"),
    }
}

/// What a batch removed that leaves nothing.
fn removed(store: &mut Datastore, command: spire::Command) -> u64 {
    let (removed, more) = batch(store, command);
    assert!(!more);
    removed
}

/// Nodes of every kind around the instant 5,000, each with selectors.
fn kinds() -> Datastore {
    let mut store = Datastore::new();
    for (name, expiry) in [("expired", 4_999), ("exact", 5_000), ("valid", 5_001)] {
        for (kind, banned, can_reattest) in
            [("plain", false, true), ("fixed", false, false), ("banned", true, true), ("banned-fixed", true, false)]
        {
            let spiffe_id = format!("{name}-{kind}");
            let cert_serial_number = if banned { String::new() } else { "serial".into() };
            create(&mut store, Node { cert_not_after: expiry, can_reattest, cert_serial_number, ..node(&spiffe_id) });
            store.submit(set_selectors(&spiffe_id, selectors("a b")));
        }
    }
    store
}

fn gone(store: &Datastore) -> Vec<String> {
    let all = ["expired", "exact", "valid"]
        .iter()
        .flat_map(|name| ["plain", "fixed", "banned", "banned-fixed"].map(|kind| format!("{name}-{kind}")));
    all.filter(|spiffe_id| {
        let gone = fetch(store, spiffe_id).is_none();
        assert_eq!(gone, stored_selectors(store, spiffe_id).is_empty(), "selectors of {spiffe_id}");
        gone
    })
    .collect()
}

/// Cases of `TestPruneAttestedExpiredNodes`.
#[test]
fn who_is_pruned() {
    let cases: [(&str, i64, bool, &[&str]); 4] = [
        ("prune before expiry", 4_999, true, &[]),
        ("prune expired attested nodes", 5_000, false, &["expired-plain"]),
        (
            "prune expired attested nodes including non-reattestable nodes",
            5_000,
            true,
            &["expired-plain", "expired-fixed"],
        ),
        ("the instant itself is in the past", 5_001, false, &["expired-plain", "exact-plain"]),
    ];
    for (name, before, include_non_reattestable, expected) in cases {
        let mut store = kinds();
        let announced_before = announced(&store);
        let command = prune(before, include_non_reattestable, 0);
        assert_eq!(removed(&mut store, command.clone()), expected.len() as u64, "{name}");
        assert_eq!(gone(&store), expected, "{name}");
        assert_eq!(announced(&store) - announced_before, expected.len() as u64, "{name}");
        assert_eq!(removed(&mut store, command), 0, "{name}: pruning again is harmless");
    }
}

#[test]
fn the_line_counts_nodes() {
    let mut store = kinds();
    let command = prune(5_000, true, 0);
    removed(&mut store, command.clone());
    let lines = notices(&command, &store.last_event().changes).unwrap();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((line.message(), line.fields()), ("Pruned expired agents", vec![("count", "2".to_owned())]));
}

/// `TestPruneAttestedExpiredNodesBatchSize`, and the oldest go first whatever their kind.
#[test]
fn batches_take_the_oldest() {
    let mut store = Datastore::new();
    for (spiffe_id, expiry, can_reattest) in
        [("n4", 40, true), ("n1", 10, false), ("n5", 50, false), ("n3", 30, false), ("n2", 20, true)]
    {
        create(&mut store, Node { cert_not_after: expiry, can_reattest, ..node(spiffe_id) });
    }
    for (pruned, left) in [(2, &["n3", "n4", "n5"][..]), (2, &["n5"]), (1, &[])] {
        assert_eq!(batch(&mut store, prune(100, true, 2)), (pruned, !left.is_empty()), "as long as nodes are left");
        let found: Vec<_> =
            ["n1", "n2", "n3", "n4", "n5"].into_iter().filter(|id| fetch(&store, id).is_some()).collect();
        assert_eq!(found, left);
    }
}

#[test]
fn no_batch_size_means_a_thousand() {
    for batch_size in [0, -1, i32::MIN] {
        let mut store = Datastore::new();
        for number in 0..limits::PRUNE_NODES_DEFAULT + 1 {
            create(&mut store, Node { cert_not_after: 1, ..node(&number.to_string()) });
        }
        assert_eq!(batch(&mut store, prune(2, false, batch_size)), (1_000, true));
        assert_eq!(batch(&mut store, prune(2, false, batch_size)), (1, false));
    }
}

/// `TestPruneAttestedExpiredNodesCascadesEntries`.
#[test]
fn prune_cascades_for_the_expired_node_only() {
    let mut store = Datastore::new();
    for (spiffe_id, expiry) in [("expired", 4_999), ("valid", 5_000)] {
        let attestation_data_type = "join_token".into();
        create(&mut store, Node { cert_not_after: expiry, attestation_data_type, ..node(spiffe_id) });
        create_entry(&mut store, &format!("alias-{spiffe_id}"), spiffe_id, alias_selectors(spiffe_id));
    }
    let command = prune(5_000, false, 10);
    assert_eq!(removed(&mut store, command.clone()), 1);
    assert!(!has_entry(&store, "alias-expired") && has_entry(&store, "alias-valid"));
    assert_eq!(store.registrations(2).len(), 1);
    let lines = notices(&command, &store.last_event().changes).unwrap();
    let messages: Vec<_> = lines.iter().map(|line| line.message()).collect();
    assert_eq!(messages, ["Cascade-deleted registration entry on attested node deletion", "Pruned expired agents"]);
}

/// A node with more alias entries than one event takes loses them over several calls, and goes with the last.
#[test]
fn a_huge_cascade_does_not_stop_pruning() {
    let mut store = Datastore::new();
    create(&mut store, Node { attestation_data_type: "join_token".into(), ..node("agent") });
    create(&mut store, Node { cert_not_after: 5_001, ..node("next") });
    let aliases: Vec<_> = (0..limits::PRUNE_STEP_MAX + 1)
        .map(|number| entries::records::Entry {
            entry_id: format!("e{number}"),
            spiffe_id: format!("s{number}"),
            parent_id: "agent".into(),
            selectors: alias_selectors("agent"),
            ..Default::default()
        })
        .collect();
    for part in aliases.chunks(100) {
        store.plant_entries(part);
    }
    assert_eq!(batch(&mut store, prune(6_000, false, 0)), (0, true));
    assert!(fetch(&store, "agent").is_some() && !has_entry(&store, "e9000") && has_entry(&store, "e10000"));
    assert_eq!(removed(&mut store, prune(6_000, false, 0)), 2);
    assert!(fetch(&store, "agent").is_none() && fetch(&store, "next").is_none() && !has_entry(&store, "e10000"));
}
