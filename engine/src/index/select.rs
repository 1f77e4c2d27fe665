//! Answering queries: the most selective condition drives, the others are asked about each candidate.
//!
//! A result costs in proportion to the smallest set among the conditions, from the page's token on, and not to the
//! table. The one exception is a condition on an ordered index alone: records in number order say nothing about
//! creation order, so a wide range is answered by walking the table and asking each record's number.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::posting::{Above, Posting};
use super::table_indexes::{Index, Postings, TableIndexes};
use super::{Predicate, Query};
use crate::ids::{IndexId, Sequence};
use crate::simulation::{Bug, is_planted};

/// A range of an ordered index with more records than this is asked, not enumerated.
const RANGE_ENUMERATED_MAX: usize = 4096;

/// A condition, bound to the sets that answer it.
enum Condition<'a> {
    /// In this set.
    In(&'a Posting),
    /// In one of these sets.
    InAny(Vec<&'a Posting>),
    /// Carries keys of these sets only, which come smallest first.
    Only {
        sets: Vec<&'a Posting>,
        by_count: &'a BTreeMap<u32, Posting>,
        /// What [`only_drivers`] finds, once it is asked for: it looks at every set.
        drivers: OnceCell<Vec<&'a Posting>>,
    },
    /// Number within these bounds (inclusive).
    Range { index: &'a Index, from: i64, to: i64 },
    /// One of these, ascending.
    Among(Vec<u64>),
    /// No record can hold it.
    Nothing,
}

impl TableIndexes {
    /// The first `limit` records above `after` that `query` selects and `keep` lets through, ascending.
    pub fn select(
        &self,
        query: &Query,
        after: Sequence,
        limit: usize,
        keep: &dyn Fn(Sequence) -> bool,
    ) -> Vec<Sequence> {
        self.select_soon(query, after, limit, u64::MAX, keep).unwrap_or_default()
    }

    /// As [`TableIndexes::select`]; `None` when it takes more than `steps_max` steps to tell. A step is a look at one
    /// candidate, or at one of the sets that say whether a condition holds for it.
    pub fn select_soon(
        &self,
        query: &Query,
        after: Sequence,
        limit: usize,
        steps_max: u64,
        keep: &dyn Fn(Sequence) -> bool,
    ) -> Option<Vec<Sequence>> {
        let conditions = self.bind(query);
        let (driver, others) = self.choose_driver(&conditions);
        let left_out = usize::from(is_planted(Bug::IntersectionBranchMissed));
        let others = others.get(left_out..).unwrap_or_default();
        let candidates = driver.map_or_else(|| Candidates::Set(self.all.above(after.0)), |one| one.candidates(after.0));
        let asked: Vec<&Condition<'_>> =
            driver.filter(|driver| driver.is_asked_as_driver()).into_iter().chain(others.iter().copied()).collect();
        let mut selected = Vec::with_capacity(limit.min(1024));
        let mut steps_left = steps_max;
        for sequence in candidates {
            if selected.len() == limit {
                break;
            }
            steps_left = steps_left.checked_sub(1)?;
            if all_hold(&asked, sequence, &mut steps_left)? && keep(Sequence(sequence)) {
                selected.push(Sequence(sequence));
            }
        }
        Some(selected)
    }

    /// How many records `query` selects.
    #[must_use]
    pub fn count(&self, query: &Query) -> u64 {
        match self.bind(query)[..] {
            [] => self.all.len(),
            [Condition::In(set)] => set.len(),
            _ => self.select(query, Sequence::ZERO, usize::MAX, &|_| true).len() as u64,
        }
    }

    /// Whether `query` selects this record.
    #[must_use]
    pub fn matches(&self, query: &Query, sequence: Sequence) -> bool {
        self.all.contains(sequence.0) && self.bind(query).iter().all(|condition| condition.holds(sequence.0))
    }

    fn bind<'a>(&'a self, query: &Query) -> Vec<Condition<'a>> {
        let mut conditions = Vec::with_capacity(query.predicates.len());
        for predicate in &query.predicates {
            self.bind_predicate(predicate, &mut conditions);
        }
        conditions
    }

    fn bind_predicate<'a>(&'a self, predicate: &Predicate, conditions: &mut Vec<Condition<'a>>) {
        match predicate {
            Predicate::Is { index, key } => conditions.push(self.carrying(*index, key)),
            Predicate::AnyOf { index, keys } => conditions.push(self.carrying_any(*index, keys)),
            Predicate::AllOf { index, keys } => {
                conditions.extend(distinct(keys).into_iter().map(|key| self.carrying(*index, key)));
            }
            Predicate::Exactly { index, keys } => {
                let keys = distinct(keys);
                conditions.push(self.carrying_count(*index, keys.len()));
                conditions.extend(keys.into_iter().map(|key| self.carrying(*index, key)));
            }
            Predicate::OnlyOf { index, keys } => conditions.push(match self.index(*index) {
                Some(Index::CountedSet { keys: map, by_count }) => {
                    let mut sets = sets(map, keys);
                    // Counting a large set takes a look at each of its parts.
                    sets.sort_by_cached_key(|set| set.len());
                    Condition::Only { sets, by_count, drivers: OnceCell::new() }
                }
                _ => Condition::Nothing,
            }),
            Predicate::Below { index, number } => match number.checked_sub(1) {
                Some(to) => conditions.push(self.within(*index, i64::MIN, to)),
                None => conditions.push(Condition::Nothing),
            },
            Predicate::AtLeast { index, number } => conditions.push(self.within(*index, *number, i64::MAX)),
            Predicate::Among { sequences } => {
                let mut ascending: Vec<u64> = sequences.iter().map(|sequence| sequence.0).collect();
                ascending.retain(|sequence| self.all.contains(*sequence));
                ascending.sort_unstable();
                ascending.dedup();
                conditions.push(Condition::Among(ascending));
            }
        }
    }

    fn carrying(&self, index: IndexId, key: &[u8]) -> Condition<'_> {
        match self.index(index) {
            Some(Index::Set(keys) | Index::CountedSet { keys, .. }) => {
                keys.get(key).map_or(Condition::Nothing, Condition::In)
            }
            Some(Index::Unique(keys)) => keys.get(key).map_or(Condition::Nothing, |held| Condition::Among(vec![*held])),
            _ => Condition::Nothing,
        }
    }

    fn carrying_any(&self, index: IndexId, wanted: &[Vec<u8>]) -> Condition<'_> {
        match self.index(index) {
            Some(Index::Set(keys) | Index::CountedSet { keys, .. }) => Condition::InAny(sets(keys, wanted)),
            Some(Index::Unique(keys)) => {
                let mut held: Vec<u64> = wanted.iter().filter_map(|key| keys.get(key).copied()).collect();
                held.sort_unstable();
                held.dedup();
                Condition::Among(held)
            }
            _ => Condition::Nothing,
        }
    }

    fn carrying_count(&self, index: IndexId, count: usize) -> Condition<'_> {
        match (self.index(index), u32::try_from(count)) {
            (Some(Index::CountedSet { by_count, .. }), Ok(count)) => {
                by_count.get(&count).map_or(Condition::Nothing, Condition::In)
            }
            _ => Condition::Nothing,
        }
    }

    fn within(&self, index: IndexId, from: i64, to: i64) -> Condition<'_> {
        match self.index(index) {
            Some(index @ Index::Ordered { .. }) => Condition::Range { index, from, to },
            _ => Condition::Nothing,
        }
    }

    /// The condition with the fewest candidates, unless walking the table is cheaper, and all others.
    fn choose_driver<'c, 'a>(
        &self,
        conditions: &'c [Condition<'a>],
    ) -> (Option<&'c Condition<'a>>, Vec<&'c Condition<'a>>) {
        let cheapest = conditions
            .iter()
            .enumerate()
            .map(|(place, condition)| (condition.candidates_max(), place))
            .min()
            .filter(|(candidates, _)| *candidates <= self.all.len())
            .map(|(_, place)| place);
        let others = conditions.iter().enumerate().filter(|(place, _)| Some(*place) != cheapest);
        (cheapest.and_then(|place| conditions.get(place)), others.map(|(_, condition)| condition).collect())
    }
}

