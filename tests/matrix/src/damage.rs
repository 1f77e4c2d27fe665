//! What happens to the disks, and which copies survive it.

use std::sync::Arc;

use steeple_engine::disk::{Disk, SimulatedDisk};
use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogIndex, NodeId, Term};
use steeple_engine::log::{Finding, FrameVerdict, Log, LogIdentity, LogOptions, Outline, RecordVerdict, inspect};

use crate::chance::Chance;
use crate::group::log_options;
use crate::history::History;

/// Unit in which blocks go bad.
pub const BLOCK_BYTES: u64 = 4096;

/// What is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A byte of an entry.
    Entry {
        /// Which one.
        index: u64,
    },
    /// One bit.
    Bit {
        /// In which file.
        file: String,
        /// At which byte.
        offset: u64,
    },
    /// A block of a file holds something else.
    Block {
        /// In which file.
        file: String,
        /// Which block.
        block: u64,
        /// What it holds now: zeros, or nonsense that follows from this.
        content: Option<u64>,
    },
    /// A block of a file cannot be read.
    BlockError {
        /// In which file.
        file: String,
        /// Which block.
        block: u64,
    },
    /// The file is gone.
    Missing(String),
    /// The file cannot be opened.
    Unopenable(String),
    /// The file ends early.
    Short(String, u64),
    /// The file is longer than it was.
    Long(String, u64),
    /// Every third block of all files, from this one on, holds nonsense.
    Helical(u64),
}

impl Damage {
    /// Carries it out. Whether there was something to damage.
    pub fn apply(&self, disk: &SimulatedDisk) -> bool {
        match self {
            Self::Entry { index } => flip_entry(disk, *index),
            Self::Bit { file, offset } => disk.flip(file, *offset, 1 << (offset % 8)),
            Self::Block { file, block, content } => overwrite(disk, file, *block, *content),
            Self::BlockError { file, block } => {
                disk.fail_reads_within(file, block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES);
                true
            }
            Self::Missing(file) => disk.lose(file),
            Self::Unopenable(file) => {
                disk.fail_opening(file);
                true
            }
            Self::Short(file, bytes) => disk.shorten(file, *bytes),
            Self::Long(file, bytes) => disk.contents(file).is_some_and(|mut content| {
                content.resize(content.len() + usize::try_from(*bytes).unwrap_or(0), 0xa5);
                disk.place(file, &content);
                true
            }),
            Self::Helical(from) => {
                let mut block = *from;
                for file in files(disk) {
                    let blocks = blocks(disk, &file);
                    while block < blocks {
                        overwrite(disk, &file, block, Some(block));
                        block += 3;
                    }
                    block -= blocks;
                }
                true
            }
        }
    }
}

/// The files that count, in order.
#[must_use]
pub fn files(disk: &SimulatedDisk) -> Vec<String> {
    let mut names = disk.list().unwrap_or_default();
    names.retain(|name| name.starts_with("segment-") || name.starts_with("state"));
    names.sort();
    names
}

fn blocks(disk: &SimulatedDisk, file: &str) -> u64 {
    disk.contents(file).map_or(0, |content| (content.len() as u64).div_ceil(BLOCK_BYTES))
}

fn flip_entry(disk: &SimulatedDisk, index: u64) -> bool {
    let mut place = None;
    let inspected = inspect(disk, &mut |finding| {
        if let Finding::Slot { file, offset, frame, record, .. } = finding {
            let found = match (&frame, &record) {
                (_, RecordVerdict::Good(record)) => Some(record.position.index.0),
                (FrameVerdict::Good(header), _) => Some(header.position.index.0),
                _ => None,
            };
            if found == Some(index) {
                place = Some((file, offset));
            }
        }
    });
    // Behind the header and within the shortest payload, or in the header's kind where there is none.
    inspected.is_ok() && place.is_some_and(|(file, offset)| disk.flip(&file, offset + 36, 16))
}

fn overwrite(disk: &SimulatedDisk, file: &str, block: u64, content: Option<u64>) -> bool {
    let Some(mut bytes) = disk.contents(file) else { return false };
    let start = usize::try_from(block * BLOCK_BYTES).unwrap_or(usize::MAX);
    let Some(rest) = bytes.get_mut(start..) else { return false };
    let mut chance = Chance::new(content.unwrap_or(0));
    for byte in rest.iter_mut().take(BLOCK_BYTES as usize) {
        *byte = if content.is_some() { chance.number() as u8 } else { 0 };
    }
    disk.place(file, &bytes);
    true
}

/// A random block of a random file.
pub fn random_block(disk: &SimulatedDisk, chance: &mut Chance) -> Option<(String, u64)> {
    let files = files(disk);
    let file = files.get(chance.below(files.len() as u64) as usize)?.clone();
    let block = chance.below(blocks(disk, &file));
    Some((file, block))
}

/// Something wrong with a random file as a whole.
pub fn random_metadata(disk: &SimulatedDisk, chance: &mut Chance) -> Option<Damage> {
    let files = files(disk);
    let file = files.get(chance.below(files.len() as u64) as usize)?.clone();
    let bytes = disk.contents(&file)?.len() as u64;
    Some(match chance.below(4) {
        0 => Damage::Missing(file),
        1 => Damage::Unopenable(file),
        2 => Damage::Short(file, chance.below(bytes)),
        _ => Damage::Long(file, 1 + chance.below(3 * BLOCK_BYTES)),
    })
}

/// Whether every entry that is committed, or that a majority had, so that nobody can tell whether it is, has an intact
/// copy on a member that can still say who it is and what it has promised; and whether those members are a majority.
/// Nothing is changed.
#[must_use]
pub fn is_recoverable(history: &History) -> bool {
    let outlines: Vec<Outline> = history.disks.iter().filter_map(|(node, disk)| outline_of(*node, disk)).collect();
    let majority = history.disks.len() / 2 + 1;
    let is_intact = |index: LogIndex, term: Term| outlines.iter().any(|outline: &Outline| outline.holds(index, term));
    let is_safe = |index: LogIndex, term: Term| {
        let had = outlines.iter().filter(|outline| outline.term(index) == Some(term)).count();
        had < majority || is_intact(index, term)
    };
    let last = outlines.iter().map(Outline::last).max().unwrap_or_default();
    let entries = (1..=last.0).map(LogIndex);
    let mut had =
        entries.flat_map(|index| outlines.iter().filter_map(move |outline| Some((index, outline.term(index)?))));
    let mut committed = history.committed.iter();
    outlines.len() >= majority
        && committed.all(|(index, entry)| is_intact(LogIndex(*index), entry.position.term))
        && had.all(|(index, term)| is_safe(index, term))
}

fn outline_of(node: u64, disk: &SimulatedDisk) -> Option<Outline> {
    let identity =
        LogIdentity { cluster: ClusterId([1; 16]), node: NodeId(node), group: GroupId(0), history: HistoryId([2; 16]) };
    // Opening heals, so a copy is opened; what cannot be read or opened stays so in it.
    let copy = disk.duplicate_with_failures();
    let options = LogOptions { create: false, ..log_options() };
    Log::open(Arc::new(copy), options, identity).ok()?.0.outline().ok()
}
