//! Generates the protocol's types and services from `proto/`, without protoc.

use std::path::Path;
use std::{env, error, fs};

const FILES: [&str; 6] = [
    "steeple/common/v1/context.proto",
    "steeple/spire/v1/types.proto",
    "steeple/spire/v1/datastore.proto",
    "steeple/events/v1/events.proto",
    "steeple/admin/v1/admin.proto",
    "steeple/peer/v1/peer.proto",
];

/// Messages that hold a secret directly; `src/secrets.rs` prints them without it.
const SECRETS: [&str; 3] = [
    ".steeple.spire.v1.JoinToken",
    ".steeple.spire.v1.DeleteJoinTokenRequest",
    ".steeple.spire.v1.FetchJoinTokenRequest",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    // Entries and chunks stay in the buffers that they arrived in.
    tonic_prost_build::configure().bytes(".steeple.peer.v1").skip_debug(SECRETS).compile_fds(descriptors)?;
    Ok(())
}
