//! A snapshot of another node in the same process.

use std::sync::Arc;

use steeple_engine::ids::{LogIndex, NodeId};
use steeple_snapshot::SnapshotId;

use super::super::BoxFuture;
use super::{Fault, FedChunk, Feed, Origin, ProvideError, ServedSnapshot, SnapshotProvider};

/// Reads from a provider directly, as long as the way to it is open.
pub(in super::super) struct LocalOrigin {
    pub(in super::super) node: NodeId,
    pub(in super::super) provider: Arc<dyn SnapshotProvider>,
    pub(in super::super) is_open: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Origin for LocalOrigin {
    fn open(
        &self,
        begun: Option<SnapshotId>,
        from_chunk: u64,
        minimum: LogIndex,
    ) -> BoxFuture<'_, Result<Box<dyn Feed>, Fault>> {
        Box::pin(async move {
            self.check_way()?;
            let opened = self.provider.open(self.node, begun, minimum).await.map_err(|error| match error {
                ProvideError::NotNow(reason) => Fault::Broken(reason),
                error @ ProvideError::BeingMade => Fault::BeingMade(error.to_string()),
                ProvideError::Refused(reason) => Fault::Refused(reason),
            })?;
            let from_chunk = if Some(opened.id()) == begun { from_chunk } else { 0 };
            let opened = on_disk(opened, move |served| served.go_to(from_chunk)).await?.0;
            let feed: Box<dyn Feed> = Box::new(LocalFeed { served: Some(opened), is_open: Arc::clone(&self.is_open) });
            Ok(feed)
        })
    }
}

impl LocalOrigin {
    fn check_way(&self) -> Result<(), Fault> {
        if (self.is_open)() { Ok(()) } else { Err(Fault::Broken("the way to the node is cut".into())) }
    }
}

struct LocalFeed {
    served: Option<Box<dyn ServedSnapshot>>,
    is_open: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Feed for LocalFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<FedChunk>, Fault>> {
        Box::pin(async move {
            if !(self.is_open)() {
                return Err(Fault::Broken("the way to the node is cut".into()));
            }
            let Some(served) = self.served.take() else {
                return Err(Fault::Broken("an earlier chunk could not be read".into()));
            };
            let snapshot = served.id();
            let (served, chunk) = on_disk(served, |served| served.next_chunk()).await?;
            self.served = Some(served);
            Ok(chunk.map(|chunk| FedChunk { snapshot, chunk }))
        })
    }
}

/// Does something with an open snapshot where waiting for a disk does no harm.
async fn on_disk<Output: Send + 'static>(
    mut served: Box<dyn ServedSnapshot>,
    work: impl FnOnce(&mut dyn ServedSnapshot) -> Result<Output, steeple_snapshot::ReadError> + Send + 'static,
) -> Result<(Box<dyn ServedSnapshot>, Output), Fault> {
    let worked = tokio::task::spawn_blocking(move || work(&mut *served).map(|output| (served, output))).await;
    let broken = |error: &dyn std::fmt::Display| Fault::Broken(format!("the snapshot cannot be read: {error}"));
    worked.map_err(|error| broken(&error))?.map_err(|error| broken(&error))
}
