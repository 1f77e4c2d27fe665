//! The state file: hard state, identity and the range of segments, in two pairs of copies that are written in turn, and
//! a twin of the file.
//!
//! Both copies of a pair are written and synced together, so a damaged copy always has an intact twin, and a write that
//! a crash interrupts leaves the other pair untouched.

use std::io;
use std::sync::Arc;

use super::layout::{NUMBER_LIMIT, bytes_at, checksum, put, put_u32, put_u64, u32_at, u64_at};
use super::terms::TermTable;
use super::{HardState, LogError, LogIdentity};
use crate::disk::{Disk, DiskFile};
use crate::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NodeId, Term};

/// Name of the file.
pub(super) const STATE_FILE: &str = "state";
/// Name of its twin, which holds the same: term and vote cannot be had from anybody else.
pub(super) const STATE_TWIN: &str = "state-twin";
/// Both, in the order in which they are written.
const STATE_FILES: [&str; 2] = [STATE_FILE, STATE_TWIN];
/// Name under which they are prepared.
const STATE_FILE_NEW: &str = "state.new";

const MAGIC: [u8; 8] = *b"STEPSTAT";
const VERSION: u32 = 1;
const COPY_BYTES: usize = 512;
const COPY_SPACING: u64 = 4096;
const COPIES: u64 = 4;
const FILE_BYTES: u64 = COPIES * COPY_SPACING;
/// Most segments of a log, those included that were merged into others.
pub(super) const SEGMENTS_MAX: u64 = 1 << 22;
const CHECKSUM_OFFSET: usize = COPY_BYTES - 4;
/// Where the term table begins.
const TERMS_OFFSET: usize = 184;

/// Everything that the log remembers besides its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Whose log it is.
    pub identity: LogIdentity,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Position of the entry before the first one.
    pub base: LogPosition,
    /// Tag of that entry.
    pub base_tag: u64,
    /// Number of the oldest segment; files with lower numbers are leftovers.
    pub oldest_segment: u64,
    /// Number of the newest segment, 0 before there is one; files with higher numbers are leftovers.
    pub newest_segment: u64,
    /// First index of the newest segment.
    pub newest_first: LogIndex,
    /// The generation that the next segment gets.
    pub next_generation: u64,
    /// Everything up to here had been synced when this was written.
    pub durable: LogIndex,
    /// Entries from here on are being cut off; whatever of them is found does not exist.
    pub cut_from: Option<LogIndex>,
    /// Entries up to here were taken over without those between them, and numbered anew; zero when there are none.
    pub renumbered_to: LogIndex,
    /// The log was closed and not opened since: there can be no unfinished write.
    pub clean: bool,
    /// Entries up to here were confirmed, lost, and are being brought back from peers; zero when none are. The member
    /// takes no part in its group before it has them.
    pub owed: LogIndex,
    /// More than that may have been confirmed and lost: nobody knows yet how far the log reached.
    pub end_unknown: bool,
    /// Which terms the newest entries are of, apart from the entries. Holds up to `durable` and `owed`.
    pub terms: TermTable,
}

impl LogState {
    /// The state of a log that holds nothing.
    pub(super) fn new(identity: LogIdentity) -> Self {
        Self {
            identity,
            hard_state: HardState::default(),
            base: LogPosition::default(),
            base_tag: 0,
            oldest_segment: 1,
            newest_segment: 0,
            newest_first: LogIndex(1),
            next_generation: 1,
            durable: LogIndex::ZERO,
            cut_from: None,
            renumbered_to: LogIndex::ZERO,
            clean: false,
            owed: LogIndex::ZERO,
            end_unknown: false,
            terms: TermTable::default(),
        }
    }

    /// Up to here the state promises that there were entries.
    pub(super) fn promised(&self) -> LogIndex {
        self.durable.max(self.hard_state.commit).max(self.owed)
    }

    /// The terms of entries as far as the state may be believed.
    pub(super) fn known_terms(&self) -> TermTable {
        let mut terms = self.terms;
        terms.cut_from(self.durable.max(self.owed).next());
        terms
    }

    fn encode(&self, write_number: u64) -> [u8; COPY_BYTES] {
        let mut block = [0; COPY_BYTES];
        put(&mut block, 0, MAGIC);
        put_u32(&mut block, 8, VERSION);
        put_u32(&mut block, 12, self.flags());
        put_u64(&mut block, 16, write_number);
        put(&mut block, 24, self.identity.cluster.0);
        put_u64(&mut block, 40, self.identity.node.0);
        put_u64(&mut block, 48, self.identity.group.0);
        put(&mut block, 56, self.identity.history.0);
        put_u64(&mut block, 72, self.hard_state.term.0);
        put_u64(&mut block, 80, self.hard_state.vote.unwrap_or_default().0);
        put_u64(&mut block, 88, self.hard_state.commit.0);
        put_u64(&mut block, 96, self.base.index.0);
        put_u64(&mut block, 104, self.base.term.0);
        put_u64(&mut block, 112, self.base_tag);
        put_u64(&mut block, 120, self.oldest_segment);
        put_u64(&mut block, 128, self.newest_segment);
        put_u64(&mut block, 136, self.newest_first.0);
        put_u64(&mut block, 144, self.next_generation);
        put_u64(&mut block, 152, self.durable.0);
        put_u64(&mut block, 160, self.cut_from.unwrap_or_default().0);
        put_u64(&mut block, 168, self.renumbered_to.0);
        put_u64(&mut block, 176, self.owed.0);
        self.terms.encode(&mut block[TERMS_OFFSET..CHECKSUM_OFFSET]);
        let checksum = checksum(0, &[&block[..CHECKSUM_OFFSET]]);
        put_u32(&mut block, CHECKSUM_OFFSET, checksum);
        block
    }

