//! A directory of the operating system.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fresh::{Fresh, Pieces};
use super::{Disk, DiskFile};

/// Name of the file whose advisory lock keeps a second process out of the directory.
const LOCK_FILE: &str = "lock";

/// Zeros are written in pieces of this size when a file is created.
const ZERO_FILL_BYTES: usize = 1 << 20;

/// So many of them are synced at once: whoever syncs another file meanwhile does not wait for more.
const ZERO_SYNC_BYTES: u64 = 4 << 20;

/// What is written past the page cache lies at multiples of this, in memory and in the file. A disk that wants more refuses it.
const DIRECT_ALIGNMENT: usize = 4096;

/// Asks the kernel to write past the page cache.
#[cfg(target_os = "linux")]
const DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits().cast_signed();

/// Other systems have no such flag, or another way.
#[cfg(not(target_os = "linux"))]
const DIRECT: i32 = 0;

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
        Ok(Arc::new(RealFile { file, fresh: Fresh::none() }))
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        if let Err(error) = fill_with_zeros(&path, &file, bytes) {
            // A file that is only half there must not be found later; the first error is the one to report.
            drop(std::fs::remove_file(&path));
            return Err(error);
        }
        Ok(Arc::new(RealFile { file, fresh: Fresh::all(bytes) }))
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
fn fill_with_zeros(path: &Path, file: &File, bytes: u64) -> io::Result<()> {
    fs4::FileExt::allocate(file, bytes)?;
    let length = usize::try_from(bytes).unwrap_or(ZERO_FILL_BYTES).clamp(1, ZERO_FILL_BYTES);
    let zeros = vec![0_u8; length + DIRECT_ALIGNMENT];
    let aligned = zeros.as_ptr().align_offset(DIRECT_ALIGNMENT);
    let zeros = zeros.get(aligned..aligned.saturating_add(length)).unwrap_or(&zeros);
    // A small file's pages are few, and likely to be written again soon.
    let written = if length < ZERO_FILL_BYTES { 0 } else { fill_past_the_page_cache(path, zeros, bytes) };
    write_zeros(file, zeros, written, bytes)?;
    file.sync_all()
}

/// Writes zeros without a page of memory for each of the file's, which would cost more than writing them: nobody reads them.
/// Returns up to where, which is nowhere when it failed: most likely the file system cannot do it. If it is the disk that fails,
/// it will do so again.
fn fill_past_the_page_cache(path: &Path, zeros: &[u8], bytes: u64) -> u64 {
    let to = bytes - bytes % DIRECT_ALIGNMENT as u64;
    let direct = OpenOptions::new().write(true).custom_flags(DIRECT).open(path);
    direct.and_then(|direct| write_zeros(&direct, zeros, 0, to)).map_or(0, |()| to)
}

/// Writes zeros from one offset to another, and syncs them now and then.
fn write_zeros(file: &File, zeros: &[u8], from: u64, to: u64) -> io::Result<()> {
    let mut offset = from;
    while offset < to {
        let length = zeros.len().min(usize::try_from(to - offset).unwrap_or(usize::MAX));
        file.write_all_at(&zeros[..length], offset)?;
        offset += length as u64;
        if offset.is_multiple_of(ZERO_SYNC_BYTES) {
            file.sync_data()?;
        }
    }
    Ok(())
}

struct RealFile {
    file: File,
    fresh: Fresh,
}

