//! Batches of messages between nodes from arbitrary bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steeple_engine::ids::NodeId;
use steeple_server::peer::Link;
use steeple_server::peer::messages::{decode_batch, encode_batch, encoded_bytes, to_wire};

const LINK: Link = Link { from: NodeId(1), to: NodeId(2) };

fuzz_target!(|bytes: &[u8]| {
    let Ok(messages) = decode_batch(bytes.to_vec().into(), LINK) else { return };
    let sent: Vec<_> = messages.iter().map(|message| to_wire(message.clone(), LINK).expect("it may travel")).collect();
    let batch = encode_batch(sent);
    assert!(batch.len() <= messages.iter().map(encoded_bytes).sum());
    assert_eq!(decode_batch(batch, LINK), Ok(messages));
});
