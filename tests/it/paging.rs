use steeple_client::Namespace;
use steeple_client::Operation;
use steeple_client::types::{
    AttestedNodeFilter, CreateAttestedNodeRequest, MatchBehavior, RegistrationEntry, RegistrationEntryFilter as Filter,
    SetNodeSelectorsRequest,
};
use steeple_tests::check::{case, refused};
use steeple_tests::paging::{all_pages, tokens};
use steeple_tests::records::{NOW, by_selectors, entry, letters, node};
use steeple_tests::server::{namespace, run};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::registration_entries::{batch, create_operation};

/// Matching entries are few and far between others.
fn is_rare(number: usize) -> bool {
    number % 7 == 3
}

fn filter(matching: MatchBehavior, set: &str) -> Filter {
    Filter { by_selectors: Some(by_selectors(matching, letters(set))), ..Filter::default() }
}

async fn sparse(count: usize) -> Namespace {
    let datastore = namespace().await;
    let new = |number| {
        let set = if is_rare(number) { "AB" } else { "ABC" };
        create_operation(entry("p", &format!("w{number}"), letters(set)))
    };
    batch(&datastore, (0..count).map(new).collect()).await;
    datastore
}

#[test]
fn pages_are_filled_with_what_matches() {
    run(async {
        let datastore = sparse(100).await;
        let rare: Vec<usize> = (0..100).filter(|number| is_rare(*number)).map(|number| number + 1).collect();
        for matching in [MatchBehavior::Exact, MatchBehavior::Subset] {
            for size in [1, 2, 3, 5, 14, 15, 100] {
                let _case = case(format!("{matching:?} by {size}"));
                let filter = filter(matching, "AB");
                let page_size = i32::try_from(size).unwrap();
                let pages = all_pages(page_size, async |token| {
                    datastore.list_registration_entries_page(filter.clone(), token, page_size).await
                })
                .await;
                let found: Vec<_> = pages.records.iter().map(|entry| entry.spiffe_id.clone()).collect();
                assert_eq!(found, rare.iter().map(|position| format!("w{}", position - 1)).collect::<Vec<_>>());
                assert_eq!(pages.tokens, tokens(&rare, size));
                // All but the last with records are full.
                let full = rare.len() / size;
                assert!(pages.sizes[..full].iter().all(|found| *found == size), "{:?}", pages.sizes);
            }
        }
    });
}

#[test]
fn more_than_a_thousand_results() {
    run(async {
        let datastore = sparse(2_500).await;
        let all = datastore.list_registration_entries(Filter::default()).await.unwrap();
        assert_eq!(all.len(), 2_500);
        assert_eq!(datastore.count_registration_entries(Filter::default()).await.unwrap(), 2_500);
        let stream = datastore.stream_registration_entries(Filter::default()).await.unwrap();
        assert_eq!(stream.collect::<Result<Vec<_>, _>>().await.unwrap(), all);
        for size in [1_000, 2_499, 2_500, i32::MAX] {
            let pages = all_pages(size, async |token| {
                datastore.list_registration_entries_page(Filter::default(), token, size).await
            })
            .await;
            assert!(pages.records == all, "by {size}");
        }
        let common = all.iter().filter(|entry| entry.selectors.len() == 3).cloned().collect::<Vec<_>>();
        assert!(common.len() > 1_000);
        let found = datastore.list_registration_entries(filter(MatchBehavior::Exact, "ABC")).await.unwrap();
        assert!(found == common);
        let count = datastore.count_registration_entries(filter(MatchBehavior::Exact, "ABC")).await.unwrap();
        assert_eq!(count as usize, common.len());
        let ids = all.iter().map(|entry| entry.entry_id.clone()).collect();
        assert!(datastore.fetch_registration_entries(ids).await.unwrap() == all);
    });
}

