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
    /// A write was lost: a place in a file holds what it held at an earlier moment.
    Old {
        /// In which file.
        file: String,
        /// The first byte.
        from: u64,
        /// How many.
        bytes: u64,
        /// At which moment of the history.
        moment: usize,
    },
    /// A write went astray: it is in another place, and its own holds what it held at an earlier moment.
    Misdirected {
        /// In which file.
        file: String,
        /// The first byte.
        from: u64,
        /// How many.
        bytes: u64,
        /// At which moment of the history.
        moment: usize,
        /// The file that it went to.
        onto: String,
        /// The first byte there.
        place: u64,
    },
    /// All of these files are those of an earlier moment.
    OldFiles {
        /// Which ones.
        files: Vec<String>,
        /// At which moment of the history.
        moment: usize,
    },
    /// Several at once.
    All(Vec<Damage>),
}

impl Damage {
    /// Carries it out. Whether there was something to damage.
    pub fn apply(&self, disk: &SimulatedDisk, past: &[SimulatedDisk]) -> bool {
        match self {
            Self::Old { file, from, bytes, moment } => {
                past.get(*moment).is_some_and(|earlier| bring_back(disk, earlier, file, *from, *bytes))
            }
            Self::Misdirected { file, from, bytes, moment, onto, place } => {
                let Some(earlier) = past.get(*moment) else { return false };
                let astray = bytes_of(disk, file, *from, *bytes);
                put(disk, onto, *place, &astray) && bring_back(disk, earlier, file, *from, *bytes)
            }
            Self::OldFiles { files, moment } => past.get(*moment).is_some_and(|earlier| {
                files
                    .iter()
                    .filter(|file| {
                        earlier.contents(file).is_some_and(|old| {
                            disk.place(file, &old);
                            true
                        })
                    })
                    .count()
                    == files.len()
            }),
            Self::All(damage) => damage.iter().filter(|damage| damage.apply(disk, past)).count() > 0,
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

/// A part of a file, as far as it reaches.
fn bytes_of(disk: &SimulatedDisk, file: &str, from: u64, bytes: u64) -> Vec<u8> {
    let content = disk.contents(file).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(usize::MAX).min(content.len());
    let to = from.saturating_add(usize::try_from(bytes).unwrap_or(usize::MAX)).min(content.len());
    content[from..to].to_vec()
}

fn put(disk: &SimulatedDisk, file: &str, from: u64, bytes: &[u8]) -> bool {
    let Some(mut content) = disk.contents(file) else { return false };
    let Some(rest) = usize::try_from(from).ok().and_then(|from| content.get_mut(from..)) else { return false };
    rest.iter_mut().zip(bytes).for_each(|(byte, put)| *byte = *put);
    disk.place(file, &content);
    true
}

/// What a place held earlier; zeros where the file was not there.
fn bring_back(disk: &SimulatedDisk, earlier: &SimulatedDisk, file: &str, from: u64, bytes: u64) -> bool {
    let mut old = bytes_of(earlier, file, from, bytes);
    old.resize(usize::try_from(bytes).unwrap_or(0), 0);
    put(disk, file, from, &old)
}

/// Units in which writes get lost: sectors, and blocks.
const LOST_BYTES: [u64; 2] = [512, BLOCK_BYTES];

/// A place of a random file that was another one at an earlier moment.
pub fn random_old(disk: &SimulatedDisk, past: &[SimulatedDisk], chance: &mut Chance) -> Option<Damage> {
    let moment = chance.below(past.len() as u64) as usize;
    let (earlier, bytes) = (past.get(moment)?, LOST_BYTES[chance.below(2) as usize]);
    let mut places = Vec::new();
    for file in files(disk) {
        let (now, then) = (disk.contents(&file)?, earlier.contents(&file).unwrap_or_default());
        let starts = (0..now.len() as u64).step_by(usize::try_from(bytes).ok()?);
        let differs = |start: &u64| {
            let (start, end) = (*start as usize, (*start + bytes) as usize);
            let old = then.get(start..end.min(then.len())).unwrap_or_default();
            let new = &now[start..end.min(now.len())];
            let is_same = |place: usize| new.get(place).copied() == Some(old.get(place).copied().unwrap_or(0));
            !(0..new.len()).all(is_same)
        };
        places.extend(starts.filter(differs).map(|start| (file.clone(), start)));
    }
    let (file, from) = places.get(chance.below(places.len() as u64) as usize)?.clone();
    Some(Damage::Old { file, from, bytes, moment })
}

/// As [`random_old`], and the write that is missing there has gone to a random place.
pub fn random_misdirected(disk: &SimulatedDisk, past: &[SimulatedDisk], chance: &mut Chance) -> Option<Damage> {
    let Damage::Old { file, from, bytes, moment } = random_old(disk, past, chance)? else { return None };
    let files = files(disk);
    let onto = files.get(chance.below(files.len() as u64) as usize)?.clone();
    let places = disk.contents(&onto)?.len() as u64 / bytes;
    let place = chance.below(places) * bytes;
    Some(Damage::Misdirected { file, from, bytes, moment, onto, place })
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

/// Why a group cannot go on from what is left, whatever it does; `None` when it can. Nothing is changed.
#[must_use]
pub fn why_not_recoverable(history: &History) -> Option<&'static str> {
    let outlines: Vec<Outline> = history.disks.iter().filter_map(|(node, disk)| outline_of(*node, disk)).collect();
    let majority = history.disks.len() / 2 + 1;
    let is_intact = |index: LogIndex, term: Term| outlines.iter().any(|outline: &Outline| outline.holds(index, term));
    let is_lost = |index: LogIndex, term: Term| {
        let had = outlines.iter().filter(|outline| outline.term(index) == Some(term)).count();
        had >= majority && !is_intact(index, term)
    };
    let last = outlines.iter().map(Outline::last).max().unwrap_or_default();
    let entries = (1..=last.0).map(LogIndex);
    let mut had =
        entries.flat_map(|index| outlines.iter().filter_map(move |outline| Some((index, outline.term(index)?))));
    let mut committed = history.committed.iter();
    if outlines.len() < majority {
        Some("too few members still know their term and vote")
    } else if committed.any(|(index, entry)| !is_intact(LogIndex(*index), entry.position.term)) {
        Some("a committed entry has no intact copy")
    } else if had.any(|(index, term)| is_lost(index, term)) {
        Some("an entry that a majority had, so that it was committed for all that anybody can tell, has no intact copy")
    } else if outlines.iter().filter(|outline| !outline.end_known).count() >= majority {
        Some("a majority has lost the ends of its logs, so that it may have had entries that nobody has")
    } else {
        None
    }
}

fn outline_of(node: u64, disk: &SimulatedDisk) -> Option<Outline> {
    let identity =
        LogIdentity { cluster: ClusterId([1; 16]), node: NodeId(node), group: GroupId(0), history: HistoryId([2; 16]) };
    // Opening heals, so a copy is opened; what cannot be read or opened stays so in it.
    let copy = disk.duplicate_with_failures();
    let options = LogOptions { create: false, ..log_options() };
    Log::open(Arc::new(copy), options, identity).ok()?.0.outline().ok()
}
