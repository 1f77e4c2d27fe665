//! Listing and counting (4.3, 7.6, 7.7).

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ids::Sequence;
use crate::spire::Code;
use crate::spire::entries::queries::{EntryFilter, ListEntries, count_entries, list_entries, list_entries_chunk};
use crate::spire::pages::{CHUNK_BYTES, Page, PageRequest};
use crate::spire::selectors::{Match, SelectorFilter};
use crate::view::Reader;

const L1: &str = "foobarAB1 bazbarAD12 foobarCB2 bazbarCD12";
const L2: &str = "foobarAB1 foobuzAD1 foobarCB2 foobuzCD";
const L3: &str = "foobarAB1 foobarAD12 foobarCB2 foobarCD12 zizzazX";
const L4: &str = "foobarAB1 foobarAD12 foobarCB2 foobarCD12 zizzazX bazbarAB1 bazbarAD12 bazbarCB2 bazbarCD12";
const L5: &str =
    "foobarAB1 foobarAD12 foobarCB2 foobarCD12 zizzazX bazbarAB1 bazbarAD12 bazbarCB2 bazbarCD12 bazbarAE3";
const L6: &str = "foobarAB1 foobarAD12 foobarCB2 foobarCD12 zizzazX bazbarAB1 bazbarAD12 bazbarCB2 bazbarCD12 \
                  foobuzAD1 bazbuzAB12";
const L7: &str = "foobarB foobarAB1 bazbuzB bazbuzAB12";
const L8: &str = "foobarB foobarAB1 bazbarCB2 bazbuzCD";
const L9: &str = "foobarB foobarAB1 foobarCD12 bazbuzB bazbuzAB12";
const L10: &str = "foobarB foobarAB1 foobarCD12 bazbarCB2 bazbuzCD";

/// A filter as the tables write it: `parent foo`, `id bar`, `hint external`, `selectors Exact AB`, `domains Any 12`.
fn filter(text: &str) -> EntryFilter {
    let mut filter = EntryFilter::default();
    let mut words = text.split_whitespace();
    while let Some(field) = words.next() {
        let value = words.next().unwrap();
        match field {
            "parent" => filter.parent_id = value.into(),
            "id" => filter.spiffe_id = value.into(),
            "hint" => filter.hint = value.into(),
            "downstream" => filter.downstream = Some(value == "true"),
            "selectors" => {
                let selectors = entry(&format!("foobar{}", words.next().unwrap())).selectors;
                filter.selectors = Some(SelectorFilter { matching: matching(value), selectors });
            }
            "domains" => {
                let domains = words.next().unwrap().chars().map(domain).collect();
                filter.federates_with = Some((matching(value), domains));
            }
            other => panic!("no such filter: {other}"),
        }
    }
    filter
}

fn matching(name: &str) -> Match {
    match name {
        "Exact" => Match::Exact,
        "Subset" => Match::Subset,
        "Superset" => Match::Superset,
        "Any" => Match::Any,
        other => panic!("no such match: {other}"),
    }
}

fn list(store: &Datastore, filter: &EntryFilter, page: Option<PageRequest>) -> Page<Entry> {
    let request = ListEntries { filter: filter.clone(), page };
    store.query(|reader, namespace| list_entries(reader, namespace, &request)).unwrap()
}

/// Everything, page by page, with the tokens that were sent. The last page is the empty one.
fn list_by_pages(store: &Datastore, filter: &EntryFilter, page_size: i32) -> (Vec<Entry>, Vec<String>) {
    let (mut entries, mut tokens) = (Vec::new(), vec![String::new()]);
    loop {
        let token = tokens.last().unwrap().clone();
        let page = list(store, filter, Some(PageRequest { token, page_size }));
        let response = page.response.unwrap();
        assert_eq!(response.page_size, page_size);
        assert_eq!(response.token.is_empty(), page.items.is_empty(), "a page with entries has a token");
        if page.items.is_empty() {
            return (entries, tokens);
        }
        entries.extend(page.items);
        tokens.push(response.token);
    }
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.entry_id.as_str()).collect()
}

