//! The base snapshot: a copy of the records on disk that lets old log segments go.
//!
//! The record store may be damaged at any time and is then rebuilt. From the whole log, as long as the log is whole;
//! once segments were purged, from the base snapshot and the log behind it. So a segment is purged only when a base
//! snapshot that was read back and verified covers it.
//!
//! A snapshot taken over from a peer becomes the base snapshot before anything else is changed, and is what an
//! interrupted takeover is finished with (see [`super::install`]).

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use steeple_engine::disk::{Disk, SimulatedDisk};
use steeple_engine::ids::LogIndex;
use steeple_engine::log::LogIdentity;
use steeple_engine::record_store::RecordStore;
use steeple_snapshot::{Manifest, Origin};

use super::group::Finding;
use super::storage::Storage;

/// Name of the file.
const FILE: &str = "base.snapshot";
/// Name of the mark that says that the records are wrong.
const ASTRAY_FILE: &str = "astray";
/// Name of a snapshot from a peer that is there wholly and not taken over yet.
const INCOMING_FILE: &str = "incoming.snapshot";

/// Name of a file of a simulated disk that is not whole yet.
const PARTIAL_FILE: &str = ".base.snapshot.partial";

/// What a snapshot is read from.
pub(super) trait Input: Read + Seek + Send {}

impl<T: Read + Seek + Send> Input for T {}

/// The base snapshot of a group.
pub(super) struct Base {
    place: Place,
    /// The log entry up to which it holds everything.
    covers: Mutex<LogIndex>,
}

/// Where the base snapshot is.
enum Place {
    Nowhere,
    Directory(PathBuf),
    Simulated(SimulatedDisk),
}

impl Base {
    /// Looks for a base snapshot; whatever is wrong with it means that there is none.
    pub(super) fn open(storage: &Storage) -> Self {
        let place = match storage {
            Storage::Simulated(simulated) => Place::Simulated(simulated.base.clone()),
            _ => storage.directories().base().map_or(Place::Nowhere, Place::Directory),
        };
        let base = Self { place, covers: Mutex::new(LogIndex::ZERO) };
        if let Some(manifest) = base.manifest() {
            *base.covers.lock() = manifest.state.index;
        }
        base
    }

    /// Whether there is a place for one; there is none on a node in memory.
    pub(super) fn is_kept(&self) -> bool {
        !matches!(self.place, Place::Nowhere)
    }

    /// Where the file is, when it is one of the operating system's.
    pub(super) fn path(&self) -> Option<PathBuf> {
        self.directory().map(|directory| directory.join(FILE))
    }

    /// Where a snapshot from a peer is put before it is taken over, when that is a file of the operating system's.
    pub(super) fn incoming_path(&self) -> Option<PathBuf> {
        self.directory().map(|directory| directory.join(INCOMING_FILE))
    }

    fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(directory) => Some(directory),
            Place::Nowhere | Place::Simulated(_) => None,
        }
    }

    /// Notes for the next start that the records are not those of the leader. A node in memory has none.
    pub(super) fn mark_astray(&self, finding: &Finding) -> io::Result<()> {
        let text = serde_json::to_vec(finding).map_err(io::Error::other)?;
        match &self.place {
            Place::Nowhere => Ok(()),
            Place::Directory(directory) => {
                let mut file = File::create(directory.join(ASTRAY_FILE))?;
                file.write_all(&text)?;
                file.sync_all()?;
                File::open(directory)?.sync_all()
            }
            Place::Simulated(disk) => {
                remove_if_there(disk, ASTRAY_FILE)?;
                let file = disk.create(ASTRAY_FILE, text.len() as u64)?;
                file.write_at(&text, 0)?;
                file.sync()?;
                disk.sync_directory()
            }
        }
    }

    /// The records are right again.
    pub(super) fn unmark_astray(&self) -> io::Result<()> {
        match &self.place {
            Place::Nowhere => Ok(()),
            Place::Directory(directory) => match fs::remove_file(directory.join(ASTRAY_FILE)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
                Ok(()) => File::open(directory)?.sync_all(),
            },
            Place::Simulated(disk) => {
                remove_if_there(disk, ASTRAY_FILE)?;
                disk.sync_directory()
            }
        }
    }

    /// Whether an earlier run found its records wrong, and what it found.
    pub(super) fn astray(&self) -> Option<Finding> {
        let text = match &self.place {
            Place::Nowhere => return None,
            Place::Directory(directory) => fs::read(directory.join(ASTRAY_FILE)),
            Place::Simulated(disk) => read_whole(disk, ASTRAY_FILE),
        };
        match text {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // A mark that cannot be read, or that a crash has cut off, says as much as a whole one.
            text => Some(text.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()),
        }
    }

    /// What the snapshot says that it holds; `None` when there is none that can be used.
    pub(super) fn manifest(&self) -> Option<Manifest> {
        let input = match self.input() {
            Ok(input) => input?,
            Err(error) => {
                tracing::warn!(%error, "the base snapshot cannot be opened");
                return None;
            }
        };
        match steeple_snapshot::inspect(input) {
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
        let (Some(path), Some(directory)) = (self.path(), self.directory()) else { return Ok(()) };
        fs::rename(file, path)?;
        File::open(directory)?.sync_all()
    }

    /// Puts bytes in the place of the snapshot, where it is not a file of the operating system's: durably, whole or not
    /// at all.
    pub(super) fn replace_by_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let Place::Simulated(disk) = &self.place else { return Ok(()) };
        remove_if_there(disk, PARTIAL_FILE)?;
        let file = disk.create(PARTIAL_FILE, bytes.len() as u64)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        disk.rename(PARTIAL_FILE, FILE)?;
        disk.sync_directory()
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
    pub(super) fn read(&self) -> Result<Box<dyn Input>, String> {
        let input = self.input().map_err(|error| format!("it cannot be opened: {error}"))?;
        Ok(input.ok_or("there is none")?)
    }

    /// The snapshot from its beginning on; `None` when there is none.
    fn input(&self) -> io::Result<Option<Box<dyn Input>>> {
        let opened: io::Result<Box<dyn Input>> = match &self.place {
            Place::Nowhere => return Ok(None),
            Place::Directory(directory) => {
                File::open(directory.join(FILE)).map(|file| -> Box<dyn Input> { Box::new(BufReader::new(file)) })
            }
            Place::Simulated(disk) => {
                read_whole(disk, FILE).map(|bytes| -> Box<dyn Input> { Box::new(Cursor::new(bytes)) })
            }
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }
}

fn remove_if_there(disk: &SimulatedDisk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_whole(disk: &SimulatedDisk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name)?;
    let mut bytes = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Whose log and whose snapshots these are.
pub(super) fn origin(identity: &LogIdentity) -> Origin {
    Origin { cluster: identity.cluster, group: identity.group, history: identity.history }
}
