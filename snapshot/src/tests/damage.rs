//! Nothing that happens to a file goes unnoticed, and no file makes a reader run wild.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steeple_engine::event::{Event, LowWaterMark};
use steeple_engine::ids::{LogIndex, LogPosition, NamespaceId, Revision, StreamId, StreamSequence, Term, Timestamp};
use steeple_engine::log::{Entry, EntryKind};
use steeple_engine::record_store::MemoryStore;
use steeple_engine::view::{FoldedPosition, MAX_MARK_SPAN};
use xxhash_rust::xxh3::xxh3_128;

use super::node::{Node, options};
use super::round_trip::take_while_living;
use crate::format::{
    CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, EntriesPayload, Footer, HEADER_BYTES, Header, PairsPayload,
    encode_chunk,
};
use crate::limits::MAX_CHUNK_PAYLOAD_BYTES;
use crate::state::StateError;
use crate::stream::SnapshotOptions;
use crate::{Manifest, ReadError, inspect, load_base, verify};

fn small_file() -> Vec<u8> {
    let mut node = Node::lived(3, 12);
    take_while_living(&mut node, SnapshotOptions { include_history: true, ..options() }).unwrap()
}

fn check(file: &[u8]) -> Result<(), ReadError> {
    verify(file, &mut |_| {}).map(drop)
}

/// Chunks of a file, as kind and payload.
fn chunks(file: &[u8]) -> Vec<(ChunkKind, Vec<u8>)> {
    let mut chunks = Vec::new();
    let mut offset = HEADER_BYTES;
    loop {
        let head = file[offset..][..CHUNK_HEADER_BYTES].try_into().unwrap();
        let header = ChunkHeader::parse(head).unwrap();
        let payload = &file[offset + CHUNK_HEADER_BYTES..][..header.payload_bytes as usize];
        chunks.push((header.kind, payload.to_vec()));
        offset += CHUNK_HEADER_BYTES + payload.len();
        if header.kind == ChunkKind::Manifest {
            return chunks;
        }
    }
}

fn header(file: &[u8]) -> Header {
    Header::decode(file[..HEADER_BYTES].try_into().unwrap()).unwrap()
}

/// A file whose checksums are all right, as someone who means ill would make it.
fn forge(header: Header, chunks: &[(ChunkKind, Vec<u8>)], change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let mut file = header.encode().to_vec();
    let (manifest, content) = chunks.split_last().unwrap();
    for (place, (kind, payload)) in content.iter().enumerate() {
        file.extend_from_slice(&encode_chunk(header.id, place as u64 + 1, *kind, payload));
    }
    let mut manifest = Manifest::from_json(&manifest.1).unwrap();
    manifest.bytes = file.len() as u64;
    manifest.chunks = content.len() as u64;
    manifest.checksum = xxh3_128(&file);
    change(&mut manifest);
    let footer = Footer { manifest_offset: file.len() as u64, manifest_number: chunks.len() as u64 };
    let json = manifest.to_json();
    file.extend_from_slice(&encode_chunk(header.id, chunks.len() as u64, ChunkKind::Manifest, json.as_bytes()));
    file.extend_from_slice(&footer.encode(header.id));
    file
}

#[test]
fn forging_without_a_change_gives_the_same_file() {
    let file = small_file();
    assert_eq!(forge(header(&file), &chunks(&file), |_| {}), file);
}

#[test]
fn every_flipped_bit_is_found() {
    let mut file = small_file();
    check(&file).unwrap();
    for place in 0..file.len() {
        for bit in 0..8 {
            file[place] ^= 1 << bit;
            assert!(check(&file).is_err(), "bit {bit} of byte {place}");
            file[place] ^= 1 << bit;
        }
    }
}

#[test]
fn every_truncation_and_every_longer_file_is_found() {
    let mut file = small_file();
    for length in 0..file.len() {
        assert!(check(&file[..length]).is_err(), "{length} bytes");
        assert!(inspect(std::io::Cursor::new(&file[..length])).is_err(), "{length} bytes");
    }
    file.push(0);
    assert!(matches!(check(&file), Err(ReadError::Trailing { .. })));
}