    fn flags(&self) -> u32 {
        u32::from(self.hard_state.vote.is_some())
            | u32::from(self.cut_from.is_some()) << 1
            | u32::from(self.clean) << 2
            | u32::from(self.end_unknown) << 3
    }

    fn decode(block: &[u8]) -> StateCopy {
        if bytes_at(block, 0) != MAGIC || u32_at(block, CHECKSUM_OFFSET) != checksum(0, &[&block[..CHECKSUM_OFFSET]]) {
            return StateCopy::Damaged;
        }
        if u32_at(block, 8) != VERSION {
            return StateCopy::Version(u32_at(block, 8));
        }
        let flags = u32_at(block, 12);
        let identity = LogIdentity {
            cluster: ClusterId(bytes_at(block, 24)),
            node: NodeId(u64_at(block, 40)),
            group: GroupId(u64_at(block, 48)),
            history: HistoryId(bytes_at(block, 56)),
        };
        let hard_state = HardState {
            term: Term(u64_at(block, 72)),
            vote: (flags & 1 != 0).then(|| NodeId(u64_at(block, 80))),
            commit: LogIndex(u64_at(block, 88)),
        };
        let state = Self {
            identity,
            hard_state,
            base: LogPosition { index: LogIndex(u64_at(block, 96)), term: Term(u64_at(block, 104)) },
            base_tag: u64_at(block, 112),
            oldest_segment: u64_at(block, 120),
            newest_segment: u64_at(block, 128),
            newest_first: LogIndex(u64_at(block, 136)),
            next_generation: u64_at(block, 144),
            durable: LogIndex(u64_at(block, 152)),
            cut_from: (flags & 2 != 0).then(|| LogIndex(u64_at(block, 160))),
            renumbered_to: LogIndex(u64_at(block, 168)),
            clean: flags & 4 != 0,
            owed: LogIndex(u64_at(block, 176)),
            end_unknown: flags & 8 != 0,
            terms: TermTable::decode(&block[TERMS_OFFSET..CHECKSUM_OFFSET]),
        };
        let write_number = u64_at(block, 16);
        if write_number < NUMBER_LIMIT && state.is_sound() {
            StateCopy::Intact { write_number, state: Box::new(state) }
        } else {
            StateCopy::Damaged
        }
    }

    /// Numbers that no log reaches must not get into the arithmetic.
    fn is_sound(&self) -> bool {
        let numbers = [
            self.hard_state.commit.0,
            self.base.index.0,
            self.newest_first.0,
            self.durable.0,
            self.cut_from.unwrap_or_default().0,
            self.renumbered_to.0,
            self.owed.0,
            self.oldest_segment,
            self.newest_segment,
            self.next_generation,
        ];
        numbers.iter().all(|number| *number < NUMBER_LIMIT)
            && self.newest_segment.saturating_sub(self.oldest_segment) < SEGMENTS_MAX
            && (self.oldest_segment <= self.newest_segment || (self.newest_segment == 0 && self.durable.0 == 0))
    }
}

/// One of the four copies, as found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateCopy {
    /// Its checksum holds.
    Intact {
        /// Counts the writes; the highest one is the current state.
        write_number: u64,
        /// The content.
        state: Box<LogState>,
    },
    /// Its checksum does not hold, or it cannot be read.
    Damaged,
    /// Written by another version of the format.
    Version(u32),
}

/// The open state file and its twin.
pub(super) struct StateFile {
    /// Both, in the order of [`STATE_FILES`]; `None` for one that is missing or of no use until it is made anew.
    files: [Option<Arc<dyn DiskFile>>; 2],
    write_number: u64,
    /// The pair that holds the last synced state and must not be touched. After opening it is the pair that was found
    /// newest, which is durable only once it is settled.
    synced_pair: u64,
}

/// What loading the state found.
pub(super) struct LoadedState {
    pub(super) state: LogState,
    pub(super) damaged_copies: u32,
}

impl StateFile {
    /// Creates both files with this state in all copies. Each exists only once its content is durable.
    pub(super) fn create(disk: &dyn Disk, state: &LogState) -> Result<Self, LogError> {
        let create = |name| create_file(disk, name, &state.encode(1));
        Ok(Self { files: [Some(create(STATE_FILE)?), Some(create(STATE_TWIN)?)], write_number: 1, synced_pair: 0 })
    }

