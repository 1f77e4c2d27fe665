//! Files that wait for the next segment: made in advance, or left by a segment that does not count any more.

use std::fmt;
use std::sync::Arc;

use super::segment::spare_name;
use super::shared::Filled;
use super::{LogError, LogWriter};
use crate::disk::{Disk, DiskFile};

/// A file that is to be made for the next segment. One that a crash leaves half made has another size or is as good as a
/// whole one: what tells what a segment holds is its header.
pub struct SpareFile {
    disk: Arc<dyn Disk>,
    name: String,
    bytes: u64,
}

impl SpareFile {
    /// Makes it, which takes as long as it takes to write a segment.
    ///
    /// # Errors
    /// When it cannot be made, as on a full disk.
    pub fn make(self) -> Result<MadeSpare, LogError> {
        self.create()?;
        self.disk.sync_directory().map_err(LogError::io("sync the directory of", &self.name))?;
        Ok(MadeSpare { name: self.name })
    }

    /// As [`SpareFile::make`], for a segment that needs it now and makes its name durable with its own.
    fn create(&self) -> Result<Arc<dyn DiskFile>, LogError> {
        self.disk.create(&self.name, self.bytes).map_err(LogError::io("create", &self.name))
    }
}

impl fmt::Debug for SpareFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SpareFile")
            .field("name", &self.name)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// A file for the next segment, on the disk.
#[derive(Debug)]
pub struct MadeSpare {
    name: String,
}

impl LogWriter {
    /// Whether [`LogWriter::plan_spare`] would plan one: the newest segment is half full, and nothing waits to come after it.
    #[must_use]
    pub fn wants_spare(&self) -> bool {
        let is_needed = self.spares.is_empty() && self.options.spare_segments > 0 && self.poisoned.is_none();
        is_needed
            && self.planned_behind < self.state.newest_segment
            && self.shared.read().segments.last().is_some_and(Filled::is_half_full)
    }

    /// Plans a file for the next segment, once for each segment: whoever makes it ([`SpareFile::make`]) may do so beside
    /// everything else, and an append that needs a segment then does not have to wait until one is filled with zeros.
    pub fn plan_spare(&mut self) -> Option<SpareFile> {
        if !self.wants_spare() {
            return None;
        }
        self.planned_behind = self.state.newest_segment;
        Some(self.next_spare_file())
    }

    fn next_spare_file(&mut self) -> SpareFile {
        let name = spare_name(self.next_spare);
        self.next_spare += 1;
        SpareFile { disk: Arc::clone(&self.disk), name, bytes: self.options.file_bytes() }
    }

    /// Takes a file that was made for the next segment, or removes it when there are enough by now.
    ///
    /// # Errors
    /// When the log is poisoned, or the file cannot be removed. The log stays usable.
    pub fn add_spare(&mut self, made: MadeSpare) -> Result<(), LogError> {
        self.check_usable_except_blocked()?;
        if self.spares.len() >= self.options.spare_segments {
            return self.remove_file(&made.name);
        }
        self.spares.push(made.name);
        self.count_spares();
        Ok(())
    }

    pub(super) fn take_spare(&mut self) -> Result<(String, Arc<dyn DiskFile>), LogError> {
        while let Some(name) = self.spares.pop() {
            if let Ok(file) = self.disk.open(&name)
                && file.size().is_ok_and(|bytes| bytes == self.options.file_bytes())
            {
                return Ok((name, file));
            }
            self.remove_file(&name)?;
        }
        let planned = self.next_spare_file();
        let file = planned.create()?;
        Ok((planned.name, file))
    }

    pub(super) fn count_spares(&self) {
        self.shared.write().spare_bytes = self.spares.len() as u64 * self.options.file_bytes();
    }

    /// Makes files of segments that do not count any more spare, or removes them: those that have another size, those
    /// that there are enough of already, and those that a reader still has open and would see being overwritten.
    pub(super) fn discard(&mut self, segments: Vec<Filled>) -> Result<(), LogError> {
        for Filled { segment, .. } in segments {
            if segment.file.is_none() {
                self.remove_file(&segment.name)?;
                continue;
            }
            let reusable = segment.header.file_bytes == self.options.file_bytes()
                && self.spares.len() < self.options.spare_segments
                && Arc::strong_count(&segment) == 1;
            self.discard_file(&segment.name, reusable)?;
        }
        self.disk.sync_directory().map_err(LogError::io("sync", "the directory"))?;
        self.count_spares();
        Ok(())
    }

    pub(super) fn discard_file(&mut self, name: &str, reusable: bool) -> Result<(), LogError> {
        if !reusable {
            return self.remove_file(name);
        }
        let spare = spare_name(self.next_spare);
        self.next_spare += 1;
        self.disk.rename(name, &spare).map_err(LogError::io("recycle", name))?;
        self.spares.push(spare);
        Ok(())
    }
}
