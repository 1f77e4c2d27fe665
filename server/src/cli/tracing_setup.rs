//! What a node writes to standard error.

use std::io::IsTerminal as _;

use super::exit::CommandError;
use crate::config::{TracingConfig, TracingFormat};

/// Sends what is traced to standard error from now on.
pub(super) fn install(config: &TracingConfig) -> Result<(), CommandError> {
    let filter =
        config.filter().map_err(|error| CommandError::Usage(format!("tracing.level: `{}`: {error}", config.level)))?;
    let colours = std::io::stderr().is_terminal();
    // Where messages cannot be written, as in a file on a full disk, the subscriber would complain with a macro that
    // panics for the same reason: the node would break off instead of ending as it should.
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .log_internal_errors(false);
    let installed = match config.format {
        TracingFormat::Text => subscriber.try_init(),
        TracingFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| CommandError::Failed(format!("cannot set up tracing: {error}")))
}
