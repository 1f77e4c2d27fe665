//! The log on a real directory.

use std::sync::Arc;

use super::support::{IDENTITY, all, entries};
use crate::disk::{Disk, RealDisk};
use crate::ids::LogIndex;
use crate::log::{Log, LogOptions};

#[test]
fn the_log_works_on_a_real_directory_and_keeps_others_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("group-1");
    let options = LogOptions { segment_bytes: 256 << 10, segment_entries: 512, ..LogOptions::default() };
    let expected = entries(1..=2000, 1);
    {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&path).unwrap());
        let taken = RealDisk::open(&path).unwrap_err();
        assert_eq!(taken.kind(), std::io::ErrorKind::WouldBlock);
        let (mut writer, reader, _) = Log::open(disk, options, IDENTITY).unwrap();
        for batch in expected.chunks(100) {
            writer.append(batch).unwrap();
            writer.sync().unwrap();
        }
        assert!(reader.segments().len() >= 3);
        writer.purge_prefix(LogIndex(600)).unwrap();
        writer.close().unwrap();
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&path).unwrap());
    let (_writer, reader, recovery) = Log::open(disk, options, IDENTITY).unwrap();
    assert!(recovery.clean);
    assert_eq!(all(&reader), expected[usize::try_from(recovery.base.index.0).unwrap()..]);
}