/// Whether a record holds all of these conditions; what it takes to tell is taken from `steps_left`, and `None` means that
/// it is more than that.
fn all_hold(conditions: &[&Condition<'_>], sequence: u64, steps_left: &mut u64) -> Option<bool> {
    for condition in conditions {
        *steps_left = steps_left.checked_sub(condition.steps())?;
        if !condition.holds(sequence) {
            return Some(false);
        }
    }
    Some(true)
}

impl Condition<'_> {
    /// An upper bound of the sets that [`Condition::holds`] looks at.
    fn steps(&self) -> u64 {
        match self {
            Self::InAny(sets) | Self::Only { sets, .. } => sets.len() as u64,
            Self::In(_) | Self::Range { .. } | Self::Among(_) | Self::Nothing => 1,
        }
    }

    /// Whether [`Condition::candidates`] may have records for which the condition does not hold.
    fn is_asked_as_driver(&self) -> bool {
        matches!(self, Self::Only { .. })
    }

    fn holds(&self, sequence: u64) -> bool {
        match self {
            Self::In(set) => set.contains(sequence),
            Self::InAny(sets) => sets.iter().any(|set| set.contains(sequence)),
            Self::Only { sets, by_count, .. } => {
                let carried = sets.iter().filter(|set| set.contains(sequence)).count();
                carries_exactly(by_count, carried, sequence)
            }
            Self::Range { index, from, to } => match index {
                Index::Ordered { of, .. } => of.get(sequence).is_some_and(|number| *from <= number && number <= *to),
                _ => false,
            },
            Self::Among(sequences) => sequences.binary_search(&sequence).is_ok(),
            Self::Nothing => false,
        }
    }

    /// An upper bound of the records that [`Condition::candidates`] walks over.
    fn candidates_max(&self) -> u64 {
        match self {
            Self::In(set) => set.len(),
            Self::InAny(sets) => sets.iter().map(|set| set.len()).sum(),
            Self::Only { sets, by_count, drivers } => {
                drivers.get_or_init(|| only_drivers(sets, by_count)).iter().map(|set| set.len()).sum()
            }
            Self::Range { index: Index::Ordered { ascending, .. }, from, to } if from <= to => {
                let counted = ascending.range((*from, 0)..=(*to, u64::MAX)).take(RANGE_ENUMERATED_MAX + 1).count();
                if counted > RANGE_ENUMERATED_MAX { u64::MAX } else { counted as u64 }
            }
            Self::Range { .. } | Self::Nothing => 0,
            Self::Among(sequences) => sequences.len() as u64,
        }
    }

    /// The records above `after` for which the condition holds, ascending, and others if it [is asked as
    /// driver](Condition::is_asked_as_driver).
    fn candidates(&self, after: u64) -> Candidates<'_> {
        match self {
            Self::In(set) => Candidates::Set(set.above(after)),
            Self::InAny(sets) => Candidates::Union(Union::new(sets, after)),
            Self::Only { sets, by_count, drivers } => {
                Candidates::Union(Union::new(drivers.get_or_init(|| only_drivers(sets, by_count)), after))
            }
            Self::Range { index: Index::Ordered { ascending, .. }, from, to } if from <= to => {
                let range = ascending.range((*from, 0)..=(*to, u64::MAX));
                let mut sequences: Vec<u64> =
                    range.map(|(_, sequence)| *sequence).filter(|held| *held > after).collect();
                sequences.sort_unstable();
                Candidates::List(sequences.into_iter())
            }
            Self::Among(sequences) => {
                let first = sequences.partition_point(|sequence| *sequence <= after);
                Candidates::Set(Above::Wide(&sequences[first..]))
            }
            Self::Range { .. } | Self::Nothing => Candidates::Set(Above::NOTHING),
        }
    }
}

