//! Generates what SPIRE servers and their plugins say to each other from `proto/`, without protoc.

use std::error;

const FILES: [&str; 4] = [
    "plugin/plugin.proto",
    "spire/service/private/init/v1/init.proto",
    "spire/service/common/config/v1/config.proto",
    "spire/plugin/server/datastore/v1alpha1/datastore.proto",
];

/// Messages that hold a join token; `src/secrets.rs` prints them without it.
const SECRETS: [&str; 5] = [
    "CreateJoinTokenRequest",
    "CreateJoinTokenResponse",
    "DeleteJoinTokenRequest",
    "FetchJoinTokenRequest",
    "FetchJoinTokenResponse",
];

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let secrets = SECRETS.map(|name| format!(".spire.plugin.server.datastore.v1alpha1.{name}"));
    tonic_prost_build::configure().skip_debug(&secrets).compile_fds(descriptors)?;
    Ok(())
}
