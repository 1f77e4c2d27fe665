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

/// Answers that nodes put together as `src/packed.rs` has it: the bytes are those of the message in its place.
const PACKED: [&str; 5] = [
    ".steeple.events.v1.TailResponse",
    ".steeple.spire.v1.BatchResponse",
    ".steeple.spire.v1.ListRegistrationEntriesResponse",
    ".steeple.spire.v1.StreamRegistrationEntriesResponse",
    ".steeple.spire.v1.FetchRegistrationEntriesResponse",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut descriptors = protox::compile(FILES, ["proto"])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    let methods =
        descriptors.file.iter_mut().flat_map(|file| &mut file.service).flat_map(|service| &mut service.method);
    for method in methods.filter(|method| PACKED.contains(&method.output_type())) {
        let name = method.output_type().rsplit('.').next().unwrap_or_default();
        method.output_type = Some(format!(".steeple.packed.{name}"));
    }
    tonic_prost_build::configure()
        .extern_path(".steeple.packed", "crate::packed")
        .codec_path("crate::codec::Codec")
        // Entries and chunks stay in the buffers that they arrived in.
        .bytes(".steeple.peer.v1")
        .skip_debug(SECRETS)
        .compile_fds(descriptors)?;
    Ok(())
}
