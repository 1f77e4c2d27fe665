//! The physical limit of a write that is acknowledged: the same bytes over blocks that were written before, and a sync of the
//! data.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Length of the file, which is overwritten from the beginning once its end is reached.
const FILE_BYTES: u64 = 64 << 20;

/// A file that was written once.
pub(crate) struct Bare {
    file: File,
    bytes: Vec<u8>,
    next: u64,
}

impl Bare {
    /// For writes of so many bytes.
    pub(crate) fn new(directory: &Path, bytes: usize) -> std::io::Result<Self> {
        let mut file = File::create(directory.join("bare"))?;
        let block = vec![0; 1 << 20];
        for _ in 0..FILE_BYTES / block.len() as u64 {
            file.write_all(&block)?;
        }
        file.sync_all()?;
        Ok(Self { file, bytes: vec![b'e'; bytes], next: 0 })
    }

    /// One write after the other for so long; how long each took.
    pub(crate) fn write_for(&mut self, length: Duration) -> std::io::Result<Vec<Duration>> {
        let (end, mut times) = (Instant::now() + length, Vec::new());
        loop {
            let started = Instant::now();
            if started >= end {
                return Ok(times);
            }
            if self.next + self.bytes.len() as u64 > FILE_BYTES {
                self.next = 0;
            }
            self.file.write_all_at(&self.bytes, self.next)?;
            self.file.sync_data()?;
            self.next += self.bytes.len() as u64;
            times.push(started.elapsed());
        }
    }
}
