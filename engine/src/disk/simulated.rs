//! A disk in memory that does to its files what real disks do on bad days.
//!
//! A write is seen by every reader at once and survives a crash only after a sync of its file; until then each of its
//! sectors is kept, lost or torn by chance, independent of the order of the writes. The same holds for names: what is
//! created, renamed or removed is durable after [`Disk::sync_directory`]. A failed sync behaves as on Linux: the
//! unsynced data stays readable, counts as clean, and a later sync that succeeds has not written it.
//!
//! Everything random follows from the seed of the crash.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::fresh::Fresh;
use super::{Disk, DiskFile};

/// The unit that a real disk writes at once.
pub const SECTOR_BYTES: usize = 512;

type Sector = Arc<[u8; SECTOR_BYTES]>;
type Sectors = BTreeMap<u64, Sector>;

/// What a crash does to the writes that no sync has covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashLoss {
    /// All of them are lost.
    Everything,
    /// None is lost: the process died and the machine went on. What was not durable still is not, and the next crash
    /// may take it.
    Nothing,
    /// A prefix of them, in the order in which they were made, has reached the disk.
    Suffix,
    /// Each sector keeps one of the contents that it has had since its last sync, by chance.
    Sectors,
    /// As `Sectors`, and a sector may hold the beginning of one of its contents and the end of another.
    Bytes,
}

impl CrashLoss {
    /// Every kind, for tests that try them all.
    pub const ALL: [Self; 5] = [Self::Everything, Self::Nothing, Self::Suffix, Self::Sectors, Self::Bytes];
}

/// What the disk does when its countdown reaches zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The operation and all after it fail: the moment of a crash.
    Stop,
    /// The operation fails after having done part of its work; later ones succeed.
    Once,
    /// The next sync (of a file) fails, and what it covered is marked clean without having been written.
    Sync,
}

/// A directory in memory. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    name_changes: Vec<NameChange>,
    files: BTreeMap<u64, FileState>,
    next_file: u64,
    /// Every operation that changes something (writes, syncs, names) counts one.
    operations: u64,
    failure: Option<(u64, Failure)>,
    stopped: bool,
    /// Bytes that cannot be read, each with its file. A write mends them, as a drive puts another sector in the place of
    /// one that it cannot read.
    unreadable: Vec<(u64, Range<u64>)>,
    /// Files that cannot be opened.
    unopenable: Vec<u64>,
    capacity_bytes: Option<u64>,
}

#[derive(Clone)]
enum NameChange {
    Put(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Clone, Default)]
struct FileState {
    bytes: u64,
    current: Sectors,
    durable: Sectors,
    /// Contents since the last sync, oldest first, each with the operation that wrote it.
    unsynced: BTreeMap<u64, Vec<(u64, Sector)>>,
}

