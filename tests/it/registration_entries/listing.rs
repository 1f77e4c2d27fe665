use std::ops::Range;

use steeple_client::types::MatchBehavior::{self, Any, Exact, Subset, Superset};
use steeple_client::types::{RegistrationEntry, RegistrationEntryFilter as Filter};
use steeple_client::{Error, Namespace};
use steeple_tests::check::{case, refused};
use steeple_tests::paging::{all_pages, tokens};
use steeple_tests::records::{bundle, by_federates_with, by_selectors, entry, letters};
use steeple_tests::server::{Server, namespace, run, shared};
use steeple_tests::{fixtures, raw};
use steeple_wire::spire::v1::{ListRegistrationEntriesRequest, ListRegistrationEntriesResponse};
use tokio_stream::StreamExt;
use tonic::Code;

// ---- entries are named for what they are: parent, SPIFFE ID, selectors as letters, federated trust domains as digits

const L1: &[&str] = &["foobarAB1", "bazbarAD12", "foobarCB2", "bazbarCD12"];
const L2: &[&str] = &["foobarAB1", "foobuzAD1", "foobarCB2", "foobuzCD"];
const L3: &[&str] = &["foobarAB1", "foobarAD12", "foobarCB2", "foobarCD12", "zizzazX"];
const L4: &[&str] = &[
    "foobarAB1",
    "foobarAD12",
    "foobarCB2",
    "foobarCD12",
    "zizzazX",
    "bazbarAB1",
    "bazbarAD12",
    "bazbarCB2",
    "bazbarCD12",
];
const L5: &[&str] = &[
    "foobarAB1",
    "foobarAD12",
    "foobarCB2",
    "foobarCD12",
    "zizzazX",
    "bazbarAB1",
    "bazbarAD12",
    "bazbarCB2",
    "bazbarCD12",
    "bazbarAE3",
];
const L6: &[&str] = &[
    "foobarAB1",
    "foobarAD12",
    "foobarCB2",
    "foobarCD12",
    "zizzazX",
    "bazbarAB1",
    "bazbarAD12",
    "bazbarCB2",
    "bazbarCD12",
    "foobuzAD1",
    "bazbuzAB12",
];
const L7: &[&str] = &["foobarB", "foobarAB1", "bazbuzB", "bazbuzAB12"];
const L8: &[&str] = &["foobarB", "foobarAB1", "bazbarCB2", "bazbuzCD"];
const L9: &[&str] = &["foobarB", "foobarAB1", "foobarCD12", "bazbuzB", "bazbuzAB12"];
const L10: &[&str] = &["foobarB", "foobarAB1", "foobarCD12", "bazbarCB2", "bazbuzCD"];

