//! `steeple spire-plugin`: the datastore as an external plugin of a SPIRE server.

use clap::Args;
use steeple_plugin::RunError;
use tracing_subscriber::filter::LevelFilter;

use super::exit::CommandError;

#[derive(Debug, Args)]
pub(super) struct SpirePluginArgs {
    /// Messages from this level on go to the server's log: error, warn, info, debug, trace or off
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,
}

pub(super) async fn run(arguments: SpirePluginArgs) -> Result<(), CommandError> {
    let ended = steeple_plugin::run(arguments.log_level).await;
    ended.map_err(|error: RunError| CommandError::Failed(error.to_string()))
}