/// Ascending candidates of the driving condition.
enum Candidates<'a> {
    Set(Above<'a>),
    Union(Union<'a>),
    List(std::vec::IntoIter<u64>),
}

impl Iterator for Candidates<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Set(above) => above.next(),
            Self::Union(union) => union.next(),
            Self::List(list) => list.next(),
        }
    }
}

/// Merges sets in order; each sequence comes once.
struct Union<'a> {
    /// The next sequence of each set, smallest first.
    heads: std::collections::BinaryHeap<std::cmp::Reverse<(u64, usize)>>,
    rest: Vec<Above<'a>>,
}

impl<'a> Union<'a> {
    fn new(sets: &[&'a Posting], after: u64) -> Self {
        let mut union = Self { heads: std::collections::BinaryHeap::with_capacity(sets.len()), rest: Vec::new() };
        for set in sets {
            union.rest.push(set.above(after));
            union.advance(union.rest.len() - 1);
        }
        union
    }

    fn advance(&mut self, set: usize) {
        if let Some(sequence) = self.rest[set].next() {
            self.heads.push(std::cmp::Reverse((sequence, set)));
        }
    }
}

impl Iterator for Union<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let std::cmp::Reverse((sequence, set)) = self.heads.pop()?;
        self.advance(set);
        while let Some(std::cmp::Reverse((other, set))) = self.heads.peek().copied() {
            if other != sequence {
                break;
            }
            self.heads.pop();
            self.advance(set);
        }
        Some(sequence)
    }
}

