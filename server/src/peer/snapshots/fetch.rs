//! The side that needs a snapshot.

use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::{Path, PathBuf};

use steeple_engine::ids::LogIndex;
use steeple_snapshot::publish::partial_path;
use steeple_snapshot::transfer::TransferError;
use steeple_snapshot::{ChunkReceiver, EncodedChunk, Publication, ReadError, SnapshotId};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::super::BoxFuture;
use super::super::limits::RECONNECT_PAUSE_MAX;
use super::{FetchError, FetchOptions, FetchedSnapshot};

/// Where chunks come from.
pub(in super::super) trait Origin: Send + Sync {
    /// Opens the snapshot that was begun from a chunk on; or any that reaches to `minimum`, from its first chunk on.
    fn open(
        &self,
        begun: Option<SnapshotId>,
        from_chunk: u64,
        minimum: LogIndex,
    ) -> BoxFuture<'_, Result<Box<dyn Feed>, Fault>>;
}

/// Chunks in order.
pub(in super::super) trait Feed: Send {
    /// The next one; `None` after the last one.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<FedChunk>, Fault>>;
}

/// A chunk as it arrived.
pub(in super::super) struct FedChunk {
    pub(in super::super) snapshot: SnapshotId,
    pub(in super::super) chunk: EncodedChunk,
}

/// What went wrong with an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Fault {
    /// The other side refuses for good.
    Refused(String),
    /// Another attempt may succeed.
    Broken(String),
    /// It is being made; asking again later is no failed attempt.
    BeingMade(String),
}

enum AttemptError {
    Final(FetchError),
    Broken(String),
    BeingMade(String),
}

/// Why an attempt brought no more.
enum Interrupted {
    Broken(String),
    BeingMade(String),
}

impl From<Fault> for AttemptError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(reason) => Self::Final(FetchError::Refused(reason)),
            Fault::Broken(reason) => Self::Broken(reason),
            Fault::BeingMade(reason) => Self::BeingMade(reason),
        }
    }
}

/// Fetches a snapshot into a file beside `target` and verifies it.
pub(in super::super) async fn fetch(
    origin: &dyn Origin,
    minimum: LogIndex,
    target: PathBuf,
    options: FetchOptions,
) -> Result<FetchedSnapshot, FetchError> {
    let bytes_max = options.bytes_max;
    let mut partial = blocking(move || Partial::resume(&target, bytes_max)).await??;
    let (mut fruitless, begun) = (0, Instant::now());
    while !partial.receiver.is_complete() {
        let chunks = partial.received;
        let broken;
        (partial, broken) = attempt(origin, partial, minimum, options).await?;
        let reason = match broken {
            None => continue,
            Some(Interrupted::BeingMade(reason)) if begun.elapsed() < options.making_timeout => {
                tracing::debug!(%reason, "a snapshot is not there yet");
                sleep(options.making_pause).await;
                continue;
            }
            Some(Interrupted::BeingMade(reason) | Interrupted::Broken(reason)) => reason,
        };
        fruitless = if partial.received > chunks { 1 } else { fruitless + 1 };
        tracing::info!(%reason, next_chunk = partial.receiver.next_number(), "fetching a snapshot was interrupted");
        if fruitless >= options.attempts_max {
            return Err(FetchError::GaveUp { attempts: fruitless, last: reason });
        }
        let pause = options.pause.saturating_mul(1 << (fruitless - 1).min(16));
        sleep(pause.min(RECONNECT_PAUSE_MAX)).await;
    }
    let fetched = blocking(move || partial.verify()).await??;
    let found = fetched.report.manifest.state.index;
    if found < minimum { Err(FetchError::TooOld { minimum, found }) } else { Ok(fetched) }
}

