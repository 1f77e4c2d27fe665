//! The base snapshot: a copy of the records on disk that lets old log segments go.
//!
//! The record store may be damaged at any time and is then rebuilt. From the whole log, as long as the log is whole;
//! once segments were purged, from the base snapshot and the log behind it. So a segment is purged only when a base
//! snapshot that was read back and verified covers it.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use parking_lot::Mutex;
use steeple_engine::ids::LogIndex;
use steeple_engine::record_store::RecordStore;
use steeple_snapshot::ReadError;

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
        let base = Self { directory, covers: Mutex::new(LogIndex::ZERO) };
        if let Some(path) = base.path().filter(|path| path.exists()) {
            match File::open(&path).map_err(ReadError::from).and_then(steeple_snapshot::inspect) {
                Ok(manifest) => *base.covers.lock() = manifest.state.index,
                Err(error) => tracing::warn!(%error, "the base snapshot cannot be used"),
            }
        }
        base
    }

    /// Where the file is; `None` for a node in memory.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(FILE))
    }

    /// The log entry up to which the snapshot holds everything; zero when there is none.
    pub(super) fn covers(&self) -> LogIndex {
        *self.covers.lock()
    }

    /// Notes that a newer snapshot was published and verified.
    pub(super) fn advance(&self, covers: LogIndex) {
        *self.covers.lock() = covers;
    }

    /// Reads the whole snapshot and answers up to which log entry it holds everything, or why it is of no use.
    pub(super) fn verify(&self) -> Result<LogIndex, String> {
        let file = self.open_file()?;
        let verified = steeple_snapshot::verify(BufReader::new(file), &mut |_| {});
        verified.map(|report| report.manifest.state.index).map_err(|error| format!("it cannot be read: {error}"))
    }

    /// Fills an empty record store. After an error the store must be destroyed.
    pub(super) fn load(&self, store: &dyn RecordStore) -> Result<(), String> {
        let file = self.open_file()?;
        let loaded = steeple_snapshot::load_base(BufReader::new(file), store);
        loaded.map(drop).map_err(|error| format!("it cannot be read: {error}"))
    }

    fn open_file(&self) -> Result<File, String> {
        let path = self.path().filter(|path| path.exists()).ok_or("there is none")?;
        File::open(path).map_err(|error| format!("it cannot be opened: {error}"))
    }
}
