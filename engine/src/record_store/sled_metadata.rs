//! Guards the part of a sled directory where damage goes unnoticed: the logs that say where each leaf lies.
//!
//! sled takes the first bad frame of a metadata log for its torn end. When it was not, the leaves are looked for in
//! places that have been given to others since, which gives old leaves among new ones, or a search that never ends.
//! So each flush notes how long the logs are and what is in them, and opening checks that this much is still there.
//!
//! The logs are numbered and append only; a snapshot replaces all logs up to its own number and has a checksum that
//! sled does check. Opening replaces all logs by a snapshot and begins the next log. When there is no log behind the
//! snapshot, because a kill came between these two steps, sled writes the same snapshot again and then removes it as the
//! one that was replaced: of all leaves it keeps those that are written from then on. So it always gets a log.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::flushed::PAYLOAD_BYTES_MAX;

const LOG_PREFIX: &str = "log_";
const SNAPSHOT_PREFIX: &str = "snapshot_";
const SEAL_BYTES: usize = 8 + 8 + 4;
/// Logs wait to be replaced by a snapshot for moments only; of more than these the oldest go unguarded.
const SEALS_MAX: usize = (PAYLOAD_BYTES_MAX - 8) / SEAL_BYTES;

/// The beginning of one log, as a flush left it.
#[derive(Clone, Debug)]
struct Seal {
    log: u64,
    bytes: u64,
    crc: crc32fast::Hasher,
}

/// All metadata of a store, as the last flush left it.
#[derive(Debug)]
pub(super) struct SledMetadata {
    directory: PathBuf,
    seals: Vec<Seal>,
}

/// The numbers of the files, in order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    logs: Vec<u64>,
    snapshots: Vec<u64>,
}

impl SledMetadata {
    /// Starts guarding the metadata of the store whose files are in `data`.
    pub(super) fn new(data: &Path) -> Self {
        Self { directory: data.join("metadata"), seals: Vec::new() }
    }

    /// Takes in what the logs have grown by, and returns what [`SledMetadata::check`] needs to find it again. Nobody
    /// may be writing to the logs meanwhile.
    pub(super) fn seal(&mut self) -> io::Result<Vec<u8>> {
        let Listed { logs, snapshots } = self.list()?;
        self.seals.retain(|seal| logs.contains(&seal.log));
        for log in logs {
            if !self.seals.iter().any(|seal| seal.log == log) {
                self.seals.push(Seal { log, bytes: 0, crc: crc32fast::Hasher::new() });
            }
        }
        for seal in &mut self.seals {
            // It may have been replaced by a snapshot just now.
            if let Some(mut file) = open_existing(&self.directory, seal.log)? {
                file.seek(SeekFrom::Start(seal.bytes))?;
                let mut grown = Vec::new();
                file.read_to_end(&mut grown)?;
                seal.bytes += grown.len() as u64;
                seal.crc.update(&grown);
            }
        }
        self.seals.sort_by_key(|seal| seal.log);
        Ok(encode(snapshots.last().copied(), &self.seals))
    }

    /// Checks that what was sealed is still there. Before the store is opened, which rewrites the logs.
    pub(super) fn check(&self, sealed: &[u8]) -> io::Result<()> {
        let (snapshot_sealed, seals) = decode(sealed)?;
        let snapshot = self.list()?.snapshots.last().copied();
        if snapshot < snapshot_sealed {
            return Err(io::Error::other("the snapshot of the metadata is gone"));
        }
        // Logs up to the snapshot are contained in it.
        for (log, bytes, crc) in seals.into_iter().filter(|(log, ..)| snapshot.is_none_or(|snapshot| *log > snapshot)) {
            self.check_log(log, bytes, crc)?;
        }
        Ok(())
    }

