//! Listing and counting (4.4, 9.4, 9.5).

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ids::Sequence;
use crate::spire::Code;
use crate::spire::fixture::CountingReader;
use crate::spire::nodes::queries::{
    ListNodes, NodeFilter, NodeWithSelectors, count_nodes, list_nodes, list_nodes_chunk,
};
use crate::spire::pages::{CHUNK_BYTES, Page, PageRequest};
use crate::spire::selectors::{Match, SelectorFilter};
use crate::view::Reader;

const NOW: i64 = 10_000;
const HOUR: i64 = 3_600;

/// A node of the contract's fixture, A to J.
fn fixture(letter: char) -> NodeWithSelectors {
    let (attestation, expiry, banned, can_reattest, values) = match letter {
        'A' => ("T1", NOW - HOUR, false, false, "S1"),
        'B' => ("T2", NOW - HOUR, false, false, "S1"),
        'C' => ("T1", NOW - HOUR, false, false, "S2"),
        'D' => ("T2", NOW - HOUR, false, false, "S2"),
        'E' => ("T1", NOW + HOUR, true, false, "S1 S2"),
        'F' => ("T2", NOW + HOUR, true, false, "S1 S3"),
        'G' => ("T1", NOW + HOUR, true, false, "S2 S3"),
        'H' => ("T2", NOW + HOUR, true, false, "S2 S3"),
        'I' => ("T1", NOW + HOUR, false, true, "S1"),
        'J' => ("T1", NOW, false, false, "S1 S2"),
        other => panic!("no such node: {other}"),
    };
    let node = Node {
        spiffe_id: format!("spiffe://td/{letter}"),
        attestation_data_type: attestation.into(),
        cert_serial_number: if banned { String::new() } else { "serial".into() },
        cert_not_after: expiry,
        can_reattest,
        agent_version: "1.2.3".into(),
        ..Node::default()
    };
    NodeWithSelectors { node, selectors: selectors(values) }
}

fn store_node(store: &mut Datastore, node: &NodeWithSelectors) {
    create(store, node.node.clone());
    store.submit(set_selectors(&node.node.spiffe_id, node.selectors.clone()));
}

fn list(
    store: &Datastore,
    filter: &NodeFilter,
    fetch_selectors: bool,
    page: Option<PageRequest>,
) -> Page<NodeWithSelectors> {
    let request = ListNodes { filter: filter.clone(), fetch_selectors, page };
    store.query(|reader, namespace| list_nodes(reader, namespace, &request)).unwrap()
}

fn list_by_pages(
    store: &Datastore,
    filter: &NodeFilter,
    fetch_selectors: bool,
    page_size: i32,
) -> (Vec<NodeWithSelectors>, Vec<String>) {
    let (mut nodes, mut tokens) = (Vec::new(), vec![String::new()]);
    loop {
        let token = tokens.last().unwrap().clone();
        let page = list(store, filter, fetch_selectors, Some(PageRequest { token, page_size }));
        let response = page.response.unwrap();
        assert_eq!((response.page_size, response.token.is_empty()), (page_size, page.items.is_empty()));
        if page.items.is_empty() {
            return (nodes, tokens);
        }
        nodes.extend(page.items);
        tokens.push(response.token);
    }
}

fn by_selectors(matching: Match, values: &str) -> NodeFilter {
    let filter = SelectorFilter { matching, selectors: selectors(values) };
    NodeFilter { selectors: Some(filter), ..NodeFilter::default() }
}

