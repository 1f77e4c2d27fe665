//! Events by revision.

use std::sync::Arc;

use steeple_engine::event::Event;
use steeple_engine::history::EventSource;
use steeple_engine::ids::Revision;

use super::core::Events;
use super::{Node, QueryError};

impl Node {
    /// The event of a revision.
    ///
    /// # Errors
    /// [`QueryError::Compacted`] when it is not kept any more, [`QueryError::Replaced`] when that cannot be told just now;
    /// else when the log cannot be read.
    pub fn event(&self, revision: Revision) -> Result<Arc<Event>, QueryError> {
        self.shared.events_in(&self.shared.core()).read(revision)
    }

    /// Reads several events in one step, each of which may fail as [`Node::event`] does.
    pub(crate) fn read_events<T>(&self, read: impl FnOnce(&mut Events<'_>) -> T) -> T {
        let core = self.shared.core();
        read(&mut self.shared.events_in(&core))
    }
}

impl EventSource for Node {
    type Error = QueryError;

    fn event(&self, revision: Revision) -> Result<Option<Arc<Event>>, QueryError> {
        match self.event(revision) {
            Ok(event) => Ok(Some(event)),
            Err(QueryError::Compacted(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
