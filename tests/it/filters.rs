use steeple_client::types::{
    AttestedNodeFilter, MatchBehavior, RegistrationEntry, RegistrationEntryFilter as Filter, Selector,
};
use steeple_tests::check::case;
use steeple_tests::paging::all_pages;
use steeple_tests::records::{NOW, bundle, by_federates_with, by_selectors, entry, node, selector};
use steeple_tests::server::{namespace, run};

const BEHAVIORS: [MatchBehavior; 4] =
    [MatchBehavior::Exact, MatchBehavior::Subset, MatchBehavior::Superset, MatchBehavior::Any];

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts.iter().map(|text| text.split_once(':').unwrap()).map(|(kind, value)| selector(kind, value)).collect()
}

/// The worked examples of section 4.1, for entries and for nodes.
#[test]
fn the_worked_example_of_selectors() {
    const SETS: [(&str, &[&str]); 4] = [
        ("a", &["unix:uid:1", "unix:gid:7"]),
        ("b", &["unix:uid:1"]),
        ("c", &["k8s:ns:web"]),
        ("d", &["unix:uid:1", "unix:gid:7", "k8s:ns:web"]),
    ];
    const ROWS: [(&[&str], [&str; 4]); 4] = [
        (&["unix:uid:1"], ["b", "b", "abd", "abd"]),
        (&["unix:uid:1", "unix:gid:7"], ["a", "ab", "ad", "abd"]),
        (&["unix:gid:7", "k8s:ns:web"], ["", "c", "d", "acd"]),
        (&["k8s:ns:db"], ["", "", "", ""]),
    ];
    run(async {
        let datastore = namespace().await;
        for (name, set) in SETS {
            datastore.create_registration_entry(entry("p", name, selectors(set))).await.unwrap();
            datastore.create_attested_node(node(name, NOW)).await.unwrap();
            datastore.set_node_selectors(name, selectors(set)).await.unwrap();
        }
        for (set, results) in ROWS {
            for (matching, expected) in BEHAVIORS.into_iter().zip(results) {
                let _case = case(format!("{set:?} {matching:?}"));
                let filter = by_selectors(matching, selectors(set));
                let entries = Filter { by_selectors: Some(filter.clone()), ..Filter::default() };
                let found = datastore.list_registration_entries(entries.clone()).await.unwrap();
                assert_eq!(found.iter().map(|entry| entry.spiffe_id.as_str()).collect::<String>(), expected);
                let count = datastore.count_registration_entries(entries).await.unwrap();
                assert_eq!(count as usize, expected.len());
                let nodes = AttestedNodeFilter { by_selectors: Some(filter), ..Default::default() };
                let found = datastore.list_attested_nodes(nodes.clone(), false).await.unwrap();
                assert_eq!(found.iter().map(|node| node.spiffe_id.as_str()).collect::<String>(), expected);
                assert_eq!(datastore.count_attested_nodes(nodes).await.unwrap() as usize, expected.len());
            }
        }
    });
}

#[test]
fn the_worked_example_of_federation() {
    const SETS: [(&str, &[&str]); 5] =
        [("p", &["red"]), ("q", &["red", "blue"]), ("r", &["blue"]), ("s", &[]), ("t", &["red", "blue", "green"])];
    const ROWS: [(&[&str], [&str; 4]); 4] = [
        (&["red"], ["p", "p", "pqt", "pqt"]),
        (&["red", "blue"], ["q", "pqr", "qt", "pqrt"]),
        (&["blue", "green"], ["", "r", "t", "qrt"]),
        (&["white"], ["", "", "", ""]),
    ];
    run(async {
        let datastore = namespace().await;
        for id in ["red", "blue", "green"] {
            datastore.create_bundle(bundle(id, &[1])).await.unwrap();
        }
        for (name, set) in SETS {
            let federates_with = set.iter().map(|id| (*id).to_owned()).collect();
            let entry = RegistrationEntry { federates_with, ..entry("p", name, selectors(&["a:1"])) };
            datastore.create_registration_entry(entry).await.unwrap();
        }
        for (set, results) in ROWS {
            for (matching, expected) in BEHAVIORS.into_iter().zip(results) {
                let _case = case(format!("{set:?} {matching:?}"));
                let ids = set.iter().map(|id| (*id).to_owned()).collect();
                let filter = Filter { by_federates_with: Some(by_federates_with(matching, ids)), ..Filter::default() };
                let found = datastore.list_registration_entries(filter.clone()).await.unwrap();
                assert_eq!(found.iter().map(|entry| entry.spiffe_id.as_str()).collect::<String>(), expected);
                assert_eq!(datastore.count_registration_entries(filter).await.unwrap() as usize, expected.len());
            }
        }
    });
}