/// Takes chunks until there are no more, or something goes wrong that another attempt may mend.
async fn attempt(
    origin: &dyn Origin,
    mut partial: Partial,
    minimum: LogIndex,
    options: FetchOptions,
) -> Result<(Partial, Option<Interrupted>), FetchError> {
    let broken = |reason: String| Some(Interrupted::Broken(reason));
    let opening = origin.open(partial.receiver.snapshot(), partial.receiver.next_number(), minimum);
    let opened = match timeout(options.chunk_timeout, opening).await {
        Ok(opened) => opened.map_err(AttemptError::from),
        Err(_) => Err(AttemptError::Broken("no answer in time".into())),
    };
    let mut feed = match opened {
        Ok(feed) => feed,
        Err(AttemptError::Broken(reason)) => return Ok((partial, broken(reason))),
        Err(AttemptError::BeingMade(reason)) => return Ok((partial, Some(Interrupted::BeingMade(reason)))),
        Err(AttemptError::Final(error)) => return Err(error),
    };
    while !partial.receiver.is_complete() {
        let fed = match timeout(options.chunk_timeout, feed.next()).await {
            Ok(Ok(Some(fed))) => fed,
            Ok(Ok(None)) => return Ok((partial, broken("the stream ended before the snapshot did".into()))),
            Ok(Err(Fault::Broken(reason) | Fault::BeingMade(reason))) => return Ok((partial, broken(reason))),
            Ok(Err(Fault::Refused(reason))) => return Err(FetchError::Refused(reason)),
            Err(_) => return Ok((partial, broken("no chunk in time".into()))),
        };
        let taken;
        (partial, taken) = blocking(move || {
            let taken = partial.take(&fed);
            (partial, taken)
        })
        .await?;
        match taken {
            Ok(()) => {}
            Err(AttemptError::Broken(reason) | AttemptError::BeingMade(reason)) => {
                return Ok((partial, broken(reason)));
            }
            Err(AttemptError::Final(error)) => return Err(error),
        }
    }
    Ok((partial, None))
}

/// Work that waits for a disk.
async fn blocking<Output: Send + 'static>(
    work: impl FnOnce() -> Output + Send + 'static,
) -> Result<Output, FetchError> {
    spawn_blocking(work).await.map_err(|_| FetchError::CutOff)
}

/// The part of a snapshot that is there. Dropping it leaves the file, for the next one who fetches.
struct Partial {
    /// Always there until the file is given on or discarded.
    publication: Option<Publication>,
    receiver: ChunkReceiver<File>,
    bytes_max: u64,
    /// Chunks taken since the beginning, over all attempts.
    received: u64,
}

impl Partial {
    fn resume(target: &Path, bytes_max: u64) -> Result<Self, FetchError> {
        // Told apart from other errors here, because a path without a name is the caller's mistake.
        partial_path(target)?;
        let publication = Publication::resume(target)?;
        let receiver = receiver(publication.file(), bytes_max)?;
        Ok(Self { publication: Some(publication), receiver, bytes_max, received: 0 })
    }

    /// Takes a chunk; begins anew when it is of another snapshot.
    fn take(&mut self, fed: &FedChunk) -> Result<(), AttemptError> {
        if self.receiver.snapshot().is_some_and(|begun| begun != fed.snapshot) {
            self.start_over().map_err(AttemptError::Final)?;
        }
        match self.receiver.accept(&fed.chunk) {
            Ok(()) => {
                self.received += 1;
                Ok(())
            }
            Err(TransferError::TooLarge { max_bytes }) => {
                self.discard();
                Err(AttemptError::Final(FetchError::TooLarge { max_bytes }))
            }
            Err(TransferError::Io(error)) => Err(AttemptError::Final(error.into())),
            Err(error) => Err(AttemptError::Broken(error.to_string())),
        }
    }

    fn start_over(&mut self) -> Result<(), FetchError> {
        let Some(publication) = &self.publication else { return Err(FetchError::CutOff) };
        publication.file().set_len(0)?;
        self.receiver = receiver(publication.file(), self.bytes_max)?;
        Ok(())
    }

    fn verify(mut self) -> Result<FetchedSnapshot, FetchError> {
        let Some(publication) = self.publication.take() else { return Err(FetchError::CutOff) };
        let mut file = publication.file();
        file.rewind()?;
        let report = steeple_snapshot::verify(BufReader::with_capacity(1 << 20, file), &mut |_| {})?;
        Ok(FetchedSnapshot::in_file(report, publication))
    }

    fn discard(&mut self) {
        drop(self.publication.take());
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(publication) = self.publication.take() {
            publication.keep();
        }
    }
}

fn receiver(file: &File, bytes_max: u64) -> Result<ChunkReceiver<File>, FetchError> {
    ChunkReceiver::resume(file.try_clone()?, bytes_max).map_err(|error| match error {
        TransferError::Io(error) => error.into(),
        other => FetchError::Damaged(ReadError::Io(io::Error::other(other.to_string()))),
    })
}