#[test]
fn missing_repeated_and_swapped_chunks_are_found() {
    let file = small_file();
    let (header, all) = (header(&file), chunks(&file));
    assert!(all.len() > 5);
    for place in 0..all.len() - 1 {
        let encoded: Vec<Bytes> = all
            .iter()
            .enumerate()
            .map(|(number, (kind, payload))| encode_chunk(header.id, number as u64 + 1, *kind, payload))
            .collect();
        let footer = &file[file.len() - crate::format::FOOTER_BYTES..];
        let build = |order: &[usize]| {
            let mut changed = header.encode().to_vec();
            order.iter().for_each(|chunk| changed.extend_from_slice(&encoded[*chunk]));
            changed.extend_from_slice(footer);
            changed
        };
        let order: Vec<usize> = (0..all.len()).collect();
        assert_eq!(build(&order), file);
        let (mut missing, mut repeated, mut swapped) = (order.clone(), order.clone(), order);
        missing.remove(place);
        repeated.insert(place, place);
        swapped.swap(place, place + 1);
        for order in [missing, repeated, swapped] {
            assert!(matches!(check(&build(&order)), Err(ReadError::Order { .. })), "{order:?}");
        }
    }
}

#[test]
fn a_chunk_of_another_snapshot_is_found() {
    let file = small_file();
    let other = Header { id: crate::SnapshotId([8; 16]), ..header(&file) };
    let mut changed = file.clone();
    changed[..HEADER_BYTES].copy_from_slice(&other.encode());
    assert!(matches!(check(&changed), Err(ReadError::Chunk { number: 1, .. })));
}

#[test]
fn a_well_formed_file_with_another_state_is_found() {
    let file = small_file();
    let mut all = chunks(&file);
    // Position and count of the chunk, lengths and key of its first pair, which is a record, the revision before its body.
    all[0].1[40 + 4 + 6 + 19 + 8] ^= 1;
    let forged = forge(header(&file), &all, |_| {});
    assert!(matches!(check(&forged), Err(ReadError::State(StateError::Digest { .. }))));
}

#[test]
fn a_manifest_that_says_something_else_is_found() {
    let file = small_file();
    let changes: [fn(&mut Manifest); 12] = [
        |manifest| manifest.state.revision.0 += 1,
        |manifest| manifest.state.digest = steeple_engine::view::Digest::default(),
        |manifest| manifest.start.0 += 1,
        |manifest| manifest.pairs += 1,
        |manifest| manifest.entries += 1,
        |manifest| manifest.events -= 1,
        |manifest| manifest.first_event = None,
        |manifest| manifest.tables.clear(),
        |manifest| manifest.checksum ^= 1,
        |manifest| manifest.includes_history = false,
        |manifest| manifest.origin.group.0 += 1,
        |manifest| manifest.log_base.position.index.0 += 1000,
    ];
    for change in changes {
        let forged = forge(header(&file), &chunks(&file), change);
        assert!(matches!(check(&forged), Err(ReadError::Manifest(_))));
    }
}

#[test]
fn missing_events_are_found_in_a_well_formed_file() {
    let mut node = Node::lived(4, 60);
    let file = take_while_living(&mut node, options()).unwrap();
    let mut all = chunks(&file);
    let place = all.iter().rposition(|(kind, _)| *kind == ChunkKind::Entries).unwrap();
    all.remove(place);
    let forged = forge(header(&file), &all, |_| {});
    assert!(matches!(check(&forged), Err(ReadError::State(StateError::Missing { .. }))));
}