/// Sets that together hold every record that carries none but the keys of `sets` (smallest first), and few others.
///
/// A record with `n` keys that are all among the `m` wanted ones lies in at least one of any `m - n + 1` of the sets:
/// the others are too few to hold all its keys. So records with few keys are found by their number of keys or in all
/// sets, those with many keys in the smallest sets, and a key that half the table carries costs nothing unless
/// records carry it alone.
fn only_drivers<'a>(sets: &[&'a Posting], by_count: &'a BTreeMap<u32, Posting>) -> Vec<&'a Posting> {
    let carried_max = u32::try_from(sets.len()).unwrap_or(u32::MAX);
    let mut classes = Vec::new();
    // The best so far, and what it costs: so many classes by their number of keys, the rest in so many sets.
    let (mut cost_min, mut classes_listed, mut sets_walked) = (u64::MAX, 0, 0);
    let mut listed = 0;
    for (carried, class) in by_count.range(..=carried_max) {
        let needed = (carried_max - carried + 1) as usize;
        let cost = sets.iter().take(needed).fold(listed, |cost: u64, set| cost.saturating_add(set.len()));
        if cost < cost_min {
            (cost_min, classes_listed, sets_walked) = (cost, classes.len(), needed);
        }
        listed = listed.saturating_add(class.len());
        classes.push(class);
    }
    if listed < cost_min {
        (classes_listed, sets_walked) = (classes.len(), 0);
    }
    classes.into_iter().take(classes_listed).chain(sets.iter().copied().take(sets_walked)).collect()
}

fn carries_exactly(by_count: &BTreeMap<u32, Posting>, carried: usize, sequence: u64) -> bool {
    u32::try_from(carried).ok().and_then(|carried| by_count.get(&carried)).is_some_and(|set| set.contains(sequence))
}

