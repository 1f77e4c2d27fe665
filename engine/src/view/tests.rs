//! Views against a naive model: every query by scanning, every state by replaying.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::event::{Change, Event, LowWaterMark, StreamItem};
use crate::ids::{IndexId, LogIndex, NamespaceId, Revision, Sequence, StreamId, StreamSequence, TableId, Timestamp};
use crate::index::{Predicate, Query};
use crate::local::SeededEntropy;
use crate::record_store::MemoryStore;
use crate::table::{
    Catalog, IndexDefinition, IndexKind, KeySink, RecordDecodeError, StreamDefinition, TableDefinition,
};
use crate::transaction::Transaction;

const ITEMS: TableId = TableId(900);
const OTHERS: TableId = TableId(901);
const FEED: StreamId = StreamId(9);
const NAME: IndexId = IndexId(0);
const TAGS: IndexId = IndexId(1);
const COLOUR: IndexId = IndexId(2);
const DUE: IndexId = IndexId(3);
const NAMESPACE: NamespaceId = NamespaceId(7);

/// Body: name, due number, colour, tags, one byte each.
static TABLE: TableDefinition = TableDefinition {
    id: ITEMS,
    name: "items",
    indexes: &[
        IndexDefinition { id: NAME, name: "name", kind: IndexKind::Unique },
        IndexDefinition { id: TAGS, name: "tags", kind: IndexKind::CountedSet },
        IndexDefinition { id: COLOUR, name: "colour", kind: IndexKind::Set },
        IndexDefinition { id: DUE, name: "due", kind: IndexKind::Ordered },
    ],
    keys: item_keys,
    secret: false,
};

/// Another table, with fewer indexes. Body: name, and whatever follows.
static OTHER_TABLE: TableDefinition = TableDefinition {
    id: OTHERS,
    name: "others",
    indexes: &[IndexDefinition { id: NAME, name: "name", kind: IndexKind::Unique }],
    keys: |body, keys| {
        keys.key(NAME, &body[..2]);
        Ok(())
    },
    secret: false,
};

static CATALOG: Catalog =
    Catalog { tables: &[&TABLE, &OTHER_TABLE], streams: &[&StreamDefinition { id: FEED, name: "feed" }] };

fn item_keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    let [name_high, name_low, due, colour, tags @ ..] = body else {
        return Err(RecordDecodeError::Malformed { table: "items", detail: "short".into() });
    };
    keys.key(NAME, &[*name_high, *name_low]);
    if *due > 0 {
        keys.number(DUE, i64::from(*due));
    }
    keys.key(COLOUR, &[*colour]);
    for tag in tags {
        keys.key(TAGS, &[*tag]);
    }
    Ok(())
}

/// The plainest possible table: sequence to body.
#[derive(Default)]
struct Model {
    records: BTreeMap<u64, Vec<u8>>,
}

impl Model {
    fn selects(body: &[u8], query: &Query) -> bool {
        let tags: BTreeSet<&[u8]> = body[4..].chunks(1).collect();
        let key_set = |index: IndexId| match index {
            NAME => BTreeSet::from([&body[..2]]),
            TAGS => tags.clone(),
            _ => BTreeSet::from([&body[3..4]]),
        };
        let due = Some(i64::from(body[2])).filter(|due| *due > 0);
        query.predicates.iter().all(|predicate| match predicate {
            Predicate::Is { index, key } => key_set(*index).contains(key.as_slice()),
            Predicate::AnyOf { index, keys } => keys.iter().any(|key| key_set(*index).contains(key.as_slice())),
            Predicate::AllOf { index, keys } => keys.iter().all(|key| key_set(*index).contains(key.as_slice())),
            Predicate::OnlyOf { index, keys } => {
                let held = key_set(*index);
                !held.is_empty() && held.iter().all(|tag| keys.iter().any(|key| key == tag))
            }
            Predicate::Exactly { index, keys } => key_set(*index) == keys.iter().map(Vec::as_slice).collect(),
            Predicate::Below { number, .. } => due.is_some_and(|due| due < *number),
            Predicate::AtLeast { number, .. } => due.is_some_and(|due| due >= *number),
            Predicate::Among { .. } => unreachable!("not generated"),
        })
    }

    fn select(&self, query: &Query, after: u64, limit: usize) -> Vec<Sequence> {
        let selected = self.records.range(after + 1..).filter(|(_, body)| Self::selects(body, query));
        selected.map(|(sequence, _)| Sequence(*sequence)).take(limit).collect()
    }
}

