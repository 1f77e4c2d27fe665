//! Long lists, read piece by piece so that folding never waits long for a reader.
//!
//! A list that is read in several pieces is not the state of one revision: each record is as it was when its piece was
//! read, and what is created meanwhile may appear at the end.

mod collections;
mod events;
mod parcels;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::task::{Context, Poll};

use steeple_engine::ids::{NamespaceId, Sequence};
use steeple_engine::spire;
use steeple_engine::spire::pages::{Chunk, Few};
use steeple_engine::view::ViewReader;
use steeple_wire::CHUNK_BYTES;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::scope::{Scope, blocking, too_large};
use super::{errors, limits, sending};

pub(crate) use collections::{Entries, Nodes, Selectors};
pub(crate) use events::{EventMessage, Events};
pub(crate) use parcels::{EncodedEntries, Items, Parcel, split};

/// Messages of a stream that wait for a slow reader at the most.
const MESSAGES_WAITING_MAX: usize = 2;

/// What makes a list a short one, which is read where the connection is served: sending it to another thread and its result
/// back takes longer than reading some of them, and many such threads at once longer still. Others on the connection wait
/// meanwhile, so it may take no more than a millisecond or two, with records that are in memory.
/// The bytes are those before the last record, which may come to more: it is known how long a record is when it is read.
pub(super) const FEW: Few = Few { records: 512, bytes: 512 << 10 };

/// What is sent of a list in one answer, and the number of its last record.
type Collected<Sent> = (Sent, Option<Sequence>);

/// A list that can be read piece by piece.
pub(crate) trait Pieces: Clone + Send + Sync + 'static {
    /// What is read under the lock.
    type Stored: Send;
    /// What is sent.
    type Sent: Parcel;

    /// Reads up to `limit` records behind `after`.
    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<Self::Stored>, spire::Error>;

    /// All that is behind `after`, up to `limit` records, if it is little: their number is known from memory, and reading
    /// them ends where their bytes become many. That there is nothing, as whoever looks for news mostly finds, takes no read.
    fn few(
        &self,
        _reader: &ViewReader<'_>,
        _namespace: NamespaceId,
        _after: Sequence,
        _limit: usize,
    ) -> Result<Option<Vec<Self::Stored>>, spire::Error> {
        Ok(None)
    }

    /// Number of a record.
    fn sequence(stored: &Self::Stored) -> Sequence;

    /// Makes room for records that are to be added, if that is worth it: what is sent otherwise grows by being copied.
    fn make_room(_sent: &mut Self::Sent, _stored: &[Self::Stored]) {}

    /// Puts a record to those that are sent; outside the lock.
    fn add(sent: &mut Self::Sent, stored: Self::Stored) -> Result<(), spire::Error>;

    /// Records that were read elsewhere, in one answer; stops where they become too many bytes for one.
    fn gather(records: Vec<Self::Stored>, instead: &str) -> Result<Self::Sent, Status> {
        let mut sent = Self::Sent::default();
        Self::make_room(&mut sent, &records);
        for stored in records {
            Self::add(&mut sent, stored).map_err(|error| errors::refused(&error))?;
            if sent.bytes() > limits::ANSWER_BYTES_MAX {
                return Err(too_large(instead));
            }
        }
        Ok(sent)
    }

    /// A short list as a whole, and the number of its last record.
    fn read_few(&self, scope: &Scope, after: Sequence, limit: usize) -> Result<Option<Collected<Self::Sent>>, Status> {
        let few = scope.read(|reader, namespace| self.few(reader, namespace, after, limit))?;
        let Some(records) = few else { return Ok(None) };
        let (mut sent, last) = (Self::Sent::default(), records.last().map(Self::sequence));
        Self::make_room(&mut sent, &records);
        let added = records.into_iter().try_for_each(|stored| Self::add(&mut sent, stored));
        added.map_err(|error| errors::refused(&error))?;
        Ok(Some((sent, last)))
    }

    /// Up to `limit` records behind `after` in one answer, and the number of the last one.
    async fn collect(
        self,
        scope: &Scope,
        after: Sequence,
        limit: usize,
        instead: &'static str,
    ) -> Result<Collected<Self::Sent>, Status> {
        if let Some(few) = self.read_few(scope, after, limit)? {
            return Ok(few);
        }
        let scope = scope.clone();
        blocking(move || self.collect_now(&scope, after, limit, instead)).await
    }

    /// As [`Pieces::collect`], however many they are, on this thread.
    fn collect_now(
        &self,
        scope: &Scope,
        after: Sequence,
        limit: usize,
        instead: &str,
    ) -> Result<Collected<Self::Sent>, Status> {
        let (mut sent, mut last, mut next, mut left) = (Self::Sent::default(), None, Some(after), limit);
        while let Some(after) = next
            && left > 0
        {
            let chunk = self.read_chunk(scope, after, left)?;
            left -= chunk.items.len().min(left);
            last = chunk.items.last().map(Self::sequence).or(last);
            next = chunk.next;
            Self::make_room(&mut sent, &chunk.items);
            let added = chunk.items.into_iter().try_for_each(|stored| Self::add(&mut sent, stored));
            added.map_err(|error| errors::refused(&error))?;
            if sent.bytes() > limits::ANSWER_BYTES_MAX {
                return Err(too_large(&format!("use {instead}, or ask for pages")));
            }
        }
        Ok((sent, last))
    }

    /// The records of one piece.
    fn read_chunk(&self, scope: &Scope, after: Sequence, limit: usize) -> Result<Chunk<Self::Stored>, Status> {
        scope.read(|reader, namespace| self.piece(reader, namespace, after, limit.min(limits::READ_STEP)))
    }

    /// One piece, ready to be sent.
    fn read_piece(&self, scope: &Scope, after: Sequence, limit: usize) -> Result<Piece<Self::Sent>, Status> {
        let chunk = self.read_chunk(scope, after, limit)?;
        let mut piece = Piece { records: chunk.items.len(), parcels: Vec::new(), next: chunk.next };
        let mut sent = Self::Sent::default();
        for stored in chunk.items {
            Self::add(&mut sent, stored).map_err(|error| errors::refused(&error))?;
            if sent.bytes() >= CHUNK_BYTES {
                piece.parcels.push(std::mem::take(&mut sent));
            }
        }
        if sent.bytes() > 0 {
            piece.parcels.push(sent);
        }
        Ok(piece)
    }

    /// Up to `limit` records behind `after`, in messages of about a mebibyte, each with the newest revision that it or one
    /// before it shows anything of.
    fn stream<M: Send + 'static>(
        self,
        scope: Scope,
        after: Sequence,
        limit: usize,
        pack: fn(Self::Sent, u64) -> M,
    ) -> Result<Messages<M>, Status> {
        if let Some((sent, last)) = self.read_few(&scope, after, limit)? {
            // The answer's head tells the revision of a list without records.
            let message = last.map(|_| pack(sent, scope.shown().0));
            return Ok(Messages::Ready(message));
        }
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::spawn(async move {
            if let Err(status) = send(&self, &scope, after, limit, pack, &sender).await {
                // Whoever has gone needs no error.
                sending::send(&sender, Err(status)).await;
            }
        });
        Ok(Messages::Coming(ReceiverStream::new(messages)))
    }
}

