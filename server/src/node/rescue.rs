//! Taking all that a stopped node has, for a group whose majority is lost for good.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use steeple_engine::disk::RealDisk;
use steeple_engine::ids::LogIndex;
use steeple_engine::log::{Log, LogReader};
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::view::View;
use steeple_snapshot::{LiveSource, Manifest, Publication, SnapshotId, SnapshotOptions};
use thiserror::Error;

use super::base::{self, Base};
use super::errors::StartError;
use super::options::{Clock, NodeOptions, SystemClock};
use super::records::Records;
use super::storage::Storage;
use super::{install, open};

/// What was rescued.
#[derive(Clone, Debug)]
pub struct Rescued {
    /// What the snapshot holds.
    pub manifest: Manifest,
    /// The newest log entry that the node knew to be committed.
    pub committed: LogIndex,
    /// The end of its log, up to which the snapshot reaches.
    pub last: LogIndex,
}

impl Rescued {
    /// Entries of which nobody had told the node that a majority has them. Each was acknowledged or not.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        self.last.0.saturating_sub(self.committed.0)
    }
}

/// Why nothing was rescued. The data directory is as a start would leave it.
#[derive(Debug, Error)]
pub enum RescueError {
    /// There is no node's data.
    #[error("there is no log in {0}")]
    Nothing(String),
    /// The log or the base snapshot cannot be read.
    #[error(transparent)]
    Open(#[from] StartError),
    /// What the records would be kept in meanwhile is there already, and may be somebody's.
    #[error(
        "{} is in the way: it is left over from an earlier attempt that was broken off, or not Steeple's; remove it, or name \
         another file", .0.display()
    )]
    InTheWay(PathBuf),
    /// The snapshot cannot be written.
    #[error("cannot write the snapshot: {0}")]
    Write(String),
}

/// Folds the whole log of a stopped node, also what nobody has confirmed as committed, and writes what comes of it with
/// its history. The record store of the node is not touched; one beside the file is used meanwhile.
///
/// # Errors
/// See [`RescueError`].
pub fn rescue(data: &Path, file: &Path) -> Result<Rescued, RescueError> {
    let storage = Storage::Directory(data.to_owned());
    let place = storage.directories().log().filter(|log| log.is_dir());
    let place = place.ok_or_else(|| RescueError::Nothing(data.display().to_string()))?;
    let lock =
        |source| StartError::Directory { action: "lock (is a node running on it?)", path: place.clone(), source };
    let disk = RealDisk::open(&place).map_err(lock)?;
    let identity = steeple_engine::log::read_identity(&disk).map_err(StartError::from)?;
    let identity = identity.ok_or_else(|| RescueError::Nothing(data.display().to_string()))?;
    let options = NodeOptions { store: RecordStoreKind::Sled, ..NodeOptions::at(data) };
    let (mut writer, log, _) = Log::open(Arc::new(disk), options.log, identity).map_err(StartError::from)?;
    let base = Base::open(&storage);
    install::resume(&base, &identity, &mut writer).map_err(|error| StartError::from(Box::new(error)))?;
    let (committed, last) = (writer.hard_state().commit, log.last().index);
    open::check_rebuildable(&log, &base)?;
    let records = Records::in_directory(claim_beside(file)?);
    let written = open::rebuild(&options, &records, &log, &base, last)
        .map_err(RescueError::from)
        .and_then(|view| write(view, log, base::origin(&identity), file));
    records.destroy().map_err(StartError::from)?;
    Ok(Rescued { manifest: written?, committed: committed.min(last), last })
}

/// A new directory beside a file. One that is there already is never used: all of it is removed in the end.
fn claim_beside(file: &Path) -> Result<PathBuf, RescueError> {
    let mut name = file.file_name().map(OsString::from).unwrap_or_default();
    name.push(".records");
    let path = file.with_file_name(name);
    match fs::create_dir(&path) {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(RescueError::InTheWay(path)),
        Err(source) => Err(StartError::Directory { action: "create", path, source }.into()),
    }
}

fn write(view: View, log: LogReader, origin: steeple_snapshot::Origin, file: &Path) -> Result<Manifest, RescueError> {
    let failed = |error: &dyn std::fmt::Display| RescueError::Write(error.to_string());
    let source = LiveSource { view: Arc::new(view), log };
    let options = SnapshotOptions::new(SnapshotId(rand::random()), origin, SystemClock.now());
    let options = SnapshotOptions { include_history: true, ..options };
    let mut publication = Publication::create(file).map_err(|error| failed(&error))?;
    steeple_snapshot::write(&source, &mut publication, options, &mut |_| {}).map_err(|error| failed(&error))?;
    let mut written = publication.file();
    written.rewind().map_err(|error| failed(&error))?;
    let report = steeple_snapshot::verify(io::BufReader::new(written.by_ref()), &mut |_| {});
    let report = report.map_err(|error| failed(&error))?;
    publication.publish().map_err(|error| failed(&error))?;
    Ok(report.manifest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::embedded::Cluster;
    use crate::node::tests::create;
    use crate::node::{Node, NodeParts};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn everything_in_the_log_is_rescued_also_what_nobody_confirmed() {
        let data = tempfile::tempdir().unwrap();
        let mut cluster = Cluster::start_at(3, data.path()).unwrap();
        let leader = cluster.leader(Duration::from_secs(30)).await.unwrap().clone();
        let namespace = leader.open_namespace("one").await.unwrap();
        create(&leader, namespace, 0..20).await;
        let number = leader.node_id();
        let acknowledged = leader.revision();
        for other in (1..=3).filter(|other| *other != number.0) {
            cluster.stop_node(other).await;
        }
        // Nobody is left to confirm this one.
        let last = leader.log().last().index;
        let lonely = tokio::spawn({
            let leader = leader.clone();
            async move { drop(leader.submit(namespace, None, crate::node::tests::entry(100)).await) }
        });
        let appended = async {
            while leader.log().last().index <= last {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), appended).await.unwrap();
        drop(leader);
        cluster.stop_node(number.0).await;
        lonely.await.unwrap();
        let from = data.path().join(number.to_string());
        let file = data.path().join("rescue.snapshot");
        // What is somebody else's is left alone.
        let beside = data.path().join("rescue.snapshot.records");
        fs::create_dir(&beside).unwrap();
        fs::write(beside.join("accounts"), "theirs").unwrap();
        let refused = rescue(&from, &file);
        assert!(matches!(&refused, Err(RescueError::InTheWay(path)) if *path == beside), "{refused:?}");
        assert_eq!(fs::read(beside.join("accounts")).unwrap(), b"theirs");
        assert!(!file.exists());
        fs::remove_dir_all(&beside).unwrap();
        let rescued = rescue(&from, &file).unwrap();
        assert_eq!(rescued.manifest.state.revision, acknowledged.next());
        assert!(rescued.unconfirmed() >= 1, "{rescued:?}");
        assert!(!beside.exists());
        let target = data.path().join("new");
        let mut input = io::BufReader::new(fs::File::open(&file).unwrap());
        super::super::restore(&mut input, &target, RecordStoreKind::Sled, &mut |_| {}).unwrap();
        let node = Node::start(NodeOptions::at(&target), NodeParts::default()).unwrap();
        assert!(node.revision() >= acknowledged.next());
        node.stop().await;
    }

    #[test]
    fn nothing_is_rescued_from_where_no_node_was() {
        let data = tempfile::tempdir().unwrap();
        let rescued = rescue(data.path(), &data.path().join("rescue.snapshot"));
        assert!(matches!(rescued, Err(RescueError::Nothing(_))), "{rescued:?}");
    }
}
