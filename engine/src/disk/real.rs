//! A directory of the operating system.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskFile};

/// Name of the file whose advisory lock keeps a second process out of the directory.
const LOCK_FILE: &str = "lock";

/// Zeros are written in pieces of this size when a file is created.
const ZERO_FILL_BYTES: usize = 1 << 20;

/// So many of them are synced at once: whoever syncs another file meanwhile does not wait for more.
const ZERO_SYNC_BYTES: u64 = 4 << 20;

/// One locked directory of the file system.
///
/// The lock is advisory, belongs to the process that opened the directory, and goes with it however it ends.
#[derive(Debug)]
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    _lock: File,
}

impl RealDisk {
    /// Opens the directory, creating it when it is missing, and locks it.
    ///
    /// # Errors
    /// `WouldBlock` when another process (or another `RealDisk` of this one) holds the directory; otherwise as the
    /// operating system reports it.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref().to_path_buf();
        std::fs::create_dir_all(&path)?;
        let directory = File::open(&path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            // Without this a power cut could take the directory itself away, and all synced files with it.
            File::open(parent)?.sync_all()?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK_FILE))?;
        fs4::FileExt::try_lock(&lock).map_err(|error| match error {
            fs4::TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, format!("{} is in use by another process", path.display()))
            }
            fs4::TryLockError::Error(error) => error,
        })?;
        Ok(Self { path, directory, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        if let Err(error) = fill_with_zeros(&file, bytes) {
            // A file that is only half there must not be found later; the first error is the one to report.
            drop(std::fs::remove_file(&path));
            return Err(error);
        }
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in std::fs::read_dir(&self.path)? {
            let item = item?;
            if let Ok(name) = item.file_name().into_string()
                && name != LOCK_FILE
                && item.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }
}

/// Allocates the blocks and writes them once: a block that was allocated and never written is marked as such in the
/// file's metadata, and the first write to it would make a sync write metadata as well.
fn fill_with_zeros(file: &File, bytes: u64) -> io::Result<()> {
    fs4::FileExt::allocate(file, bytes)?;
    let zeros = vec![0_u8; usize::try_from(bytes).unwrap_or(ZERO_FILL_BYTES).min(ZERO_FILL_BYTES)];
    let mut offset = 0;
    while offset < bytes {
        let length = zeros.len().min(usize::try_from(bytes - offset).unwrap_or(usize::MAX));
        file.write_all_at(&zeros[..length], offset)?;
        offset += length as u64;
        if offset.is_multiple_of(ZERO_SYNC_BYTES) {
            file.sync_data()?;
        }
    }
    file.sync_all()
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