/// Nodes are filtered by selectors in two ways, depending on which promises less work; both fill pages.
#[test]
fn pages_of_nodes_are_filled_whatever_matches() {
    run(async {
        let datastore = namespace().await;
        let mut operations = Vec::new();
        for number in 0..600 {
            let (id, set) = (format!("n{number}"), if is_rare(number) { "AB" } else { "ABC" });
            let node = Some(node(&id, NOW));
            operations.push(Operation::CreateAttestedNode(CreateAttestedNodeRequest { context: None, node }));
            let selectors = SetNodeSelectorsRequest { context: None, spiffe_id: id, selectors: letters(set) };
            operations.push(Operation::SetNodeSelectors(selectors));
        }
        batch(&datastore, operations).await;
        for (matching, set, rare) in [(MatchBehavior::Exact, "AB", true), (MatchBehavior::Exact, "ABC", false)] {
            let expected: Vec<usize> =
                (0..600).filter(|number| is_rare(*number) == rare).map(|number| number + 1).collect();
            for size in [1, 10, 600] {
                let _case = case(format!("{set} by {size}"));
                let filter = AttestedNodeFilter {
                    by_selectors: Some(by_selectors(matching, letters(set))),
                    ..Default::default()
                };
                let page_size = i32::try_from(size).unwrap();
                let pages = all_pages(page_size, async |token| {
                    datastore.list_attested_nodes_page(filter.clone(), true, token, page_size).await
                })
                .await;
                assert_eq!(pages.tokens, tokens(&expected, size));
                assert!(pages.records.iter().all(|node| node.selectors == letters(set)));
            }
        }
    });
}

/// Section 3.3.
#[test]
fn tokens_are_stable_under_writes() {
    run(async {
        let datastore = namespace().await;
        let new = |name: &str| entry("p", name, letters("A"));
        let mut created = Vec::new();
        for name in ["w1", "w2", "w3", "w4", "w5", "w6"] {
            created.push(datastore.create_registration_entry(new(name)).await.unwrap());
        }
        let page = async |token: &str| {
            let (entries, token) = datastore.list_registration_entries_page(Filter::default(), token, 2).await.unwrap();
            (entries.into_iter().map(|entry| entry.spiffe_id).collect::<Vec<_>>(), token)
        };
        let (found, token) = page("").await;
        assert_eq!((found, token.as_str()), (vec!["w1".into(), "w2".into()], "2"));
        // The record that the token names goes, one before it is recreated, one behind it is updated, one is new.
        datastore.delete_registration_entry(created[1].entry_id.as_str()).await.unwrap();
        datastore.delete_registration_entry(created[0].entry_id.as_str()).await.unwrap();
        datastore.create_registration_entry(new("w1")).await.unwrap();
        let update = RegistrationEntry { hint: "h".into(), ..created[2].clone() };
        datastore.update_registration_entry(update, None).await.unwrap();
        datastore.delete_registration_entry(created[3].entry_id.as_str()).await.unwrap();
        datastore.create_registration_entry(new("w9")).await.unwrap();
        let (found, token) = page(&token).await;
        assert_eq!((found, token.as_str()), (vec!["w3".into(), "w5".into()], "5"));
        let (found, token) = page(&token).await;
        assert_eq!((found, token.as_str()), (vec!["w6".into(), "w1".into()], "7"));
        let (found, token) = page(&token).await;
        assert_eq!((found, token.as_str()), (vec!["w9".into()], "8"));
        assert_eq!(page(&token).await, (vec![], String::new()));
    });
}

#[test]
fn tokens_are_unsigned_64_bit_numbers() {
    run(async {
        let datastore = namespace().await;
        let created = datastore.create_registration_entry(entry("p", "w", letters("A"))).await.unwrap();
        let all = (vec![created], "1".to_owned());
        let none = (vec![], String::new());
        for (token, expected) in [
            ("", &all),
            ("0", &all),
            ("00", &all),
            ("1", &none),
            ("4294967296", &none),
            ("18446744073709551615", &none),
        ] {
            let page = datastore.list_registration_entries_page(Filter::default(), token, 1).await.unwrap();
            assert_eq!(&page, expected, "{token:?}");
        }
        for token in ["18446744073709551616", "-1", "+1", " 1", "1 ", "0x1", "1.0", "'", "\u{0}", "١"] {
            let text = format!("could not parse token '{token}'");
            let filter = Filter::default();
            refused(datastore.list_registration_entries_page(filter, token, 1).await, Code::InvalidArgument, &text);
            refused(
                datastore.list_attested_nodes_page(Default::default(), false, token, 1).await,
                Code::InvalidArgument,
                &text,
            );
            refused(datastore.list_bundles_page(token, 1).await, Code::InvalidArgument, &text);
            refused(datastore.list_federation_relationships_page(token, 1).await, Code::InvalidArgument, &text);
        }
    });
}
