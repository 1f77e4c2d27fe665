//! What happened to one record, and what it was at a moment in the past, as far back as events are kept.
//!
//! Every change names the revision that had changed the record before, so the history of a record is followed from
//! event to event and costs in proportion to its own length. A record that was deleted, or an earlier one under the
//! same key, is found through the stream that announced its end, or by reading the kept events.

use std::sync::Arc;

use crate::event::{Change, Event};
use crate::ids::{NamespaceId, Revision, Sequence, TableId, Timestamp};

/// Where past events come from.
pub trait EventSource {
    /// Why an event could not be read.
    type Error;

    /// The event of a revision; `None` when it is not kept any more.
    ///
    /// # Errors
    /// When it should be there and cannot be read.
    fn event(&self, revision: Revision) -> Result<Option<Arc<Event>>, Self::Error>;
}

/// One record of one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAddress {
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Its table.
    pub table: TableId,
    /// Its number.
    pub sequence: Sequence,
}

/// One change of a record, in the event that made it.
#[derive(Clone, Debug)]
pub struct PastChange {
    /// The event.
    pub event: Arc<Event>,
    /// Position of the change in it.
    pub position: usize,
}

impl PastChange {
    /// The change.
    #[must_use]
    pub fn change(&self) -> Option<&Change> {
        self.event.changes.get(self.position)
    }
}

/// The changes of a record, newest first.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The changes.
    pub changes: Vec<PastChange>,
    /// Whether the record's creation is among them. Otherwise older changes are not kept any more, or the limit was
    /// reached.
    pub complete: bool,
}

/// What a record was at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PastState {
    /// It was not there.
    Absent,
    /// It was there, with this body, last changed by this event.
    Present {
        /// The event.
        modified: Revision,
        /// The body.
        body: Vec<u8>,
    },
    /// The events that would tell are not kept any more.
    Unknown,
}

/// A moment of the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After this event.
    Revision(Revision),
    /// After every event up to and with this time.
    Time(Timestamp),
}

impl Moment {
    /// Whether an event had happened by then.
    #[must_use]
    pub fn includes(self, event: &Event) -> bool {
        match self {
            Self::Revision(revision) => event.revision <= revision,
            Self::Time(time) => event.time <= time,
        }
    }
}

/// Follows a record's changes backwards from the event `newest`, which is one of them.
///
/// # Errors
/// When an event cannot be read.
pub fn walk_back<S: EventSource>(
    source: &S,
    address: RecordAddress,
    newest: Revision,
    limit: usize,
) -> Result<History, S::Error> {
    let mut history = History::default();
    let mut next = Some(newest);
    while let Some(revision) = next {
        if history.changes.len() == limit {
            return Ok(history);
        }
        let Some(past) = change_at(source, address, revision)? else { return Ok(history) };
        next = past.change().and_then(|change| change.previous);
        history.changes.push(past);
    }
    history.complete = true;
    Ok(history)
}

/// What a record was at a moment, given the event `newest` that last changed it.
///
/// # Errors
/// When an event cannot be read.
pub fn state_at<S: EventSource>(
    source: &S,
    address: RecordAddress,
    newest: Revision,
    moment: Moment,
) -> Result<PastState, S::Error> {
    let mut next = Some(newest);
    while let Some(revision) = next {
        let Some(past) = change_at(source, address, revision)? else { return Ok(PastState::Unknown) };
        let Some(change) = past.change() else { return Ok(PastState::Unknown) };
        if moment.includes(&past.event) {
            return Ok(match &change.after {
                Some(after) => PastState::Present { modified: revision, body: after.clone() },
                None => PastState::Absent,
            });
        }
        // The event before this one may be gone; what the record was before it is in this one.
        if let (Moment::Revision(moment), Some(before), Some(previous)) = (moment, &change.before, change.previous)
            && previous <= moment
        {
            return Ok(PastState::Present { modified: previous, body: before.clone() });
        }
        next = change.previous;
    }
    Ok(PastState::Absent)
}