    /// Gives the newest snapshot a log behind it if it has none, and removes older snapshots, which a kill has left and sled
    /// never removes. Before the store is opened, which otherwise loses a snapshot without a log.
    pub(super) fn complete(&self) -> io::Result<()> {
        let Listed { logs, snapshots } = self.list()?;
        let Some((newest, older)) = snapshots.split_last() else {
            let is_new = logs.is_empty();
            return if is_new { Ok(()) } else { Err(io::Error::other("the snapshot of the metadata is gone")) };
        };
        let behind: Vec<_> = logs.into_iter().filter(|log| log > newest).collect();
        let next = newest.checked_add(1).ok_or_else(|| io::Error::other("no metadata log has a number so high"))?;
        // Each log begins when the one before it is full, and a snapshot takes the place of the oldest ones.
        if (next..).zip(&behind).any(|(expected, found)| expected != *found) {
            return Err(io::Error::other(format!("metadata log {next} or one that follows on it is gone")));
        }
        for snapshot in older {
            fs::remove_file(self.directory.join(format!("{SNAPSHOT_PREFIX}{snapshot:016x}")))?;
        }
        if behind.is_empty() {
            File::create_new(self.directory.join(format!("{LOG_PREFIX}{next:016x}")))?.sync_all()?;
            File::open(&self.directory)?.sync_all()?;
        }
        Ok(())
    }

    fn check_log(&self, log: u64, bytes: u64, crc: u32) -> io::Result<()> {
        let damaged = || io::Error::other(format!("metadata log {log} has lost something that was flushed"));
        let file = open_existing(&self.directory, log)?.ok_or_else(damaged)?;
        let mut found = Vec::new();
        file.take(bytes).read_to_end(&mut found)?;
        if found.len() as u64 != bytes || crc32fast::hash(&found) != crc {
            return Err(damaged());
        }
        Ok(())
    }

    fn list(&self) -> io::Result<Listed> {
        let mut listed = Listed::default();
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listed),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            listed.logs.extend(number_after(LOG_PREFIX, &name));
            listed.snapshots.extend(number_after(SNAPSHOT_PREFIX, &name));
        }
        listed.logs.sort_unstable();
        listed.snapshots.sort_unstable();
        Ok(listed)
    }
}

/// The number in a file name; `None` for other files, also unfinished ones.
fn number_after(prefix: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix(prefix)?, 16).ok()
}