/// The digits of one match behaviour and the filter's trust domains.
type Federated = Option<(MatchBehavior, &'static str)>;
/// The letters of one match behaviour and the filter's selectors.
type Selected = Option<(MatchBehavior, &'static str)>;

struct Row {
    name: &'static str,
    load: &'static [&'static str],
    /// Parent, SPIFFE ID, hint; empty for none.
    texts: [&'static str; 3],
    selectors: Selected,
    federates_with: Federated,
    /// Positions of the result in the load set, from 1.
    expected: &'static [usize],
}

const fn row(
    name: &'static str,
    load: &'static [&'static str],
    texts: [&'static str; 3],
    selectors: Selected,
    federates_with: Federated,
    expected: &'static [usize],
) -> Row {
    Row { name, load, texts, selectors, federates_with, expected }
}

const NO: [&str; 3] = ["", "", ""];
const FOO: [&str; 3] = ["foo", "", ""];
const BAZ: [&str; 3] = ["baz", "", ""];
const BAR: [&str; 3] = ["", "bar", ""];
const BUZ: [&str; 3] = ["", "buz", ""];

/// Read by pages of one record.
const ROWS: &[Row] = &[
    row("without entries", &[], NO, None, None, &[]),
    row("by parent ID", L1, FOO, None, None, &[1, 3]),
    row("by SPIFFE ID", L2, BAR, None, None, &[1, 3]),
    row("by Hint, two matches", L1, ["", "", "external"], None, None, &[1, 2]),
    row("by Hint, no match", L1, ["", "", "none"], None, None, &[]),
    row("by federatesWith one subset", L3, NO, None, Some((Subset, "1")), &[1]),
    row("by federatesWith many subset", L3, NO, None, Some((Subset, "23")), &[3]),
    row("by federatesWith one exact", L3, NO, None, Some((Exact, "1")), &[1]),
    row("by federatesWith many exact", L3, NO, None, Some((Exact, "12")), &[2, 4]),
    row("by federatesWith one match any", L3, NO, None, Some((Any, "1")), &[1, 2, 4]),
    row("by federatesWith many match any", L3, NO, None, Some((Any, "12")), &[1, 2, 3, 4]),
    row("by federatesWith one superset", L3, NO, None, Some((Superset, "1")), &[1, 2, 4]),
    row("by federatesWith many superset", L3, NO, None, Some((Superset, "12")), &[2, 4]),
    row(
        "by parent ID and SPIFFE ID",
        &["foobarAB1", "foobuzAD1", "bazbarCB2", "bazbuzCD"],
        ["foo", "bar", ""],
        None,
        None,
        &[1],
    ),
    row("by parent ID and exact selector", L7, FOO, Some((Exact, "B")), None, &[1]),
    row("by parent ID and exact selectors", L7, FOO, Some((Exact, "AB")), None, &[2]),
    row("by parent ID and subset selector", L7, FOO, Some((Subset, "B")), None, &[1]),
    row("by parent ID and subset selectors", L8, FOO, Some((Subset, "ABZ")), None, &[1, 2]),
    row("by parent ID and subset selectors no match", L8, FOO, Some((Subset, "CZ")), None, &[]),
    row("by parent ID and match any selector", L9, FOO, Some((Any, "B")), None, &[1, 2]),
    row("by parent ID and match any selectors", L10, FOO, Some((Any, "ACZ")), None, &[2, 3]),
    row("by parent ID and match any selectors no match", L8, FOO, Some((Any, "DZ")), None, &[]),
    row("by parent ID and superset selector", L9, FOO, Some((Superset, "A")), None, &[2]),
    row("by parent ID and superset selectors", L10, FOO, Some((Superset, "AB")), None, &[2]),
    row("by parent ID and superset selectors no match", L8, FOO, Some((Superset, "ABZ")), None, &[]),
    row("by parentID and federatesWith one subset", L4, BAZ, None, Some((Subset, "1")), &[6]),
    row("by parentID and federatesWith many subset", L4, BAZ, None, Some((Subset, "23")), &[8]),
    row("by parentID and federatesWith one exact", L4, BAZ, None, Some((Exact, "1")), &[6]),
    row("by parentID and federatesWith many exact", L4, BAZ, None, Some((Exact, "12")), &[7, 9]),
    row("by parentID and federatesWith one match any", L5, BAZ, None, Some((Any, "1")), &[6, 7, 9]),
    row("by parentID and federatesWith many match any", L5, BAZ, None, Some((Any, "12")), &[6, 7, 8, 9]),
    row("by parentID and federatesWith one superset", L5, BAZ, None, Some((Superset, "1")), &[6, 7, 9]),
    row("by parentID and federatesWith many superset", L5, BAZ, None, Some((Superset, "12")), &[7, 9]),
    row("by SPIFFE ID and exact selector", L7, BAR, Some((Exact, "B")), None, &[1]),
    row("by SPIFFE ID and exact selectors", L7, BAR, Some((Exact, "AB")), None, &[2]),
    row("by SPIFFE ID and subset selector", L7, BAR, Some((Subset, "B")), None, &[1]),
    row("by SPIFFE ID and subset selectors", L8, BAR, Some((Subset, "ABZ")), None, &[1, 2]),
    row("by SPIFFE ID and subset selectors no match", L8, BAR, Some((Subset, "CZ")), None, &[]),
    row("by SPIFFE ID and match any selector", L7, BAR, Some((Any, "A")), None, &[2]),
    row("by SPIFFE ID and match any selectors", L8, BAR, Some((Any, "ABZ")), None, &[1, 2, 3]),
    row("by SPIFFE ID and match any selectors no match", L8, BAR, Some((Any, "Z")), None, &[]),
    row("by SPIFFE ID and superset selector", L7, BAR, Some((Superset, "B")), None, &[1, 2]),
    row("by SPIFFE ID and superset selectors", L8, BAR, Some((Superset, "AB")), None, &[2]),
    row("by SPIFFE ID and superset selectors no match", L8, BAR, Some((Superset, "ABZ")), None, &[]),
    row("by SPIFFE ID and federatesWith one subset", L6, BAR, None, Some((Subset, "1")), &[1, 6]),
    row("by SPIFFE ID and federatesWith many subset", L6, BAR, None, Some((Subset, "23")), &[3, 8]),
    row("by SPIFFE ID and federatesWith one exact", L6, BAR, None, Some((Exact, "1")), &[1, 6]),
    row("by SPIFFE ID and federatesWith many exact", L6, BAR, None, Some((Exact, "12")), &[2, 4, 7, 9]),
    row("by SPIFFE ID and federatesWith subset no results", L6, BUZ, None, Some((Subset, "23")), &[]),
    row("by SPIFFE ID and federatesWith match any", L6, BAR, None, Some((Any, "1")), &[1, 2, 4, 6, 7, 9]),
    row("by SPIFFE ID and federatesWith many match any", L6, BAR, None, Some((Any, "12")), &[1, 2, 3, 4, 6, 7, 8, 9]),
    row("by SPIFFE ID and federatesWith match any no results", L6, BUZ, None, Some((Any, "3")), &[]),
    row("by SPIFFE ID and federatesWith superset", L6, BAR, None, Some((Superset, "1")), &[1, 2, 4, 6, 7, 9]),
    row("by SPIFFE ID and federatesWith many superset", L6, BAR, None, Some((Superset, "12")), &[2, 4, 7, 9]),
    row("by SPIFFE ID and federatesWith superset no results", L6, BUZ, None, Some((Superset, "23")), &[]),
    row("by Parent ID, federatesWith and selectors", L4, FOO, Some((Subset, "AD")), Some((Subset, "12")), &[2]),
];

/// Read by pages of two records.
const ROWS_BY_TWO: &[Row] = &[
    row("with partial page", &["foobarAB1"], NO, None, None, &[1]),
    row("with full page", &["foobarAB1", "foobarCB2"], NO, None, None, &[1, 2]),
    row("with page and a half", &["foobarAB1", "foobarCB2", "foobarAD12"], NO, None, None, &[1, 2, 3]),
];

fn trust_domains(digits: &str) -> Vec<String> {
    digits.chars().map(|digit| format!("spiffe://federated{digit}.test")).collect()
}

/// The entry with this name.
fn named(name: &str) -> RegistrationEntry {
    let (ids, rest) = name.split_at(6);
    let letters_end = rest.find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len());
    let hint = match name {
        "foobarAB1" | "bazbarAD12" => "external",
        "foobarCB2" => "internal",
        _ => "",
    };
    RegistrationEntry {
        entry_id: name.into(),
        federates_with: trust_domains(&rest[letters_end..]),
        hint: hint.into(),
        ..entry(&ids[..3], &ids[3..], letters(&rest[..letters_end]))
    }
}

impl Row {
    fn filter(&self) -> Filter {
        let [parent, id, hint] = self.texts;
        Filter {
            by_parent_id: parent.into(),
            by_spiffe_id: id.into(),
            by_hint: hint.into(),
            by_selectors: self.selectors.map(|(matching, set)| by_selectors(matching, letters(set))),
            by_federates_with: self
                .federates_with
                .map(|(matching, set)| by_federates_with(matching, trust_domains(set))),
            by_downstream: None,
        }
    }

    async fn check(&self, datastore: &Namespace, page_size: usize) {
        for digit in "123".chars() {
            let id = trust_domains(&digit.to_string()).remove(0);
            datastore.create_bundle(bundle(&id, &[1])).await.unwrap();
        }
        let mut created = Vec::new();
        for name in self.load {
            let entry = datastore.create_registration_entry(named(name)).await.unwrap();
            assert_eq!(entry.entry_id, *name);
            created.push(entry);
        }
        let expected: Vec<_> = self.expected.iter().map(|position| created[position - 1].clone()).collect();
        for (level, datastore) in [("current", datastore.clone()), ("stale tolerated", datastore.stale())] {
            let _case = case(format!("{}, unpaginated, {level}", self.name));
            assert_eq!(datastore.list_registration_entries(self.filter()).await.unwrap(), expected);
            let count = datastore.count_registration_entries(self.filter()).await.unwrap();
            assert_eq!(usize::try_from(count).unwrap(), expected.len());
            let stream = datastore.stream_registration_entries(self.filter()).await.unwrap();
            assert_eq!(stream.collect::<Result<Vec<_>, _>>().await.unwrap(), expected);

            let _case = case(format!("{}, paginated, {level}", self.name));
            let size = i32::try_from(page_size).unwrap();
            let pages = all_pages(size, async |token| {
                datastore.list_registration_entries_page(self.filter(), token, size).await
            })
            .await;
            assert_eq!(pages.records, expected);
            assert_eq!(pages.tokens, tokens(self.expected, page_size));
        }
    }
}

#[test]
fn test_list_registration_entries() {
    run(async {
        assert_eq!(ROWS.len() + ROWS_BY_TWO.len(), 59);
        for (rows, size) in [(ROWS, 1), (ROWS_BY_TWO, 2)] {
            for row in rows {
                let _case = case(row.name);
                row.check(&namespace().await, size).await;
            }
        }
    });
}

/// The calls that the suite makes on a store that is closed.
#[test]
fn test_list_registration_entries_when_closed() {
    run(async {
        let server = Server::start(steeple_server::node::NodeOptions::in_memory()).await;
        let datastore = server.namespace().await;
        server.node.stop().await;
        let page = datastore.list_registration_entries_page(Filter::default(), "", 0).await;
        refused(page, Code::InvalidArgument, "cannot paginate with pagesize = 0");
        let page = datastore.list_registration_entries_page(Filter::default(), "invalid int", 10).await;
        refused(page, Code::InvalidArgument, "could not parse token 'invalid int'");
        let empty = Filter { by_selectors: Some(by_selectors(Exact, vec![])), ..Filter::default() };
        refused(
            datastore.list_registration_entries(empty).await,
            Code::InvalidArgument,
            "cannot list by empty selector set",
        );
    });
}

/// Section 3.1: the page size first, then the selectors, then the token.
#[test]
fn checks_have_an_order() {
    run(async {
        let datastore = namespace().await;
        let empty = || Filter { by_selectors: Some(by_selectors(Any, vec![])), ..Filter::default() };
        let page = |token: &'static str, size| {
            let datastore = datastore.clone();
            async move { datastore.list_registration_entries_page(empty(), token, size).await }
        };
        refused(page("x", 0).await, Code::InvalidArgument, "cannot paginate with pagesize = 0");
        refused(page("x", 1).await, Code::InvalidArgument, "cannot list by empty selector set");
        refused(
            datastore.count_registration_entries(empty()).await,
            Code::InvalidArgument,
            "cannot list by empty selector set",
        );
    });
}

