//! The directory of a record store: who uses it, what marks it, what it takes on disk, how it goes away.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::RecordStoreError;
use super::flushed::FlushedMark;

/// Says which engine, in which version, wrote the data; and is locked while a store is open.
const MARKER_FILE: &str = "STORE";
/// Where the engine keeps its files.
const DATA_DIRECTORY: &str = "data";
/// No marker is longer.
const MARKER_BYTES_MAX: u64 = 256;
/// Unit of the block count that the operating system reports, whatever the blocks of the file system are.
const REPORTED_BLOCK_BYTES: u64 = 512;

/// A lock is given back late when its holder closed it while another thread of the process was starting a child
/// (which holds a copy until it runs its program), and sled starts one whenever it opens. So a held lock is tried
/// again for a second before it counts as held.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// A directory that nobody else uses; given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    /// What the last flush made durable.
    pub(super) mark: FlushedMark,
    /// What the mark said on opening, if anything.
    pub(super) flushed: Option<Vec<u8>>,
    /// Where the engine keeps its files.
    pub(super) data: PathBuf,
    _lock: File,
}

/// Makes sure that `directory` belongs to the engine that `marker` names and that nobody else uses it, claiming it
/// if it is new.
pub(super) fn claim(directory: &Path, marker: &str) -> Result<Claim, RecordStoreError> {
    let failed = |error: io::Error| RecordStoreError::failed("claim its directory", &error);
    fs::create_dir_all(directory).map_err(failed)?;
    let path = directory.join(MARKER_FILE);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    lock(&file, directory)?;
    let data = directory.join(DATA_DIRECTORY);
    check_or_write_marker(&file, marker, &data).map_err(failed)?;
    let (mark, flushed) = FlushedMark::open(directory).map_err(failed)?;
    Ok(Claim { mark, flushed, data, _lock: file })
}

fn check_or_write_marker(mut file: &File, marker: &str, data: &Path) -> io::Result<()> {
    let mut found = Vec::new();
    file.take(MARKER_BYTES_MAX).read_to_end(&mut found)?;
    if found == marker.as_bytes() {
        return Ok(());
    }
    if !found.is_empty() {
        let found = String::from_utf8_lossy(&found);
        return Err(io::Error::other(format!("directory belongs to {found:?}, not to {marker:?}")));
    }
    // The marker comes before the data: data without a marker cannot be told from somebody else's.
    if data.try_exists()? {
        return Err(io::Error::other("directory holds data and does not say whose"));
    }
    file.write_all(marker.as_bytes())?;
    file.sync_all()
}

fn lock(file: &File, directory: &Path) -> Result<(), RecordStoreError> {
    retry_while_locked(directory, || match file.try_lock() {
        Ok(()) => Ok(Some(())),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(RecordStoreError::failed("lock its directory", &error)),
    })
}

/// Repeats `attempt` while it finds the directory locked, which it says by `None`, but not for long.
pub(super) fn retry_while_locked<T>(
    directory: &Path,
    mut attempt: impl FnMut() -> Result<Option<T>, RecordStoreError>,
) -> Result<T, RecordStoreError> {
    for _ in 0..LOCK_ATTEMPTS {
        if let Some(outcome) = attempt()? {
            return Ok(outcome);
        }
        std::thread::sleep(LOCK_RETRY_INTERVAL);
    }
    Err(RecordStoreError::InUse { directory: directory.to_owned() })
}

/// Bytes of disk that the files below `directory` take; files may be sparse, so lengths would not do. What vanishes
/// meanwhile takes nothing: the engine removes files and directories of its own accord.
pub(super) fn allocated_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let Some(entries) = unless_vanished(fs::read_dir(directory))? else { continue };
        for entry in entries {
            let Some(entry) = unless_vanished(entry)? else { continue };
            match unless_vanished(entry.metadata())? {
                Some(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Some(metadata) => bytes += metadata.blocks() * REPORTED_BLOCK_BYTES,
                None => {}
            }
        }
    }
    Ok(bytes)
}

fn unless_vanished<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Removes `directory` and everything below it, unless a store is open on it; it is no error if there is none.
pub(super) fn remove(directory: &Path) -> Result<(), RecordStoreError> {
    let failed = |error: io::Error| RecordStoreError::failed("remove its directory", &error);
    // Without a marker no store is open there.
    let marker = match File::open(directory.join(MARKER_FILE)) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    if let Some(file) = &marker {
        lock(file, directory)?;
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// Empties all files below `directory`, whoever has them open.
pub(super) fn ruin(directory: &Path) -> Result<(), RecordStoreError> {
    let failed = |error: io::Error| RecordStoreError::failed("empty its files", &error);
    // First, and durably: what a crash leaves of the others is not taken for a store then.
    if let Some(marker) = unless_vanished(empty(&directory.join(MARKER_FILE))).map_err(failed)? {
        marker.sync_all().map_err(failed)?;
    }
    empty_below(directory).map_err(failed)
}

/// Goes on to the other files when one cannot be emptied.
fn empty_below(directory: &Path) -> io::Result<()> {
    let mut outcome = Ok(());
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let emptied = if path.is_dir() { empty_below(&path) } else { empty(&path).map(drop) };
        outcome = outcome.and(unless_vanished(emptied).map(drop));
    }
    outcome
}

fn empty(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).open(path)?;
    file.set_len(0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_vanished_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(allocated_bytes(&directory.path().join("gone")).unwrap(), 0);
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("below").join("file"), [7; 4096]).unwrap();
        assert!(allocated_bytes(directory.path()).unwrap() >= 4096);
    }

    #[test]
    fn what_cannot_be_emptied_keeps_nothing_else_from_it() {
        let place = tempfile::tempdir().unwrap();
        drop(claim(place.path(), "an engine").unwrap());
        fs::create_dir(place.path().join(DATA_DIRECTORY)).unwrap();
        // A file that cannot be opened for writing, whoever tries, among some of which one comes after it in any order.
        let socket = std::os::unix::net::UnixListener::bind(place.path().join("m")).unwrap();
        let others = ["a", "z", "data/slab"].map(|name| place.path().join(name));
        others.iter().for_each(|path| fs::write(path, "leaf").unwrap());
        assert!(matches!(ruin(place.path()), Err(RecordStoreError::Failed { action: "empty its files", .. })));
        for path in others.iter().chain([&place.path().join(MARKER_FILE)]) {
            assert_eq!(fs::read(path).unwrap(), b"", "{}", path.display());
        }
        drop(socket);
        assert!(claim(place.path(), "an engine").is_err(), "nobody takes it for a store");
    }
}