/// The 22 cases of `TestListAttestedNodes`, and a few for what it leaves out.
#[test]
fn list_attested_nodes() {
    let any = NodeFilter::default;
    let of_type = |attestation: &str| NodeFilter { attestation_type: attestation.into(), ..any() };
    let banned = |banned| NodeFilter { banned, ..any() };
    let reattest = |can_reattest| NodeFilter { can_reattest: Some(can_reattest), ..of_type("T1") };
    let ids = |letters: &str| NodeFilter {
        spiffe_ids: letters.chars().map(|letter| format!("spiffe://td/{letter}")).collect(),
        ..any()
    };
    let all_filters = NodeFilter {
        attestation_type: "T1".into(),
        banned: Some(false),
        expires_before: NOW,
        can_reattest: Some(false),
        ..by_selectors(Match::Subset, "S1")
    };
    let cases: Vec<(&str, &str, NodeFilter, i32, &[usize])> = vec![
        ("without attested nodes", "", any(), 1, &[]),
        ("with partial page", "A", any(), 2, &[1]),
        ("with full page", "AB", any(), 2, &[1, 2]),
        ("with page and a half", "ABC", any(), 2, &[1, 2, 3]),
        ("by expires before", "AEBFGC", NodeFilter { expires_before: NOW, ..any() }, 1, &[1, 3, 6]),
        ("by valid at", "AEJ", NodeFilter { valid_at: NOW - 60, ..any() }, 1, &[2, 3]),
        ("by attestation type", "ABCDE", of_type("T1"), 1, &[1, 3, 5]),
        ("by banned", "AEFB", banned(Some(true)), 1, &[2, 3]),
        ("by unbanned", "AEFB", banned(Some(false)), 1, &[1, 4]),
        ("banned undefined", "AEFB", banned(None), 1, &[1, 2, 3, 4]),
        ("by selector subset", "ABCDEFGH", by_selectors(Match::Subset, "S1"), 1, &[1, 2]),
        ("by selectors subset", "ABCDEFGH", by_selectors(Match::Subset, "S1 S3"), 1, &[1, 2, 6]),
        ("by selector exact", "ABCDEFGH", by_selectors(Match::Exact, "S1"), 1, &[1, 2]),
        ("by selectors exact", "ABCDEFGH", by_selectors(Match::Exact, "S1 S3"), 1, &[6]),
        ("by selector match any", "ABCDEFGH", by_selectors(Match::Any, "S1"), 1, &[1, 2, 5, 6]),
        ("by selectors match any", "ABCDEFGH", by_selectors(Match::Any, "S1 S3"), 1, &[1, 2, 5, 6, 7, 8]),
        ("by selector superset", "ABCDEFGH", by_selectors(Match::Superset, "S1"), 1, &[1, 2, 5, 6]),
        ("by selectors superset", "ABCDEFGH", by_selectors(Match::Superset, "S1 S2"), 1, &[5]),
        ("by CanReattest=true", "AI", reattest(true), 1, &[2]),
        ("by CanReattest=false", "AI", reattest(false), 1, &[1]),
        (
            "by attestation type and selector subset",
            "ABCDE",
            NodeFilter { attestation_type: "T1".into(), ..by_selectors(Match::Subset, "S1") },
            1,
            &[1],
        ),
        ("all filters", "AEBFGC", all_filters, 1, &[1]),
        ("expires before is exclusive", "J", NodeFilter { expires_before: NOW, ..any() }, 1, &[]),
        ("valid at is inclusive", "J", NodeFilter { valid_at: NOW, ..any() }, 1, &[1]),
        ("by SPIFFE IDs", "ABCDE", ids("DAZD"), 1, &[1, 4]),
        (
            "by SPIFFE IDs and selectors",
            "ABCDE",
            NodeFilter { spiffe_ids: ids("ABC").spiffe_ids, ..by_selectors(Match::Any, "S1") },
            3,
            &[1, 2],
        ),
    ];
    for (name, letters, filter, page_size, positions) in cases {
        let mut store = Datastore::new();
        // Selectors without a node, set first, move the numbers of the two tables apart.
        store.submit(set_selectors("orphan", selectors("S1 S2 S3")));
        let stored: Vec<NodeWithSelectors> = letters.chars().map(fixture).collect();
        stored.iter().for_each(|node| store_node(&mut store, node));
        for fetch_selectors in [false, true] {
            let expected: Vec<NodeWithSelectors> = positions
                .iter()
                .map(|position| &stored[position - 1])
                .map(|node| {
                    if fetch_selectors { node.clone() } else { NodeWithSelectors { selectors: vec![], ..node.clone() } }
                })
                .collect();
            let everything = list(&store, &filter, fetch_selectors, None);
            assert_eq!(everything, Page { items: expected.clone(), response: None }, "{name}");
            let (nodes, tokens) = list_by_pages(&store, &filter, fetch_selectors, page_size);
            assert_eq!(nodes, expected, "{name}");
            let ends = positions.chunks(usize::try_from(page_size).unwrap()).filter_map(|page| page.last());
            let sent: Vec<String> = std::iter::once(String::new()).chain(ends.map(usize::to_string)).collect();
            assert_eq!(tokens, sent, "{name}");
        }
        let count = store.query(|reader, namespace| count_nodes(reader, namespace, &filter)).unwrap();
        assert_eq!(count, positions.len() as u64, "{name}");
    }
}

#[test]
fn wrong_requests_are_refused_in_order() {
    let store = Datastore::new();
    let page = |token: &str, page_size| Some(PageRequest { token: token.into(), page_size });
    let cases = [
        (by_selectors(Match::Any, ""), page("x", 0), "cannot paginate with pagesize = 0"),
        (by_selectors(Match::Any, ""), page("x", 1), "cannot list by empty selectors set"),
        (NodeFilter::default(), page("x", 1), "could not parse token 'x'"),
    ];
    for (filter, page, text) in cases {
        let request = ListNodes { filter, page, ..ListNodes::default() };
        let refusal = store.query(|reader, namespace| list_nodes(reader, namespace, &request)).unwrap_err();
        assert_eq!((refusal.code(), refusal.to_string()), (Code::InvalidArgument, text.to_owned()));
    }
    let filter = by_selectors(Match::Any, "");
    let refusal = store.query(|reader, namespace| count_nodes(reader, namespace, &filter)).unwrap_err();
    assert_eq!(refusal.to_string(), "cannot list by empty selectors set");
}

