use steeple_client::Namespace;
use steeple_client::types::MatchBehavior::{self, Any, Exact, Subset, Superset};
use steeple_client::types::{AttestedNode, AttestedNodeFilter as Filter};
use steeple_tests::check::{case, refused};
use steeple_tests::paging::{all_pages, tokens};
use steeple_tests::records::{MICROS, NOW, by_selectors, selector};
use steeple_tests::server::{namespace, run};
use tokio_stream::StreamExt;
use tonic::Code;

const EXPIRED: i64 = NOW - 3600;
const VALID: i64 = NOW + 3600;

/// Name, type, expiry, banned, may attest again, selectors.
type Listed = (char, &'static str, i64, bool, bool, &'static [&'static str]);

const NODES: [Listed; 10] = [
    ('A', "T1", EXPIRED, false, false, &["S1"]),
    ('B', "T2", EXPIRED, false, false, &["S1"]),
    ('C', "T1", EXPIRED, false, false, &["S2"]),
    ('D', "T2", EXPIRED, false, false, &["S2"]),
    ('E', "T1", VALID, true, false, &["S1", "S2"]),
    ('F', "T2", VALID, true, false, &["S1", "S3"]),
    ('G', "T1", VALID, true, false, &["S2", "S3"]),
    ('H', "T2", VALID, true, false, &["S2", "S3"]),
    ('I', "T1", VALID, false, true, &["S1"]),
    ('J', "T1", NOW, false, false, &["S1", "S2"]),
];

fn named(name: char) -> AttestedNode {
    let (_, kind, expiry, banned, can_reattest, selectors) =
        NODES.into_iter().find(|node| node.0 == name).expect("a node of this name");
    AttestedNode {
        spiffe_id: format!("spiffe://example.org/{name}"),
        attestation_data_type: kind.into(),
        cert_serial_number: if banned { String::new() } else { format!("serial of {name}") },
        cert_not_after: expiry,
        can_reattest,
        agent_version: format!("version of {name}"),
        selectors: selectors.iter().map(|value| selector("S", value)).collect(),
        ..Default::default()
    }
}

async fn load(names: &str) -> (Namespace, Vec<AttestedNode>) {
    let datastore = namespace().await;
    let nodes: Vec<_> = names.chars().map(named).collect();
    for node in &nodes {
        datastore.create_attested_node(node.clone()).await.unwrap();
        datastore.set_node_selectors(node.spiffe_id.as_str(), node.selectors.clone()).await.unwrap();
    }
    (datastore, nodes)
}

fn all() -> Filter {
    Filter::default()
}

fn of_type() -> Filter {
    Filter { by_attestation_type: "T1".into(), ..all() }
}

fn banned(banned: bool) -> Filter {
    Filter { by_banned: Some(banned), ..all() }
}

fn with(matching: MatchBehavior, selectors: &[&str]) -> Filter {
    let selectors = selectors.iter().map(|value| selector("S", value)).collect();
    Filter { by_selectors: Some(by_selectors(matching, selectors)), ..all() }
}

fn expired() -> Filter {
    Filter { by_expires_before_micros: NOW * MICROS, ..all() }
}

/// Case, nodes, filter, positions, page size.
type Row = (&'static str, &'static str, Filter, &'static [usize], usize);

fn rows() -> Vec<Row> {
    let everything = Filter {
        by_banned: Some(false),
        by_can_reattest: Some(false),
        by_attestation_type: "T1".into(),
        ..with(Subset, &["S1"])
    };
    vec![
        ("without attested nodes", "", all(), &[], 1),
        ("with partial page", "A", all(), &[1], 2),
        ("with full page", "AB", all(), &[1, 2], 2),
        ("with page and a half", "ABC", all(), &[1, 2, 3], 2),
        ("by expires before", "AEBFGC", expired(), &[1, 3, 6], 1),
        ("by valid at", "AEJ", Filter { valid_at_micros: (NOW - 60) * MICROS, ..all() }, &[2, 3], 1),
        ("by attestation type", "ABCDE", of_type(), &[1, 3, 5], 1),
        ("by banned", "AEFB", banned(true), &[2, 3], 1),
        ("by unbanned", "AEFB", banned(false), &[1, 4], 1),
        ("banned undefined", "AEFB", all(), &[1, 2, 3, 4], 1),
        ("by selector subset", "ABCDEFGH", with(Subset, &["S1"]), &[1, 2], 1),
        ("by selectors subset", "ABCDEFGH", with(Subset, &["S1", "S3"]), &[1, 2, 6], 1),
        ("by selector exact", "ABCDEFGH", with(Exact, &["S1"]), &[1, 2], 1),
        ("by selectors exact", "ABCDEFGH", with(Exact, &["S1", "S3"]), &[6], 1),
        ("by selector match any", "ABCDEFGH", with(Any, &["S1"]), &[1, 2, 5, 6], 1),
        ("by selectors match any", "ABCDEFGH", with(Any, &["S1", "S3"]), &[1, 2, 5, 6, 7, 8], 1),
        ("by selector superset", "ABCDEFGH", with(Superset, &["S1"]), &[1, 2, 5, 6], 1),
        ("by selectors superset", "ABCDEFGH", with(Superset, &["S1", "S2"]), &[5], 1),
        ("by CanReattest=true", "AI", Filter { by_can_reattest: Some(true), ..of_type() }, &[2], 1),
        ("by CanReattest=false", "AI", Filter { by_can_reattest: Some(false), ..of_type() }, &[1], 1),
        (
            "by attestation type and selector subset",
            "ABCDE",
            Filter { by_attestation_type: "T1".into(), ..with(Subset, &["S1"]) },
            &[1],
            1,
        ),
        ("all filters", "AEBFGC", Filter { by_expires_before_micros: NOW * MICROS, ..everything }, &[1], 1),
    ]
}

async fn check(row: &Row) {
    let (name, load_names, filter, positions, size) = row;
    let (datastore, nodes) = load(load_names).await;
    for fetch_selectors in [false, true] {
        let expected: Vec<_> = positions
            .iter()
            .map(|position| nodes[position - 1].clone())
            .map(|node| AttestedNode { selectors: if fetch_selectors { node.selectors } else { vec![] }, ..node })
            .collect();
        let selectors = if fetch_selectors { "with" } else { "without" };

        let _case = case(format!("{name}, {selectors} selectors, unpaginated"));
        assert_eq!(datastore.list_attested_nodes(filter.clone(), fetch_selectors).await.unwrap(), expected);
        let stream = datastore.stream_attested_nodes(filter.clone(), fetch_selectors).await.unwrap();
        assert_eq!(stream.collect::<Result<Vec<_>, _>>().await.unwrap(), expected);

        let _case = case(format!("{name}, {selectors} selectors, paginated"));
        let page_size = i32::try_from(*size).unwrap();
        let pages = all_pages(page_size, async |token| {
            datastore.list_attested_nodes_page(filter.clone(), fetch_selectors, token, page_size).await
        })
        .await;
        assert_eq!(pages.records, expected);
        assert_eq!(pages.tokens, tokens(positions, *size));
    }
    let count = datastore.count_attested_nodes(filter.clone()).await.unwrap();
    assert_eq!(usize::try_from(count).unwrap(), positions.len());
}

#[test]
fn test_list_attested_nodes() {
    run(async {
        let rows = rows();
        assert_eq!(rows.len(), 22);
        for row in &rows {
            let _case = case(row.0);
            check(row).await;
        }
    });
}

// ---- what the suite does not cover

#[test]
fn wrong_requests_are_told_apart() {
    run(async {
        let (datastore, _) = load("A").await;
        let empty = || with(Exact, &[]);
        let text = "cannot list by empty selectors set";
        refused(datastore.list_attested_nodes(empty(), false).await, Code::InvalidArgument, text);
        refused(datastore.count_attested_nodes(empty()).await, Code::InvalidArgument, text);
        refused(
            datastore.list_attested_nodes_page(empty(), false, "x", 0).await,
            Code::InvalidArgument,
            "cannot paginate with pagesize = 0",
        );
        refused(datastore.list_attested_nodes_page(empty(), false, "x", 1).await, Code::InvalidArgument, text);
        refused(
            datastore.list_attested_nodes_page(all(), false, "x", 1).await,
            Code::InvalidArgument,
            "could not parse token 'x'",
        );
    });
}

#[test]
fn spiffe_ids_combine_with_other_filters() {
    run(async {
        let (datastore, nodes) = load("ABCE").await;
        let ids = |names: &str| names.chars().map(|name| named(name).spiffe_id).collect::<Vec<_>>();
        let rows = [
            ("one", Filter { by_spiffe_ids: ids("B"), ..all() }, vec![2]),
            ("several in another order, one twice", Filter { by_spiffe_ids: ids("ECBC"), ..all() }, vec![2, 3, 4]),
            ("unknown and empty", Filter { by_spiffe_ids: vec!["x".into(), String::new()], ..all() }, vec![]),
            ("and type", Filter { by_spiffe_ids: ids("ABC"), ..of_type() }, vec![1, 3]),
            ("and selectors", Filter { by_spiffe_ids: ids("ABE"), ..with(Superset, &["S1"]) }, vec![1, 2, 4]),
            ("and banned", Filter { by_spiffe_ids: ids("ABE"), ..banned(true) }, vec![4]),
        ];
        for (name, filter, expected) in rows {
            let _case = case(name);
            let expected: Vec<_> = expected.iter().map(|position| nodes[position - 1].clone()).collect();
            assert_eq!(datastore.list_attested_nodes(filter.clone(), true).await.unwrap(), expected);
            let count = datastore.count_attested_nodes(filter.clone()).await.unwrap();
            assert_eq!(usize::try_from(count).unwrap(), expected.len());
            let pages =
                all_pages(1, async |token| datastore.list_attested_nodes_page(filter.clone(), true, token, 1).await)
                    .await;
            assert_eq!(pages.records, expected);
        }
    });
}

/// Section 16: before is exclusive, valid is inclusive, to the microsecond.
#[test]
fn expiries_are_compared_with_the_instant_as_given() {
    run(async {
        let (datastore, _) = load("J").await;
        let instant = NOW * MICROS;
        for (micros, before, valid) in
            [(instant - 1, 0, 1), (instant, 0, 1), (instant + 1, 1, 0), (instant + MICROS, 1, 0), (0, 1, 1)]
        {
            let _case = case(format!("{micros}"));
            let filter = Filter { by_expires_before_micros: micros, ..all() };
            assert_eq!(datastore.count_attested_nodes(filter.clone()).await.unwrap(), before);
            assert_eq!(datastore.list_attested_nodes(filter, false).await.unwrap().len(), before as usize);
            let filter = Filter { valid_at_micros: micros, ..all() };
            assert_eq!(datastore.list_attested_nodes(filter, false).await.unwrap().len(), valid as usize);
        }
    });
}

#[test]
fn a_node_without_selectors_matches_no_selector_filter() {
    run(async {
        let (datastore, nodes) = load("AE").await;
        datastore.set_node_selectors(nodes[0].spiffe_id.as_str(), vec![]).await.unwrap();
        // Selectors of an ID without a node match nothing either.
        datastore.set_node_selectors("spiffe://example.org/orphan", vec![selector("S", "S1")]).await.unwrap();
        for (matching, expected) in [(Exact, 0), (Subset, 0), (Superset, 1), (Any, 1)] {
            let found = datastore.list_attested_nodes(with(matching, &["S1"]), true).await.unwrap();
            assert_eq!(found, nodes[2 - expected..], "{matching:?}");
        }
    });
}
