//! Long lists, record by record.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;
use tonic::Streaming;

use crate::error::{Error, Failure, sort};
use crate::namespace::Seen;

/// The records of a long list, which arrives in many messages. Ends after the first error.
///
/// A list that breaks off is not taken up again: whoever needs that reads by pages.
pub struct Records<Message, Record> {
    messages: Streaming<Message>,
    records: VecDeque<Record>,
    seen: Seen,
    unpack: fn(Message) -> (Vec<Record>, u64),
    ended: bool,
}

impl<Message, Record> std::fmt::Debug for Records<Message, Record> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Records").field("waiting", &self.records.len()).finish_non_exhaustive()
    }
}

impl<Message, Record> Records<Message, Record> {
    pub(crate) fn new(messages: Streaming<Message>, seen: Seen, unpack: fn(Message) -> (Vec<Record>, u64)) -> Self {
        Self { messages, records: VecDeque::new(), seen, unpack, ended: false }
    }

    /// Takes a message up. What it shows may be newer than what the list began with.
    fn take(&mut self, message: Message) {
        let (records, revision) = (self.unpack)(message);
        self.seen.see(revision);
        self.records = records.into();
    }
}

impl<Message, Record: Unpin> Stream for Records<Message, Record> {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(record) = self.records.pop_front() {
                return Poll::Ready(Some(Ok(record)));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match ready!(Pin::new(&mut self.messages).poll_next(context)) {
                Some(Ok(message)) => self.take(message),
                Some(Err(status)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(read_error(&status))));
                }
                None => self.ended = true,
            }
        }
    }
}

/// The error of a stream that is not taken up again.
pub(crate) fn read_error(status: &tonic::Status) -> Error {
    match sort(status) {
        Failure::Final(error) => error,
        Failure::Transient { message, .. } => Error::Unavailable { message },
    }
}
