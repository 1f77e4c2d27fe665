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

use super::errors::StartError;
use super::options::NodeOptions;

/// Name of the first directory, and the beginning of the names of the others.
const NAME: &str = "records";

/// The place of one record store.
#[derive(Clone, Debug)]
pub(super) struct Records {
    /// `None` for one in memory.
    directory: Option<PathBuf>,
    retired: Arc<AtomicBool>,
}

impl Records {
    /// One in memory.
    pub(super) fn in_memory() -> Self {
        Self { directory: None, retired: Arc::default() }
    }

    /// One in a directory.
    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory: Some(directory), retired: Arc::default() }
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Opens what is there, or an empty store.
    pub(super) fn open(&self, options: &NodeOptions) -> Result<Arc<dyn RecordStore>, StartError> {
        let Some(directory) = &self.directory else {
            return Ok(record_store::open(RecordStoreKind::Memory, Path::new(""), &options.store_options)?);
        };
        fs::create_dir_all(directory).map_err(failed("create", directory))?;
        let store = record_store::open(options.store, directory, &options.store_options)?;
        Ok(Arc::new(Owned { store: Some(store), records: self.clone() }))
    }

    /// Removes it with all it holds; nobody may have it open.
    pub(super) fn destroy(&self) -> Result<(), RecordStoreError> {
        self.directory.as_deref().map_or(Ok(()), record_store::destroy)
    }

    /// Lets the directory go away with the last user of its store.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }
}

/// The record stores of a group, the newest first; the first one that there will be when there is none.
pub(super) fn found(group: Option<&Path>) -> Result<Vec<Records>, StartError> {
    let Some(group) = group else { return Ok(vec![Records::in_memory()]) };
    let mut numbers = numbers(group).map_err(failed("list", group))?;
    if numbers.is_empty() {
        numbers.push(0);
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers.into_iter().map(|number| Records::at(directory(group, number))).collect())
}

/// The first record store of a group.
pub(super) fn first(group: Option<&Path>) -> Records {
    group.map_or_else(Records::in_memory, |group| Records::at(directory(group, 0)))
}

/// A place for a record store that is to replace the current one; there is nothing in it.
pub(super) fn beside(group: Option<&Path>) -> Result<Records, StartError> {
    let Some(group) = group else { return Ok(Records::in_memory()) };
    let numbers = numbers(group).map_err(failed("list", group))?;
    let next = numbers.into_iter().max().map_or(0, |number| number.saturating_add(1));
    Ok(Records::at(directory(group, next)))
}

fn directory(group: &Path, number: u64) -> PathBuf {
    match number {
        0 => group.join(NAME),
        number => group.join(format!("{NAME}-{number}")),
    }
}

fn numbers(group: &Path) -> io::Result<Vec<u64>> {
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
        let group = tempfile::tempdir().unwrap();
        let names = |found: Vec<Records>| -> Vec<String> {
            let name = |one: Records| one.directory().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
            found.into_iter().map(name).collect()
        };
        assert_eq!(names(found(Some(group.path())).unwrap()), ["records"]);
        for name in ["records", "records-2", "records-10", "records-x", "log"] {
            fs::create_dir(group.path().join(name)).unwrap();
        }
        assert_eq!(names(found(Some(group.path())).unwrap()), ["records-10", "records-2", "records"]);
        assert_eq!(names(vec![beside(Some(group.path())).unwrap()]), ["records-11"]);
    }

    #[test]
    fn a_retired_store_takes_its_directory_along_and_another_does_not() {
        let group = tempfile::tempdir().unwrap();
        for retired in [false, true] {
            let records = first(Some(group.path()));
            let store = records.open(&NodeOptions::at(group.path())).unwrap();
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