fn change_at<S: EventSource>(
    source: &S,
    address: RecordAddress,
    revision: Revision,
) -> Result<Option<PastChange>, S::Error> {
    let Some(event) = source.event(revision)? else { return Ok(None) };
    let about = |change: &Change| change.table == address.table && change.sequence == address.sequence;
    let position = event.changes.iter().position(about).filter(|_| event.namespace == address.namespace);
    Ok(position.map(|position| PastChange { event, position }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    const ADDRESS: RecordAddress =
        RecordAddress { namespace: NamespaceId(1), table: TableId(5), sequence: Sequence(9) };

    struct Kept(BTreeMap<u64, Arc<Event>>);

    impl EventSource for Kept {
        type Error = Infallible;

        fn event(&self, revision: Revision) -> Result<Option<Arc<Event>>, Infallible> {
            Ok(self.0.get(&revision.0).cloned())
        }
    }

    /// Created at 2 as "a", "b" at 5, deleted at 9; times are ten times the revisions.
    fn events() -> Kept {
        let steps = [(2, None, None, Some("a")), (5, Some(2), Some("a"), Some("b")), (9, Some(5), Some("b"), None)];
        let event = |(revision, previous, before, after): (u64, Option<u64>, Option<&str>, Option<&str>)| Event {
            revision: Revision(revision),
            time: Timestamp(revision * 10),
            namespace: ADDRESS.namespace,
            request: None,
            changes: vec![Change {
                table: ADDRESS.table,
                sequence: ADDRESS.sequence,
                previous: previous.map(Revision),
                before: before.map(|body| body.as_bytes().to_vec()),
                after: after.map(|body| body.as_bytes().to_vec()),
            }],
            items: Vec::new(),
            marks: Vec::new(),
            answer: Vec::new(),
        };
        Kept(steps.into_iter().map(|step| (step.0, Arc::new(event(step)))).collect())
    }

    fn at(source: &Kept, moment: Moment) -> PastState {
        state_at(source, ADDRESS, Revision(9), moment).unwrap()
    }

    fn present(modified: u64, body: &str) -> PastState {
        PastState::Present { modified: Revision(modified), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn a_record_is_followed_back_to_its_creation() {
        let history = walk_back(&events(), ADDRESS, Revision(9), 10).unwrap();
        assert!(history.complete);
        let revisions: Vec<u64> = history.changes.iter().map(|past| past.event.revision.0).collect();
        assert_eq!(revisions, [9, 5, 2]);
        let cut = walk_back(&events(), ADDRESS, Revision(9), 2).unwrap();
        assert_eq!((cut.changes.len(), cut.complete), (2, false));
    }

    #[test]
    fn states_of_the_past_follow_from_the_changes() {
        let source = events();
        assert_eq!(at(&source, Moment::Revision(Revision(9))), PastState::Absent);
        assert_eq!(at(&source, Moment::Revision(Revision(8))), present(5, "b"));
        assert_eq!(at(&source, Moment::Time(Timestamp(50))), present(5, "b"));
        assert_eq!(at(&source, Moment::Time(Timestamp(49))), present(2, "a"));
        assert_eq!(at(&source, Moment::Revision(Revision(1))), PastState::Absent);
    }

    #[test]
    fn what_is_not_kept_any_more_is_unknown_and_not_absent() {
        let mut source = events();
        source.0.remove(&2);
        assert_eq!(at(&source, Moment::Revision(Revision(3))), present(2, "a"), "the next event still tells");
        assert_eq!(at(&source, Moment::Time(Timestamp(30))), PastState::Unknown);
        assert_eq!(at(&source, Moment::Revision(Revision(1))), PastState::Unknown);
        assert!(!walk_back(&source, ADDRESS, Revision(9), 10).unwrap().complete);
    }
}
