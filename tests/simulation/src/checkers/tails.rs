//! A consumer sees each item once and in order, also when it goes on elsewhere or after a restart.

use std::collections::BTreeMap;

use steeple_engine::ids::{NamespaceId, StreamId};
use steeple_server::node::tail::TailItem;

use crate::history::History;
use crate::violation::{Checked, Violation};

const NAME: &str = "tails";

/// What one consumer has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    last: BTreeMap<StreamId, u64>,
}

impl Seen {
    /// The last item of a stream that it has seen.
    #[must_use]
    pub fn last(&self, stream: StreamId) -> u64 {
        self.last.get(&stream).copied().unwrap_or(0)
    }

    /// Notes that what is below `oldest` cannot be had any more, as the member says.
    ///
    /// # Errors
    /// When nothing was pruned up to there.
    pub fn skip_to(&mut self, history: &History, namespace: NamespaceId, stream: StreamId, oldest: u64) -> Checked {
        let mark = history.marks.get(&(namespace, stream)).copied().unwrap_or(1);
        if oldest > mark {
            let found = format!("stream {stream} is said to begin at {oldest}, and was pruned up to {mark}");
            return Err(Violation::new(NAME, found));
        }
        self.last.insert(stream, oldest.saturating_sub(1));
        Ok(())
    }

    /// Where a consumer stands that stores the cursor it was handed with what it has just seen.
    ///
    /// # Errors
    /// When the cursor is not there.
    pub fn at_cursor(&self, positions: &[(StreamId, u64)]) -> Result<Self, Violation> {
        for (stream, after) in positions {
            if *after != self.last(*stream) {
                let found =
                    format!("the cursor of stream {stream} is at {after}, and {} was handed out", self.last(*stream));
                return Err(Violation::new(NAME, found));
            }
        }
        Ok(self.clone())
    }

    /// Checks what was handed out next.
    ///
    /// # Errors
    /// When an item comes twice, too early, or is not what was committed.
    pub fn check(&mut self, history: &History, namespace: NamespaceId, handed_out: &TailItem) -> Checked {
        for item in &handed_out.items {
            let last = self.last.entry(item.stream).or_default();
            let expected = *last + 1;
            let known = history.streams.get(&(namespace, item.stream)).and_then(|items| items.get(*last as usize));
            let agrees =
                known.is_some_and(|known| known.key == item.key && known.revision == handed_out.event.revision.0);
            if item.sequence.0 != expected || !agrees {
                let found = format!(
                    "item {} of stream {} was handed out, where {expected} is {known:?}",
                    item.sequence, item.stream
                );
                return Err(Violation::new(NAME, found));
            }
            *last = expected;
        }
        Ok(())
    }
}
