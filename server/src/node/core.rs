//! What a snapshot that is installed replaces as a whole: view, log, base snapshot, recent events.
//!
//! Whoever works with them takes the core once for each step, so that a step sees one state and the next one the state
//! that is current then. The log's files are shared by the core before a replacement and the one after it; what a step
//! reads from the old view and misses in the log is therefore no damage, and [`Shared::check_current`] tells.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use steeple_engine::event::Event;
use steeple_engine::ids::{LogIndex, Revision};
use steeple_engine::log::{EventReader, LogReader};
use steeple_engine::view::View;

use super::base::Base;
use super::maintenance::Horizon;
use super::recent::RecentEvents;
use super::records::Records;
use super::{QueryError, Shared};

/// The state of a group on this node.
pub(crate) struct Core {
    pub(super) view: Arc<View>,
    pub(crate) log: LogReader,
    pub(super) base: Arc<Base>,
    pub(super) recent: RecentEvents,
    /// Everything up to here survives in the record store.
    pub(super) flushed: Mutex<LogIndex>,
    /// What the last round gave back for, so that the next one can tell whether anything has changed.
    pub(super) given_back: Mutex<Option<Horizon>>,
    /// Where the record store is.
    pub(super) records: Records,
}

impl Core {
    pub(super) fn new(view: View, log: LogReader, base: Arc<Base>, records: Records) -> Self {
        Self {
            view: Arc::new(view),
            log,
            base,
            recent: RecentEvents::default(),
            flushed: Mutex::new(LogIndex::ZERO),
            given_back: Mutex::new(None),
            records,
        }
    }

    /// The event of a revision, from memory while it is new and from the log afterwards.
    fn event(&self, revision: Revision, log: &mut EventReader) -> Result<Arc<Event>, QueryError> {
        if let Some(event) = self.recent.get(revision) {
            return Ok(event);
        }
        match log.read_tag(revision.0)? {
            Some(entry) => Ok(Arc::new(Event::decode(&entry.payload)?)),
            None => Err(QueryError::Compacted(revision)),
        }
    }
}

/// Reads events of a core, for one step. Those that follow one another cost least.
pub(crate) struct Events<'a> {
    shared: &'a Shared,
    core: &'a Arc<Core>,
    log: EventReader,
}

impl Events<'_> {
    /// The event of a revision.
    pub(crate) fn read(&mut self, revision: Revision) -> Result<Arc<Event>, QueryError> {
        let event = self.core.event(revision, &mut self.log);
        event.or_else(|error| self.shared.check_current(self.core).and(Err(error)))
    }
}

impl Shared {
    /// The state now. Taken once for each step.
    pub(crate) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core.read())
    }

    /// Says that the log is about to change under whoever reads it, until [`Shared::replace_core`].
    pub(super) fn begin_replacement(&self) {
        self.replacing.store(true, Ordering::SeqCst);
    }

    /// Puts another core in the place of the current one, wakes everybody who waits for revisions, and returns the old
    /// one, whose record store goes away with its last user.
    pub(super) fn replace_core(&self, core: Core) -> Arc<Core> {
        let revision = core.view.folded().revision;
        let old = std::mem::replace(&mut *self.core.write(), Arc::new(core));
        old.records.retire();
        self.replacing.store(false, Ordering::SeqCst);
        self.folded.send_replace(revision);
        // What a snapshot holds of them comes with it.
        self.given_up.notify_one();
        old
    }

    /// Fails when the core is not the current one, or the log is being changed under it: what was not found in it may
    /// be there, and who tries again will find it.
    pub(crate) fn check_current(&self, core: &Arc<Core>) -> Result<(), QueryError> {
        // The log changes only after the mark is set, and the mark goes only after the core was replaced.
        let replaced = self.replacing.load(Ordering::SeqCst) || !Arc::ptr_eq(&self.core.read(), core);
        if replaced { Err(QueryError::Replaced) } else { Ok(()) }
    }

    /// The events of a core.
    pub(crate) fn events_in<'a>(&'a self, core: &'a Arc<Core>) -> Events<'a> {
        Events { shared: self, core, log: core.log.events() }
    }
}
