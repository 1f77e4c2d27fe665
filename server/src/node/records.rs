//! Where record stores are: one that replaces another is built beside it, in a directory with a higher number.
//!
//! The first one is `records`, those after it `records-1`, `records-2`, ... At start the one with the highest number
//! that can be opened is used and the others are deleted; while a node runs, a replaced one is deleted as soon as nobody
//! uses it any more.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use steeple_engine::record_store::{self, RecordStore, RecordStoreError, RecordStoreKind, Visit, WriteBatch};
use steeple_engine::view::{Fork, InTurn};

use super::errors::StartError;
use super::fork::TwoThreads;
use super::options::NodeOptions;
use super::storage::{SimulatedStorage, Storage};

/// Name of the first directory, and the beginning of the names of the others.
const NAME: &str = "records";

/// The place of one record store.
#[derive(Clone)]
pub(super) struct Records {
    place: Place,
    retired: Arc<AtomicBool>,
    /// Its stores fail, when a test asks for that.
    #[cfg(test)]
    broken: Arc<AtomicBool>,
}

#[derive(Clone)]
enum Place {
    Memory,
    Directory(PathBuf),
    Simulated(Arc<SimulatedStorage>, u64),
}

impl Records {
    fn at(place: Place) -> Self {
        Self {
            place,
            retired: Arc::default(),
            #[cfg(test)]
            broken: Arc::default(),
        }
    }

    /// One that belongs to no node.
    pub(super) fn in_directory(directory: PathBuf) -> Self {
        Self::at(Place::Directory(directory))
    }

    /// One of those that belong to a storage.
    fn numbered(storage: &Storage, number: u64) -> Self {
        Self::at(match storage {
            Storage::Memory => Place::Memory,
            Storage::Simulated(simulated) => Place::Simulated(Arc::clone(simulated), number),
            Storage::Directory(_) => {
                storage.directories().group().map_or(Place::Memory, |group| Place::Directory(directory(&group, number)))
            }
        })
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(directory) => Some(directory),
            Place::Memory | Place::Simulated(..) => None,
        }
    }

    /// How the work of opening a view on it is shared out. A simulated node has the one thread that simulates it.
    pub(super) fn fork(&self) -> &'static (dyn Fork + Sync) {
        match &self.place {
            Place::Directory(_) => &TwoThreads,
            Place::Memory | Place::Simulated(..) => &InTurn,
        }
    }

    /// Opens what is there, or an empty store.
    pub(super) fn open(&self, options: &NodeOptions) -> Result<Arc<dyn RecordStore>, StartError> {
        let store: Arc<dyn RecordStore> = match &self.place {
            Place::Memory => record_store::open(RecordStoreKind::Memory, Path::new(""), &options.store_options)?,
            Place::Directory(directory) => {
                fs::create_dir_all(directory).map_err(failed("create", directory))?;
                record_store::open(options.store, directory, &options.store_options)?
            }
            Place::Simulated(simulated, number) => simulated.stores.open(*number),
        };
        Ok(Arc::new(Owned { store: Some(store), records: self.clone() }))
    }

    /// Removes it with all it holds; nobody may have it open.
    pub(super) fn destroy(&self) -> Result<(), RecordStoreError> {
        match &self.place {
            Place::Memory => Ok(()),
            Place::Directory(directory) => record_store::destroy(directory),
            Place::Simulated(simulated, number) => {
                simulated.stores.remove(*number);
                Ok(())
            }
        }
    }

    /// Makes the store fail from now on.
    #[cfg(test)]
    pub(super) fn break_down(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// Lets the directory go away with the last user of its store.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }
}

/// The record stores of a group, the newest first; the first one that there will be when there is none.
pub(super) fn found(storage: &Storage) -> Result<Vec<Records>, StartError> {
    let mut numbers = numbers(storage)?;
    if numbers.is_empty() {
        numbers.push(0);
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers.into_iter().map(|number| Records::numbered(storage, number)).collect())
}

