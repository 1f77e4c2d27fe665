//! Short lists and long ones.

use prost::Message;
use steeple_engine::domain::Command;
use steeple_engine::spire::entries::queries::EntryFilter;
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::selectors::{Match, Selector, SelectorFilter};
use steeple_wire::spire::v1 as wire;
use tokio_stream::StreamExt;

use super::*;
use crate::node::{Node, NodeOptions, NodeParts};

/// A namespace with so many entries below each parent, `create` of which says what is in them.
async fn namespace_with(parents: &[usize], create: impl Fn(usize, usize) -> Entry) -> Scope {
    let node = Node::start(NodeOptions::in_memory(), NodeParts::default()).unwrap();
    let namespace = node.open_namespace("test").await.unwrap();
    for (parent, count) in parents.iter().enumerate() {
        for number in 0..*count {
            let entry = Entry {
                spiffe_id: format!("spiffe://td/{parent}/{number}"),
                parent_id: format!("spiffe://td/{parent}"),
                ..create(parent, number)
            };
            let command = spire::entries::Command::CreateOrReturn(Some(entry));
            node.submit(namespace, None, Command::Spire(spire::Command::Entry(command))).await.unwrap();
        }
    }
    Scope::of(node, namespace)
}

fn carrying(values: &[String]) -> Entry {
    let selector = |value: &String| Selector { kind: "unix".into(), value: value.clone() };
    Entry { selectors: values.iter().map(selector).collect(), ..Entry::default() }
}

fn below(parent: usize) -> Entries {
    Entries { filter: EntryFilter { parent_id: format!("spiffe://td/{parent}"), ..EntryFilter::default() } }
}

async fn streamed(pieces: Entries, scope: &Scope, limit: usize) -> (bool, Vec<u8>) {
    let messages = pieces.stream(scope.clone(), Sequence::ZERO, limit, |sent, _| sent.0).unwrap();
    let is_ready = matches!(messages, Messages::Ready(_));
    (is_ready, messages.map(Result::unwrap).collect::<Vec<_>>().await.concat())
}

#[tokio::test]
async fn short_lists_and_long_ones_say_the_same() {
    let counts = [0, 1, FEW.records - 1, FEW.records, FEW.records + 1, FEW.records + 2];
    let scope = namespace_with(&counts, |_, number| carrying(&[format!("uid:{number}")])).await;
    for (parent, count) in counts.into_iter().enumerate() {
        for limit in [1, FEW.records, FEW.records + 1, usize::MAX] {
            let pieces = below(parent);
            let (long, last) = pieces.collect_now(&scope, Sequence::ZERO, limit, "").unwrap();
            let decoded = wire::ListRegistrationEntriesResponse::decode(long.0.as_slice()).unwrap();
            assert_eq!(decoded.entries.len(), count.min(limit));
            let short = pieces.read_few(&scope, Sequence::ZERO, limit).unwrap();
            assert_eq!(short.is_some(), count.min(limit) <= FEW.records, "{count} up to {limit}");
            if let Some((short, short_last)) = short {
                assert_eq!((short.0, short_last), (long.0.clone(), last));
            }
            let (collected, collected_last) = pieces.clone().collect(&scope, Sequence::ZERO, limit, "").await.unwrap();
            assert_eq!((&collected.0, collected_last), (&long.0, last));
            let expected = (count.min(limit) <= FEW.records, long.0);
            assert_eq!(streamed(pieces, &scope, limit).await, expected, "{count} up to {limit}");
        }
    }
}

#[tokio::test]
async fn a_few_long_records_are_no_short_list() {
    let many = FEW.bytes / 16_000 + 2;
    let scope = namespace_with(&[many], |_, number| carrying(&[format!("{number}{}", "x".repeat(16_000))])).await;
    assert!(below(0).read_few(&scope, Sequence::ZERO, usize::MAX).unwrap().is_none());
    assert!(below(0).read_few(&scope, Sequence::ZERO, 10).unwrap().is_some());
    let (long, _) = below(0).collect_now(&scope, Sequence::ZERO, usize::MAX, "").unwrap();
    assert_eq!(streamed(below(0), &scope, usize::MAX).await, (false, long.0));
}