/// A small generator of its own, so that a crash depends on nothing but its seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is at least 1.
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What a crash at this moment would leave behind, as a disk of its own.
    #[must_use]
    pub fn crash(&self, loss: CrashLoss, seed: u64) -> Self {
        let state = self.shared.lock();
        if loss == CrashLoss::Nothing {
            return Self { shared: Arc::new(Mutex::new(state.of_next_process())) };
        }
        let mut chance = Chance(seed);
        let names = surviving_names(&state, loss, &mut chance);
        let first_lost = oldest_lost_operation(&state, loss, &mut chance);
        state.surviving(names, &mut |_, file| surviving_sectors(file, loss, first_lost, &mut chance))
    }

    /// What a crash at this moment could leave behind, one thing at a time: how many outcomes each change of a name has
    /// (2, oldest change first) and then each sector that was written since its last sync (one more than it was written).
    #[must_use]
    pub fn crash_outcomes(&self) -> Vec<u32> {
        let state = self.shared.lock();
        let names = state.name_changes.iter().map(|_| 2);
        names.chain(state.unsynced_sectors().map(|versions| count(versions) + 1)).collect()
    }

    /// What a crash at this moment leaves behind when each thing of [`SimulatedDisk::crash_outcomes`] comes out like this:
    /// 0 for a change or write that is lost, `n` for a sector as it was after the `n`th write. What is not mentioned is lost.
    #[must_use]
    pub fn crash_as(&self, outcomes: &[u32]) -> Self {
        let state = self.shared.lock();
        let mut outcomes = outcomes.iter().copied();
        let mut names = state.durable_names.clone();
        for change in &state.name_changes {
            if outcomes.next().unwrap_or(0) > 0 {
                apply_name_change(&mut names, change);
            }
        }
        let mut sectors_left: BTreeMap<u64, Sectors> = BTreeMap::new();
        for (id, file) in &state.files {
            let sectors = sectors_left.entry(*id).or_insert_with(|| file.durable.clone());
            for (number, versions) in &file.unsynced {
                let kept = versions.iter().take(outcomes.next().unwrap_or(0) as usize).next_back();
                if let Some((_, sector)) = kept {
                    sectors.insert(*number, sector.clone());
                }
            }
        }
        state.surviving(names, &mut |id, _| sectors_left.remove(&id).unwrap_or_default())
    }

    /// A disk with the same visible content, all of it durable, and no failures pending.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let mut state = self.shared.lock().of_next_process();
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        for file in state.files.values_mut() {
            file.unsynced.clear();
            file.durable = file.current.clone();
        }
        Self { shared: Arc::new(Mutex::new(state)) }
    }

    /// As [`SimulatedDisk::duplicate`], with what cannot be read or opened.
    #[must_use]
    pub fn duplicate_with_failures(&self) -> Self {
        let copy = self.duplicate();
        let state = self.shared.lock();
        {
            let mut copied = copy.shared.lock();
            copied.unreadable.clone_from(&state.unreadable);
            copied.unopenable.clone_from(&state.unopenable);
        }
        drop(state);
        copy
    }

    /// How many changing operations there have been.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.shared.lock().operations
    }

    /// Lets `operations` more changing operations pass and then fails.
    pub fn fail_after(&self, operations: u64, failure: Failure) {
        let mut state = self.shared.lock();
        state.failure = Some((state.operations + operations, failure));
    }

    /// Whether [`Failure::Stop`] has come: nothing reaches the disk any more.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.shared.lock().stopped
    }

    /// Every read of the file that touches the byte at `offset` fails, until that byte is written.
    pub fn fail_reads(&self, name: &str, offset: u64) {
        self.fail_reads_within(name, offset..offset + 1);
    }

    /// As [`SimulatedDisk::fail_reads`], for several bytes.
    pub fn fail_reads_within(&self, name: &str, bytes: Range<u64>) {
        let mut state = self.shared.lock();
        if let Some(id) = state.names.get(name).copied() {
            state.unreadable.push((id, bytes));
        }
    }

    /// The file is there and cannot be opened any more.
    pub fn fail_opening(&self, name: &str) {
        let mut state = self.shared.lock();
        if let Some(id) = state.names.get(name).copied() {
            state.unopenable.push(id);
        }
    }

    /// Creating files beyond this total fails as on a full disk.
    pub fn limit_capacity(&self, bytes: u64) {
        self.shared.lock().capacity_bytes = Some(bytes);
    }

    /// Flips bits of one byte, durably; reports whether there was such a byte.
    pub fn flip(&self, name: &str, offset: u64, mask: u8) -> bool {
        let mut state = self.shared.lock();
        let Some(file) = state.file_mut(name).filter(|file| offset < file.bytes) else { return false };
        let (number, within) = split(offset);
        for sectors in [&mut file.current, &mut file.durable] {
            let mut sector = sectors.get(&number).map_or([0; SECTOR_BYTES], |sector| **sector);
            sector[within] ^= mask;
            sectors.insert(number, Arc::new(sector));
        }
        true
    }

    /// Puts bytes in the place of others, durably and unasked; reports whether the file reaches so far.
    pub fn overwrite(&self, name: &str, offset: u64, bytes: &[u8]) -> bool {
        let mut state = self.shared.lock();
        let end = offset + bytes.len() as u64;
        let Some(file) = state.file_mut(name).filter(|file| end <= file.bytes) else { return false };
        for (at, byte) in (offset..end).zip(bytes) {
            let (number, within) = split(at);
            for sectors in [&mut file.current, &mut file.durable] {
                let mut sector = sectors.get(&number).map_or([0; SECTOR_BYTES], |sector| **sector);
                sector[within] = *byte;
                sectors.insert(number, Arc::new(sector));
            }
        }
        true
    }

    /// Cuts a file short, durably; reports whether there was one.
    pub fn shorten(&self, name: &str, bytes: u64) -> bool {
        let mut state = self.shared.lock();
        state.file_mut(name).map(|file| file.bytes = file.bytes.min(bytes)).is_some()
    }

    /// Makes a file vanish, durably; reports whether there was one.
    pub fn lose(&self, name: &str) -> bool {
        let mut state = self.shared.lock();
        state.durable_names.remove(name);
        state.names.remove(name).is_some()
    }

    /// The bytes of a file as they are seen now.
    #[must_use]
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let mut state = self.shared.lock();
        let file = state.file_mut(name)?;
        let mut bytes = vec![0; usize::try_from(file.bytes).ok()?];
        read_sectors(&file.current, &mut bytes, 0);
        Some(bytes)
    }

    /// Puts a file with these bytes in place, durably.
    pub fn place(&self, name: &str, bytes: &[u8]) {
        let mut state = self.shared.lock();
        let mut file = FileState { bytes: bytes.len() as u64, ..FileState::default() };
        write_sectors(&mut file, bytes, 0, 0);
        file.settle();
        let id = state.insert(file);
        state.names.insert(name.to_owned(), id);
        state.durable_names.insert(name.to_owned(), id);
    }
}