fn open_existing(directory: &Path, log: u64) -> io::Result<Option<File>> {
    match File::open(directory.join(format!("{LOG_PREFIX}{log:016x}"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

/// Snapshot number plus one (0 for none), then for each log its number, length and CRC32; all little endian.
fn encode(snapshot: Option<u64>, seals: &[Seal]) -> Vec<u8> {
    let mut payload = snapshot.map_or(0, |snapshot| snapshot + 1).to_le_bytes().to_vec();
    for seal in &seals[seals.len().saturating_sub(SEALS_MAX)..] {
        payload.extend(seal.log.to_le_bytes());
        payload.extend(seal.bytes.to_le_bytes());
        payload.extend(seal.crc.clone().finalize().to_le_bytes());
    }
    payload
}

/// The snapshot, and of each log the number, the length and the CRC32.
type Decoded = (Option<u64>, Vec<(u64, u64, u32)>);

fn decode(payload: &[u8]) -> io::Result<Decoded> {
    let malformed = || io::Error::other("the mark of the last flush is not one of sled's");
    let (snapshot, seals) = payload.split_first_chunk().ok_or_else(malformed)?;
    let (seals, rest) = seals.as_chunks::<SEAL_BYTES>();
    if !rest.is_empty() {
        return Err(malformed());
    }
    let number = |seal: &[u8; SEAL_BYTES], at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&seal[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let seals = seals
        .iter()
        .map(|seal| (number(seal, 0), number(seal, 8), u32::from_le_bytes([seal[16], seal[17], seal[18], seal[19]])))
        .collect();
    Ok((u64::from_le_bytes(*snapshot).checked_sub(1), seals))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> (tempfile::TempDir, SledMetadata) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("metadata")).unwrap();
        let metadata = SledMetadata::new(directory.path());
        (directory, metadata)
    }

    fn write(metadata: &SledMetadata, name: &str, content: &str) {
        fs::write(metadata.directory.join(name), content).unwrap();
    }

    #[test]
    fn what_was_appended_after_the_flush_does_not_matter() {
        let (_directory, mut metadata) = fixture();
        write(&metadata, "snapshot_0000000000000000", "s");
        write(&metadata, "log_0000000000000001", "abc");
        metadata.seal().unwrap();
        write(&metadata, "log_0000000000000001", "abcdef");
        let sealed = metadata.seal().unwrap();
        metadata.check(&sealed).unwrap();
        write(&metadata, "log_0000000000000001", "abcdef and more");
        metadata.check(&sealed).unwrap();
    }

    #[test]
    fn lost_and_changed_bytes_are_noticed() {
        let (_directory, mut metadata) = fixture();
        write(&metadata, "log_000000000000000a", "abcdef");
        write(&metadata, "snapshot_0000000000000009", "s");
        let sealed = metadata.seal().unwrap();
        for damaged in ["abcde", "abcdeg and more", ""] {
            write(&metadata, "log_000000000000000a", damaged);
            assert!(metadata.check(&sealed).is_err(), "{damaged:?}");
        }
        fs::remove_file(metadata.directory.join("log_000000000000000a")).unwrap();
        assert!(metadata.check(&sealed).is_err(), "the log is gone");
        write(&metadata, "snapshot_000000000000000a", "contains the log");
        metadata.check(&sealed).unwrap();
        fs::remove_dir_all(&metadata.directory).unwrap();
        assert!(metadata.check(&sealed).is_err(), "everything is gone");
    }

    #[test]
    fn a_snapshot_gets_a_log_behind_it() {
        let (_directory, metadata) = fixture();
        metadata.complete().unwrap();
        assert_eq!(metadata.list().unwrap(), Listed::default(), "a new store needs nothing");
        write(&metadata, "snapshot_000000000000000f", "s");
        write(&metadata, "log_000000000000000f", "contained in the snapshot");
        metadata.complete().unwrap();
        assert_eq!(fs::read(metadata.directory.join("log_0000000000000010")).unwrap(), b"");
        write(&metadata, "log_0000000000000010", "abc");
        write(&metadata, "snapshot_000000000000000b", "a kill has left it");
        metadata.complete().unwrap();
        assert_eq!(fs::read(metadata.directory.join("log_0000000000000010")).unwrap(), b"abc", "it has one");
        assert_eq!(metadata.list().unwrap(), Listed { logs: vec![15, 16], snapshots: vec![15] });
    }

    #[test]
    fn logs_without_a_snapshot_are_not_all_there_was() {
        let (_directory, metadata) = fixture();
        write(&metadata, "log_0000000000000002", "abc");
        assert!(metadata.complete().is_err());
        write(&metadata, "snapshot_ffffffffffffffff", "s");
        assert!(metadata.complete().is_err(), "there is no number for a log");
    }

    #[test]
    fn a_log_that_is_missing_in_between_is_noticed() {
        let (_directory, metadata) = fixture();
        write(&metadata, "snapshot_0000000000000003", "s");
        write(&metadata, "log_0000000000000005", "abc");
        assert!(metadata.complete().is_err(), "the first one behind the snapshot is gone");
        write(&metadata, "log_0000000000000004", "abc");
        metadata.complete().unwrap();
        write(&metadata, "log_0000000000000007", "abc");
        assert!(metadata.complete().is_err(), "one between two others is gone");
    }

    #[test]
    fn many_logs_fit() {
        let (_directory, mut metadata) = fixture();
        for log in 1..=60_u64 {
            write(&metadata, &format!("log_{log:016x}"), "x");
        }
        let sealed = metadata.seal().unwrap();
        assert!(sealed.len() <= PAYLOAD_BYTES_MAX);
        let (_, seals) = decode(&sealed).unwrap();
        assert_eq!(seals.last().unwrap().0, 60, "the newest are the ones that count");
    }
}
