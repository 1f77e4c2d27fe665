//! Remembers which requests were carried out, so that repeating one is safe.
//!
//! The truth is in the events, each of which carries the request that caused it; this is an index over the recent
//! ones, rebuilt from them at start. A request is remembered for a configured time, and at most [`REMEMBERED_MAX`] of
//! them: under a load that makes more within that time, the oldest are forgotten first.

mod queue;

use std::hash::{BuildHasher as _, RandomState};

use steeple_engine::event::{ArchivedEvent, ArchivedRequestStamp, Event, RequestStamp};
use steeple_engine::ids::{NamespaceId, RequestId, Revision, Timestamp};
use steeple_engine::sharded_table::ShardedTable;

use self::queue::Queue;

/// Requests remembered at the most, about 65 MB.
pub const REMEMBERED_MAX: usize = 1_000_000;

/// The recent requests of a group.
#[derive(Debug)]
pub struct RequestLedger {
    window_micros: u64,
    /// In event order, for forgetting.
    order: Queue<Remembered>,
    /// The number of the first one in `order`. They are numbered in event order, modulo 2^32, of which
    /// [`REMEMBERED_MAX`] is a small part.
    first: u32,
    /// The numbers of all, by request. Nine bytes for each place, where a map of its own would hold it a second time.
    numbers: ShardedTable<Numbered>,
    state: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    time: Timestamp,
    namespace: NamespaceId,
    id: RequestId,
    fingerprint: u64,
    revision: Revision,
}

/// Where a request is, and so much of its hash as tells where in the table it belongs: dividing a part of the table would read
/// each request in it otherwise, and those lie scattered over the memory.
#[derive(Clone, Copy, Debug)]
struct Numbered {
    mark: u32,
    number: u32,
}

impl Numbered {
    fn hash(&self) -> u64 {
        spread(self.mark)
    }
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: carry it out.
    New,
    /// It caused this event.
    Caused(Revision),
    /// The id was used for another command.
    Reused,
}

impl RequestLedger {
    /// An empty ledger that remembers for `window_micros` microseconds.
    #[must_use]
    pub fn new(window_micros: u64) -> Self {
        Self {
            window_micros,
            order: Queue::default(),
            first: 0,
            numbers: ShardedTable::default(),
            state: RandomState::new(),
        }
    }

    /// What is known of a request at `now`. One older than the window is new again: the event that it caused may have
    /// been purged by then, and could no longer answer.
    #[must_use]
    pub fn look_up(&mut self, namespace: NamespaceId, stamp: RequestStamp, now: Timestamp) -> Known {
        self.forget_before(now);
        match self.find(namespace, stamp.id) {
            None => Known::New,
            Some(remembered) if remembered.fingerprint == stamp.fingerprint => Known::Caused(remembered.revision),
            Some(_) => Known::Reused,
        }
    }

    /// Remembers the request that caused an event. Events come in revision order.
    pub fn remember(&mut self, event: &Event) {
        self.remember_stamp(event.revision, event.time, event.namespace, event.request);
    }

    /// As [`RequestLedger::remember`], for an event that is read in place.
    pub fn remember_stored(&mut self, event: &ArchivedEvent) {
        let native = |stamp: &ArchivedRequestStamp| RequestStamp {
            id: RequestId(stamp.id.0),
            fingerprint: stamp.fingerprint.to_native(),
        };
        self.remember_stamp(
            Revision(event.revision.0.to_native()),
            Timestamp(event.time.0.to_native()),
            NamespaceId(event.namespace.0.to_native()),
            event.request.as_ref().map(native),
        );
    }

