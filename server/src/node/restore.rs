//! Restoring a snapshot into an empty data directory, with the layout that a node expects.

use std::fs;
use std::io::{Read, Seek};
use std::path::Path;
use std::sync::Arc;

use steeple_engine::disk::RealDisk;
use steeple_engine::ids::{ClusterId, HistoryId, NodeId};
use steeple_engine::log::{Log, LogIdentity, LogOptions};
use steeple_engine::record_store::RecordStoreKind;
use steeple_snapshot::Manifest;
use steeple_snapshot::restore::{Lineage, RestoreError, RestoreOptions, RestoreTarget};

use super::open::Directories;
use super::options::NodeOptions;
use super::records;
use super::storage::Storage;

/// Restores a snapshot into `data`, which must be empty or not there. The node that is started on it goes on from the
/// snapshot's revision, in a history of its own, so that cursors into what the old history had after it are refused, and
/// in a cluster of its own, so that nodes which were members with the one that the snapshot is of are refused as well.
///
/// # Errors
/// See [`RestoreError`]. The directory is then marked as unfinished, and no node starts on it.
pub fn restore(
    snapshot: &mut (impl Read + Seek),
    data: &Path,
    store: RecordStoreKind,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, RestoreError> {
    let options = RestoreOptions { directory: data, may_contain: &[], lineage: Lineage::New };
    let (cluster, history) = (ClusterId(rand::random()), HistoryId(rand::random()));
    let mut open = |manifest: &Manifest| {
        open_target(data, store, LogIdentity { cluster, node: NodeId(1), group: manifest.origin.group, history })
    };
    steeple_snapshot::restore(snapshot, options, &mut open, progress)
}

fn open_target(
    data: &Path,
    store: RecordStoreKind,
    identity: LogIdentity,
) -> Result<RestoreTarget, Box<dyn std::error::Error + Send + Sync>> {
    let directories = Directories::new(Some(data.to_owned()));
    let Some(log) = directories.log() else { unreachable!("directories below a root have paths") };
    fs::create_dir_all(&log)?;
    let (writer, _, _) = Log::open(Arc::new(RealDisk::open(&log)?), LogOptions::default(), identity)?;
    let options = NodeOptions { store, ..NodeOptions::at(data) };
    let store = records::first(&Storage::Directory(data.to_owned())).open(&options)?;
    Ok(RestoreTarget { store, log: Box::new(writer) })
}