#[tokio::test]
async fn a_list_that_takes_long_to_look_for_is_no_short_one() {
    // Nobody carries both selectors, which takes a look at everybody who carries the one of which there are fewer.
    let scope = namespace_with(&[1000, 1100], |parent, _| carrying(&[format!("uid:{parent}")])).await;
    let both = |scope: &Scope| {
        let filter = SelectorFilter {
            matching: Match::Superset,
            selectors: carrying(&["uid:0".into(), "uid:1".into()]).selectors,
        };
        let pieces = Entries { filter: EntryFilter { selectors: Some(filter), ..EntryFilter::default() } };
        let is_short = pieces.read_few(scope, Sequence::ZERO, usize::MAX).unwrap().is_some();
        assert_eq!(pieces.collect_now(scope, Sequence::ZERO, usize::MAX, "").unwrap().0.0, b"");
        is_short
    };
    assert!(both(&scope));
    let scope = namespace_with(&[1100, 1100], |parent, _| carrying(&[format!("uid:{parent}")])).await;
    assert!(!both(&scope));
}

#[tokio::test]
async fn a_filter_with_much_to_look_up_gives_no_short_list() {
    let scope = namespace_with(&[1], |_, _| carrying(&["uid:0".into()])).await;
    let asking = |selectors: usize, trust_domains: usize| {
        let values: Vec<_> = (0..selectors).map(|number| format!("uid:{number}")).collect();
        let ids = (0..trust_domains).map(|number| format!("spiffe://other{number}")).collect();
        let filter = SelectorFilter { matching: Match::Any, selectors: carrying(&values).selectors };
        let selectors = (selectors > 0).then_some(filter);
        Entries { filter: EntryFilter { selectors, federates_with: Some((Match::Any, ids)), ..EntryFilter::default() } }
    };
    for (selectors, trust_domains, is_short) in
        [(1, 1, true), (64, 0, true), (65, 0, false), (0, 64, true), (0, 65, false), (64, 64, true), (1, 10_000, false)]
    {
        let pieces = asking(selectors, trust_domains);
        let few = pieces.read_few(&scope, Sequence::ZERO, usize::MAX).unwrap();
        assert_eq!(few.is_some(), is_short, "{selectors} selectors, {trust_domains} trust domains");
        let (all, last) = pieces.collect(&scope, Sequence::ZERO, usize::MAX, "").await.unwrap();
        assert_eq!(last.is_some(), trust_domains == 0, "the entry federates with nobody");
        assert!(few.is_none_or(|(sent, _)| sent.0 == all.0));
    }
}

#[tokio::test]
async fn many_sets_to_look_at_for_each_candidate_give_no_short_list() {
    // Each of 64 selectors is carried by some below the third parent, and by nobody below the others.
    let create = |parent, number| match parent {
        2 => carrying(&[format!("uid:{}", number % 64)]),
        _ => carrying(&["gid:0".into()]),
    };
    let scope = namespace_with(&[20, 100, 200], create).await;
    let values: Vec<_> = (0..64).map(|number| format!("uid:{number}")).collect();
    for matching in [Match::Any, Match::Subset] {
        for (parent, is_short) in [(0, true), (1, false)] {
            let selectors = Some(SelectorFilter { matching, selectors: carrying(&values).selectors });
            let pieces = Entries { filter: EntryFilter { selectors, ..below(parent).filter } };
            let few = pieces.read_few(&scope, Sequence::ZERO, usize::MAX).unwrap();
            assert_eq!(few.is_some(), is_short, "{matching:?} below {parent}");
            assert_eq!(pieces.collect_now(&scope, Sequence::ZERO, usize::MAX, "").unwrap().0.0, b"");
        }
    }
}