/// Writes pieces one behind the other, from `offset` on, by something that may write less than it was asked to.
fn write_all_pieces(
    pieces: Pieces<'_>,
    mut offset: u64,
    mut write: impl FnMut(&[IoSlice<'_>], u64) -> rustix::io::Result<usize>,
) -> io::Result<()> {
    let mut pieces = pieces.map(IoSlice::new);
    let mut rest = &mut pieces[..];
    // What is empty at the front is left out.
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match write(rest, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fresh.write(bytes, offset, |pieces, offset| {
            write_all_pieces(pieces, offset, |pieces, offset| rustix::io::pwritev(&self.file, pieces, offset))
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard_content(&self) -> io::Result<()> {
        self.fresh.discard(self.size()?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write { offset: usize, bytes: Vec<u8> },
        Reopen,
        Discard,
    }

    fn steps(size: usize) -> impl Strategy<Value = Vec<Step>> {
        let write = (0..size, 1..9000_usize, any::<u8>()).prop_map(move |(offset, length, byte)| Step::Write {
            offset,
            bytes: vec![byte; length.min(size - offset)],
        });
        proptest::collection::vec(prop_oneof![8 => write, 1 => Just(Step::Reopen), 1 => Just(Step::Discard)], 1..30)
    }

    /// Sizes of whole pages, of less than one, and more than is written at a time.
    const SIZES: [usize; 5] = [1, 4095, 40_960, 50_000, (1 << 20) + 5000];

    #[test]
    fn zeros_are_written_past_the_page_cache_and_through_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes = ZERO_SYNC_BYTES as usize + ZERO_FILL_BYTES / 2 + 10;
        std::fs::write(&path, vec![0xff; bytes]).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let zeros = vec![0; ZERO_FILL_BYTES + DIRECT_ALIGNMENT];
        let aligned = &zeros[zeros.as_ptr().align_offset(DIRECT_ALIGNMENT)..][..ZERO_FILL_BYTES];
        let past = fill_past_the_page_cache(&path, aligned, bytes as u64) as usize;
        // Not everywhere can it be done; where it can, nothing but the rest of a page is left.
        assert!(past == 0 || past == bytes - bytes % DIRECT_ALIGNMENT, "{past}");
        let found = std::fs::read(&path).unwrap();
        assert!(found[..past].iter().all(|byte| *byte == 0) && found[past..].iter().all(|byte| *byte == 0xff));
        std::fs::write(&path, vec![0xff; bytes]).unwrap();
        write_zeros(&file, &vec![0; ZERO_FILL_BYTES], 5, bytes as u64 - 5).unwrap();
        let found = std::fs::read(&path).unwrap();
        assert!(found[5..bytes - 5].iter().all(|byte| *byte == 0));
        assert_eq!((&found[..5], &found[bytes - 5..]), (&[0xff; 5][..], &[0xff; 5][..]));
    }

    #[test]
    fn what_the_kernel_left_is_written_again() {
        let pieces: Pieces<'_> = [&[0; 3], b"some bytes", &[0; 5]];
        for at_a_time in 1..20 {
            let (mut written, mut calls) = (Vec::new(), 0);
            let write = |pieces: &[IoSlice<'_>], offset: u64| {
                calls += 1;
                if calls % 3 == 2 {
                    return Err(rustix::io::Errno::INTR);
                }
                assert_eq!(offset, 100 + written.len() as u64);
                let bytes = pieces.iter().flat_map(|piece| piece.iter().copied());
                let before = written.len();
                written.extend(bytes.take(at_a_time));
                Ok(written.len() - before)
            };
            write_all_pieces(pieces, 100, write).unwrap();
            assert_eq!(written, pieces.concat());
        }
        write_all_pieces([&[], &[], &[]], 100, |_, _| panic!("there is nothing to be written")).unwrap();
        let nothing = write_all_pieces(pieces, 100, |_, _| Ok(0)).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WriteZero);
        let full = write_all_pieces(pieces, 100, |_, _| Err(rustix::io::Errno::NOSPC)).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn what_is_written_is_there_and_nothing_else(
            (size, steps) in proptest::sample::select(&SIZES[..]).prop_flat_map(|size| (Just(size), steps(size)))
        ) {
            let directory = tempfile::tempdir().unwrap();
            let disk = RealDisk::open(directory.path()).unwrap();
            let mut file = disk.create("file", size as u64).unwrap();
            // `None` once nobody knows.
            let mut expected = vec![Some(0); size];
            for step in steps {
                match step {
                    Step::Write { offset, bytes } => {
                        file.write_at(&bytes, offset as u64).unwrap();
                        expected[offset..offset + bytes.len()].fill(Some(bytes[0]));
                    }
                    Step::Reopen => file = disk.open("file").unwrap(),
                    Step::Discard => {
                        file.discard_content().unwrap();
                        expected.fill(None);
                    }
                }
                let mut found = vec![0; size];
                file.read_at(&mut found, 0).unwrap();
                prop_assert_eq!(file.size().unwrap(), size as u64);
                prop_assert!(expected.iter().zip(&found).all(|(expected, found)| expected.is_none_or(|it| it == *found)));
            }
        }
    }
}
