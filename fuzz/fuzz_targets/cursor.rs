//! Cursor texts: arbitrary ones, and arbitrary content behind a right checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steeple_wire::cursor::Cursor;

fn check(text: &str) {
    if let Ok(cursor) = Cursor::decode(text) {
        assert_eq!(cursor.encode(), text, "one position has one text");
    }
}

fuzz_target!(|bytes: &[u8]| {
    check(&String::from_utf8_lossy(bytes));
    let checksum = crc32fast::hash(bytes).to_be_bytes();
    let content = bytes.iter().chain(&checksum);
    check(&content.fold(String::from("st1."), |text, byte| text + &format!("{byte:02x}")));
});