/// The first record store of a group.
pub(super) fn first(storage: &Storage) -> Records {
    Records::numbered(storage, 0)
}

/// A place for a record store that is to replace the current one; there is nothing in it.
pub(super) fn beside(storage: &Storage) -> Result<Records, StartError> {
    let next = numbers(storage)?.into_iter().max().map_or(0, |number| number.saturating_add(1));
    Ok(Records::numbered(storage, next))
}

fn directory(group: &Path, number: u64) -> PathBuf {
    match number {
        0 => group.join(NAME),
        number => group.join(format!("{NAME}-{number}")),
    }
}

fn numbers(storage: &Storage) -> Result<Vec<u64>, StartError> {
    match storage {
        Storage::Memory => Ok(Vec::new()),
        Storage::Simulated(simulated) => Ok(simulated.stores.numbers()),
        Storage::Directory(_) => {
            let Some(group) = storage.directories().group() else { return Ok(Vec::new()) };
            numbers_in(&group).map_err(failed("list", &group))
        }
    }
}

fn numbers_in(group: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(group)? {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(NAME)) else { continue };
        if rest.is_empty() {
            numbers.push(0);
        } else if let Some(number) = rest.strip_prefix('-').and_then(|number| number.parse().ok()) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::Directory { action, path, source }
}

/// A store that takes its directory along when it is dropped after it was retired.
struct Owned {
    /// There until it is dropped.
    store: Option<Arc<dyn RecordStore>>,
    records: Records,
}

impl Owned {
    fn store(&self) -> Result<&dyn RecordStore, RecordStoreError> {
        #[cfg(test)]
        if self.records.broken.load(Ordering::SeqCst) {
            return Err(RecordStoreError::Failed { action: "use it", detail: "a test has broken it".into() });
        }
        let closed = || RecordStoreError::Failed { action: "use it", detail: "it was closed".into() };
        self.store.as_deref().ok_or_else(closed)
    }
}

impl RecordStore for Owned {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RecordStoreError> {
        self.store()?.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), RecordStoreError> {
        self.store()?.scan(from, to, visit)
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), RecordStoreError> {
        self.store()?.apply(batch)
    }

    fn flush(&self) -> Result<(), RecordStoreError> {
        self.store()?.flush()
    }

    fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
        self.store()?.disk_bytes()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // It has to be closed before its files go.
        drop(self.store.take());
        if self.records.retired.load(Ordering::SeqCst)
            && let Err(error) = self.records.destroy()
        {
            tracing::warn!(%error, "a record store that was replaced is left over until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_comes_first_and_the_next_one_stands_beside_it() {
        let data = tempfile::tempdir().unwrap();
        let storage = Storage::Directory(data.path().to_owned());
        let group = data.path().join("group-0");
        fs::create_dir(&group).unwrap();
        let names = |found: Vec<Records>| -> Vec<String> {
            let name = |one: Records| one.directory().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
            found.into_iter().map(name).collect()
        };
        assert_eq!(names(found(&storage).unwrap()), ["records"]);
        for name in ["records", "records-2", "records-10", "records-x", "log"] {
            fs::create_dir(group.join(name)).unwrap();
        }
        assert_eq!(names(found(&storage).unwrap()), ["records-10", "records-2", "records"]);
        assert_eq!(names(vec![beside(&storage).unwrap()]), ["records-11"]);
    }

    #[test]
    fn a_retired_store_takes_its_directory_along_and_another_does_not() {
        let data = tempfile::tempdir().unwrap();
        for retired in [false, true] {
            let records = first(&Storage::Directory(data.path().to_owned()));
            let store = records.open(&NodeOptions::at(data.path())).unwrap();
            let another_user = Arc::clone(&store);
            if retired {
                records.retire();
            }
            drop(store);
            assert!(records.directory().unwrap().exists());
            drop(another_user);
            assert_eq!(records.directory().unwrap().exists(), !retired);
        }
    }
}
