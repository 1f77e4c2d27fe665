use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use steeple_client::Namespace;
use steeple_client::types::Selector;
use steeple_tests::check::{case, refused};
use steeple_tests::records::{MICROS, NOW, node, node_event_ids, selector};
use steeple_tests::server::{namespace, run};
use tonic::Code;

/// Current at once, stale within a second.
async fn assert_selectors(datastore: &Namespace, spiffe_id: &str, expected: &[Selector]) {
    assert_eq!(datastore.get_node_selectors(spiffe_id).await.unwrap(), expected);
    let started = Instant::now();
    while datastore.stale().get_node_selectors(spiffe_id).await.unwrap() != expected {
        assert!(started.elapsed() < Duration::from_secs(1), "a stale read did not converge");
    }
}

#[test]
fn test_node_selectors() {
    run(async {
        let datastore = namespace().await;
        let foo = [selector("FOO2", "2"), selector("FOO1", "1")];
        let foo_again = [selector("FOO3", "3"), selector("FOO4", "4")];
        let bar = [selector("BAR1", "1"), selector("BAR2", "2")];
        assert_selectors(&datastore, "foo", &[]).await;
        assert_selectors(&datastore, "bar", &[]).await;
        datastore.set_node_selectors("foo", foo.to_vec()).await.unwrap();
        assert_selectors(&datastore, "foo", &foo).await;
        assert_selectors(&datastore, "bar", &[]).await;
        datastore.set_node_selectors("bar", bar.to_vec()).await.unwrap();
        assert_selectors(&datastore, "foo", &foo).await;
        assert_selectors(&datastore, "bar", &bar).await;
        datastore.set_node_selectors("foo", foo_again.to_vec()).await.unwrap();
        assert_selectors(&datastore, "foo", &foo_again).await;
        assert_selectors(&datastore, "bar", &bar).await;
        datastore.set_node_selectors("foo", vec![]).await.unwrap();
        assert_selectors(&datastore, "foo", &[]).await;
        assert_selectors(&datastore, "bar", &bar).await;
        assert_eq!(node_event_ids(&datastore).await, [1, 2, 3, 4]);
    });
}

async fn listed(datastore: &Namespace, valid_at_micros: i64) -> BTreeMap<String, Vec<Selector>> {
    let mut map = BTreeMap::new();
    for node in datastore.list_node_selectors(valid_at_micros).await.unwrap() {
        assert_eq!(map.insert(node.spiffe_id, node.selectors), None, "an ID is listed twice");
    }
    map
}

#[test]
fn test_list_node_selectors() {
    run(async {
        let _case = case("no selectors exist");
        let datastore = namespace().await;
        datastore.create_attested_node(node("without", NOW + 60)).await.unwrap();
        assert_eq!(listed(&datastore, 0).await, BTreeMap::new());

        let (mut all, mut unexpired) = (BTreeMap::new(), BTreeMap::new());
        for (number, expiry) in [NOW - 60, NOW + 60, NOW - 1, NOW + 1].into_iter().enumerate() {
            let id = format!("spiffe://example.org/node{number}");
            datastore.create_attested_node(node(&id, expiry)).await.unwrap();
            let selectors = vec![selector("S2", &id), selector("S1", &id)];
            datastore.set_node_selectors(id.as_str(), selectors.clone()).await.unwrap();
            if expiry > NOW {
                unexpired.insert(id.clone(), selectors.clone());
            }
            all.insert(id, selectors);
        }
        for datastore in [datastore.clone(), datastore.stale()] {
            let _case = case("list all");
            assert_eq!(listed(&datastore, 0).await, all);
            let _case = case("list unexpired");
            assert_eq!(listed(&datastore, NOW * MICROS).await, unexpired);
        }
    });
}

/// The part of TestListNodeSelectorsGroupsBySpiffeID that does not depend on SQL rows.
#[test]
fn selectors_are_grouped_however_they_were_written() {
    run(async {
        let datastore = namespace().await;
        let ids = ["node1", "node2", "node3"];
        for round in 1..=3usize {
            for id in ids {
                let selectors = (0..round).map(|number| selector(id, &number.to_string())).collect();
                datastore.set_node_selectors(id, selectors).await.unwrap();
            }
        }
        let expected = ids.map(|id| (id.to_owned(), (0..3).map(|number| selector(id, &number.to_string())).collect()));
        assert_eq!(listed(&datastore, 0).await, BTreeMap::from(expected));
    });
}

#[test]
fn test_set_node_selectors_under_load() {
    run(async {
        let datastore = namespace().await;
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..20 {
            let datastore = datastore.clone();
            workers.spawn(async move {
                let id = format!("ID{worker}");
                for round in 0..10 {
                    let selectors = vec![selector("TYPE", "VALUE"), selector("ROUND", &round.to_string())];
                    datastore.set_node_selectors(id.as_str(), selectors).await.unwrap();
                }
            });
        }
        workers.join_all().await;
        assert_eq!(node_event_ids(&datastore).await, (1..=200).collect::<Vec<_>>());
        let expected = [selector("TYPE", "VALUE"), selector("ROUND", "9")];
        assert!(listed(&datastore, 0).await.values().all(|selectors| *selectors == expected));
    });
}

// ---- what the suite does not cover

/// Section 16: the list is exclusive where the node list is inclusive, to the microsecond (quirk 17).
#[test]
fn validity_is_exclusive() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(node("foo", NOW)).await.unwrap();
        datastore.set_node_selectors("foo", vec![selector("a", "1")]).await.unwrap();
        for (micros, listed_count) in [(NOW * MICROS - 1, 1), (NOW * MICROS, 0), (NOW * MICROS + 1, 0)] {
            assert_eq!(listed(&datastore, micros).await.len(), listed_count, "{micros}");
        }
    });
}

/// Quirk 28: selectors belong to SPIFFE IDs.
#[test]
fn the_unfiltered_list_has_ids_without_nodes() {
    run(async {
        let datastore = namespace().await;
        let selectors = vec![selector("a", "1")];
        datastore.create_attested_node(node("node", NOW + 60)).await.unwrap();
        datastore.set_node_selectors("node", selectors.clone()).await.unwrap();
        datastore.set_node_selectors("orphan", selectors.clone()).await.unwrap();
        let ids = async |micros| listed(&datastore, micros).await.into_keys().collect::<Vec<_>>();
        assert_eq!(ids(0).await, ["node", "orphan"]);
        assert_eq!(ids(NOW * MICROS).await, ["node"]);
        // A deleted node takes its selectors along; set again they are an orphan's.
        datastore.delete_attested_node("node").await.unwrap();
        assert_eq!(ids(0).await, ["orphan"]);
        datastore.set_node_selectors("node", selectors).await.unwrap();
        assert_eq!(ids(0).await, ["node", "orphan"]);
        assert_eq!(ids(NOW * MICROS).await, [""; 0]);
    });
}

#[test]
fn a_selector_is_given_once() {
    run(async {
        let datastore = namespace().await;
        datastore.set_node_selectors("foo", vec![selector("a", "1")]).await.unwrap();
        let doubled = vec![selector("a", "2"), selector("b", "2"), selector("a", "2")];
        refused(
            datastore.set_node_selectors("foo", doubled).await,
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: node_selectors.type_value",
        );
        assert_eq!(datastore.get_node_selectors("foo").await.unwrap(), [selector("a", "1")]);
        assert_eq!(node_event_ids(&datastore).await, [1]);
    });
}
