//! Readers beside the writer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::support::{entries, open};
use crate::disk::SimulatedDisk;
use crate::ids::{LogIndex, LogPosition, Term};
use crate::log::{Entry, LogReader, LogWriter};

/// Whether the entry is one that was appended at its place at some time.
fn check(entry: &Entry) {
    let (index, term) = (entry.position.index.0, entry.position.term.0);
    assert_eq!(entry, &entries(index..=index, term)[0]);
}

fn read_everything(reader: &LogReader) -> u64 {
    let mut read = 0;
    for index in reader.first().0..=reader.last().index.0 {
        if let Some(entry) = reader.read(LogIndex(index)).unwrap() {
            check(&entry);
            read += 1;
        }
    }
    let mut before = LogIndex::ZERO;
    reader
        .scan(LogIndex::ZERO, &mut |entry| {
            check(&entry);
            assert!(entry.position.index > before);
            before = entry.position.index;
            read += 1;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    if let Some(entry) = reader.read_tag(reader.last_tag()).unwrap() {
        check(&entry);
    }
    let mut events = reader.events();
    for tag in reader.base_tag()..=reader.last_tag() {
        if let Some(entry) = events.read_tag(tag).unwrap() {
            check(&entry);
            assert_eq!(entry.tag, tag);
            read += 1;
        }
    }
    read
}

fn write_everything(writer: &mut LogWriter, term: u64) {
    let reader = writer.reader();
    let next = reader.last().index.0 + 1;
    writer.append(&entries(next..=next + 20, term)).unwrap();
    writer.sync().unwrap();
    writer.truncate_suffix(LogIndex(next + 12)).unwrap();
    writer.append(&entries(next + 12..=next + 30, term + 1)).unwrap();
    writer.sync().unwrap();
    writer.purge_prefix(LogIndex(next.saturating_sub(60))).unwrap();
    let settled = LogIndex(next.saturating_sub(20));
    writer.rewrite_sparse(&mut |index, _| index.0.is_multiple_of(4), settled, 0.9).unwrap();
    if term % 20 == 1 {
        let index = next + 40;
        writer.reset_to(LogPosition { term: Term(term), index: LogIndex(index) }, index - index / 5).unwrap();
    }
}

#[test]
fn readers_see_only_entries_whatever_the_writer_does() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    let (done, read) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let reader = reader.clone();
            let (done, read) = (&done, &read);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    read.fetch_add(read_everything(&reader), Ordering::Relaxed);
                }
            });
        }
        // A panic here must still let the readers go.
        let written = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (1..200).step_by(2).for_each(|term| write_everything(&mut writer, term));
        }));
        done.store(true, Ordering::Release);
        written.unwrap();
    });
    assert!(read.load(Ordering::Relaxed) > 0);
}