/// Random colours and tags in which some keys are carried by nearly every record and some by one or two.
fn random_body(random: &mut StdRng, name: u16) -> Vec<u8> {
    let due = if random.random_bool(0.2) { 0 } else { random.random_range(1..=40) };
    let colour = if random.random_bool(0.8) { 1 } else { random.random_range(2..30) };
    let mut body = vec![name.to_be_bytes()[0], name.to_be_bytes()[1], due, colour];
    for _ in 0..random.random_range(0..4) {
        body.push(if random.random_bool(0.5) { random.random_range(1..3) } else { random.random_range(3..60) });
    }
    body
}

fn random_tags(random: &mut StdRng) -> Vec<Vec<u8>> {
    let count = random.random_range(1..4);
    (0..count)
        .map(|_| vec![if random.random_bool(0.7) { random.random_range(1..5) } else { random.random_range(3..70) }])
        .collect()
}

fn random_query(random: &mut StdRng) -> Query {
    let mut query = Query::all();
    for _ in 0..random.random_range(0..4) {
        let keys = random_tags(random);
        query = query.and(match random.random_range(0..9) {
            0 => Predicate::Is { index: TAGS, key: keys[0].clone() },
            1 => Predicate::AnyOf { index: TAGS, keys },
            2 => Predicate::AllOf { index: TAGS, keys },
            3 => Predicate::OnlyOf { index: TAGS, keys: [keys, random_tags(random)].concat() },
            4 => Predicate::Exactly { index: TAGS, keys },
            5 => Predicate::Below { index: DUE, number: random.random_range(0..45) },
            6 => Predicate::AtLeast { index: DUE, number: random.random_range(0..45) },
            7 => Predicate::Is { index: COLOUR, key: vec![random.random_range(1..5)] },
            _ => Predicate::AnyOf { index: NAME, keys: (0..3).map(|_| vec![0, random.random()]).collect() },
        });
    }
    query
}

/// A pipeline in miniature: events are decided over the overlay and folded some time later.
struct Bench {
    view: View,
    overlay: Overlay,
    events: Vec<Arc<Event>>,
    model: Model,
    /// How often a record that is there is changed, and not another one made.
    changes: f64,
}

impl Bench {
    fn new() -> Self {
        let view = View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap();
        Self { view, overlay: Overlay::new(CATALOG), events: Vec::new(), model: Model::default(), changes: 0.5 }
    }

    fn decide(&mut self, random: &mut StdRng) {
        let below = self.view.read();
        let reader = OverlayReader::new(&below, &self.overlay);
        let mut entropy = SeededEntropy::new(1);
        let mut transaction = Transaction::new(&reader, CATALOG, NAMESPACE, Timestamp(1), &mut entropy);
        let existing = reader.select(NAMESPACE, ITEMS, &Query::all(), Sequence::ZERO, usize::MAX);
        let target = (!existing.is_empty()).then(|| existing[random.random_range(0..existing.len())]);
        let name: u16 = random.random_range(0..400);
        let body = random_body(random, name);
        let changed = match target {
            Some(target) if random.random_bool(self.changes) => {
                let record = reader.get(NAMESPACE, ITEMS, target).unwrap().unwrap();
                assert_eq!(self.model.records[&target.0], record.body);
                if random.random_bool(0.4) {
                    transaction.delete(ITEMS, &record);
                    self.model.records.remove(&target.0);
                    true
                } else {
                    let updated = transaction.update(ITEMS, &record, body.clone()).is_ok();
                    let taken = self.model.records.iter().any(|(at, other)| *at != target.0 && other[..2] == body[..2]);
                    assert_eq!(updated, !taken);
                    if updated {
                        self.model.records.insert(target.0, body);
                    }
                    updated
                }
            }
            _ => {
                let inserted = transaction.insert(ITEMS, body.clone());
                let taken = self.model.records.values().any(|other| other[..2] == body[..2]);
                assert_eq!(inserted.is_ok(), !taken);
                if let Ok((sequence, _)) = inserted {
                    self.model.records.insert(sequence.0, body);
                }
                !taken
            }
        };
        if !changed {
            return;
        }
        transaction.emit(FEED, name.to_be_bytes(), Some(0));
        if random.random_bool(0.05) {
            let last = reader.stream(NAMESPACE, FEED).last.0;
            transaction.raise_low_water(FEED, StreamSequence(last.saturating_sub(20)));
        }
        let revision = reader.revision().next();
        let content = transaction.into_content();
        let event = Arc::new(Event {
            revision,
            time: Timestamp(revision.0),
            namespace: NAMESPACE,
            request: None,
            changes: content.changes,
            items: content.items,
            marks: content.marks,
            answer: Vec::new(),
        });
        self.overlay.push(Arc::clone(&event), &below).unwrap();
        self.events.push(event);
    }

