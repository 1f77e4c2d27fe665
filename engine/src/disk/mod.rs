//! The seam to the disk: everything the log does to files goes through here, so that a simulated disk can
//! take its place. Syncs are visible in the interface and never hidden behind another call.

use std::io;
use std::sync::Arc;

mod fresh;
pub mod real;
pub mod simulated;

pub use real::RealDisk;
pub use simulated::SimulatedDisk;

/// One directory of files with flat names.
pub trait Disk: Send + Sync + 'static {
    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// As the operating system reports it; `NotFound` when there is none.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates a file of `bytes` zero bytes with its blocks allocated; an existing file is an error. The name is
    /// durable only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// As the operating system reports it; `AlreadyExists` when there is one.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing the target. Durable only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// As the operating system reports it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable only after [`Disk::sync_directory`].
    ///
    /// # Errors
    /// As the operating system reports it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes sure, durably, that no file has a name under which one is to be prepared and then renamed. Without it a crash
    /// may keep the renaming and neither the removal of a file that an earlier crash has left there, nor the creation of
    /// the new one: what was left over would come into the place of the target.
    ///
    /// # Errors
    /// As the operating system reports it.
    fn clear_name(&self, name: &str) -> io::Result<()> {
        match self.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync_directory(),
        }
    }

    /// The names of all files, in no order.
    ///
    /// # Errors
    /// As the operating system reports it.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes created, renamed and removed names durable.
    ///
    /// # Errors
    /// As the operating system reports it; nothing may be assumed durable after an error.
    fn sync_directory(&self) -> io::Result<()>;
}

/// One open file. Reads and writes carry their offset; several threads may read.
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` from `offset`; reading past the end is `UnexpectedEof`.
    ///
    /// # Errors
    /// As the operating system reports it.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`. Durable only after [`DiskFile::sync`].
    ///
    /// # Errors
    /// As the operating system reports it; any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written to this file durable (data, and the size if it changed).
    ///
    /// # Errors
    /// As the operating system reports it. After an error nothing may be assumed about unsynced writes, and a
    /// later success proves nothing (the pages may have been marked clean): the caller must stop using the file.
    fn sync(&self) -> io::Result<()>;

    /// Says that nothing in the file matters any more: what is not written from now on may read as anything. Writing it again
    /// may then be cheaper.
    ///
    /// # Errors
    /// As the operating system reports it.
    fn discard_content(&self) -> io::Result<()>;

    /// Size in bytes.
    ///
    /// # Errors
    /// As the operating system reports it.
    fn size(&self) -> io::Result<u64>;
}
