//! A log on its own that events are appended to.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::disk::RealDisk;
use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NodeId, Term};
use steeple_engine::log::{Entry, EntryKind, HardState, Log, LogIdentity, LogOptions, LogWriter};

/// Entries between two purges.
const PURGE_ENTRIES: u64 = 65_536;

/// A log that appends the same payloads again and again.
pub struct AppendingLog {
    writer: LogWriter,
    next: u64,
}

impl AppendingLog {
    /// A new log.
    ///
    /// # Panics
    /// When the directory is not empty or cannot be written to.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let (cluster, history) = (ClusterId([1; 16]), HistoryId([1; 16]));
        let identity = LogIdentity { cluster, node: NodeId(1), group: GroupId(0), history };
        let disk = Arc::new(RealDisk::open(directory).expect("a directory"));
        let (mut writer, ..) = Log::open(disk, LogOptions::default(), identity).expect("a new log");
        writer.set_hard_state(HardState { term: Term(1), ..HardState::default() }).expect("a term");
        writer.sync().expect("a sync");
        Self { writer, next: 1 }
    }

    /// Appends an entry for each payload, and syncs.
    ///
    /// # Panics
    /// When the disk fails.
    pub fn append(&mut self, payloads: &[Bytes]) {
        let first = self.next;
        let entry = |(place, payload): (usize, &Bytes)| Entry {
            position: LogPosition { term: Term(1), index: LogIndex(first + place as u64) },
            kind: EntryKind::Event,
            tag: first + place as u64,
            payload: payload.clone(),
        };
        let entries: Vec<Entry> = payloads.iter().enumerate().map(entry).collect();
        self.writer.append(&entries).expect("an append");
        self.writer.sync().expect("a sync");
        self.next += payloads.len() as u64;
        // Old segments are given back as compaction would, so that files are reused and the disk does not fill.
        if self.next % PURGE_ENTRIES < payloads.len() as u64 {
            self.writer.purge_prefix(LogIndex(first)).expect("a purge");
        }
    }
}