    fn remember_stamp(
        &mut self,
        revision: Revision,
        time: Timestamp,
        namespace: NamespaceId,
        request: Option<RequestStamp>,
    ) {
        self.forget_before(time);
        while self.order.len() >= REMEMBERED_MAX {
            self.forget_oldest();
        }
        let Some(stamp) = request else { return };
        let remembered = Remembered { time, namespace, id: stamp.id, fingerprint: stamp.fingerprint, revision };
        let mark = self.mark(namespace, stamp.id);
        match self.number_of(mark, namespace, stamp.id) {
            // It keeps its place.
            Some(number) => {
                if let Some(held) = self.order.get_mut(place(self.first, number)) {
                    (held.fingerprint, held.revision) = (stamp.fingerprint, revision);
                }
            }
            None => {
                // There are fewer than 2^32.
                let number = self.first.wrapping_add(self.order.len() as u32);
                self.numbers.insert_unique(spread(mark), Numbered { mark, number }, Numbered::hash);
                self.order.push_back(remembered);
            }
        }
    }

    fn find(&self, namespace: NamespaceId, id: RequestId) -> Option<&Remembered> {
        self.at(self.number_of(self.mark(namespace, id), namespace, id)?)
    }

    fn number_of(&self, mark: u32, namespace: NamespaceId, id: RequestId) -> Option<u32> {
        let is_it = |numbered: &Numbered| {
            numbered.mark == mark && self.at(numbered.number).is_some_and(|held| held.is(namespace, id))
        };
        self.numbers.find(spread(mark), is_it).map(|numbered| numbered.number)
    }

    fn at(&self, number: u32) -> Option<&Remembered> {
        self.order.get(place(self.first, number))
    }

    /// A part of a request's hash. Clients choose the ids, and cannot choose them so that many have the same one.
    fn mark(&self, namespace: NamespaceId, id: RequestId) -> u32 {
        self.state.hash_one((namespace, id)) as u32
    }

    /// Requests remembered now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn forget_before(&mut self, now: Timestamp) {
        let oldest_kept = Timestamp(now.0.saturating_sub(self.window_micros));
        while self.order.get(0).is_some_and(|held| held.time < oldest_kept) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else { return };
        let number = self.first;
        let mark = self.mark(oldest.namespace, oldest.id);
        self.numbers.remove(spread(mark), |held| held.number == number);
        self.first = number.wrapping_add(1);
    }
}

impl Remembered {
    fn is(&self, namespace: NamespaceId, id: RequestId) -> bool {
        self.namespace == namespace && self.id == id
    }
}