    fn fold_some(&mut self, random: &mut StdRng) {
        let folded = usize::try_from(self.view.folded().revision.0).unwrap();
        let until = random.random_range(folded..=self.events.len());
        let events: Vec<Committed> = self.events[folded..until].iter().map(committed).collect();
        self.view.fold(&events).unwrap();
        self.overlay.drop_folded(self.view.folded().revision).unwrap();
        if random.random_bool(0.5) {
            self.view.remove_given_up(random.random_range(0..15)).unwrap();
        }
    }

    /// Leadership is lost and won again: nothing has been asked of the new overlay.
    fn begin_anew(&mut self) {
        let folded = usize::try_from(self.view.folded().revision.0).unwrap();
        let events: Vec<Committed> = self.events[folded..].iter().map(committed).collect();
        self.view.fold(&events).unwrap();
        self.overlay = Overlay::new(CATALOG);
    }

    fn check(&self, random: &mut StdRng) {
        let below = self.view.read();
        let reader = OverlayReader::new(&below, &self.overlay);
        for _ in 0..4 {
            let query = random_query(random);
            let after = random.random_range(0..200);
            let limit = if random.random_bool(0.3) { usize::MAX } else { random.random_range(1..10) };
            let selected = reader.select(NAMESPACE, ITEMS, &query, Sequence(after), limit);
            assert_eq!(selected, self.model.select(&query, after, limit), "{query:?} after {after} limit {limit}");
            let count = self.model.select(&query, 0, usize::MAX).len() as u64;
            assert_eq!(reader.count(NAMESPACE, ITEMS, &query), count, "{query:?}");
        }
        let bound = random.random_range(0..45);
        let mut lowest: Vec<(u8, u64)> =
            self.model.records.iter().map(|(sequence, body)| (body[2], *sequence)).collect();
        lowest.retain(|(due, _)| *due > 0 && i64::from(*due) < bound);
        lowest.sort_unstable();
        let lowest: Vec<Sequence> = lowest.into_iter().map(|(_, sequence)| Sequence(sequence)).take(5).collect();
        assert_eq!(reader.select_lowest(NAMESPACE, ITEMS, DUE, bound, 5), lowest);
        self.check_stream(&reader, random);
    }

    fn check_stream(&self, reader: &OverlayReader<'_>, random: &mut StdRng) {
        let state = reader.stream(NAMESPACE, FEED);
        assert_eq!(state.last.0, self.events.len() as u64);
        let after = StreamSequence(random.random_range(0..self.events.len() as u64 + 3));
        let rows = reader.stream_rows(NAMESPACE, FEED, after, 30).unwrap();
        let expected: Vec<u64> = (after.next().max(state.low_water).0..=state.last.0).take(30).collect();
        assert_eq!(rows.iter().map(|row| row.sequence.0).collect::<Vec<_>>(), expected);
        for row in rows {
            let event = &self.events[usize::try_from(row.revision.0).unwrap() - 1];
            assert_eq!((row.time, &row.key[..]), (event.time, &event.items[0].key[..]));
        }
    }
}

fn committed(event: &Arc<Event>) -> Committed {
    Committed { index: LogIndex(event.revision.0 + 10), event: Arc::clone(event) }
}

#[test]
fn queries_over_view_and_overlay_equal_a_naive_scan() {
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bench = Bench::new();
        for step in 0..600 {
            bench.decide(&mut random);
            if random.random_bool(0.2) {
                bench.fold_some(&mut random);
            }
            if random.random_bool(0.03) {
                bench.begin_anew();
            }
            if step % 5 == 0 {
                bench.check(&mut random);
            }
        }
    }
}

#[test]
fn records_that_are_made_one_after_another_are_found_as_any_other() {
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bench = Bench { changes: 0.03, ..Bench::new() };
        for _ in 0..6 {
            (0..60).for_each(|_| bench.decide(&mut random));
            bench.begin_anew();
            (0..10).for_each(|_| bench.check(&mut random));
        }
    }
}