#[derive(Default)]
struct Model {
    nodes: Vec<Node>,
    selectors: BTreeMap<String, Vec<Selector>>,
}

impl Model {
    fn selected(&self, filter: &NodeFilter) -> Vec<NodeWithSelectors> {
        let selectors_of = |node: &Node| self.selectors.get(&node.spiffe_id).cloned().unwrap_or_default();
        let all = self.nodes.iter().map(|node| NodeWithSelectors { node: node.clone(), selectors: selectors_of(node) });
        all.filter(|node| holds(filter, node)).collect()
    }
}

/// What a filter means, written down a second time without indexes.
fn holds(filter: &NodeFilter, NodeWithSelectors { node, selectors }: &NodeWithSelectors) -> bool {
    let matches = filter.selectors.as_ref().is_none_or(|filter| {
        let held: BTreeSet<&Selector> = selectors.iter().collect();
        let requested: BTreeSet<&Selector> = filter.selectors.iter().collect();
        match filter.matching {
            Match::Exact => held == requested,
            Match::Subset => !held.is_empty() && held.is_subset(&requested),
            Match::Superset => held.is_superset(&requested),
            Match::Any => !held.is_disjoint(&requested),
        }
    });
    (filter.attestation_type.is_empty() || filter.attestation_type == node.attestation_data_type)
        && filter.banned.is_none_or(|banned| banned == node.cert_serial_number.is_empty())
        && (filter.expires_before == 0 || node.cert_not_after < filter.expires_before)
        && (filter.valid_at == 0 || node.cert_not_after >= filter.valid_at)
        && filter.can_reattest.is_none_or(|can_reattest| can_reattest == node.can_reattest)
        && (filter.spiffe_ids.is_empty() || filter.spiffe_ids.contains(&node.spiffe_id))
        && matches
}

fn random_values(random: &mut StdRng) -> String {
    ["S1 ", "S2 ", "S3 ", "S4 "].into_iter().filter(|_| random.random_ratio(1, 2)).collect()
}

fn random_node(random: &mut StdRng, spiffe_id: String) -> Node {
    Node {
        spiffe_id,
        attestation_data_type: ["T1", "T2", ""][random.random_range(0..3)].into(),
        cert_serial_number: ["", "serial"][random.random_range(0..2)].into(),
        cert_not_after: random.random_range(1..50),
        can_reattest: random.random(),
        ..Node::default()
    }
}

fn random_filter(random: &mut StdRng, rare: &str) -> NodeFilter {
    let mut maybe = |odds| random.random_ratio(1, odds);
    let (attested, banned, before, valid, reattest, ids, by_selectors) =
        (maybe(4), maybe(4), maybe(4), maybe(4), maybe(4), maybe(6), maybe(1));
    let matching = [Match::Exact, Match::Subset, Match::Superset, Match::Any][random.random_range(0..4)];
    let values = match random.random_range(0..4) {
        0 => rare.to_owned(),
        1 => "S1 S1".into(),
        _ => format!("S2 {}", random_values(random)),
    };
    NodeFilter {
        attestation_type: if attested { "T1".into() } else { String::new() },
        banned: banned.then(|| random.random()),
        expires_before: if before { random.random_range(1..50) } else { 0 },
        valid_at: if valid { random.random_range(1..50) } else { 0 },
        can_reattest: reattest.then(|| random.random()),
        spiffe_ids: if ids { (0..40).map(|_| format!("n{}", random.random_range(0..500))).collect() } else { vec![] },
        selectors: by_selectors.then(|| SelectorFilter { matching, selectors: selectors(&values) }),
    }
}

