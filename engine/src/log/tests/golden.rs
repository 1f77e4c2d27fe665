//! The disk format must not change by accident: files that were written once are read, and written again to the byte.

use std::path::PathBuf;

use super::support::{all, entries, open, small_options};
use crate::disk::{Disk, SimulatedDisk};
use crate::ids::{LogIndex, NodeId, Term};
use crate::log::{Entry, HardState, LogOptions};

/// Set it to write the files anew, after a deliberate change of the format.
const UPDATE: &str = "UPDATE_GOLDEN";

fn golden_directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/golden/log-1")
}

/// A closed log with a rewritten segment, a full one and one that is being filled.
fn golden_log() -> (SimulatedDisk, Vec<Entry>) {
    let disk = SimulatedDisk::new();
    let options = LogOptions { spare_segments: 0, ..small_options() };
    let (mut writer, reader, _) = super::support::open_with(&disk, options).unwrap();
    writer.append(&entries(1..=9, 1)).unwrap();
    writer.append(&entries(10..=20, 2)).unwrap();
    writer.set_hard_state(HardState { term: Term(2), vote: Some(NodeId(5)), commit: LogIndex(18) }).unwrap();
    writer.sync().unwrap();
    writer.rewrite_sparse(&mut |index, _| index.0 == 4, LogIndex(8), 0.9).unwrap();
    writer.append(&entries(21..=22, 2)).unwrap();
    writer.sync().unwrap();
    let expected = all(&reader);
    writer.close().unwrap();
    (disk, expected)
}

#[test]
fn the_files_of_format_1_are_read_and_written_to_the_byte() {
    let directory = golden_directory();
    let (disk, expected) = golden_log();
    let mut names = disk.list().unwrap();
    names.sort();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        for name in &names {
            std::fs::write(directory.join(name), disk.contents(name).unwrap()).unwrap();
        }
    }
    let mut stored: Vec<String> =
        std::fs::read_dir(&directory).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    stored.sort();
    assert_eq!(names, stored);
    let loaded = SimulatedDisk::new();
    for name in &stored {
        let bytes = std::fs::read(directory.join(name)).unwrap();
        assert!(disk.contents(name).unwrap() == bytes, "{name} is written differently");
        loaded.place(name, &bytes);
    }
    let (_, reader, recovery) = open(&loaded).unwrap();
    assert_eq!(all(&reader), expected);
    assert_eq!(recovery.hard_state.vote, Some(NodeId(5)));
}

#[test]
fn a_state_without_a_table_of_terms_is_read() {
    let (disk, expected) = golden_log();
    let stored = golden_directory().with_file_name("log-1-without-terms").join("state");
    disk.place("state", &std::fs::read(stored).unwrap());
    // Nor had it a twin.
    disk.lose("state-twin");
    let (mut writer, reader, _) = open(&disk).unwrap();
    assert_eq!(all(&reader), expected);
    writer.append(&entries(23..=24, 3)).unwrap();
    writer.close().unwrap();
    assert!(open(&disk).unwrap().2.clean);
}