fn distinct(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    let mut distinct: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

fn sets<'a>(map: &'a Postings, keys: &[Vec<u8>]) -> Vec<&'a Posting> {
    distinct(keys).into_iter().filter_map(|key| map.get(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TableId;
    use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

    const GROUP: IndexId = IndexId(0);
    const TAGS: IndexId = IndexId(1);

    /// Body: a group, and tags of two bytes each.
    static TABLE: TableDefinition = TableDefinition {
        id: TableId(901),
        name: "tagged",
        indexes: &[
            IndexDefinition { id: GROUP, name: "group", kind: IndexKind::Set },
            IndexDefinition { id: TAGS, name: "tags", kind: IndexKind::CountedSet },
        ],
        keys: tagged_keys,
        secret: false,
    };

    fn tagged_keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
        let [group, tags @ ..] = body else {
            return Err(RecordDecodeError::Malformed { table: "tagged", detail: "short".into() });
        };
        keys.key(GROUP, &[*group]);
        tags.chunks(2).for_each(|tag| keys.key(TAGS, tag));
        Ok(())
    }

    /// Records with these groups and tags, numbered from 1.
    fn indexes(records: impl IntoIterator<Item = (u8, Vec<u16>)>) -> TableIndexes {
        let mut indexes = TableIndexes::new(&TABLE);
        for (sequence, (group, tags)) in (1..).zip(records) {
            let body: Vec<u8> = std::iter::once(group).chain(tags.into_iter().flat_map(u16::to_be_bytes)).collect();
            indexes.apply(Sequence(sequence), None, Some(&body)).unwrap();
        }
        indexes
    }

    fn keys(tags: impl IntoIterator<Item = u16>) -> Vec<Vec<u8>> {
        tags.into_iter().map(|tag| tag.to_be_bytes().to_vec()).collect()
    }

    /// How many steps it takes to tell which records a query selects, and which those are.
    fn steps(indexes: &TableIndexes, query: &Query) -> (u64, Vec<u64>) {
        let select = |steps_max| indexes.select_soon(query, Sequence::ZERO, usize::MAX, steps_max, &|_| true);
        let (mut too_few, mut enough) = (0, 1 << 40);
        assert!(select(too_few).is_none());
        while enough - too_few > 1 {
            let middle = too_few.midpoint(enough);
            if select(middle).is_some() { enough = middle } else { too_few = middle }
        }
        let selected = select(enough).unwrap();
        assert_eq!(selected, indexes.select(query, Sequence::ZERO, usize::MAX, &|_| true));
        (enough, selected.into_iter().map(|sequence| sequence.0).collect())
    }

    #[test]
    fn a_candidate_takes_as_many_steps_as_there_are_sets_to_look_at() {
        // Ten records of group 1 with tag 0, then a thousand of group 2, each with a tag of its own.
        let records = (0..10).map(|_| (1, vec![0])).chain((1..=1_000).map(|tag| (2, vec![tag])));
        let indexes = indexes(records);
        let group = Query::all().and(Predicate::Is { index: GROUP, key: vec![1] });
        assert_eq!(steps(&indexes, &group), (10, (1..=10).collect()));
        let both = group.clone().and(Predicate::Is { index: TAGS, key: vec![0, 0] });
        assert_eq!(steps(&indexes, &both), (10 * (1 + 1), (1..=10).collect()));
        let foreign = Predicate::AnyOf { index: TAGS, keys: keys(1..=1_000) };
        assert_eq!(steps(&indexes, &group.clone().and(foreign)), (10 * (1 + 1_000), Vec::new()));
        let foreign = Predicate::OnlyOf { index: TAGS, keys: keys(1..=1_000) };
        assert_eq!(steps(&indexes, &group.clone().and(foreign)), (10 * (1 + 1_000), Vec::new()));
        let few = Predicate::AnyOf { index: TAGS, keys: keys(0..=2) };
        assert_eq!(steps(&indexes, &group.and(few)), (10 * (1 + 3), (1..=10).collect()));
    }

    #[test]
    fn conditions_that_are_not_asked_take_no_step() {
        // Half of the hundred in group 1 carry tag 1, no other does; group 2 is larger.
        let records = (0..100).map(|number| (1, vec![number % 2])).chain((0..1_000).map(|_| (2, vec![2])));
        let indexes = indexes(records);
        let query = Query::all()
            .and(Predicate::Is { index: GROUP, key: vec![1] })
            .and(Predicate::AllOf { index: TAGS, keys: keys([0, 1, 2]) });
        // Those with tag 0 come first among the sets that are equally small, and are not in the next one.
        let (steps, selected) = steps(&indexes, &query);
        assert_eq!(selected, Vec::<u64>::new());
        assert!(steps <= 50 * (1 + 2), "{steps}");
    }

    #[test]
    fn those_that_a_driver_passes_over_are_counted() {
        // Each record carries two tags, of which one is asked for.
        let indexes = indexes((0..100).map(|number| (1, vec![number, 1_000 + number])));
        let query = Query::all().and(Predicate::OnlyOf { index: TAGS, keys: keys(0..100) });
        let (steps, selected) = steps(&indexes, &query);
        assert_eq!(selected, Vec::<u64>::new());
        assert!(steps >= 99 * (1 + 100), "{steps}");
    }
}