/// The 59 cases of `TestListRegistrationEntries`.
#[test]
fn list_registration_entries() {
    let cases: &[(&str, &str, &str, i32, &[usize])] = &[
        ("without entries", "", "", 1, &[]),
        ("with partial page", "foobarAB1", "", 2, &[1]),
        ("with full page", "foobarAB1 foobarCB2", "", 2, &[1, 2]),
        ("with page and a half", "foobarAB1 foobarCB2 foobarAD12", "", 2, &[1, 2, 3]),
        ("by parent ID", L1, "parent foo", 1, &[1, 3]),
        ("by SPIFFE ID", L2, "id bar", 1, &[1, 3]),
        ("by Hint, two matches", L1, "hint external", 1, &[1, 2]),
        ("by Hint, no match", L1, "hint none", 1, &[]),
        ("by federatesWith one subset", L3, "domains Subset 1", 1, &[1]),
        ("by federatesWith many subset", L3, "domains Subset 23", 1, &[3]),
        ("by federatesWith one exact", L3, "domains Exact 1", 1, &[1]),
        ("by federatesWith many exact", L3, "domains Exact 12", 1, &[2, 4]),
        ("by federatesWith one match any", L3, "domains Any 1", 1, &[1, 2, 4]),
        ("by federatesWith many match any", L3, "domains Any 12", 1, &[1, 2, 3, 4]),
        ("by federatesWith one superset", L3, "domains Superset 1", 1, &[1, 2, 4]),
        ("by federatesWith many superset", L3, "domains Superset 12", 1, &[2, 4]),
        ("by parent ID and SPIFFE ID", "foobarAB1 foobuzAD1 bazbarCB2 bazbuzCD", "parent foo id bar", 1, &[1]),
        ("by parent ID and exact selector", L7, "parent foo selectors Exact B", 1, &[1]),
        ("by parent ID and exact selectors", L7, "parent foo selectors Exact AB", 1, &[2]),
        ("by parent ID and subset selector", L7, "parent foo selectors Subset B", 1, &[1]),
        ("by parent ID and subset selectors", L8, "parent foo selectors Subset ABZ", 1, &[1, 2]),
        ("by parent ID and subset selectors no match", L8, "parent foo selectors Subset CZ", 1, &[]),
        ("by parent ID and match any selector", L9, "parent foo selectors Any B", 1, &[1, 2]),
        ("by parent ID and match any selectors", L10, "parent foo selectors Any ACZ", 1, &[2, 3]),
        ("by parent ID and match any selectors no match", L8, "parent foo selectors Any DZ", 1, &[]),
        ("by parent ID and superset selector", L9, "parent foo selectors Superset A", 1, &[2]),
        ("by parent ID and superset selectors", L10, "parent foo selectors Superset AB", 1, &[2]),
        ("by parent ID and superset selectors no match", L8, "parent foo selectors Superset ABZ", 1, &[]),
        ("by parentID and federatesWith one subset", L4, "parent baz domains Subset 1", 1, &[6]),
        ("by parentID and federatesWith many subset", L4, "parent baz domains Subset 23", 1, &[8]),
        ("by parentID and federatesWith one exact", L4, "parent baz domains Exact 1", 1, &[6]),
        ("by parentID and federatesWith many exact", L4, "parent baz domains Exact 12", 1, &[7, 9]),
        ("by parentID and federatesWith one match any", L5, "parent baz domains Any 1", 1, &[6, 7, 9]),
        ("by parentID and federatesWith many match any", L5, "parent baz domains Any 12", 1, &[6, 7, 8, 9]),
        ("by parentID and federatesWith one superset", L5, "parent baz domains Superset 1", 1, &[6, 7, 9]),
        ("by parentID and federatesWith many superset", L5, "parent baz domains Superset 12", 1, &[7, 9]),
        ("by SPIFFE ID and exact selector", L7, "id bar selectors Exact B", 1, &[1]),
        ("by SPIFFE ID and exact selectors", L7, "id bar selectors Exact AB", 1, &[2]),
        ("by SPIFFE ID and subset selector", L7, "id bar selectors Subset B", 1, &[1]),
        ("by SPIFFE ID and subset selectors", L8, "id bar selectors Subset ABZ", 1, &[1, 2]),
        ("by SPIFFE ID and subset selectors no match", L8, "id bar selectors Subset CZ", 1, &[]),
        ("by SPIFFE ID and match any selector", L7, "id bar selectors Any A", 1, &[2]),
        ("by SPIFFE ID and match any selectors", L8, "id bar selectors Any ABZ", 1, &[1, 2, 3]),
        ("by SPIFFE ID and match any selectors no match", L8, "id bar selectors Any Z", 1, &[]),
        ("by SPIFFE ID and superset selector", L7, "id bar selectors Superset B", 1, &[1, 2]),
        ("by SPIFFE ID and superset selectors", L8, "id bar selectors Superset AB", 1, &[2]),
        ("by SPIFFE ID and superset selectors no match", L8, "id bar selectors Superset ABZ", 1, &[]),
        ("by SPIFFE ID and federatesWith one subset", L6, "id bar domains Subset 1", 1, &[1, 6]),
        ("by SPIFFE ID and federatesWith many subset", L6, "id bar domains Subset 23", 1, &[3, 8]),
        ("by SPIFFE ID and federatesWith one exact", L6, "id bar domains Exact 1", 1, &[1, 6]),
        ("by SPIFFE ID and federatesWith many exact", L6, "id bar domains Exact 12", 1, &[2, 4, 7, 9]),
        ("by SPIFFE ID and federatesWith subset no results", L6, "id buz domains Subset 23", 1, &[]),
        ("by SPIFFE ID and federatesWith match any", L6, "id bar domains Any 1", 1, &[1, 2, 4, 6, 7, 9]),
        ("by SPIFFE ID and federatesWith many match any", L6, "id bar domains Any 12", 1, &[1, 2, 3, 4, 6, 7, 8, 9]),
        ("by SPIFFE ID and federatesWith match any no results", L6, "id buz domains Any 3", 1, &[]),
        ("by SPIFFE ID and federatesWith superset", L6, "id bar domains Superset 1", 1, &[1, 2, 4, 6, 7, 9]),
        ("by SPIFFE ID and federatesWith many superset", L6, "id bar domains Superset 12", 1, &[2, 4, 7, 9]),
        ("by SPIFFE ID and federatesWith superset no results", L6, "id buz domains Superset 23", 1, &[]),
        ("by Parent ID, federatesWith and selectors", L4, "parent foo domains Subset 12 selectors Subset AD", 1, &[2]),
    ];
    for (name, load, conditions, page_size, positions) in cases {
        let mut store = with_bundles("123");
        let loaded: Vec<Entry> = load.split_whitespace().map(|notation| create(&mut store, entry(notation))).collect();
        let expected: Vec<Entry> = positions.iter().map(|position| loaded[position - 1].clone()).collect();
        let filter = filter(conditions);

        let everything = list(&store, &filter, None);
        assert_eq!(names(&everything.items), names(&expected), "{name}");
        assert_eq!(everything, Page { items: expected.clone(), response: None }, "{name}");

        let (entries, tokens) = list_by_pages(&store, &filter, *page_size);
        assert_eq!(entries, expected, "{name}");
        let ends = positions.chunks(usize::try_from(*page_size).unwrap()).filter_map(|page| page.last());
        let sent: Vec<String> = std::iter::once(String::new()).chain(ends.map(usize::to_string)).collect();
        assert_eq!(tokens, sent, "{name}");

        let count = store.query(|reader, namespace| count_entries(reader, namespace, &filter)).unwrap();
        assert_eq!(count, positions.len() as u64, "{name}");
    }
}