#[test]
fn records_made_in_different_namespaces_and_tables_are_kept_apart_when_they_are_folded_together() {
    const EACH: u64 = 20;
    let others = NamespaceId(8);
    let created = |namespace, table, number: u64| {
        let body = vec![0, number as u8, 0, 1];
        let change = Change { table, sequence: Sequence(number), previous: None, before: None, after: Some(body) };
        committed(&Arc::new(Event {
            revision: Revision(number),
            time: Timestamp(number),
            namespace,
            request: None,
            changes: vec![change],
            items: Vec::new(),
            marks: Vec::new(),
            answer: Vec::new(),
        }))
    };
    let places = [(NAMESPACE, ITEMS), (others, ITEMS), (others, OTHERS), (NAMESPACE, ITEMS)];
    let events = (0..).zip(places).flat_map(|(place, (namespace, table))| {
        (place * EACH + 1..=(place + 1) * EACH).map(move |number| created(namespace, table, number))
    });
    let view = View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap();
    view.fold(&events.collect::<Vec<_>>()).unwrap();
    let reader = view.read();
    let expected = [
        (NAMESPACE, ITEMS, (1..=EACH).chain(3 * EACH + 1..=4 * EACH).collect::<Vec<_>>()),
        (others, ITEMS, (EACH + 1..=2 * EACH).collect()),
        (others, OTHERS, (2 * EACH + 1..=3 * EACH).collect()),
    ];
    for (namespace, table, numbers) in expected {
        let selected = reader.select(namespace, table, &Query::all(), Sequence::ZERO, usize::MAX);
        assert!(selected.into_iter().eq(numbers.iter().copied().map(Sequence)), "{namespace} {table}");
        for number in &numbers {
            assert_eq!(reader.find(namespace, table, NAME, &[0, *number as u8]), Some(Sequence(*number)));
        }
        assert_eq!(reader.last_sequence(namespace, table), Sequence(*numbers.last().unwrap()));
    }
}

#[test]
fn rebuild_from_events_equals_living_through_them() {
    let mut random = StdRng::seed_from_u64(99);
    let mut bench = Bench::new();
    for _ in 0..500 {
        bench.decide(&mut random);
        if random.random_bool(0.3) {
            bench.fold_some(&mut random);
        }
    }
    let events: Vec<Committed> = bench.events.iter().map(committed).collect();
    bench.view.fold(&events[usize::try_from(bench.view.folded().revision.0).unwrap()..]).unwrap();

    let rebuilt = View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap();
    rebuilt.fold(&events).unwrap();
    let reopened = View::open(CATALOG, Arc::clone(bench.view.store())).unwrap();
    let others = [true, false]
        .map(|reversed| View::open_with(CATALOG, Arc::clone(bench.view.store()), &OtherWay(reversed)).unwrap());
    assert!(bench.model.records.len() > 30, "there are several pieces to read");

    let lived = bench.view.folded();
    assert_eq!(rebuilt.folded(), lived);
    assert_eq!(reopened.folded(), lived);
    assert_eq!(rebuilt.recompute_digest().unwrap(), (lived.revision, lived.digest));
    for view in [&rebuilt, &reopened, &others[0], &others[1]] {
        let reader = view.read();
        assert_eq!(reader.stream(NAMESPACE, FEED), bench.view.read().stream(NAMESPACE, FEED));
        assert_eq!(reader.last_sequence(NAMESPACE, ITEMS), bench.view.read().last_sequence(NAMESPACE, ITEMS));
        for _ in 0..50 {
            let query = random_query(&mut random);
            let selected = reader.select(NAMESPACE, ITEMS, &query, Sequence::ZERO, usize::MAX);
            assert_eq!(selected, bench.model.select(&query, 0, usize::MAX));
            let records = reader.records(NAMESPACE, ITEMS, &query, Sequence::ZERO, usize::MAX).unwrap();
            let bodies = selected.iter().map(|sequence| (*sequence, &bench.model.records[&sequence.0][..]));
            assert!(records.iter().map(|record| (record.sequence, &record.body[..])).eq(bodies), "{query:?}");
        }
    }
}

