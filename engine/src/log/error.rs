//! What can go wrong with a log.

use std::fmt;
use std::io;

use thiserror::Error;

use super::LogIdentity;
use crate::ids::{LogIndex, LogPosition};

/// What to do when term and vote are lost: nobody else knows them.
const STATE_ADVICE: &str = "bring back the state files that belong to these segments, or remove the node from its group and \
                            add it anew with an empty directory (a node alone: restore a backup)";

/// Why an operation on the log failed.
#[derive(Debug, Error)]
pub enum LogError {
    /// The operating system refused. After a write or a sync the log is poisoned.
    #[error("cannot {action} {file}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file of the log's directory.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// An earlier write or sync failed. Nothing is known about what it covered, and a later success would prove
    /// nothing, so the log takes no more writes until it is opened again.
    #[error("the log takes no writes since an earlier one failed: {cause}")]
    Poisoned {
        /// The failure.
        cause: String,
    },
    /// Entries that were once durable are damaged.
    #[error("{} damaged, first: {}", Count(faults.len()), FirstFault(faults))]
    Corrupt {
        /// All that were found.
        faults: Vec<Fault>,
    },
    /// There are segments and no state file: term and vote are lost.
    #[error("the log's state file and its twin are missing, with them term and vote; {}", STATE_ADVICE)]
    StateMissing,
    /// No copy of the state is intact: term and vote are lost.
    #[error("all copies of the log's state are damaged, with them term and vote; {}", STATE_ADVICE)]
    StateDamaged,
    /// The state is older than what lies beside it: term and vote may have been forgotten.
    #[error("the log's state is older than {found}: term and vote may be lost; {}", STATE_ADVICE)]
    StateOutdated {
        /// What is newer.
        found: String,
    },
    /// There is no log, and the options do not allow to create one.
    #[error("there is no log here, and creating one is not allowed")]
    Missing,
    /// The log belongs to somebody else.
    #[error("the log belongs to {found:?}, not to {expected:?}")]
    Identity {
        /// Who asked.
        expected: LogIdentity,
        /// Whose it is.
        found: LogIdentity,
    },
    /// A segment was copied here from another log.
    #[error("{file} belongs to another log")]
    ForeignSegment {
        /// The segment's file.
        file: String,
    },
    /// A file was written by a newer version.
    #[error("{file} has format version {found}, which this build does not read")]
    Version {
        /// The file.
        file: String,
        /// The version found.
        found: u32,
    },
    /// Settings that do not work together.
    #[error("bad log options: {reason}")]
    Options {
        /// What is wrong.
        reason: &'static str,
    },
    /// The payload does not fit into a segment.
    #[error("entry {index} has {payload_bytes} bytes, the limit is {max}")]
    EntryTooLarge {
        /// The entry.
        index: LogIndex,
        /// Its size.
        payload_bytes: usize,
        /// What would fit.
        max: usize,
    },
    /// The log must be purged before it takes more.
    #[error("the log cannot have more than {max} segments; purge its oldest entries first")]
    TooManySegments {
        /// The limit of the format.
        max: u64,
    },
    /// An entry does not follow the one before it: its index is not the next one, or its term or tag is lower.
    #[error("entry {found} with tag {found_tag} cannot follow {last} with tag {last_tag}")]
    OutOfOrder {
        /// The last entry.
        last: LogPosition,
        /// Its tag.
        last_tag: u64,
        /// The entry refused.
        found: LogPosition,
        /// Its tag.
        found_tag: u64,
    },
    /// The entries to be cut off are not there any more as they were appended: they are purged or rewritten, which
    /// is done only to committed ones.
    #[error("entries from {from} cannot be cut off, those below {oldest} are settled")]
    Settled {
        /// First entry to be cut off.
        from: LogIndex,
        /// First entry that could be.
        oldest: LogIndex,
    },
}

impl LogError {
    pub(super) fn corrupt(fault: Fault) -> Self {
        Self::Corrupt { faults: vec![fault] }
    }

    /// Names the operation and the file of an I/O error.
    pub(super) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        let file = file.to_owned();
        move |source| Self::Io { action, file, source }
    }
}

struct Count(usize);

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => formatter.write_str("one place of the log is"),
            more => write!(formatter, "{more} places of the log are"),
        }
    }
}

struct FirstFault<'a>(&'a [Fault]);

impl fmt::Display for FirstFault<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first().map_or(Ok(()), |fault| fault.fmt(formatter))
    }
}

/// One damaged place of the log: an entry, or a run of them of which nothing better is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The segment's file.
    pub segment: String,
    /// Where in it, if that is known.
    pub offset: Option<u64>,
    /// The first entry concerned.
    pub first: LogIndex,
    /// The last entry concerned; `None` when nobody knows how many there were.
    pub last: Option<LogIndex>,
    /// Position and tag of the entry, if its persist record tells.
    pub identity: Option<(LogPosition, u64)>,
    /// What is wrong.
    pub kind: FaultKind,
}

/// What is wrong with a damaged place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FaultKind {
    /// The segment's file is not there.
    #[error("the file is missing")]
    FileMissing,
    /// The segment's file cannot be opened or read.
    #[error("the file cannot be read: {0}")]
    FileUnreadable(String),
    /// The segment's file ends too early.
    #[error("the file has {found} bytes instead of {expected}")]
    FileShort {
        /// Size that it was made with.
        expected: u64,
        /// Size found.
        found: u64,
    },
    /// Both copies of the segment's header are damaged.
    #[error("both copies of the header are damaged")]
    Header,
    /// The frame is bad and its persist record proves that it had been written.
    #[error("the frame is damaged: expected checksum {expected:08x}, {found}")]
    Frame {
        /// Checksum by the persist record.
        expected: u32,
        /// What was found instead.
        found: String,
    },
    /// The frame is bad and so is its persist record, but what follows proves that it had been durable.
    #[error("the frame and its persist record are damaged: {found}")]
    FrameAndRecord {
        /// What was found instead of a frame.
        found: String,
    },
    /// The frame is bad and belongs to the last batch: either the batch was never acknowledged, or it is damaged.
    #[error("the frame is damaged or its write was never finished: expected checksum {expected:08x}, {found}")]
    Undecided {
        /// Checksum by the persist record.
        expected: u32,
        /// What was found instead.
        found: String,
    },
    /// What lies behind the last entry is of no unfinished write, so there may have been more entries.
    #[error("a write went astray, and entries may be missing: {found}")]
    Astray {
        /// What was found where.
        found: String,
    },
    /// The state says that these entries were durable, and there is no trace of them.
    #[error("entries that were durable are not there")]
    Lost,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.segment)?;
        if let Some(offset) = self.offset {
            write!(formatter, " at byte {offset}")?;
        }
        match self.last {
            Some(last) if last == self.first => write!(formatter, ", entry {}", self.first)?,
            Some(last) => write!(formatter, ", entries {} to {last}", self.first)?,
            None => write!(formatter, ", entries from {}", self.first)?,
        }
        write!(formatter, ": {}", self.kind)
    }
}
