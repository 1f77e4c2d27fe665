//! The physical limit of a write that is acknowledged: the same bytes over blocks that were written before, and a sync of the
//! data.

use std::path::Path;
use std::time::{Duration, Instant};

use steeple_benches::bare_file::BareFile;

/// Writes of one length.
pub(crate) struct Bare {
    file: BareFile,
    bytes: Vec<u8>,
}

impl Bare {
    /// For writes of so many bytes.
    pub(crate) fn new(directory: &Path, bytes: usize) -> std::io::Result<Self> {
        Ok(Self { file: BareFile::create(directory)?, bytes: vec![b'e'; bytes] })
    }

    /// One write after the other for so long; how long each took.
    pub(crate) fn write_for(&mut self, length: Duration) -> std::io::Result<Vec<Duration>> {
        let (end, mut times) = (Instant::now() + length, Vec::new());
        loop {
            let started = Instant::now();
            if started >= end {
                return Ok(times);
            }
            self.file.write_durably(&self.bytes)?;
            times.push(started.elapsed());
        }
    }
}