#[test]
fn records_are_read_until_they_are_too_many_bytes() {
    let mut random = StdRng::seed_from_u64(5);
    let mut bench = Bench::new();
    for _ in 0..900 {
        bench.decide(&mut random);
        if random.random_bool(0.2) {
            bench.fold_some(&mut random);
        }
    }
    let below = bench.view.read();
    let committed = below.select(NAMESPACE, ITEMS, &Query::all(), Sequence::ZERO, usize::MAX);
    let overlay = OverlayReader::new(&below, &bench.overlay);
    let ahead = overlay.select(NAMESPACE, ITEMS, &Query::all(), Sequence::ZERO, usize::MAX);
    // Records that lie close together are read by walking, others one by one.
    for (reader, all) in [(&below as &dyn Reader, committed), (&overlay, ahead)] {
        for step in [1, 20] {
            let sequences: Vec<Sequence> = all.iter().copied().step_by(step).collect();
            let records = reader.get_all(NAMESPACE, ITEMS, &sequences).unwrap();
            assert!(records.iter().map(|record| record.sequence).eq(sequences.iter().copied()));
            assert!(
                records
                    .iter()
                    .all(|record| Some(record) == reader.get(NAMESPACE, ITEMS, record.sequence).unwrap().as_ref())
            );
            for bytes_max in [0, 1, 4, 5, 40, 200, 1000] {
                let bytes = |count: usize| records[..count].iter().map(|record| record.body.len()).sum::<usize>();
                let expected = (1..records.len()).find(|count| bytes(*count) >= bytes_max).unwrap_or(records.len());
                let read = reader.get_up_to(NAMESPACE, ITEMS, &sequences, bytes_max).unwrap();
                assert_eq!(read, records[..expected], "{bytes_max} bytes, every {step}");
            }
            let gone = Sequence(all[all.len() - 1].0 + 1);
            let missing = reader.get_all(NAMESPACE, ITEMS, &[sequences, vec![gone]].concat());
            assert!(matches!(missing, Err(ReadError::Missing { sequence, .. }) if sequence == gone), "{missing:?}");
        }
    }
}

#[test]
fn a_store_that_lost_or_changed_a_record_is_refused() {
    let mut random = StdRng::seed_from_u64(3);
    let mut bench = Bench::new();
    while bench.model.records.len() < 20 {
        bench.decide(&mut random);
    }
    let events: Vec<Committed> = bench.events.iter().map(committed).collect();
    bench.view.fold(&events).unwrap();
    let sequence = *bench.model.records.keys().next().unwrap();
    let key = StoreKey::Record(NAMESPACE, ITEMS, Sequence(sequence)).encode();
    let value = bench.view.store().get(&key).unwrap().unwrap();

    let mut changed = value.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    for damage in [None, Some(changed)] {
        let mut batch = crate::record_store::WriteBatch::default();
        batch.operations.push((key.clone(), damage));
        bench.view.store().apply(batch).unwrap();
        assert!(matches!(View::open(CATALOG, Arc::clone(bench.view.store())), Err(ViewError::Digest { .. })));
    }

    let mut batch = crate::record_store::WriteBatch::default();
    batch.delete(key);
    bench.view.store().apply(batch).unwrap();
    let records = bench.view.read().records(NAMESPACE, ITEMS, &Query::all(), Sequence::ZERO, usize::MAX);
    assert!(matches!(records, Err(ReadError::Missing { sequence: missing, .. }) if missing.0 == sequence));
}

#[test]
fn an_event_out_of_turn_is_refused() {
    let mut random = StdRng::seed_from_u64(4);
    let mut bench = Bench::new();
    while bench.events.len() < 3 {
        bench.decide(&mut random);
    }
    let gap = bench.view.fold(&[committed(&bench.events[1])]);
    assert!(matches!(gap, Err(ViewError::Gap { folded: Revision(0), found: Revision(2) })));
}

