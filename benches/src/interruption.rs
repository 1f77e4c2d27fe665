//! Ending early: what was started is ended, put back and removed, as at the end.

use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

/// Does the work, unless somebody wants this process to end before it is done (Ctrl-C, SIGTERM): then the work is dropped, and with
/// it nodes, control groups and directories that it holds. What it has spawned is dropped with the runtime.
///
/// # Errors
/// That it was ended.
pub async fn unless_interrupted<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    tokio::select! {
        done = work => Ok(done),
        _ = ctrl_c() => Err("interrupted".to_owned()),
        _ = terminate.recv() => Err("asked to end".to_owned()),
    }
}
