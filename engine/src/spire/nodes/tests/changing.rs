//! Creating, fetching, updating, selectors and deleting (9.1 to 9.7, 10).

use super::*;
use crate::spire::nodes::commands::NodeMask;
use crate::spire::nodes::queries::{fetch_nodes, list_node_selectors, list_node_selectors_chunk};
use crate::spire::nodes::records::NodeSelectors;
use crate::spire::notices::notices;
use crate::spire::{Code, limits};

fn update(node: Node, mask: Option<NodeMask>) -> spire::Command {
    spire::Command::Node(Command::Update(Some(node), mask))
}

#[test]
fn create_and_fetch() {
    let mut store = Datastore::new();
    assert_eq!(fetch(&store, "foo"), None);
    assert_eq!(create(&mut store, node("foo")), node("foo"));
    assert_eq!(fetch(&store, "foo"), Some(node("foo")));
    assert_eq!(fetch(&store, "Foo"), None, "comparison is exact");
    assert_eq!(last_announced(&store), ("foo".into(), true));
    create(&mut store, Node { spiffe_id: "bare".into(), ..Node::default() });
    assert_eq!(announced(&store), 2);
}

#[test]
fn create_refuses() {
    let mut store = Datastore::new();
    create(&mut store, node("foo"));
    let taken = "datastore-sql: UNIQUE constraint failed: attested_node_entries.spiffe_id";
    let missing = "datastore-sql: invalid request: missing attested node";
    let long = Node { agent_version: "v".repeat(2049), ..node("bar") };
    let cases = [
        (Some(node("foo")), Code::AlreadyExists, taken),
        (None, Code::InvalidArgument, missing),
        (Some(node(&"x".repeat(2049))), Code::InvalidArgument, "SPIFFE ID is 2049 bytes long, 2048 are allowed"),
        (Some(long), Code::InvalidArgument, "agent version is 2049 bytes long, 2048 are allowed"),
    ];
    for (node, code, text) in cases {
        assert_eq!(store.refuse(spire::Command::Node(Command::Create(node))), (code, text.into()));
    }
    assert_eq!(
        store.refuse(spire::Command::Node(Command::Update(None, None))),
        (Code::InvalidArgument, missing.into())
    );
}

/// Cases of `TestFetchAttestedNodes`.
#[test]
fn fetch_several_with_selectors() {
    let mut store = Datastore::new();
    for spiffe_id in ["n1", "n2", "n3", "gone"] {
        create(&mut store, node(spiffe_id));
    }
    store.submit(set_selectors("n2", selectors("b a")));
    store.submit(set_selectors("orphan", selectors("a")));
    store.submit(delete("gone"));
    let cases: [(&str, &[&str], &[&str]); 5] = [
        ("No nodes", &[], &[]),
        ("Nodes 1 and 2", &["n2", "n1"], &["n2", "n1"]),
        ("Nodes 1, 2, and 3, one of them twice", &["n1", "n2", "n3", "n1"], &["n1", "n2", "n3"]),
        ("Deleted node", &["gone"], &[]),
        ("empty, unknown and without node", &["", "unknown", "orphan"], &[]),
    ];
    for (name, ids, expected) in cases {
        let found = store.query(|reader, namespace| fetch_nodes(reader, namespace, ids)).unwrap();
        let found: Vec<_> = found.into_iter().map(|found| (found.node.spiffe_id.clone(), found.selectors)).collect();
        let expected: Vec<_> =
            expected.iter().map(|id| ((*id).to_owned(), if *id == "n2" { selectors("b a") } else { vec![] })).collect();
        assert_eq!(found, expected, "{name}");
    }
    let too_many = vec!["x"; limits::KEYS_MAX + 1];
    assert!(store.query(|reader, namespace| fetch_nodes(reader, namespace, &too_many)).is_err());
}

