//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file being written under a temporary name beside its final one.
///
/// A crash leaves the temporary file, which [`Publication::create`] overwrites and [`Publication::resume`] takes up;
/// under the final name there is the old content or the new one, whole. Dropping removes the temporary file.
#[derive(Debug)]
pub struct Publication {
    file: File,
    partial: PathBuf,
    target: PathBuf,
    keep_partial: bool,
}

impl Publication {
    /// Begins with an empty file.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(target: &Path) -> io::Result<Self> {
        Self::open(target, true)
    }

    /// Goes on with what an earlier attempt has left, or begins with an empty file. The position is its start.
    ///
    /// # Errors
    /// When it cannot be opened or created.
    pub fn resume(target: &Path) -> io::Result<Self> {
        Self::open(target, false)
    }

    fn open(target: &Path, truncate: bool) -> io::Result<Self> {
        let partial = partial_path(target)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(truncate).open(&partial)?;
        Ok(Self { file, partial, target: target.to_owned(), keep_partial: false })
    }

    /// The file under its temporary name.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes the content durable and gives it its final name, replacing what was there.
    ///
    /// # Errors
    /// When a sync or the renaming fails. The temporary file is removed: after a failed sync nothing is known about
    /// what it holds.
    pub fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.target)?;
        // Nothing is left under the temporary name.
        self.keep_partial = true;
        sync_directory(parent(&self.target))
    }

    /// Leaves the temporary file in place, for [`Publication::resume`].
    pub fn keep(mut self) {
        self.keep_partial = true;
    }
}

impl Write for Publication {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        if !self.keep_partial {
            // It is overwritten by the next attempt if it cannot be removed now.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// The temporary name of a file.
///
/// # Errors
/// When the path does not end in a name.
pub fn partial_path(target: &Path) -> io::Result<PathBuf> {
    let name = target
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name"))?;
    let mut partial = OsString::from(".");
    partial.push(name);
    partial.push(".partial");
    Ok(target.with_file_name(partial))
}

/// Makes created, renamed and removed names of a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