/// The tests over the `entries` and `entries_federates_with` fixtures.
#[test]
fn fixture_lists() {
    let mut store = with_bundles("1234");
    for notation in ["onepp1ABC123", "onepp2AB12", "twopp3BC23", "twopp4ABCD1234", "twopp5BCD124"] {
        create(&mut store, entry(notation));
    }
    let cases: &[(&str, &str, &[usize])] = &[
        ("test_parentID_found", "parent one", &[1, 2]),
        ("test_parentID_notfound", "parent six", &[]),
        ("entries_by_selector_found", "selectors Exact ABC", &[1]),
        ("entries_by_selector_not_found", "selectors Exact E", &[]),
        ("subset test1", "selectors Subset ABC", &[1, 2, 3]),
        ("subset test2", "selectors Subset D", &[]),
        ("superset found", "selectors Superset AC", &[1, 4]),
        ("superset not found", "selectors Superset E", &[]),
        ("any of multiple selectors", "selectors Any CD", &[1, 3, 4, 5]),
        ("any of a single selector", "selectors Any D", &[4, 5]),
        ("any, no match", "selectors Any E", &[]),
        ("federates exactly", "domains Exact 123", &[1]),
        ("federates exactly, with a subset", "domains Exact 12", &[2]),
        ("federates exactly, no match", "domains Exact 1", &[]),
        ("federates subset", "domains Subset 123", &[1, 2, 3]),
        ("federates subset, no match", "domains Subset 4", &[]),
        ("federates any", "domains Any 34", &[1, 3, 4, 5]),
        ("federates any, single", "domains Any 4", &[4, 5]),
        ("federates any, without bundle", "domains Any 5", &[]),
        ("federates superset", "domains Superset 13", &[1, 4]),
        ("federates superset, single", "domains Superset 3", &[1, 3, 4]),
        ("federates superset, no match", "domains Superset 5", &[]),
    ];
    let all = list(&store, &EntryFilter::default(), None).items;
    for (name, conditions, positions) in cases {
        let expected: Vec<Entry> = positions.iter().map(|position| all[position - 1].clone()).collect();
        assert_eq!(list(&store, &filter(conditions), None).items, expected, "{name}");
    }
}