#[test]
fn a_row_that_the_store_lost_is_missed() {
    let mut random = StdRng::seed_from_u64(5);
    let mut bench = Bench::new();
    while bench.events.len() < 12 {
        bench.decide(&mut random);
    }
    let events: Vec<Committed> = bench.events[..10].iter().map(committed).collect();
    bench.view.fold(&events).unwrap();
    bench.overlay.drop_folded(bench.view.folded().revision).unwrap();
    let low_water = bench.view.read().stream(NAMESPACE, FEED).low_water;
    assert_eq!(low_water, StreamSequence(1), "nothing was given up");
    for lost in [1, 5, 10] {
        let key = StoreKey::Row(NAMESPACE, FEED, StreamSequence(lost)).encode();
        let value = bench.view.store().get(&key).unwrap().unwrap();
        let restore = |value: Option<Vec<u8>>| {
            let mut batch = crate::record_store::WriteBatch::default();
            batch.operations.push((key.clone(), value));
            bench.view.store().apply(batch).unwrap();
        };
        restore(None);
        let below = bench.view.read();
        let above = OverlayReader::new(&below, &bench.overlay);
        for reader in [&below as &dyn Reader, &above] {
            let rows = |after, limit| reader.stream_rows(NAMESPACE, FEED, StreamSequence(after), limit);
            let error = rows(0, usize::MAX).unwrap_err().to_string();
            assert!(error.contains(&format!("row {lost} is missing")), "{error}");
            assert!(rows(lost - 1, 1).is_err());
            let before = usize::try_from(lost - 1).unwrap();
            assert_eq!(rows(0, before).unwrap().len(), before, "whole up to the hole");
            assert_eq!(rows(lost, 100).unwrap().len(), rows(lost, usize::MAX).unwrap().len());
        }
        restore(Some(value.to_vec()));
    }
}