    /// Opens the files and finds the current state; `None` when there are none. Changes nothing.
    pub(super) fn open(disk: &dyn Disk) -> Result<Option<(Self, LoadedState)>, LogError> {
        let opened = STATE_FILES.map(|name| disk.open(name));
        if opened.iter().all(|file| file.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)) {
            return Ok(None);
        }
        let files = opened.map(|file| file.ok().filter(|file| file.size().is_ok_and(|bytes| bytes >= FILE_BYTES)));
        if files.iter().all(Option::is_none) {
            return Err(LogError::StateDamaged);
        }
        let copies: Vec<StateCopy> = files.iter().flatten().flat_map(|file| read_copies(file.as_ref())).collect();
        let damaged_copies = copies.iter().filter(|copy| !matches!(copy, StateCopy::Intact { .. })).count();
        let newest = copies.iter().enumerate().filter_map(|(place, copy)| match copy {
            StateCopy::Intact { write_number, state } => Some((*write_number, place as u64 % COPIES / 2, **state)),
            _ => None,
        });
        if let Some((write_number, synced_pair, state)) = newest.max_by_key(|(write_number, ..)| *write_number) {
            let loaded = LoadedState { state, damaged_copies: u32::try_from(damaged_copies).unwrap_or(u32::MAX) };
            return Ok(Some((Self { files, write_number, synced_pair }, loaded)));
        }
        let version = copies.iter().find_map(|copy| match copy {
            StateCopy::Version(found) => Some(*found),
            _ => None,
        });
        Err(version.map_or(LogError::StateDamaged, |found| LogError::Version { file: STATE_FILE.to_owned(), found }))
    }

    /// Makes durable what opening has found: it may have been written and never synced, or its sync may have failed.
    /// Before that the other pair, which may be the only durable one, must not be touched. A file that is missing or of
    /// no use is made anew.
    ///
    /// One copy is written after the other, so that one of them stays whole if they were durable already.
    pub(super) fn settle(&mut self, disk: &dyn Disk, state: &LogState) -> Result<(), LogError> {
        let block = state.encode(self.write_number);
        for (file, name) in self.files.iter_mut().zip(STATE_FILES) {
            let Some(file) = file else {
                *file = Some(create_file(disk, name, &block)?);
                continue;
            };
            for copy in 0..2 {
                let offset = (self.synced_pair * 2 + copy) * COPY_SPACING;
                file.write_at(&block, offset).map_err(LogError::io("write", name))?;
                file.sync().map_err(LogError::io("sync", name))?;
            }
        }
        Ok(())
    }

    /// Writes the state without making it durable. Allowed only for changes that may be lost.
    pub(super) fn note(&mut self, state: &LogState) -> Result<(), LogError> {
        let pair = 1 - self.synced_pair;
        self.write_number += 1;
        let block = state.encode(self.write_number);
        for (file, name) in self.open_files() {
            for copy in 0..2 {
                file.write_at(&block, (pair * 2 + copy) * COPY_SPACING).map_err(LogError::io("write", name))?;
            }
        }
        Ok(())
    }

    /// Writes the state and makes it durable, in both files.
    pub(super) fn save(&mut self, state: &LogState) -> Result<(), LogError> {
        self.note(state)?;
        for (file, name) in self.open_files() {
            file.sync().map_err(LogError::io("sync", name))?;
        }
        self.synced_pair = 1 - self.synced_pair;
        Ok(())
    }

    fn open_files(&self) -> impl Iterator<Item = (&Arc<dyn DiskFile>, &'static str)> {
        self.files.iter().zip(STATE_FILES).filter_map(|(file, name)| Some((file.as_ref()?, name)))
    }
}

/// Makes a state file with the same content in all copies, in the place of whatever has its name.
fn create_file(disk: &dyn Disk, name: &'static str, block: &[u8; COPY_BYTES]) -> Result<Arc<dyn DiskFile>, LogError> {
    disk.clear_name(STATE_FILE_NEW).map_err(LogError::io("remove", STATE_FILE_NEW))?;
    let create = || {
        let file = disk.create(STATE_FILE_NEW, FILE_BYTES)?;
        (0..COPIES).try_for_each(|copy| file.write_at(block, copy * COPY_SPACING))?;
        file.sync()?;
        disk.rename(STATE_FILE_NEW, name)?;
        disk.sync_directory()?;
        Ok(file)
    };
    create().map_err(LogError::io("create", name))
}

/// Reads all copies.
pub(super) fn read_copies(file: &dyn DiskFile) -> [StateCopy; COPIES as usize] {
    std::array::from_fn(|place| {
        let mut block = [0; COPY_BYTES];
        let read = file.read_at(&mut block, place as u64 * COPY_SPACING);
        read.map_or(StateCopy::Damaged, |()| LogState::decode(&block))
    })
}