#[test]
fn downstream_filters_both_ways_and_fills_pages() {
    let mut store = Datastore::new();
    for number in 0..30 {
        let entry_id = format!("e{number}");
        create(&mut store, Entry { downstream: number % 10 == 9, entry_id, ..entry(&format!("foo{number:03}A")) });
    }
    let (downstream, tokens) = list_by_pages(&store, &filter("downstream true"), 2);
    assert_eq!(names(&downstream), ["e9", "e19", "e29"]);
    assert_eq!(tokens, ["", "20", "30"]);
    let count = |text| store.query(|reader, namespace| count_entries(reader, namespace, &filter(text))).unwrap();
    assert_eq!((count("downstream true"), count("downstream false"), count("")), (3, 27, 30));
}

#[test]
fn an_empty_list_of_domains_restricts_nothing() {
    let mut store = Datastore::new();
    create(&mut store, entry("foobarA"));
    let filter = EntryFilter { federates_with: Some((Match::Exact, Vec::new())), ..EntryFilter::default() };
    assert_eq!(list(&store, &filter, None).items.len(), 1);
}

#[test]
fn wrong_requests_are_refused_in_order() {
    let store = Datastore::new();
    let empty = || EntryFilter {
        selectors: Some(SelectorFilter { matching: Match::Any, selectors: Vec::new() }),
        ..EntryFilter::default()
    };
    let page = |token: &str, page_size| Some(PageRequest { token: token.into(), page_size });
    let cases = [
        (empty(), page("x", 0), "cannot paginate with pagesize = 0"),
        (empty(), page("x", -1), "cannot paginate with pagesize = -1: it must be positive"),
        (empty(), page("x", 1), "cannot list by empty selector set"),
        (EntryFilter::default(), page("x", 1), "could not parse token 'x'"),
        (EntryFilter::default(), page("+1", 1), "could not parse token '+1'"),
        (EntryFilter::default(), page(" 1", 1), "could not parse token ' 1'"),
        (EntryFilter::default(), page("18446744073709551616", 1), "could not parse token '18446744073709551616'"),
    ];
    for (filter, page, text) in cases {
        let request = ListEntries { filter, page };
        let refusal = request.check().unwrap_err();
        assert_eq!((refusal.code(), refusal.to_string()), (Code::InvalidArgument, text.to_owned()));
        let refusal = store.query(|reader, namespace| list_entries(reader, namespace, &request)).unwrap_err();
        assert_eq!(refusal.to_string(), text);
    }
    let refusal = store.query(|reader, namespace| count_entries(reader, namespace, &empty())).unwrap_err();
    assert_eq!(refusal.to_string(), "cannot list by empty selector set");
}

