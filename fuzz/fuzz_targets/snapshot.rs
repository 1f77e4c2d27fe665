//! A snapshot with arbitrary changes, first as it is and then with checksums that fit.
//!
//! The input is a list of changes of 6 bytes: which chunk, where in its payload (3 bytes), whether the payload ends
//! there, and the new value.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use steeple_engine::record_store::MemoryStore;
use steeple_snapshot::format::{
    CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Footer, HEADER_BYTES, Header, encode_chunk,
};
use steeple_snapshot::{FileChunks, Manifest, inspect, load_base, verify};
use xxhash_rust::xxh3::xxh3_128;

const GOLDEN: &[u8] = include_bytes!("../../snapshot/testdata/golden/snapshot-v1.bin");

fn chunks() -> Vec<(ChunkKind, Vec<u8>)> {
    let mut source = FileChunks::open(Cursor::new(GOLDEN)).expect("the golden file is whole");
    let mut chunks = Vec::new();
    source.go_to(1).expect("the golden file is whole");
    while chunks.len() as u64 + 2 < source.chunk_count() {
        let chunk = source.next_chunk().expect("the golden file is whole").expect("there are more chunks");
        let (head, payload) = chunk.bytes.split_first_chunk::<CHUNK_HEADER_BYTES>().expect("a chunk has a header");
        chunks.push((ChunkHeader::parse(head).expect("the golden file is whole").kind, payload.to_vec()));
    }
    chunks
}

/// The chunks as a file, with a manifest that says the right things about size and checksum if it can be read.
fn sealed(header: &Header, chunks: &[(ChunkKind, Vec<u8>)]) -> Vec<u8> {
    let mut file = header.encode().to_vec();
    let mut footer = Footer { manifest_offset: 0, manifest_number: 0 };
    for (number, (kind, payload)) in (1..).zip(chunks) {
        let mut payload = payload.clone();
        if *kind == ChunkKind::Manifest {
            footer = Footer { manifest_offset: file.len() as u64, manifest_number: number };
            if let Ok(mut manifest) = Manifest::from_json(&payload) {
                (manifest.bytes, manifest.checksum) = (file.len() as u64, xxh3_128(&file));
                payload = manifest.to_json().into_bytes();
            }
        }
        file.extend_from_slice(&encode_chunk(header.id, number, *kind, &payload));
    }
    file.extend_from_slice(&footer.encode(header.id));
    file
}

fn read(file: &[u8]) {
    let verified = verify(file, &mut |_| {}).map(|report| report.manifest);
    let loaded = load_base(file, &MemoryStore::new());
    assert_eq!(verified.as_ref().ok(), loaded.as_ref().ok());
    let inspected = inspect(Cursor::new(file));
    if let Ok(manifest) = verified {
        assert_eq!(inspected.expect("what verifies can be inspected"), manifest);
    }
    if let Ok(mut chunks) = FileChunks::open(Cursor::new(file)) {
        while let Ok(Some(_)) = chunks.next_chunk() {}
    }
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    let first = GOLDEN.first_chunk::<HEADER_BYTES>().expect("the golden file has a header");
    let header = Header::decode(first).expect("the golden file is whole");
    let mut chunks = chunks();
    for change in bytes.chunks_exact(6) {
        let place = usize::from(change[0]) % chunks.len();
        let payload = &mut chunks[place].1;
        let offset = u32::from_le_bytes([change[1], change[2], change[3], 0]) as usize;
        match payload.len() {
            0 => {}
            length if change[4] == 1 => payload.truncate(offset % length),
            length => payload[offset % length] = change[5],
        }
    }
    read(&sealed(&header, &chunks));
});