/// Random nodes and selectors, created, changed and deleted; every list, whole, by pages and by chunks, equals a scan.
#[test]
fn lists_equal_a_naive_scan() {
    let mut random = StdRng::seed_from_u64(94);
    let mut store = Datastore::new();
    let mut model = Model::default();
    for _ in 0..1_500 {
        let spiffe_id = format!("n{}", random.random_range(0..500));
        let known = model.nodes.iter().position(|node| node.spiffe_id == spiffe_id);
        match (random.random_range(0..10), known) {
            (0..5, None) => {
                let node = random_node(&mut random, spiffe_id);
                model.nodes.push(create(&mut store, node));
            }
            (0..3, Some(place)) => {
                let node = random_node(&mut random, spiffe_id);
                let Answer::Node(stored) = store.submit(spire::Command::Node(Command::Update(Some(node), None))) else {
                    panic!("an update answers the node");
                };
                model.nodes[place] = stored;
            }
            (3, Some(place)) => {
                store.submit(delete(&spiffe_id));
                model.selectors.remove(&spiffe_id);
                model.nodes.remove(place);
            }
            _ => {
                let rare = if random.random_ratio(1, 50) { "rare" } else { "" };
                let set = selectors(&format!("{}{rare}", random_values(&mut random)));
                store.submit(set_selectors(&spiffe_id, set.clone()));
                model.selectors.insert(spiffe_id, set);
            }
        }
    }
    assert!(model.nodes.len() > 200, "only {} nodes", model.nodes.len());
    let (mut matched, mut unmatched) = (0, 0);
    for _ in 0..600 {
        let filter = random_filter(&mut random, "rare");
        let expected = model.selected(&filter);
        assert_eq!(list(&store, &filter, true, None).items, expected, "{filter:?}");
        let page_size = [1, 2, 7, 1000][random.random_range(0..4)];
        assert_eq!(list_by_pages(&store, &filter, true, page_size).0, expected, "{filter:?} by {page_size}");
        assert_eq!(list_by_chunks(&store, &filter, 9), expected, "{filter:?}");
        let count = store.query(|reader, namespace| count_nodes(reader, namespace, &filter)).unwrap();
        assert_eq!(count, expected.len() as u64, "{filter:?}");
        if expected.is_empty() { unmatched += 1 } else { matched += 1 }
    }
    assert!(matched > 200 && unmatched > 30, "the filters must tell nodes apart: {matched}, {unmatched}");
}

fn list_by_chunks(store: &Datastore, filter: &NodeFilter, limit: usize) -> Vec<NodeWithSelectors> {
    let request = ListNodes { filter: filter.clone(), fetch_selectors: true, page: None };
    let (mut nodes, mut after) = (Vec::new(), Some(Sequence::ZERO));
    while let Some(start) = after {
        let chunk =
            store.query(|reader, namespace| list_nodes_chunk(reader, namespace, &request, start, limit)).unwrap();
        nodes.extend(chunk.items.iter().map(|node| node.decode().unwrap()));
        after = chunk.next;
    }
    nodes
}

/// The selectors of a node count as its record does.
#[test]
fn a_piece_ends_when_its_records_are_too_many_bytes() {
    let mut store = Datastore::new();
    let large: Vec<Selector> = (0..60)
        .map(|number| Selector { kind: "T".into(), value: format!("{number:03}{}", "x".repeat(16_000)) })
        .collect();
    let bytes = large.len() * 16_000;
    let total = 2 * CHUNK_BYTES / bytes;
    for number in 0..total {
        let node = NodeWithSelectors { node: node(&format!("n{number:03}")), selectors: large.clone() };
        store_node(&mut store, &node);
    }
    let pieces = |fetch_selectors| {
        let request = ListNodes { fetch_selectors, ..ListNodes::default() };
        let (mut pieces, mut after) = (Vec::new(), Some(Sequence::ZERO));
        while let Some(start) = after {
            let list = |reader: &dyn Reader, namespace| list_nodes_chunk(reader, namespace, &request, start, 100);
            let chunk = store.query(list).unwrap();
            pieces.push(chunk.items.len());
            after = chunk.next;
        }
        pieces
    };
    assert_eq!(pieces(false), [total]);
    let whole = CHUNK_BYTES.div_ceil(bytes);
    assert_eq!(pieces(true), [whole, total - whole], "of {total} nodes");
}

/// Both ways to answer a selector filter are taken above; here each is seen to read few records.
#[test]
fn a_selector_filter_reads_few_records() {
    let mut store = Datastore::new();
    let total = 2_000;
    for number in 0..total {
        let values = if number == total - 1 { "rare common" } else { "common" };
        let node = NodeWithSelectors { node: node(&format!("n{number}")), selectors: selectors(values) };
        store_node(&mut store, &node);
    }
    for (values, found, reads_max) in [("rare", 1, 10), ("common", 10, 100)] {
        let request = ListNodes {
            filter: by_selectors(Match::Superset, values),
            page: Some(PageRequest { token: String::new(), page_size: 10 }),
            ..ListNodes::default()
        };
        let (page, reads) = store.query(|reader, namespace| {
            let counting = CountingReader::new(reader);
            (list_nodes(&counting, namespace, &request).unwrap(), counting.reads.get())
        });
        assert_eq!(page.items.len(), found, "{values}");
        assert!(reads <= reads_max, "{values}: {reads} records read for {found}");
    }
}
