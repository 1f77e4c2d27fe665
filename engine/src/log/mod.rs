//! The segmented, append-only log of one group.
//!
//! The log holds everything of a group that must survive: its entries and the hard state of Raft. Nothing here knows
//! what the entries mean. The format of the files, and what a crash at each write leaves behind, is in
//! `docs/formats/log.md`; the short version:
//!
//! - A *segment* is one file of fixed size: a header (two copies), *frames* (one per entry), and *persist records* (one
//!   per entry, in a region of their own). One sync of the file covers both.
//! - A *persist record* says which entry was written where. A bad frame without one was never acknowledged: it is cut
//!   off. A bad frame with one was damaged: it is reported, and never dropped silently.
//! - The *state file* holds term, vote, commit index, the identity of the log and the range of its segments, in two
//!   pairs of copies that are written in turn.
//! - A log has one [`LogWriter`] and any number of [`LogReader`]s, which never wait for a sync.
//!
//! Reading order: `layout`, `frame`, `record`, `segment`, `terms`, `state` (bytes), `walk` (frames in a row), `scan` (what a
//! segment holds and what of it is damaged), `recovery` (opening), `writer`, `spares`, `cut`, `rewrite`, `reader`, `events` (those that
//! follow one another), `outline` (which entries are there), `holes` (putting back those that are not), `inspect`.

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;
use crate::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NodeId, Term};

mod astray;
mod cut;
mod error;
mod events;
mod frame;
mod holes;
mod inspect;
mod layout;
mod outline;
mod reader;
mod record;
mod recovery;
mod rewrite;
mod scan;
mod segment;
mod shared;
mod spares;
mod state;
mod terms;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{Fault, FaultKind, LogError};
pub use events::EventReader;
pub use frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader, decode_frame};
pub use holes::{FillError, Hole, HoleKind};
pub use inspect::{Finding, FrameVerdict, RecordVerdict, inspect};
pub use outline::{Outline, Run};
pub use reader::{LogReader, SegmentInfo};
pub use record::{PERSIST_RECORD_BYTES, PersistRecord};
pub use recovery::{Recovery, TornTail, read_identity};
pub use rewrite::{Repaired, Rewritten};
pub use segment::{HeaderError, SEGMENT_HEADER_BYTES, SealedRange, SegmentHeader};
pub use spares::{MadeSpare, SpareFile};
pub use state::{LogState, StateCopy};
pub use terms::TermTable;
pub use writer::{LogWriter, Refill};

/// Largest payload of one entry.
pub const MAX_PAYLOAD_BYTES: usize = 48 << 20;

/// One slot of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place, and the term of the leader that appended it.
    pub position: LogPosition,
    /// What the payload is.
    pub kind: EntryKind,
    /// A number that never decreases along the log and by which an entry can be found: for events the revision; for
    /// others that of the event before.
    pub tag: u64,
    /// Opaque bytes, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: Bytes,
}

/// What the payload of an entry is. The numbers are part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// An encoded event.
    Event = 1,
    /// Nothing: the entry with which a leader opens its term.
    Empty = 2,
    /// A change of the group's members.
    Membership = 3,
    /// What the members compare their records with, so that one that has gone astray is found.
    Check = 4,
}

impl EntryKind {
    fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Event),
            2 => Some(Self::Empty),
            3 => Some(Self::Membership),
            4 => Some(Self::Check),
            _ => None,
        }
    }
}

/// Whose log it is. Fixed when the log is created and checked whenever it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member whose log it is.
    pub node: NodeId,
    /// The group.
    pub group: GroupId,
    /// The line of revisions that the entries belong to.
    pub history: HistoryId,
}

/// What a Raft member must remember besides the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// The candidate voted for in that term.
    pub vote: Option<NodeId>,
    /// Highest index known to be committed. Durable on a best-effort basis: it may come back lower.
    pub commit: LogIndex,
}

/// How much of the log is read when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The newest segment. Damage in older ones is found when they are read.
    Newest,
    /// Every frame of every segment.
    Everything,
}

/// What opening does about damaged entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultPolicy {
    /// Fails with the list of them. Right for a node that has nobody to ask.
    Refuse,
    /// As `Refuse`, except that damage in the very last batch, which may as well be an unfinished write, is taken for
    /// one and cut off. This can lose acknowledged entries if it was not.
    CutUndecided,
    /// Opens, and lists them in [`Recovery::faults`]. Reading one of them fails until it is repaired.
    Report,
}

/// Settings of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Size of a new segment file.
    pub segment_bytes: u64,
    /// Most entries of a new segment.
    pub segment_entries: u32,
    /// Purged segment files that are kept for reuse.
    pub spare_segments: usize,
    /// How much is read on opening.
    pub verification: Verification,
    /// What is done about damage.
    pub faults: FaultPolicy,
    /// Whether a missing log is created. A node that has taken part in a group must set this to false: an empty log in
    /// place of a lost one would make it forget its votes.
    pub create: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segment_entries: 128 << 10,
            spare_segments: 2,
            verification: Verification::Newest,
            faults: FaultPolicy::Refuse,
            create: true,
        }
    }
}

impl LogOptions {
    /// Size of the file of a new segment: the persist records at its end have their places from there.
    fn file_bytes(&self) -> u64 {
        self.segment_bytes & !7
    }

    /// Bytes of frames that fit into a new segment.
    fn frames_bytes(&self) -> u64 {
        let records = u64::from(self.segment_entries) * PERSIST_RECORD_BYTES as u64;
        self.file_bytes().saturating_sub(SEGMENT_HEADER_BYTES as u64 + layout::align_up(records))
    }

    /// Largest payload that fits into a new segment.
    #[must_use]
    pub fn max_payload_bytes(&self) -> usize {
        let fits = self.frames_bytes().saturating_sub(FRAME_HEADER_BYTES as u64);
        usize::try_from(fits).unwrap_or(usize::MAX).min(MAX_PAYLOAD_BYTES)
    }

    fn check(&self) -> Result<(), LogError> {
        let reason = if self.segment_bytes > 1 << 31 {
            "segment_bytes is above 2 GiB"
        } else if self.segment_entries == 0 {
            "segment_entries is 0"
        } else if self.frames_bytes() < 2 * FRAME_HEADER_BYTES as u64 {
            "segment_bytes leaves no room for entries"
        } else {
            return Ok(());
        };
        Err(LogError::Options { reason })
    }
}

/// Namespace for [`Log::open`].
#[derive(Debug)]
pub struct Log;

impl Log {
    /// Opens the log in the directory, or creates it there, and brings it into a state that can be appended to.
    ///
    /// # Errors
    /// When the files are damaged beyond what the options allow, belong to another log, or cannot be read or written.
    /// Nothing has been changed then, except that an unfinished rewrite may be gone.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        identity: LogIdentity,
    ) -> Result<(LogWriter, LogReader, Recovery), LogError> {
        recovery::open(disk, options, identity)
    }
}