/// Name changes are kept or lost one by one unless the crash keeps order.
fn surviving_names(state: &State, loss: CrashLoss, chance: &mut Chance) -> BTreeMap<String, u64> {
    let mut names = state.durable_names.clone();
    let kept_prefix = chance.below(state.name_changes.len() as u64 + 1);
    for (position, change) in state.name_changes.iter().enumerate() {
        let kept = match loss {
            CrashLoss::Everything => false,
            CrashLoss::Nothing => true,
            CrashLoss::Suffix => (position as u64) < kept_prefix,
            CrashLoss::Sectors | CrashLoss::Bytes => chance.below(2) == 0,
        };
        if kept {
            apply_name_change(&mut names, change);
        }
    }
    names
}

fn apply_name_change(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Put(name, id) => {
            names.insert(name.clone(), *id);
        }
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

fn oldest_lost_operation(state: &State, loss: CrashLoss, chance: &mut Chance) -> u64 {
    match loss {
        CrashLoss::Suffix => {
            let unsynced = state.files.values().flat_map(|file| file.unsynced.values().flatten());
            let oldest = unsynced.map(|(operation, _)| *operation).min().unwrap_or(state.operations);
            oldest + chance.below(state.operations.saturating_sub(oldest) + 2)
        }
        _ => 0,
    }
}

fn surviving_sectors(file: &FileState, loss: CrashLoss, first_lost: u64, chance: &mut Chance) -> Sectors {
    let mut sectors = file.durable.clone();
    if loss == CrashLoss::Everything {
        return sectors;
    }
    for (number, versions) in &file.unsynced {
        let before = sectors.get(number).cloned().unwrap_or_else(|| Arc::new([0; SECTOR_BYTES]));
        let mut contents = vec![before];
        contents.extend(versions.iter().map(|(_, sector)| sector.clone()));
        let survivor = match loss {
            CrashLoss::Suffix => {
                let kept = versions.iter().take_while(|(operation, _)| *operation < first_lost).count();
                contents.swap_remove(kept)
            }
            CrashLoss::Bytes if chance.below(2) == 0 => {
                let torn_at = usize::try_from(chance.below(SECTOR_BYTES as u64)).unwrap_or(0);
                let head = pick(&contents, chance);
                let mut torn = *pick(&contents, chance);
                torn[..torn_at].copy_from_slice(&head[..torn_at]);
                Arc::new(torn)
            }
            _ => pick(&contents, chance),
        };
        sectors.insert(*number, survivor);
    }
    sectors
}

fn pick(contents: &[Sector], chance: &mut Chance) -> Sector {
    let choice = usize::try_from(chance.below(contents.len() as u64)).unwrap_or(0);
    contents[choice].clone()
}

impl State {
    /// What another process finds: the same files, those changes included that are not durable, and no failures.
    fn of_next_process(&self) -> Self {
        Self {
            names: self.names.clone(),
            durable_names: self.durable_names.clone(),
            name_changes: self.name_changes.clone(),
            files: self.files.clone(),
            next_file: self.next_file,
            operations: self.operations,
            capacity_bytes: self.capacity_bytes,
            ..Self::default()
        }
    }

    /// What is written can be read again.
    fn mend(&mut self, id: u64, written: &Range<u64>) {
        let bad = std::mem::take(&mut self.unreadable);
        for (file, range) in bad {
            let left = range.start..range.end.min(if file == id { written.start } else { range.end });
            let right = range.start.max(if file == id { written.end } else { range.end })..range.end;
            self.unreadable.extend([left, right].into_iter().filter(|part| !part.is_empty()).map(|part| (file, part)));
        }
    }

    /// A disk with these names and nothing but these sectors, all of it durable.
    fn surviving(
        &self,
        names: BTreeMap<String, u64>,
        sectors: &mut dyn FnMut(u64, &FileState) -> Sectors,
    ) -> SimulatedDisk {
        let mut files = BTreeMap::new();
        for id in names.values() {
            if let Some(file) = self.files.get(id) {
                let left = sectors(*id, file);
                let survivor =
                    FileState { bytes: file.bytes, current: left.clone(), durable: left, ..FileState::default() };
                files.insert(*id, survivor);
            }
        }
        let survivor = Self {
            durable_names: names.clone(),
            names,
            files,
            next_file: self.next_file,
            capacity_bytes: self.capacity_bytes,
            ..Self::default()
        };
        SimulatedDisk { shared: Arc::new(Mutex::new(survivor)) }
    }

    fn unsynced_sectors(&self) -> impl Iterator<Item = &Vec<(u64, Sector)>> {
        self.files.values().flat_map(|file| file.unsynced.values())
    }

    fn file_mut(&mut self, name: &str) -> Option<&mut FileState> {
        let id = *self.names.get(name)?;
        self.files.get_mut(&id)
    }

    fn insert(&mut self, file: FileState) -> u64 {
        let id = self.next_file;
        self.next_file += 1;
        self.files.insert(id, file);
        id
    }

    /// Counts one changing operation; `Err` when it is the one that has to fail.
    fn step(&mut self, sync: bool) -> Result<u64, Failure> {
        if self.stopped {
            return Err(Failure::Stop);
        }
        let operation = self.operations;
        self.operations += 1;
        match self.failure {
            Some((at, Failure::Sync)) if operation >= at && sync => {
                self.failure = None;
                Err(Failure::Sync)
            }
            Some((at, Failure::Stop)) if operation >= at => {
                self.stopped = true;
                Err(Failure::Stop)
            }
            Some((at, Failure::Once)) if operation >= at => {
                self.failure = None;
                Err(Failure::Once)
            }
            _ => Ok(operation),
        }
    }

    fn step_name(&mut self) -> io::Result<()> {
        self.step(false).map(drop).map_err(|_| simulated_error())
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name_change(&mut self.names, &change);
        self.name_changes.push(change);
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.bytes).sum()
    }
}