/// Numbers of the rows that a store holds, listed or not.
fn stored_rows(store: &dyn crate::record_store::RecordStore) -> Vec<u64> {
    let mut rows = Vec::new();
    let (from, to) = (StoreKey::Row(NAMESPACE, FEED, StreamSequence::ZERO), StoreKey::LastSequence(NAMESPACE, ITEMS));
    store
        .scan(&from.encode(), &to.encode(), &mut |key, _| {
            let Some(StoreKey::Row(_, _, sequence)) = StoreKey::decode(key) else { panic!("{key:?}") };
            rows.push(sequence.0);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

/// Events that make one row each and then give up all but the last `kept` of them.
fn rows_and_a_mark(rows: u64, kept: u64) -> Vec<Committed> {
    let event = |revision: u64| Event {
        revision: Revision(revision),
        time: Timestamp(revision),
        namespace: NAMESPACE,
        request: None,
        changes: Vec::new(),
        items: Vec::new(),
        marks: Vec::new(),
        answer: Vec::new(),
    };
    let item = |sequence| StreamItem { stream: FEED, sequence: StreamSequence(sequence), key: vec![7], change: None };
    let made = (1..=rows).map(|sequence| Event { items: vec![item(sequence)], ..event(sequence) });
    let mark = LowWaterMark { stream: FEED, from: StreamSequence(1), to: StreamSequence(rows + 1 - kept) };
    made.chain([Event { marks: vec![mark], ..event(rows + 1) }]).map(|event| committed(&Arc::new(event))).collect()
}

#[test]
fn rows_below_a_mark_are_hidden_at_once_and_removed_afterwards_in_portions() {
    let view = View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap();
    assert!(!view.remove_given_up(10).unwrap(), "nothing was given up");
    view.fold(&rows_and_a_mark(30, 5)).unwrap();
    let folded = view.folded();
    let mut left = Vec::new();
    loop {
        left.push(stored_rows(view.store().as_ref()).len());
        let listed = view.read().stream_rows(NAMESPACE, FEED, StreamSequence::ZERO, usize::MAX).unwrap();
        assert_eq!(listed.iter().map(|row| row.sequence.0).collect::<Vec<_>>(), (26..=30).collect::<Vec<_>>());
        if !view.remove_given_up(10).unwrap() {
            break;
        }
    }
    assert_eq!(left, [30, 20, 10, 5]);
    assert_eq!(view.folded(), folded, "the state of the group is the same");
    assert_eq!(view.recompute_digest().unwrap(), (folded.revision, folded.digest));
}

#[test]
fn rows_that_a_crash_kept_from_being_removed_are_removed_after_it() {
    let events = rows_and_a_mark(30, 5);
    // What was flushed before it, and how many of the portions were carried out.
    for (flushed, portions) in [(10, 0), (31, 0), (31, 1), (31, 3), (31, 9)] {
        let store = Arc::new(MemoryStore::crashing());
        let view = View::open(CATALOG, store.clone()).unwrap();
        view.fold(&events[..flushed]).unwrap();
        view.flush().unwrap();
        for event in &events[flushed..] {
            view.fold(std::slice::from_ref(event)).unwrap();
        }
        for _ in 0..portions {
            view.remove_given_up(9).unwrap();
        }
        for surviving in 0..=store.unflushed_batches() {
            let store = Arc::new(store.crash(surviving));
            let view = View::open(CATALOG, store.clone()).unwrap();
            let mark = view.read().stream(NAMESPACE, FEED).low_water.0;
            assert!((mark..=view.folded().revision.0.min(30)).all(|row| stored_rows(store.as_ref()).contains(&row)));
            let folded = usize::try_from(view.folded().revision.0).unwrap();
            view.fold(&events[folded..]).unwrap();
            while view.remove_given_up(9).unwrap() {}
            let found = stored_rows(store.as_ref());
            assert_eq!(found, (26..=30).collect::<Vec<_>>(), "{flushed} {portions} {surviving}");
        }
    }
}

#[test]
fn a_mark_that_moves_while_rows_are_removed_is_followed() {
    let view = View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap();
    let events = rows_and_a_mark(30, 5);
    view.fold(&events).unwrap();
    assert!(view.remove_given_up(7).unwrap());
    let mut event = Event::clone(&events[30].event);
    event.revision = event.revision.next();
    event.marks = vec![LowWaterMark { stream: FEED, from: StreamSequence(26), to: StreamSequence(31) }];
    view.fold(&[committed(&Arc::new(event))]).unwrap();
    while view.remove_given_up(7).unwrap() {}
    assert!(stored_rows(view.store().as_ref()).is_empty());
    let reopened = View::open(CATALOG, Arc::clone(view.store())).unwrap();
    assert!(!reopened.remove_given_up(7).unwrap(), "that is remembered");
}

#[test]
fn members_are_folded_together_with_their_index_and_survive() {
    let store: Arc<dyn crate::record_store::RecordStore> = Arc::new(MemoryStore::new());
    let view = View::open(CATALOG, Arc::clone(&store)).unwrap();
    assert_eq!(view.membership(), None);
    let mut random = StdRng::seed_from_u64(6);
    let mut bench = Bench::new();
    while bench.events.len() < 2 {
        bench.decide(&mut random);
    }
    view.fold(&[committed(&bench.events[0])]).unwrap();
    let before = view.folded();
    view.fold_membership(LogIndex(15), b"one").unwrap();
    assert_eq!(view.folded(), FoldedPosition { index: LogIndex(15), ..before });
    view.fold_membership(LogIndex(15), b"folded before").unwrap();
    let refused = view.fold_membership(LogIndex(16), &vec![0; MEMBERSHIP_BYTES_MAX + 1]);
    assert!(matches!(refused, Err(ViewError::MembershipTooLarge { .. })));
    for view in [&view, &View::open(CATALOG, Arc::clone(&store)).unwrap()] {
        assert_eq!(view.membership().as_deref(), Some(&b"one"[..]));
        assert_eq!(view.folded(), FoldedPosition { index: LogIndex(15), ..before });
    }
    let event = Arc::clone(&bench.events[1]);
    view.fold(&[Committed { index: LogIndex(16), event }]).unwrap();
    assert_eq!(View::open(CATALOG, store).unwrap().folded(), view.folded());
}

#[test]
fn entries_without_an_event_are_folded_in_memory_and_stored_by_a_flush() {
    let store: Arc<dyn crate::record_store::RecordStore> = Arc::new(MemoryStore::new());
    let view = View::open(CATALOG, Arc::clone(&store)).unwrap();
    let stored = || View::open(CATALOG, Arc::clone(&store)).unwrap().folded().index;
    view.note_folded(LogIndex(3));
    view.note_folded(LogIndex(2));
    assert_eq!((view.folded().index, view.folded().revision), (LogIndex(3), Revision::ZERO));
    assert_eq!(stored(), LogIndex::ZERO);
    assert_eq!(view.flush().unwrap().index, LogIndex(3));
    assert_eq!(stored(), LogIndex(3));
    view.note_folded(LogIndex(4));
    view.fold_membership(LogIndex(5), b"members").unwrap();
    assert_eq!(stored(), LogIndex(5));
}

/// Does the second piece of work first, or both at the same time.
struct OtherWay(bool);

impl Fork for OtherWay {
    fn both(&self, one: &mut (dyn FnMut() + Send), other: &mut (dyn FnMut() + Send)) {
        if self.0 {
            other();
            one();
        } else {
            std::thread::scope(|scope| {
                scope.spawn(one);
                other();
            });
        }
    }
}