/// Cases of `TestUpdateAttestedNode`.
#[test]
fn update_by_mask() {
    let input = Node {
        spiffe_id: "foo".into(),
        attestation_data_type: "other".into(),
        cert_serial_number: String::new(),
        cert_not_after: 7_000,
        new_cert_serial_number: String::new(),
        new_cert_not_after: 0,
        can_reattest: false,
        agent_version: "2.0.0".into(),
    };
    let none = NodeMask::default();
    let cases: [(&str, Option<NodeMask>, Node); 6] = [
        ("update attested node with all false mask", Some(none), node("foo")),
        (
            "update attested node with mask set only some fields: 'CertSerialNumber', 'NewCertNotAfter'",
            Some(NodeMask { cert_serial_number: true, new_cert_not_after: true, ..none }),
            Node { cert_serial_number: String::new(), new_cert_not_after: 0, ..node("foo") },
        ),
        ("update attested node with nil mask", None, Node { attestation_data_type: "aws-tag".into(), ..input.clone() }),
        (
            "update attested node agent version only",
            Some(NodeMask { agent_version: true, ..none }),
            Node { agent_version: "2.0.0".into(), ..node("foo") },
        ),
        (
            "expiry and new serial number",
            Some(NodeMask { cert_not_after: true, new_cert_serial_number: true, ..none }),
            Node { cert_not_after: 7_000, new_cert_serial_number: String::new(), ..node("foo") },
        ),
        ("can reattest", Some(NodeMask { can_reattest: true, ..none }), Node { can_reattest: false, ..node("foo") }),
    ];
    for (name, mask, expected) in cases {
        let mut store = Datastore::new();
        let absent = store.refuse(update(input.clone(), mask));
        assert_eq!(absent, (Code::NotFound, NOT_FOUND.into()), "update non-existing attested node");
        create(&mut store, node("foo"));
        assert_eq!(store.submit(update(input.clone(), mask)), Answer::Node(expected.clone()), "{name}");
        assert_eq!(fetch(&store, "foo"), Some(expected), "{name}");
        assert_eq!(announced(&store), 2, "{name}");
    }
}

#[test]
fn selectors_are_replaced_cleared_and_kept_apart() {
    let mut store = Datastore::new();
    store.submit(set_selectors("other", selectors("x")));
    for (values, changes) in [("b a c", true), ("b a c", false), ("a b c", true), ("d", true), ("", true), ("", false)]
    {
        assert_eq!(store.submit(set_selectors("foo", selectors(values))), Answer::Nothing);
        assert_eq!(stored_selectors(&store, "foo"), selectors(values));
        assert_eq!(last_announced(&store), ("foo".into(), changes), "{values}");
    }
    assert_eq!(announced(&store), 7, "every call is announced");
    assert_eq!(stored_selectors(&store, "other"), selectors("x"));
    let refusal = store.refuse(set_selectors("foo", selectors("a b a")));
    let text = "datastore-sql: UNIQUE constraint failed: node_selectors.type_value";
    assert_eq!(refusal, (Code::AlreadyExists, text.into()));
    let large = vec![Selector { kind: "T".into(), value: "v".repeat(limits::SELECTOR_VALUE_BYTES_MAX + 1) }];
    assert_eq!(store.refuse(set_selectors("foo", large)).0, Code::InvalidArgument);
    let many = (0..9_000).map(|number| Selector { kind: "T".into(), value: format!("{number:0128}") }).collect();
    let (code, text) = store.refuse(set_selectors("foo", many));
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.starts_with("list of node selectors is "), "{text}");
}

/// Cases of `TestListNodeSelectors`.
#[test]
fn list_selectors() {
    let mut store = Datastore::new();
    let list = |store: &Datastore, valid_at| {
        store.query(|reader, namespace| list_node_selectors(reader, namespace, valid_at)).unwrap()
    };
    assert_eq!(list(&store, 0), [], "no selectors exist");
    for (spiffe_id, expiry) in [("expired", 1_000), ("exact", 2_000), ("valid", 2_001), ("bare", 9_000)] {
        create(&mut store, Node { cert_not_after: expiry, ..node(spiffe_id) });
    }
    for spiffe_id in ["orphan", "valid", "exact", "expired"] {
        store.submit(set_selectors(spiffe_id, selectors("b a")));
    }
    let of = |ids: &[&str]| -> Vec<NodeSelectors> {
        ids.iter().map(|id| NodeSelectors { spiffe_id: (*id).into(), selectors: selectors("b a") }).collect()
    };
    assert_eq!(list(&store, 0), of(&["orphan", "valid", "exact", "expired"]), "list all");
    assert_eq!(list(&store, 2_000), of(&["valid"]), "list unexpired, strictly");
    assert_eq!(list(&store, 1_999), of(&["valid", "exact"]));
    assert_eq!(list(&store, i64::MAX), []);
    for limit in [1, 2, 4, 5] {
        let (mut ids, mut after) = (Vec::new(), Some(crate::ids::Sequence::ZERO));
        while let Some(start) = after {
            let chunk = store
                .query(|reader, namespace| list_node_selectors_chunk(reader, namespace, 1_999, start, limit))
                .unwrap();
            ids.extend(chunk.items.iter().map(|record| NodeSelectors::decode(&record.body).unwrap().spiffe_id));
            after = chunk.next;
        }
        assert_eq!(ids, ["valid", "exact"], "limit {limit}");
    }
}