impl FileState {
    fn settle(&mut self) {
        for (number, versions) in std::mem::take(&mut self.unsynced) {
            if let Some((_, sector)) = versions.into_iter().next_back() {
                self.durable.insert(number, sector);
            }
        }
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

fn simulated_error() -> io::Error {
    io::Error::other("simulated failure")
}

fn split(offset: u64) -> (u64, usize) {
    let within = usize::try_from(offset % SECTOR_BYTES as u64).unwrap_or(0);
    (offset / SECTOR_BYTES as u64, within)
}

fn read_sectors(sectors: &Sectors, buffer: &mut [u8], offset: u64) {
    let mut done = 0;
    while done < buffer.len() {
        let (number, within) = split(offset + done as u64);
        let length = (SECTOR_BYTES - within).min(buffer.len() - done);
        match sectors.get(&number) {
            Some(sector) => buffer[done..done + length].copy_from_slice(&sector[within..within + length]),
            None => buffer[done..done + length].fill(0),
        }
        done += length;
    }
}

fn write_sectors(file: &mut FileState, bytes: &[u8], offset: u64, operation: u64) {
    let mut done = 0;
    while done < bytes.len() {
        let (number, within) = split(offset + done as u64);
        let length = (SECTOR_BYTES - within).min(bytes.len() - done);
        let before = file.current.get(&number).map_or([0; SECTOR_BYTES], |sector| **sector);
        let mut sector = before;
        sector[within..within + length].copy_from_slice(&bytes[done..done + length]);
        // One that holds this already, or will after a sync, holds it whether this write is lost or not. What a failed sync has
        // left is neither.
        let durable = file.durable.get(&number).map_or([0; SECTOR_BYTES], |sector| **sector);
        if sector != before || (durable != before && !file.unsynced.contains_key(&number)) {
            let sector: Sector = Arc::new(sector);
            file.current.insert(number, sector.clone());
            file.unsynced.entry(number).or_default().push((operation, sector));
        }
        done += length;
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.shared.lock();
        if state.stopped {
            return Err(simulated_error());
        }
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        if state.unopenable.contains(&id) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id, fresh: Fresh::none() }))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.shared.lock();
        state.step_name()?;
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if state.capacity_bytes.is_some_and(|capacity| state.used_bytes() + bytes > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let id = state.insert(FileState { bytes, ..FileState::default() });
        state.change_name(NameChange::Put(name.to_owned(), id));
        Ok(Arc::new(SimulatedFile { disk: self.clone(), id, fresh: Fresh::all(bytes) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.step_name()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.step_name()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = self.shared.lock();
        if state.stopped {
            return Err(simulated_error());
        }
        Ok(state.names.keys().cloned().collect())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.step_name()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    id: u64,
    /// Written whole, as those of a real file are: a crash may leave any of the zeros.
    fresh: Fresh,
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.shared.lock();
        if state.stopped {
            return Err(simulated_error());
        }
        let end = offset + buffer.len() as u64;
        if state.unreadable.iter().any(|(id, bad)| *id == self.id && bad.start < end && offset < bad.end) {
            return Err(simulated_error());
        }
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        if end > file.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        read_sectors(&file.current, buffer, offset);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fresh.write(bytes, offset, |pieces, offset| self.write_whole(&pieces.concat(), offset))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.shared.lock();
        let step = state.step(true);
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        match step {
            Ok(_) => {
                file.settle();
                Ok(())
            }
            Err(Failure::Stop) => Err(simulated_error()),
            Err(Failure::Once | Failure::Sync) => {
                file.unsynced.clear();
                Err(simulated_error())
            }
        }
    }

    fn discard_content(&self) -> io::Result<()> {
        self.fresh.discard(self.size()?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = self.disk.shared.lock();
        state.files.get(&self.id).map(|file| file.bytes).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl SimulatedFile {
    fn write_whole(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.shared.lock();
        let step = state.step(false);
        let operation = state.operations;
        state.mend(self.id, &(offset..offset + bytes.len() as u64));
        let file = state.files.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        match step {
            Ok(_) => {
                file.bytes = file.bytes.max(offset + bytes.len() as u64);
                write_sectors(file, bytes, offset, operation);
                Ok(())
            }
            Err(Failure::Once) => {
                write_sectors(file, &bytes[..bytes.len() / 2], offset, operation);
                Err(simulated_error())
            }
            Err(_) => {
                // The crash comes in the middle of this write: any part of it may survive.
                write_sectors(file, bytes, offset, operation);
                Err(simulated_error())
            }
        }
    }
}
