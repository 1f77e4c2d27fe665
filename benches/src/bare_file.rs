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

    /// Lets the next write begin at the beginning of the file.
    pub fn rewind(&mut self) {
        self.next = 0;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_follow_each_other_until_the_file_is_rewound_or_full() {
        let directory = crate::scratch_directory();
        let mut file = BareFile::create(directory.path()).expect("a file");
        file.write(&[1; 600]).expect("a write");
        file.write(&[2; 8]).expect("a write");
        let mut beginning = [0; 608];
        file.file.read_exact_at(&mut beginning, 0).expect("the beginning");
        assert_eq!((beginning[..600].to_vec(), beginning[600..].to_vec()), (vec![1; 600], vec![2; 8]));
        file.rewind();
        file.write_durably(&[3; 4]).expect("a write");
        file.next = BARE_FILE_BYTES - 3;
        file.write(&[4; 2]).expect("a write");
        assert_eq!(file.next, BARE_FILE_BYTES - 1);
        file.file.read_exact_at(&mut beginning, 0).expect("the beginning");
        assert_eq!(beginning[..5], [3, 3, 3, 3, 1]);
        file.write(&[5; 2]).expect("a write");
        file.file.read_exact_at(&mut beginning, 0).expect("the beginning");
        assert_eq!(beginning[..4], [5, 5, 3, 3]);
    }
}
