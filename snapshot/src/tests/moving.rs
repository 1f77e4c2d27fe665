//! Moving a file in chunks, with interruptions, and publishing it.

use std::fs::{self, File};
use std::io::{Cursor, Write};

use super::node::{Node, options};
use super::round_trip::take_while_living;
use crate::transfer::TransferError;
use crate::{ChunkReceiver, EncodedChunk, FileChunks, Publication, SnapshotId, SnapshotOptions, verify};

const MAX_BYTES: u64 = 1 << 20;

fn file() -> Vec<u8> {
    let mut node = Node::lived(21, 60);
    take_while_living(&mut node, options()).unwrap()
}

fn all_chunks(file: &[u8]) -> Vec<EncodedChunk> {
    let mut chunks = FileChunks::open(Cursor::new(file)).unwrap();
    std::iter::from_fn(|| chunks.next_chunk().unwrap()).collect()
}

#[test]
fn chunks_in_order_are_the_file() {
    let file = file();
    let chunks = all_chunks(&file);
    assert_eq!(chunks.len() as u64, FileChunks::open(Cursor::new(&file)).unwrap().chunk_count());
    let mut receiver = ChunkReceiver::new(Vec::new(), MAX_BYTES);
    for chunk in &chunks {
        assert!(!receiver.is_complete());
        receiver.accept(chunk).unwrap();
    }
    assert!(receiver.is_complete());
    assert!(matches!(receiver.accept(&chunks[0]), Err(TransferError::Complete)));
    assert_eq!(receiver.into_inner(), file);
}

#[test]
fn chunks_are_served_from_any_number_on() {
    let file = file();
    let all = all_chunks(&file);
    let mut chunks = FileChunks::open(Cursor::new(&file)).unwrap();
    for number in (0..all.len()).rev().chain([3, 5, 0]) {
        chunks.go_to(number as u64).unwrap();
        assert_eq!(chunks.next_chunk().unwrap().as_ref(), Some(&all[number]));
    }
    chunks.go_to(u64::MAX).unwrap();
    assert_eq!(chunks.next_chunk().unwrap(), None);
}

#[test]
fn a_transfer_goes_on_where_it_was_interrupted_at_any_byte() {
    let file = file();
    let directory = tempfile::tempdir().unwrap();
    let mut source = FileChunks::open(Cursor::new(&file)).unwrap();
    let mut end = 0;
    let ends: Vec<usize> = all_chunks(&file)
        .iter()
        .map(|chunk| {
            end += chunk.bytes.len();
            end
        })
        .collect();
    for cut in (0..=file.len()).step_by(13).chain([file.len() - 1, file.len()]) {
        let target = directory.path().join("snapshot");
        let mut interrupted = Publication::create(&target).unwrap();
        interrupted.write_all(&file[..cut]).unwrap();
        interrupted.keep();

        let publication = Publication::resume(&target).unwrap();
        let mut receiver = ChunkReceiver::resume(publication.file().try_clone().unwrap(), MAX_BYTES).unwrap();
        let whole = ends.iter().copied().take_while(|end| *end <= cut).last().unwrap_or(0);
        assert_eq!(receiver.bytes(), whole as u64);
        assert_eq!(receiver.snapshot().is_some(), cut >= crate::format::HEADER_BYTES);
        source.go_to(receiver.next_number()).unwrap();
        while let Some(chunk) = source.next_chunk().unwrap() {
            receiver.accept(&chunk).unwrap();
        }
        assert!(receiver.is_complete());
        publication.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), file);
        fs::remove_file(&target).unwrap();
    }
    verify(&file[..], &mut |_| {}).unwrap();
}

#[test]
fn damage_in_what_had_arrived_is_fetched_again() {
    let file = file();
    let chunks = all_chunks(&file);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("partial");
    let damaged_at = chunks[..4].iter().map(|chunk| chunk.bytes.len()).sum::<usize>() + 30;
    let mut damaged = file.clone();
    damaged[damaged_at] ^= 1;
    fs::write(&path, damaged).unwrap();
    let open = File::options().read(true).write(true).open(&path).unwrap();
    let mut receiver = ChunkReceiver::resume(open, MAX_BYTES).unwrap();
    assert_eq!(receiver.next_number(), 4);
    chunks[4..].iter().for_each(|chunk| receiver.accept(chunk).unwrap());
    assert_eq!(fs::read(&path).unwrap(), file);
}

#[test]
fn chunks_that_do_not_belong_are_not_taken() {
    let mut node = Node::lived(22, 60);
    let ours = all_chunks(&take_while_living(&mut node, options()).unwrap());
    let other = SnapshotOptions { id: SnapshotId([3; 16]), ..options() };
    let others = all_chunks(&take_while_living(&mut node, other).unwrap());
    let mut receiver = ChunkReceiver::new(Vec::new(), MAX_BYTES);
    receiver.accept(&ours[0]).unwrap();
    assert!(matches!(receiver.accept(&ours[2]), Err(TransferError::Order { expected: 1, found: 2 })));
    assert!(matches!(receiver.accept(&others[1]), Err(TransferError::Damaged { number: 1, .. })));
    let relabelled = EncodedChunk { number: 1, bytes: ours[2].bytes.clone() };
    assert!(matches!(receiver.accept(&relabelled), Err(TransferError::Order { expected: 1, found: 2 })));
    let short = EncodedChunk { number: 1, bytes: ours[1].bytes.slice(..ours[1].bytes.len() - 1) };
    assert!(matches!(receiver.accept(&short), Err(TransferError::Size { number: 1 })));
    receiver.accept(&ours[1]).unwrap();

    let mut small = ChunkReceiver::new(Vec::new(), 100);
    small.accept(&ours[0]).unwrap();
    assert!(matches!(small.accept(&ours[1]), Err(TransferError::TooLarge { max_bytes: 100 })));
}

#[test]
fn a_file_appears_only_when_published() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("base.snapshot");
    let names = || fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let mut dropped = Publication::create(&target).unwrap();
    dropped.write_all(b"half").unwrap();
    assert_eq!(names(), [".base.snapshot.partial"]);
    drop(dropped);
    assert!(names().is_empty());
    for content in [&b"first"[..], b"second"] {
        let mut publication = Publication::create(&target).unwrap();
        publication.write_all(content).unwrap();
        publication.publish().unwrap();
        assert_eq!(names(), ["base.snapshot"]);
        assert_eq!(fs::read(&target).unwrap(), content);
    }
}
