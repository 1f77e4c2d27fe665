//! The base snapshot: a copy of the records on disk that lets old log segments go.
//!
//! The record store may be damaged at any time and is then rebuilt. From the whole log, as long as the log is whole;
//! once segments were purged, from the base snapshot and the log behind it. So a segment is purged only when a base
//! snapshot that was read back and verified covers it.
//!
//! A snapshot taken over from a peer becomes the base snapshot before anything else is changed, and is what an
//! interrupted takeover is finished with (see [`super::install`]).

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use steeple_engine::ids::LogIndex;
use steeple_engine::log::LogIdentity;
use steeple_engine::record_store::RecordStore;
use steeple_snapshot::{Manifest, Origin, ReadError};

/// Name of the file.
const FILE: &str = "base.snapshot";
/// Name of a snapshot from a peer that is there wholly and not taken over yet.
const INCOMING_FILE: &str = "incoming.snapshot";

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
        if let Some(manifest) = base.manifest() {
            *base.covers.lock() = manifest.state.index;
        }
        base
    }

    /// Where the file is; `None` for a node in memory.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(FILE))
    }

    /// Where a snapshot from a peer is put before it is taken over; `None` for a node in memory.
    pub(super) fn incoming_path(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(INCOMING_FILE))
    }

    /// What the snapshot says that it holds; `None` when there is none that can be used.
    pub(super) fn manifest(&self) -> Option<Manifest> {
        let path = self.path().filter(|path| path.exists())?;
        match File::open(&path).map_err(ReadError::from).and_then(steeple_snapshot::inspect) {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                tracing::warn!(%error, "the base snapshot cannot be used");
                None
            }
        }
    }

    /// The log entry up to which the snapshot holds everything; zero when there is none.
    pub(super) fn covers(&self) -> LogIndex {
        *self.covers.lock()
    }

    /// Notes that a newer snapshot was published and verified.
    pub(super) fn advance(&self, covers: LogIndex) {
        *self.covers.lock() = covers;
    }

    /// Puts a file, which lies in the same directory and is durable, in the place of the snapshot.
    pub(super) fn replace_by(&self, file: &Path) -> io::Result<()> {
        let (Some(path), Some(directory)) = (self.path(), &self.directory) else { return Ok(()) };
        fs::rename(file, path)?;
        File::open(directory)?.sync_all()
    }

    /// Reads the whole snapshot and answers up to which log entry it holds everything, or why it is of no use.
    pub(super) fn verify(&self) -> Result<LogIndex, String> {
        let verified = steeple_snapshot::verify(self.read()?, &mut |_| {});
        verified.map(|report| report.manifest.state.index).map_err(|error| format!("it cannot be read: {error}"))
    }

    /// Fills an empty record store. After an error the store must be destroyed.
    pub(super) fn load(&self, store: &dyn RecordStore) -> Result<(), String> {
        let loaded = steeple_snapshot::load_base(self.read()?, store);
        loaded.map(drop).map_err(|error| format!("it cannot be read: {error}"))
    }

    /// The snapshot from its beginning on.
    pub(super) fn read(&self) -> Result<BufReader<File>, String> {
        let path = self.path().filter(|path| path.exists()).ok_or("there is none")?;
        File::open(path).map(BufReader::new).map_err(|error| format!("it cannot be opened: {error}"))
    }
}

/// Whose log and whose snapshots these are.
pub(super) fn origin(identity: &LogIdentity) -> Origin {
    Origin { cluster: identity.cluster, group: identity.group, history: identity.history }
}
