//! A request is carried out at most once while its id is remembered.

use std::collections::HashMap;

use steeple_engine::event::Event;
use steeple_engine::ids::{NamespaceId, RequestId};

use crate::violation::{Checked, Violation};

const NAME: &str = "exactly once";

/// The requests that were carried out.
#[derive(Default)]
pub struct Requests {
    window_micros: u64,
    carried_out: HashMap<(NamespaceId, RequestId), (u64, u64)>,
}

impl Requests {
    /// For members that remember a request for so long.
    #[must_use]
    pub fn new(window_micros: u64) -> Self {
        Self { window_micros, carried_out: HashMap::new() }
    }

    /// Checks an event that was just committed.
    ///
    /// # Errors
    /// When its request was carried out before, and the leader had to know.
    pub fn check(&mut self, event: &Event) -> Checked {
        let Some(stamp) = event.request else { return Ok(()) };
        let now = (event.revision.0, event.time.0);
        match self.carried_out.insert((event.namespace, stamp.id), now) {
            Some((revision, time)) if event.time.0.saturating_sub(time) <= self.window_micros => Err(Violation::new(
                NAME,
                format!("request {} was carried out at revision {revision} and again at {}", stamp.id, event.revision),
            )),
            _ => Ok(()),
        }
    }
}