/// Quirks 1 and 2: the flag filters both ways, and before pages are cut.
#[test]
fn by_downstream() {
    run(async {
        let datastore = namespace().await;
        for number in 0..30 {
            let entry = RegistrationEntry {
                downstream: number % 10 == 9,
                ..entry(if number < 20 { "p" } else { "q" }, &format!("w{number}"), selectors(&["a:1"]))
            };
            datastore.create_registration_entry(entry).await.unwrap();
        }
        for (by_downstream, parent, expected) in
            [(None, "", 30), (Some(true), "", 3), (Some(false), "", 27), (Some(true), "p", 2), (Some(false), "q", 9)]
        {
            let _case = case(format!("{by_downstream:?} {parent:?}"));
            let filter = Filter { by_downstream, by_parent_id: parent.into(), ..Filter::default() };
            let found = datastore.list_registration_entries(filter.clone()).await.unwrap();
            assert_eq!(found.len(), expected);
            assert!(found.iter().all(|entry| by_downstream.is_none_or(|flag| entry.downstream == flag)));
            assert_eq!(datastore.count_registration_entries(filter.clone()).await.unwrap() as usize, expected);
            for size in [1, 2, 4] {
                let pages = all_pages(size, async |token| {
                    datastore.list_registration_entries_page(filter.clone(), token, size).await
                })
                .await;
                assert_eq!(pages.records, found);
            }
        }
    });
}

/// All texts are compared byte for byte, and in full.
#[test]
fn texts_are_compared_exactly() {
    run(async {
        let datastore = namespace().await;
        let new = entry("spiffe://Parent", "spiffe://Id", vec![selector("Type", "Value")]);
        datastore.create_registration_entry(RegistrationEntry { hint: "Hint".into(), ..new }).await.unwrap();
        let parent = |text: &str| Filter { by_parent_id: text.into(), ..Filter::default() };
        let id = |text: &str| Filter { by_spiffe_id: text.into(), ..Filter::default() };
        let hint = |text: &str| Filter { by_hint: text.into(), ..Filter::default() };
        let with = |kind: &str, value: &str| Filter {
            by_selectors: Some(by_selectors(MatchBehavior::Any, vec![selector(kind, value)])),
            ..Filter::default()
        };
        let rows = [
            (parent("spiffe://Parent"), 1),
            (parent("spiffe://parent"), 0),
            (parent("spiffe://Paren"), 0),
            (parent("spiffe://Parent "), 0),
            (id("spiffe://Id"), 1),
            (id("spiffe://id"), 0),
            (hint("Hint"), 1),
            (hint("hint"), 0),
            (with("Type", "Value"), 1),
            (with("type", "Value"), 0),
            (with("TypeV", "alue"), 0),
            (with("Typ", "eValue"), 0),
            (with("", "TypeValue"), 0),
        ];
        for (filter, expected) in rows {
            let count = datastore.count_registration_entries(filter.clone()).await.unwrap();
            assert_eq!(count, expected, "{filter:?}");
        }
    });
}

#[test]
fn a_filter_follows_updates_and_deletions() {
    run(async {
        let datastore = namespace().await;
        let with = |text: &str| Filter {
            by_selectors: Some(by_selectors(MatchBehavior::Superset, selectors(&[text]))),
            ..Filter::default()
        };
        let count = async |text| datastore.count_registration_entries(with(text)).await.unwrap();
        let created = datastore.create_registration_entry(entry("p", "w", selectors(&["a:1", "b:2"]))).await.unwrap();
        assert_eq!((count("a:1").await, count("b:2").await, count("c:3").await), (1, 1, 0));
        let update = RegistrationEntry { selectors: selectors(&["b:2", "c:3"]), ..created };
        let updated = datastore.update_registration_entry(update, None).await.unwrap();
        assert_eq!((count("a:1").await, count("b:2").await, count("c:3").await), (0, 1, 1));
        datastore.delete_registration_entry(updated.entry_id).await.unwrap();
        assert_eq!((count("a:1").await, count("b:2").await, count("c:3").await), (0, 0, 0));
    });
}