/// Cases of `TestDeleteAttestedNode`.
#[test]
fn delete_takes_the_node_s_selectors() {
    let mut store = Datastore::new();
    let absent = (Code::NotFound, NOT_FOUND.to_owned());
    assert_eq!(store.refuse(delete("foo")), absent, "delete non-existing attested node");
    store.submit(set_selectors("other", selectors("a")));
    for (name, values) in [("that don't have selectors associated", ""), ("with associated selectors", "d c b a")] {
        create(&mut store, node("foo"));
        store.submit(set_selectors("foo", selectors(values)));
        let before = announced(&store);
        assert_eq!(store.submit(delete("foo")), Answer::Node(node("foo")), "{name}");
        assert_eq!(fetch(&store, "foo"), None, "{name}");
        assert_eq!(stored_selectors(&store, "foo"), [], "{name}");
        assert_eq!(announced(&store), before + 1, "{name}");
        assert_eq!(store.refuse(delete("foo")), absent, "{name}");
    }
    assert_eq!(stored_selectors(&store, "other"), selectors("a"));
}

#[test]
fn delete_cascades_to_the_alias_of_a_join_token_only() {
    for (attestation, cascades) in [("join_token", true), ("x509pop", false), ("JOIN_TOKEN", false)] {
        let mut store = Datastore::new();
        create(&mut store, Node { attestation_data_type: attestation.into(), ..node("agent") });
        store.submit(set_selectors("agent", selectors("a")));
        let two = [alias_selectors("agent"), selectors("a")].concat();
        create_entry(&mut store, "alias", "agent", alias_selectors("agent"));
        create_entry(&mut store, "child", "agent", selectors("a"));
        create_entry(&mut store, "two", "agent", two);
        create_entry(&mut store, "elsewhere", "other", alias_selectors("agent"));
        create_entry(&mut store, "otherwise", "agent", alias_selectors("other"));
        let before = store.registrations(0).len() as u64;
        assert!(matches!(store.submit(delete("agent")), Answer::Node(_)), "{attestation}");

        assert_eq!(has_entry(&store, "alias"), !cascades, "{attestation}");
        for kept in ["child", "two", "elsewhere", "otherwise"] {
            assert!(has_entry(&store, kept), "{attestation} {kept}");
        }
        let keys: Vec<_> = store.registrations(before).iter().map(|row| row.key.to_vec()).collect();
        assert_eq!(keys, if cascades { vec![b"alias".to_vec()] } else { vec![] }, "{attestation}");
        assert_eq!(stored_selectors(&store, "agent"), [], "{attestation}");

        let lines = notices(&delete("agent"), &store.last_event().changes).unwrap();
        assert_eq!(lines.len(), usize::from(cascades), "{attestation}");
        for line in lines {
            assert_eq!(line.message(), "Cascade-deleted registration entry on attested node deletion");
            let fields = [("spiffe_id", "spiffe://td/alias"), ("parent_id", "agent"), ("entry_id", "alias")];
            assert_eq!(line.fields(), fields.map(|(name, value)| (name, value.to_owned())));
        }
    }
}

#[test]
fn a_large_cascade_goes_in_steps_and_the_node_with_the_last() {
    let mut store = Datastore::new();
    create(&mut store, Node { attestation_data_type: "join_token".into(), ..node("agent") });
    let aliases: Vec<_> = (0..2 * limits::CASCADE_MAX + 1)
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
    let step = Answer::Progress { changed: limits::CASCADE_MAX as u64, more: true };
    assert_eq!(store.submit(delete("agent")), step);
    assert!(fetch(&store, "agent").is_some());
    assert_eq!(store.submit(delete("agent")), step);
    assert!(matches!(store.submit(delete("agent")), Answer::Node(_)));
    assert_eq!(store.registrations(0).len(), aliases.len());
    assert!(fetch(&store, "agent").is_none() && !has_entry(&store, "e2000"));
}
