//! Behaviour of nodes and their selectors, named after the contract's subcases.

mod changing;
mod listing;
mod pruning;

use super::Command;
use super::queries::{fetch_node, get_node_selectors};
use super::records::Node;
use crate::spire::fixture::Datastore;
use crate::spire::selectors::Selector;
use crate::spire::{self, Answer, NODES, entries};

const NOT_FOUND: &str = "datastore-sql: record not found";

fn node(spiffe_id: &str) -> Node {
    Node {
        spiffe_id: spiffe_id.into(),
        attestation_data_type: "aws-tag".into(),
        cert_serial_number: "badcafe".into(),
        cert_not_after: 5_000,
        new_cert_serial_number: "new badcafe".into(),
        new_cert_not_after: 6_000,
        can_reattest: true,
        agent_version: "1.2.3".into(),
    }
}

/// Selectors of type `T` with one value for each word.
fn selectors(values: &str) -> Vec<Selector> {
    values.split_whitespace().map(|value| Selector { kind: "T".into(), value: value.into() }).collect()
}

fn create(store: &mut Datastore, node: Node) -> Node {
    match store.submit(spire::Command::Node(Command::Create(Some(node)))) {
        Answer::Node(node) => node,
        other => panic!("creating a node answered {other:?}"),
    }
}

fn set_selectors(spiffe_id: &str, selectors: Vec<Selector>) -> spire::Command {
    spire::Command::Node(Command::SetSelectors { spiffe_id: spiffe_id.into(), selectors })
}

fn delete(spiffe_id: &str) -> spire::Command {
    spire::Command::Node(Command::Delete { spiffe_id: spiffe_id.into() })
}

fn fetch(store: &Datastore, spiffe_id: &str) -> Option<Node> {
    store.query(|reader, namespace| fetch_node(reader, namespace, spiffe_id)).unwrap()
}

fn stored_selectors(store: &Datastore, spiffe_id: &str) -> Vec<Selector> {
    store.query(|reader, namespace| get_node_selectors(reader, namespace, spiffe_id)).unwrap()
}

/// How many items the nodes stream has had.
fn announced(store: &Datastore) -> u64 {
    store.query(|reader, namespace| reader.stream(namespace, NODES).last.0)
}

/// The key of the newest item of the nodes stream, and whether it announces a change.
fn last_announced(store: &Datastore) -> (String, bool) {
    let after = crate::ids::StreamSequence(announced(store) - 1);
    let rows = store.query(|reader, namespace| reader.stream_rows(namespace, NODES, after, 1)).unwrap();
    (String::from_utf8(rows[0].key.to_vec()).unwrap(), rows[0].change.is_some())
}

fn create_entry(store: &mut Datastore, entry_id: &str, parent_id: &str, selectors: Vec<Selector>) {
    let entry = entries::records::Entry {
        entry_id: entry_id.into(),
        spiffe_id: format!("spiffe://td/{entry_id}"),
        parent_id: parent_id.into(),
        selectors,
        ..Default::default()
    };
    store.submit(spire::Command::Entry(entries::Command::CreateOrReturn(Some(entry))));
}

/// What SPIRE writes for the alias of a join token.
fn alias_selectors(parent_id: &str) -> Vec<Selector> {
    vec![Selector { kind: "spiffe_id".into(), value: parent_id.into() }]
}

fn has_entry(store: &Datastore, entry_id: &str) -> bool {
    store.query(|reader, namespace| entries::queries::fetch_entry(reader, namespace, entry_id)).unwrap().is_some()
}
