//! Stored bodies of every table, from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steeple_engine::domain::CATALOG;
use steeple_engine::ids::IndexId;
use steeple_engine::namespaces::records::Namespace;
use steeple_engine::spire::bundles::records::Bundle;
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::federation::records::StoredRelationship;
use steeple_engine::spire::journals::records::Journal;
use steeple_engine::spire::nodes::records::{Node, NodeSelectors};
use steeple_engine::spire::tokens::records::JoinToken;
use steeple_engine::table::KeySink;

/// Takes index keys and forgets them.
struct Discard;

impl KeySink for Discard {
    fn key(&mut self, _: IndexId, _: &[u8]) {}

    fn number(&mut self, _: IndexId, _: i64) {}
}

macro_rules! check {
    ($body:expr, $($type:ty),+) => {
        $(if <$type>::view($body).is_ok() {
            let record = <$type>::decode($body).expect("what validates can be decoded");
            let again = <$type>::decode(&record.encode()).expect("what was encoded can be decoded");
            assert!(record == again);
        })+
    };
}

fuzz_target!(|bytes: &[u8]| {
    // With the version that is known in front, or nearly everything ends at the first byte.
    let known = [&[Entry::RECORD_VERSION], bytes].concat();
    for body in [bytes, &known] {
        check!(body, Namespace, Bundle, Entry, StoredRelationship, Journal, Node, NodeSelectors, JoinToken);
        for table in CATALOG.tables {
            // Refusing is fine, panicking is not.
            drop((table.keys)(body, &mut Discard));
        }
    }
});
