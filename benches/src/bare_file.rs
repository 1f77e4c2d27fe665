//! A file that is overwritten in place, as a log's segment is: what a write that is acknowledged costs without a log.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Length of the file, which is overwritten from the beginning once its end is reached.
pub const BARE_FILE_BYTES: u64 = 64 << 20;

/// A file whose every block was written and synced once, so that no write allocates any.
#[derive(Debug)]
pub struct BareFile {
    file: File,
    next: u64,
}

impl BareFile {
    /// A new one in this directory.
    ///
    /// # Errors
    /// When there is such a file already, or the disk fails.
    pub fn create(directory: &Path) -> io::Result<Self> {
        let file = File::create_new(directory.join("bare"))?;
        let zeros = vec![0; 1 << 20];
        for offset in (0..BARE_FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        Ok(Self { file, next: 0 })
    }

    /// Writes behind what was written last, without a sync.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.next + bytes.len() as u64 > BARE_FILE_BYTES {
            self.next = 0;
        }
        self.file.write_all_at(bytes, self.next)?;
        self.next += bytes.len() as u64;
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// A write that is durable when this returns.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_durably(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes)?;
        self.sync()
    }
}