#[test]
fn lengths_and_counts_are_not_believed() {
    let file = small_file();
    let header = header(&file);
    let mut announced = header.encode().to_vec();
    let mut head = [0; CHUNK_HEADER_BYTES];
    head[16] = 1;
    head[4..8].copy_from_slice(&(MAX_CHUNK_PAYLOAD_BYTES as u32).to_le_bytes());
    announced.extend_from_slice(&head);
    assert!(matches!(check(&announced), Err(ReadError::Truncated { .. })));
    head[4..8].copy_from_slice(&(MAX_CHUNK_PAYLOAD_BYTES as u32 + 1).to_le_bytes());
    announced.truncate(HEADER_BYTES);
    announced.extend_from_slice(&head);
    assert!(matches!(check(&announced), Err(ReadError::Chunk { .. })));

    let mut counted = PairsPayload::new().finish(&FoldedPosition::default());
    counted[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut all = chunks(&file);
    all[0] = (ChunkKind::Pairs, counted);
    let forged = forge(header, &all, |_| {});
    assert!(matches!(check(&forged), Err(ReadError::Content { error: StateError::Malformed, .. })));
}

/// Payloads changed at random behind right checksums: refused or read, but never the end of the process.
#[test]
fn forged_payloads_do_no_harm() {
    let file = small_file();
    let (header, all) = (header(&file), chunks(&file));
    let mut random = StdRng::seed_from_u64(1);
    let mut refused = 0;
    for _ in 0..3_000 {
        let mut changed = all.clone();
        for _ in 0..random.random_range(1..4) {
            let content = changed.len() - 1;
            let payload = &mut changed[random.random_range(0..content)].1;
            let place = random.random_range(0..payload.len());
            match random.random_range(0..4) {
                0 => payload.truncate(place.max(1)),
                1 => payload[place] = 0xff,
                2 => payload[place..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                _ => payload[place] ^= 1 << random.random_range(0..8),
            }
        }
        let forged = forge(header, &changed, |_| {});
        refused += u32::from(check(&forged).is_err());
        let loaded = load_base(&forged[..], &MemoryStore::new()).is_err();
        assert_eq!(loaded, check(&forged).is_err());
    }
    assert!(refused > 1_000, "{refused}");
}

#[test]
fn positions_at_the_end_of_the_numbers_are_refused() {
    let file = small_file();
    let end = FoldedPosition { revision: Revision(u64::MAX), index: LogIndex(u64::MAX), ..FoldedPosition::default() };
    let pairs = PairsPayload::new().finish(&end);
    let forged = forge(header(&file), &[(ChunkKind::Pairs, pairs), chunks(&file).pop().unwrap()], |_| {});
    assert!(matches!(check(&forged), Err(ReadError::Content { error: StateError::Malformed, .. })));
}

#[test]
fn an_event_that_gives_up_rows_without_end_is_refused() {
    let file = small_file();
    // Each by itself is within the limit.
    let mark = LowWaterMark { stream: StreamId(9), from: StreamSequence(0), to: StreamSequence(MAX_MARK_SPAN) };
    let event = Event {
        revision: Revision(1),
        time: Timestamp(1),
        namespace: NamespaceId(1),
        request: None,
        changes: Vec::new(),
        items: Vec::new(),
        marks: vec![mark; 2],
        answer: Vec::new(),
    };
    let position = LogPosition { term: Term(1), index: LogIndex(1) };
    let mut entries = EntriesPayload::new();
    entries.push(&Entry { position, kind: EntryKind::Event, tag: 1, payload: event.encode() });
    let end = FoldedPosition { revision: Revision(1), index: LogIndex(1), ..FoldedPosition::default() };
    let forged = forge(
        header(&file),
        &[
            (ChunkKind::Pairs, PairsPayload::new().finish(&FoldedPosition::default())),
            (ChunkKind::Pairs, PairsPayload::new().finish(&end)),
            (ChunkKind::Entries, entries.finish()),
            chunks(&file).pop().unwrap(),
        ],
        |_| {},
    );
    assert!(matches!(check(&forged), Err(ReadError::Content { error: StateError::Inconsistent { .. }, .. })));
}
