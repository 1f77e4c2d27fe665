//! The directory of a record store: what marks it, what it takes on disk, how it goes away.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Says which engine, in which version, wrote the data.
const MARKER_FILE: &str = "STORE";
/// Where the engine keeps its files.
const DATA_DIRECTORY: &str = "data";
/// Unit of the block count that the operating system reports, whatever the blocks of the file system are.
const REPORTED_BLOCK_BYTES: u64 = 512;

/// Makes sure that `directory` belongs to the engine that `marker` names, claiming it if it is new, and returns
/// the place for the engine's files.
pub(super) fn claim(directory: &Path, marker: &str) -> io::Result<PathBuf> {
    let data = directory.join(DATA_DIRECTORY);
    match fs::read(directory.join(MARKER_FILE)) {
        Ok(found) if found == marker.as_bytes() => Ok(data),
        Ok(found) => {
            let found = String::from_utf8_lossy(&found);
            Err(io::Error::other(format!("directory belongs to {found:?}, not to {marker:?}")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // The marker comes before the data: data without a marker cannot be told from somebody else's.
            if data.try_exists()? {
                return Err(io::Error::other("directory holds data and does not say whose"));
            }
            write_marker(directory, marker)?;
            Ok(data)
        }
        Err(error) => Err(error),
    }
}

fn write_marker(directory: &Path, marker: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut file = fs::File::create(directory.join(MARKER_FILE))?;
    file.write_all(marker.as_bytes())?;
    file.sync_all()
}

/// Bytes of disk that the files below `directory` take; files may be sparse, so lengths would not do.
pub(super) fn allocated_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => bytes += metadata.blocks() * REPORTED_BLOCK_BYTES,
                // The engine removes files of its own accord.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

/// Removes `directory` and everything below it; it is no error if there is none.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
