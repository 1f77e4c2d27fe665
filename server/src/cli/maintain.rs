//! `steeple compact`.

use clap::Args;
use serde_json::json;

use super::connection::Connection;
use super::exit::CommandError;
use super::status::size_text;

#[derive(Debug, Args)]
pub(super) struct CompactArgs {
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn compact(arguments: CompactArgs) -> Result<(), CommandError> {
    let done = arguments.connection.admin().await?.compact().await?;
    let document = json!({
        "segments_removed": done.segments_removed,
        "segments_rewritten": done.segments_rewritten,
        "bytes_freed": done.bytes_freed,
    });
    let sentence = format!(
        "{} log files removed, {} rewritten, {} freed",
        done.segments_removed,
        done.segments_rewritten,
        size_text(done.bytes_freed)
    );
    arguments.connection.output.say(&document, &sentence)
}