/// A hash that is good in all bits, another one for each mark: the number of that place which SplitMix64 gives from 0 on (Steele,
/// Lea and Flood, OOPSLA 2014).
fn spread(mark: u32) -> u64 {
    let mixed = u64::from(mark).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Where the one with a number is.
fn place(first: u32, number: u32) -> usize {
    number.wrapping_sub(first) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64, time: u64, id: u8) -> Event {
        Event {
            revision: Revision(revision),
            time: Timestamp(time),
            namespace: NamespaceId(1),
            request: Some(RequestStamp { id: RequestId([id; 16]), fingerprint: u64::from(id) }),
            changes: Vec::new(),
            items: Vec::new(),
            marks: Vec::new(),
            answer: Vec::new(),
        }
    }

    fn look_up(ledger: &mut RequestLedger, id: u8, fingerprint: u64) -> Known {
        look_up_at(ledger, id, fingerprint, 0)
    }

    fn look_up_at(ledger: &mut RequestLedger, id: u8, fingerprint: u64, now: u64) -> Known {
        ledger.look_up(NamespaceId(1), RequestStamp { id: RequestId([id; 16]), fingerprint }, Timestamp(now))
    }

    #[test]
    fn remembers_for_the_window_and_tells_reuse_from_repetition() {
        let mut ledger = RequestLedger::new(100);
        ledger.remember(&event(1, 1_000, 1));
        ledger.remember(&event(2, 1_050, 2));
        assert_eq!(look_up(&mut ledger, 1, 1), Known::Caused(Revision(1)));
        assert_eq!(look_up(&mut ledger, 1, 9), Known::Reused);
        assert_eq!(ledger.look_up(NamespaceId(2), event(1, 0, 1).request.unwrap(), Timestamp(0)), Known::New);
        ledger.remember(&event(3, 1_101, 3));
        assert_eq!(look_up(&mut ledger, 1, 1), Known::New, "forgotten after the window");
        assert_eq!(look_up(&mut ledger, 2, 2), Known::Caused(Revision(2)));
        assert_eq!(ledger.len(), 2);
    }

    #[test]
    fn what_is_remembered_is_what_a_plain_map_remembers() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        // Numbers that are about to begin again.
        let mut ledger = RequestLedger { first: u32::MAX - 100, ..RequestLedger::new(50) };
        // By id: when it was remembered first, the fingerprint and the revision that came last.
        let mut model = std::collections::BTreeMap::<u8, (u64, u64, u64)>::new();
        let mut time = 1_000;
        for revision in 1..2_000 {
            time += next(3);
            let id = u8::try_from(next(60)).unwrap();
            let fingerprint = next(4);
            let mut event = event(revision, time, id);
            event.request = Some(RequestStamp { id: RequestId([id; 16]), fingerprint });
            ledger.remember(&event);
            model.retain(|_, (first, ..)| *first + 50 >= time);
            let first = model.get(&id).map_or(time, |(first, ..)| *first);
            model.insert(id, (first, fingerprint, revision));
            assert_eq!(ledger.len(), model.len());
            for id in 0..60 {
                let expected = match model.get(&id) {
                    None => Known::New,
                    Some((_, held, revision)) if *held == fingerprint => Known::Caused(Revision(*revision)),
                    Some(_) => Known::Reused,
                };
                assert_eq!(look_up_at(&mut ledger, id, fingerprint, time), expected);
            }
        }
        assert!(ledger.first < 2_000, "the numbers began again");
    }

    fn stamp(id: u64) -> RequestStamp {
        RequestStamp { id: RequestId(u128::from(id).to_be_bytes()), fingerprint: id }
    }

    fn remember(ledger: &mut RequestLedger, revision: u64, id: u64) {
        let (revision, time) = (Revision(revision), Timestamp(revision));
        ledger.remember_stamp(revision, time, NamespaceId(1), Some(stamp(id)));
    }

    fn known(ledger: &mut RequestLedger, id: u64, now: u64) -> Known {
        ledger.look_up(NamespaceId(1), stamp(id), Timestamp(now))
    }

    #[test]
    fn requests_with_the_same_part_of_a_hash_are_not_taken_for_each_other() {
        let mut ledger = RequestLedger::new(10);
        let mut ids = std::collections::HashMap::new();
        // Of 2^32 marks two are the same after about 2^16 ids.
        let (one, other) = (0_u64..)
            .find_map(|id| ids.insert(ledger.mark(NamespaceId(1), stamp(id).id), id).map(|same| (same, id)))
            .unwrap();
        remember(&mut ledger, 1, one);
        assert_eq!(known(&mut ledger, other, 1), Known::New);
        remember(&mut ledger, 5, other);
        assert_eq!(
            (known(&mut ledger, one, 5), known(&mut ledger, other, 5)),
            (Known::Caused(Revision(1)), Known::Caused(Revision(5)))
        );
        // The older one is forgotten, and it alone.
        assert_eq!(
            (known(&mut ledger, one, 12), known(&mut ledger, other, 12)),
            (Known::New, Known::Caused(Revision(5)))
        );
    }

    #[test]
    fn many_are_remembered_and_forgotten() {
        const WINDOW: u64 = 40_000;
        let mut ledger = RequestLedger::new(WINDOW);
        for revision in 1..=100_000 {
            remember(&mut ledger, revision, revision);
        }
        let oldest = 100_000 - WINDOW;
        assert_eq!(ledger.len() as u64, WINDOW + 1);
        for id in 1..=100_000 {
            let expected = if id < oldest { Known::New } else { Known::Caused(Revision(id)) };
            assert_eq!(known(&mut ledger, id, 100_000), expected);
        }
    }

    #[test]
    fn forgets_as_time_passes_even_when_nothing_happens() {
        let mut ledger = RequestLedger::new(100);
        ledger.remember(&event(1, 1_000, 1));
        assert_eq!(look_up_at(&mut ledger, 1, 1, 1_100), Known::Caused(Revision(1)));
        assert_eq!(look_up_at(&mut ledger, 1, 1, 1_101), Known::New);
        assert!(ledger.is_empty());
    }
}
