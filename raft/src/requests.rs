//! Remembers which requests were carried out, so that repeating one is safe.
//!
//! The truth is in the events, each of which carries the request that caused it; this is an index over the recent
//! ones, rebuilt from them at start. A request is remembered for a configured time, and at most [`REMEMBERED_MAX`] of
//! them: under a load that makes more within that time, the oldest are forgotten first.

use std::collections::{HashMap, VecDeque};

use steeple_engine::event::{ArchivedEvent, ArchivedRequestStamp, Event, RequestStamp};
use steeple_engine::ids::{NamespaceId, RequestId, Revision, Timestamp};

/// Requests remembered at the most, about 100 MB.
pub const REMEMBERED_MAX: usize = 1_000_000;

/// The recent requests of a group.
#[derive(Debug)]
pub struct RequestLedger {
    window_micros: u64,
    known: HashMap<(NamespaceId, RequestId), Remembered>,
    /// In event order, for forgetting.
    order: VecDeque<(Timestamp, NamespaceId, RequestId)>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    fingerprint: u64,
    revision: Revision,
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
        Self { window_micros, known: HashMap::new(), order: VecDeque::new() }
    }

    /// What is known of a request at `now`. One older than the window is new again: the event that it caused may have
    /// been purged by then, and could no longer answer.
    #[must_use]
    pub fn look_up(&mut self, namespace: NamespaceId, stamp: RequestStamp, now: Timestamp) -> Known {
        self.forget_before(now);
        match self.known.get(&(namespace, stamp.id)) {
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
        let remembered = Remembered { fingerprint: stamp.fingerprint, revision };
        if self.known.insert((namespace, stamp.id), remembered).is_none() {
            self.order.push_back((time, namespace, stamp.id));
        }
    }

    /// Requests remembered now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn forget_before(&mut self, now: Timestamp) {
        let oldest_kept = Timestamp(now.0.saturating_sub(self.window_micros));
        while self.order.front().is_some_and(|(time, ..)| *time < oldest_kept) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, namespace, id)) = self.order.pop_front() {
            self.known.remove(&(namespace, id));
        }
    }
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
    fn forgets_as_time_passes_even_when_nothing_happens() {
        let mut ledger = RequestLedger::new(100);
        ledger.remember(&event(1, 1_000, 1));
        assert_eq!(look_up_at(&mut ledger, 1, 1, 1_100), Known::Caused(Revision(1)));
        assert_eq!(look_up_at(&mut ledger, 1, 1, 1_101), Known::New);
        assert!(ledger.is_empty());
    }
}
