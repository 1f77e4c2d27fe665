//! Stored events from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steeple_engine::event::Event;

fuzz_target!(|bytes: &[u8]| {
    if Event::view(bytes).is_ok() {
        let event = Event::decode(bytes).expect("what validates can be decoded");
        assert_eq!(Event::decode(&event.encode()).as_ref(), Ok(&event));
    }
});
