//! Frames, persist records and segment headers from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steeple_engine::log::{PersistRecord, SegmentHeader, decode_frame};

fuzz_target!(|bytes: &[u8]| {
    for generation in [0, 1, u64::MAX] {
        if let Ok((header, payload)) = decode_frame(bytes, generation) {
            assert_eq!(bytes[payload].len(), header.payload_bytes as usize);
        }
        let _ = PersistRecord::decode(bytes, generation);
    }
    let _ = SegmentHeader::decode(bytes);
});