/// The messages of a list.
pub(crate) enum Messages<M> {
    /// A short list in one message, or nothing.
    Ready(Option<M>),
    /// They are read while they are sent.
    Coming(ReceiverStream<Result<M, Status>>),
}

impl<M: Unpin> Stream for Messages<M> {
    type Item = Result<M, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Self::Ready(message) => Poll::Ready(message.take().map(Ok)),
            Self::Coming(messages) => Pin::new(messages).poll_next(context),
        }
    }
}

/// One piece of a list.
pub(crate) struct Piece<Sent> {
    parcels: Vec<Sent>,
    records: usize,
    next: Option<Sequence>,
}

async fn send<P: Pieces, M>(
    pieces: &P,
    scope: &Scope,
    after: Sequence,
    limit: usize,
    pack: fn(P::Sent, u64) -> M,
    sender: &mpsc::Sender<Result<M, Status>>,
) -> Result<(), Status> {
    let (mut next, mut left, mut told) = (Some(after), limit, scope.shown());
    while let Some(after) = next
        && left > 0
    {
        let (reading, looking) = (pieces.clone(), scope.clone());
        let piece = blocking(move || reading.read_piece(&looking, after, left)).await?;
        left -= piece.records.min(left);
        next = piece.next;
        for sent in piece.parcels {
            told = scope.shown();
            if sending::send(sender, Ok(pack(sent, told.0))).await.is_none() {
                return Ok(());
            }
        }
    }
    if scope.shown() > told {
        // That nothing more was there is news as well. Whoever has gone needs none.
        sending::send(sender, Ok(pack(P::Sent::default(), scope.shown().0))).await;
    }
    Ok(())
}