#[test]
fn tokens_are_positions() {
    let mut store = Datastore::new();
    for notation in ["foobarA", "foobarB", "foobarC"] {
        create(&mut store, entry(notation));
    }
    let page = |store: &Datastore, token: &str| {
        let page = list(store, &EntryFilter::default(), Some(PageRequest { token: token.into(), page_size: 2 }));
        (names(&page.items).into_iter().map(str::to_owned).collect::<Vec<_>>(), page.response.unwrap().token)
    };
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(page(&store, "0"), (owned(&["foobarA", "foobarB"]), "2".into()));
    for past_the_end in ["3", "4294967296", "18446744073709551615"] {
        assert_eq!(page(&store, past_the_end), (Vec::new(), String::new()));
    }
    store.submit(spire::Command::Entry(Command::Delete { entry_id: "foobarB".into() }));
    assert_eq!(page(&store, "2"), (owned(&["foobarC"]), "3".into()), "the token's record may be gone");
    create(&mut store, entry("foobarB"));
    assert_eq!(page(&store, "2"), (owned(&["foobarC", "foobarB"]), "4".into()), "created again is created last");
}

#[test]
fn chunks_cover_everything_once() {
    let mut store = Datastore::new();
    for number in 0..10 {
        create(&mut store, entry(&format!("foo{number:03}A")));
    }
    for limit in [1, 3, 5, 10, 11] {
        let (mut sequences, mut after) = (Vec::new(), Some(Sequence::ZERO));
        while let Some(start) = after {
            let filter = EntryFilter::default();
            let chunk =
                store.query(|reader, namespace| list_entries_chunk(reader, namespace, &filter, start, limit)).unwrap();
            sequences.extend(chunk.items.iter().map(|record| record.sequence.0));
            after = chunk.next;
        }
        assert_eq!(sequences, (1..=10).collect::<Vec<_>>(), "limit {limit}");
    }
}

#[test]
fn a_piece_ends_when_its_records_are_too_many_bytes() {
    let mut store = Datastore::new();
    let large =
        |number| Entry { entry_id: format!("large {number}"), hint: "x".repeat(CHUNK_BYTES / 3), ..entry("foobarA") };
    // Planted, because no command would take them.
    store.plant_entries(&(1..=10).map(large).collect::<Vec<_>>());
    let piece = |after, limit| {
        let filter = EntryFilter::default();
        let list = |reader: &dyn Reader, namespace| list_entries_chunk(reader, namespace, &filter, after, limit);
        let chunk = store.query(list).unwrap();
        (chunk.items.iter().map(|record| record.sequence.0).collect::<Vec<_>>(), chunk.next)
    };
    assert_eq!(piece(Sequence(0), 100), (vec![1, 2, 3], Some(Sequence(3))), "read by walking");
    assert_eq!(piece(Sequence(3), 5), (vec![4, 5, 6], Some(Sequence(6))), "looked up");
    assert_eq!(piece(Sequence(3), 2), (vec![4, 5], Some(Sequence(5))), "the limit comes first");
    assert_eq!(piece(Sequence(8), 100), (vec![9, 10], None));
    assert_eq!(piece(Sequence(10), 100), (vec![], None));
}

/// What a filter means, written down a second time without indexes.
fn holds(filter: &EntryFilter, entry: &Entry) -> bool {
    fn related<T: Ord>(matching: Match, record: &BTreeSet<T>, requested: &BTreeSet<T>) -> bool {
        match matching {
            Match::Exact => record == requested,
            Match::Subset => !record.is_empty() && record.is_subset(requested),
            Match::Superset => record.is_superset(requested),
            Match::Any => !record.is_disjoint(requested),
        }
    }
    let text = |wanted: &str, held: &str| wanted.is_empty() || wanted == held;
    let selectors = filter.selectors.as_ref().is_none_or(|filter| {
        related(filter.matching, &entry.selectors.iter().collect(), &filter.selectors.iter().collect())
    });
    let federates_with = filter.federates_with.as_ref().is_none_or(|(matching, ids)| {
        related(*matching, &entry.federates_with.iter().collect(), &ids.iter().collect())
    });
    text(&filter.parent_id, &entry.parent_id)
        && text(&filter.spiffe_id, &entry.spiffe_id)
        && text(&filter.hint, &entry.hint)
        && selectors
        && federates_with
        && filter.downstream.is_none_or(|downstream| downstream == entry.downstream)
}

fn some_of(random: &mut StdRng, letters: &str, most: usize) -> String {
    let mut chosen: Vec<char> = letters.chars().filter(|_| random.random_ratio(1, 2)).collect();
    while chosen.len() > most {
        chosen.remove(random.random_range(0..chosen.len()));
    }
    chosen.into_iter().collect()
}

