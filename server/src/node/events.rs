//! Events by revision, from memory while they are new and from the log afterwards.

use std::sync::Arc;

use steeple_engine::event::Event;
use steeple_engine::history::EventSource;
use steeple_engine::ids::Revision;

use super::{Node, QueryError};

impl Node {
    /// The event of a revision.
    ///
    /// # Errors
    /// [`QueryError::Compacted`] when it is not kept any more; else when the log cannot be read.
    pub fn event(&self, revision: Revision) -> Result<Arc<Event>, QueryError> {
        if let Some(event) = self.shared.recent.get(revision) {
            return Ok(event);
        }
        match self.shared.log.read_tag(revision.0)? {
            Some(entry) => Ok(Arc::new(Event::decode(&entry.payload)?)),
            None => Err(QueryError::Compacted(revision)),
        }
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
