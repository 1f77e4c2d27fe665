//! Stored answers from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steeple_engine::domain::AnswerSource;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(source) = AnswerSource::decode(bytes) {
        assert_eq!(AnswerSource::decode(&source.encode()).as_ref(), Ok(&source));
        // It may point at changes that are not there.
        drop(source.resolve(&[]));
    }
});