fn random_entry(random: &mut StdRng, number: usize) -> Entry {
    let selectors = format!("{}{}", some_of(random, "ABCDE", 2), ["F", "G"][random.random_range(0..2)]);
    let notation = format!("{}{}{selectors}{}", pick(random, PARENTS), pick(random, IDS), some_of(random, "1234", 4));
    Entry {
        entry_id: format!("entry-{number}"),
        hint: pick(random, HINTS).into(),
        downstream: random.random_ratio(1, 4),
        ..entry(&notation)
    }
}

const PARENTS: &[&str] = &["foo", "baz", "ziz"];
const IDS: &[&str] = &["bar", "buz", "zaz", "zoz"];
const HINTS: &[&str] = &["", "internal", "external"];
const MATCHES: [Match; 4] = [Match::Exact, Match::Subset, Match::Superset, Match::Any];

fn pick<'a>(random: &mut StdRng, choices: &[&'a str]) -> &'a str {
    choices[random.random_range(0..choices.len())]
}

/// Half of the time absent.
fn maybe<T>(random: &mut StdRng, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    random.random_ratio(1, 2).then(|| make(random))
}

fn random_filter(random: &mut StdRng) -> EntryFilter {
    let selectors = maybe(random, |random| {
        let letters = some_of(random, "ABCDEFG", 4);
        let letters = if letters.is_empty() { "A".into() } else { letters };
        let matching = MATCHES[random.random_range(0..4)];
        SelectorFilter { matching, selectors: entry(&format!("foobar{letters}{letters}")).selectors }
    });
    let federates_with = maybe(random, |random| {
        let domains = some_of(random, "12345", 4).chars().map(domain).collect::<Vec<_>>();
        (MATCHES[random.random_range(0..4)], if domains.is_empty() { vec![domain('1')] } else { domains })
    });
    EntryFilter {
        parent_id: maybe(random, |random| pick(random, PARENTS).into()).unwrap_or_default(),
        spiffe_id: maybe(random, |random| pick(random, IDS).into()).unwrap_or_default(),
        hint: maybe(random, |random| pick(random, &HINTS[1..]).into()).unwrap_or_default(),
        selectors,
        federates_with,
        downstream: maybe(random, |random| random.random()),
    }
}

/// Random entries, created, updated and deleted; every list, page by page and whole, equals a scan.
#[test]
fn lists_equal_a_naive_scan() {
    let mut random = StdRng::seed_from_u64(20);
    let mut store = with_bundles("1234");
    for number in 0..400 {
        let command = match random.random_range(0..10) {
            0 | 1 if number > 10 => Command::Update(
                Some(Entry { entry_id: format!("entry-{}", number / 2), ..random_entry(&mut random, 0) }),
                None,
            ),
            2 if number > 10 => Command::Delete { entry_id: format!("entry-{}", number / 3) },
            _ => Command::CreateOrReturn(Some(random_entry(&mut random, number))),
        };
        if let Err(refusal) = store.attempt(spire::Command::Entry(command)) {
            assert_eq!(refusal.0, Code::NotFound, "{}", refusal.1);
        }
    }
    let all = list(&store, &EntryFilter::default(), None).items;
    assert!(all.len() > 150, "only {} entries", all.len());
    let (mut matched, mut unmatched) = (0, 0);
    for _ in 0..600 {
        let filter = random_filter(&mut random);
        let expected: Vec<Entry> = all.iter().filter(|entry| holds(&filter, entry)).cloned().collect();
        assert_eq!(list(&store, &filter, None).items, expected, "{filter:?}");
        let page_size = [1, 2, 7, 1000][random.random_range(0..4)];
        assert_eq!(list_by_pages(&store, &filter, page_size).0, expected, "{filter:?} by {page_size}");
        let count = store.query(|reader, namespace| count_entries(reader, namespace, &filter)).unwrap();
        assert_eq!(count, expected.len() as u64, "{filter:?}");
        if expected.is_empty() { unmatched += 1 } else { matched += 1 }
    }
    assert!(matched > 200 && unmatched > 50, "the filters must tell entries apart: {matched}, {unmatched}");
}
