//! Making the file of the log's next segment before it is needed.
//!
//! A new segment is filled with zeros, so that a sync has nothing but data to write. That takes as long as writing a whole
//! segment, and an append that needs one would wait for it, with everybody behind it. So it is done in the background when
//! the newest segment is half full. If it is not ready in time, or the disk is full, the append does it as before.

use std::sync::{Arc, Weak};

use steeple_engine::log::{LogError, LogWriter};
use steeple_engine::simulation::reached;
use tokio::sync::Notify;

use super::maintenance::CompactError;
use super::{Node, Shared};

/// Makes one each time that `wanted` says that there is none.
pub(super) async fn run(shared: Weak<Shared>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let Some(shared) = shared.upgrade() else { return };
        match make(&Node::unguarded(shared)).await {
            // A node that stops needs none.
            Ok(()) | Err(CompactError::Stopped) => {}
            Err(error) => {
                metrics::counter!("steeple_log_spares_failed_total").increment(1);
                tracing::warn!(%error, "no file for the next segment of the log was made in advance");
            }
        }
    }
}

async fn make(node: &Node) -> Result<(), CompactError> {
    let Some(planned) = node.on_log(LogWriter::plan_spare).await? else { return Ok(()) };
    let made = node.shared.work.blocking(move || planned.make()).await??;
    reached("log: file for the next segment made in advance");
    let added: Result<(), LogError> = node.on_log(move |writer| writer.add_spare(made)).await?;
    Ok(added?)
}
