//! The newest events, kept in memory so that a crowd of tails does not read and decode each of them again.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;
use steeple_engine::event::Event;
use steeple_engine::ids::Revision;

/// Events kept at the most.
const EVENTS_MAX: usize = 4096;

/// Bytes of bodies kept at the most.
const BYTES_MAX: usize = 32 << 20;

/// The newest events of a group, without a gap.
#[derive(Debug, Default)]
pub(super) struct RecentEvents {
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
}

impl RecentEvents {
    /// Adds the event that follows the one added last.
    pub(super) fn push(&self, event: Arc<Event>) {
        let mut kept = self.kept.write();
        kept.bytes += weight(&event);
        kept.events.push_back(event);
        while kept.events.len() > EVENTS_MAX || kept.bytes > BYTES_MAX {
            let Some(oldest) = kept.events.pop_front() else { return };
            kept.bytes -= weight(&oldest);
        }
    }

    /// The event of a revision, if it is among those kept.
    pub(super) fn get(&self, revision: Revision) -> Option<Arc<Event>> {
        let kept = self.kept.read();
        let place = revision.0.checked_sub(kept.events.front()?.revision.0)?;
        kept.events.get(usize::try_from(place).ok()?).cloned()
    }
}

fn weight(event: &Event) -> usize {
    let bodies = event.changes.iter().flat_map(|change| [&change.before, &change.after]).flatten();
    256 + bodies.map(Vec::len).sum::<usize>()
}