#[test]
fn an_unpaginated_answer_has_no_pagination_and_a_page_echoes_its_size() {
    run(async {
        let datastore = namespace().await;
        datastore.create_registration_entry(named("foobarB")).await.unwrap();
        let mut request = ListRegistrationEntriesRequest {
            context: Some(steeple_wire::common::v1::ReadContext {
                namespace: datastore.name().into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let list = async |request: &ListRegistrationEntriesRequest| -> ListRegistrationEntriesResponse {
            raw::unary(&shared().channel, raw::DATASTORE, "ListRegistrationEntries", request).await.unwrap()
        };
        assert_eq!(list(&request).await.pagination, None);
        for (token, answered) in [("", "1"), ("0", "1"), ("1", "")] {
            request.pagination = Some(steeple_client::types::Pagination { token: token.into(), page_size: 7 });
            let pagination = list(&request).await.pagination.unwrap();
            assert_eq!((pagination.token.as_str(), pagination.page_size), (answered, 7), "after {token:?}");
        }
    });
}

// ---- the two fixtures of five entries

async fn load(json: &str) -> (Namespace, Vec<RegistrationEntry>) {
    let datastore = namespace().await;
    for number in 1..=4u8 {
        datastore.create_bundle(bundle(&format!("spiffe://td{number}.org"), &[number])).await.unwrap();
    }
    let mut created = Vec::new();
    for entry in fixtures::load(json) {
        created.push(datastore.create_registration_entry(entry.unwrap()).await.unwrap());
    }
    (datastore, created)
}

/// Positions of the result, in the order of the answer.
async fn positions(datastore: &Namespace, created: &[RegistrationEntry], filter: Filter) -> Result<Vec<usize>, Error> {
    let found = datastore.list_registration_entries(filter).await?;
    let position = |entry: &RegistrationEntry| created.iter().position(|other| other == entry).unwrap() + 1;
    Ok(found.iter().map(position).collect())
}

/// `a` stands for the selector `a:1`, and so on.
fn numbered(set: &str) -> Vec<steeple_client::types::Selector> {
    let number = |letter: char| (u32::from(letter) - u32::from('a') + 1).to_string();
    set.chars().map(|letter| steeple_tests::records::selector(&letter.to_string(), &number(letter))).collect()
}

async fn check_selectors(rows: &[(&str, MatchBehavior, &str, &[usize])]) {
    for (name, matching, set, expected) in rows {
        let _case = case(*name);
        let (datastore, created) = load(fixtures::ENTRIES).await;
        let filter = Filter { by_selectors: Some(by_selectors(*matching, numbered(set))), ..Filter::default() };
        assert_eq!(positions(&datastore, &created, filter).await.unwrap(), *expected);
    }
}

#[test]
fn test_list_parent_id_entries() {
    run(async {
        for (name, parent, expected) in [
            ("test_parentID_found", "spiffe://parent", vec![1, 2]),
            ("test_parentID_notfound", "spiffe://parents", vec![]),
        ] {
            let _case = case(name);
            let (datastore, created) = load(fixtures::ENTRIES).await;
            let filter = Filter { by_parent_id: parent.into(), ..Filter::default() };
            assert_eq!(positions(&datastore, &created, filter).await.unwrap(), expected);
        }
    });
}

#[test]
fn test_list_selector_entries() {
    run(check_selectors(&[
        ("entries_by_selector_found", Exact, "abc", &[1]),
        ("entries_by_selector_not_found", Exact, "e", &[]),
    ]));
}

#[test]
fn test_list_entries_by_selector_subset() {
    run(check_selectors(&[("test1", Subset, "abc", &[1, 2, 3]), ("test2", Subset, "d", &[])]));
}

#[test]
fn test_list_selector_entries_superset() {
    run(check_selectors(&[
        ("entries_by_selector_found", Superset, "ac", &[1, 4]),
        ("entries_by_selector_not_found", Superset, "e", &[]),
    ]));
}

#[test]
fn test_list_entries_by_selector_match_any() {
    run(check_selectors(&[
        ("multiple selectors", Any, "cd", &[1, 3, 4, 5]),
        ("single selector", Any, "d", &[4, 5]),
        ("no match", Any, "e", &[]),
    ]));
}

async fn check_federates_with(rows: &[(&str, MatchBehavior, &str, &[usize])]) {
    for (name, matching, set, expected) in rows {
        let _case = case(*name);
        let (datastore, created) = load(fixtures::ENTRIES_FEDERATES_WITH).await;
        let ids = set.chars().map(|digit| format!("spiffe://td{digit}.org")).collect();
        let filter = Filter { by_federates_with: Some(by_federates_with(*matching, ids)), ..Filter::default() };
        assert_eq!(positions(&datastore, &created, filter).await.unwrap(), *expected);
    }
}

#[test]
fn test_list_entries_by_federates_with_exact() {
    run(check_federates_with(&[
        ("multiple selectors", Exact, "123", &[1]),
        ("with a subset", Exact, "12", &[2]),
        ("no match", Exact, "1", &[]),
    ]));
}

#[test]
fn test_list_entries_by_federates_with_subset() {
    run(check_federates_with(&[("multiple selectors", Subset, "123", &[1, 2, 3]), ("no match", Subset, "4", &[])]));
}

#[test]
fn test_list_entries_by_federates_with_match_any() {
    run(check_federates_with(&[
        ("multiple selectors", Any, "34", &[1, 3, 4, 5]),
        ("single selector", Any, "4", &[4, 5]),
        ("no match", Any, "5", &[]),
    ]));
}

#[test]
fn test_list_entries_by_federates_with_superset() {
    run(check_federates_with(&[
        ("multiple selectors", Superset, "13", &[1, 4]),
        ("single selector", Superset, "3", &[1, 3, 4]),
        ("no match", Superset, "5", &[]),
    ]));
}

// ---- the worked examples of section 4.1

#[test]
fn order_and_duplicates_of_a_filter_do_not_matter() {
    run(async {
        let (datastore, created) = load(fixtures::ENTRIES_FEDERATES_WITH).await;
        for (set, expected) in [("cba", vec![1]), ("abcabc", vec![1]), ("bbaa", vec![2])] {
            let filter = Filter { by_selectors: Some(by_selectors(Exact, numbered(set))), ..Filter::default() };
            assert_eq!(positions(&datastore, &created, filter).await.unwrap(), expected, "{set}");
        }
        let ids =
            |range: Range<u8>| range.rev().flat_map(|n| [format!("spiffe://td{n}.org"), format!("spiffe://td{n}.org")]);
        let filter =
            Filter { by_federates_with: Some(by_federates_with(Exact, ids(1..4).collect())), ..Filter::default() };
        assert_eq!(positions(&datastore, &created, filter).await.unwrap(), [1]);
    });
}

#[test]
fn an_empty_federates_with_filter_is_as_if_absent() {
    run(async {
        let (datastore, created) = load(fixtures::ENTRIES).await;
        let filter = Filter { by_federates_with: Some(by_federates_with(Exact, vec![])), ..Filter::default() };
        assert_eq!(positions(&datastore, &created, filter).await.unwrap(), [1, 2, 3, 4, 5]);
    });
}
