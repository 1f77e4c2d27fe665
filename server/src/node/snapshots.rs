//! Snapshots of a node that goes on serving.

use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::log::LogReader;
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::view::View;
use steeple_snapshot::{LiveSource, Manifest, SnapshotId, SnapshotOptions, SnapshotStream, WriteError};
use thiserror::Error;

use super::Node;
use super::base::origin;

/// Why a snapshot was not taken. What was handed out of it is worth nothing.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The state or the log could not be read.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The node took over a snapshot itself meanwhile.
    #[error("the node took over a snapshot itself meanwhile; take it again")]
    Replaced,
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// A snapshot that was handed out whole.
#[derive(Clone, Debug)]
pub struct TakenSnapshot {
    /// What it holds.
    pub manifest: Manifest,
    /// Its size.
    pub bytes: u64,
}

impl Node {
    /// Takes a snapshot and hands its bytes to `sink`, piece by piece, until there are no more or `sink` wants none.
    ///
    /// The log gives no space back meanwhile, so `sink` must not wait without end.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub async fn snapshot<Sink, Taking>(
        &self,
        include_history: bool,
        mut sink: Sink,
    ) -> Result<Option<TakenSnapshot>, SnapshotError>
    where
        Sink: FnMut(Bytes) -> Taking,
        Taking: Future<Output = bool>,
    {
        let _alone = self.shared.maintenance.lock().await;
        let mut taking_over = self.shared.taking_over.subscribe();
        let id = SnapshotId(self.shared.random.bytes());
        let options = SnapshotOptions::new(id, origin(&self.shared.identity), self.shared.clock.now());
        let core = self.shared.core();
        let source = LiveSource { view: Arc::clone(&core.view), log: core.log.clone() };
        let mut stream: SnapshotStream<LiveSource<Arc<View>, LogReader>> =
            SnapshotStream::new(source, SnapshotOptions { include_history, ..options });
        let place = self.shared.work.place();
        loop {
            let step = place.blocking(move || {
                let chunk = stream.next_chunk();
                (stream, chunk)
            });
            let (stepped, chunk) = step.await.map_err(|_| SnapshotError::Stopped)?;
            stream = stepped;
            let replaced = |error: WriteError| match self.shared.check_current(&core) {
                Ok(()) => SnapshotError::Write(error),
                Err(_) => SnapshotError::Replaced,
            };
            let Some(chunk) = chunk.map_err(replaced)? else { break };
            if self.failure().is_some() {
                return Err(SnapshotError::Stopped);
            }
            tokio::select! {
                wanted = sink(chunk.bytes) => if !wanted {
                    return Ok(None);
                },
                _ = taking_over.wait_for(|taking_over| *taking_over) => return Err(SnapshotError::Replaced),
            }
        }
        let bytes = stream.progress().bytes;
        Ok(stream.manifest_written().cloned().map(|manifest| TakenSnapshot { manifest, bytes }))
    }

    /// Which record store the node uses.
    #[must_use]
    pub fn record_store(&self) -> RecordStoreKind {
        self.shared.options.store
    }
}
