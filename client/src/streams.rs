//! Long lists, record by record.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio_stream::Stream;
use tonic::Streaming;

use crate::error::{Error, Failure, sort};

/// The records of a long list, which arrives in many messages. Ends after the first error.
///
/// A list that breaks off is not taken up again: whoever needs that reads by pages.
pub struct Records<Message, Record> {
    messages: Streaming<Message>,
    records: VecDeque<Record>,
    unpack: fn(Message) -> Vec<Record>,
    ended: bool,
}

impl<Message, Record> std::fmt::Debug for Records<Message, Record> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Records").field("waiting", &self.records.len()).finish_non_exhaustive()
    }
}

impl<Message, Record> Records<Message, Record> {
    pub(crate) fn new(messages: Streaming<Message>, unpack: fn(Message) -> Vec<Record>) -> Self {
        Self { messages, records: VecDeque::new(), unpack, ended: false }
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
                Some(Ok(message)) => self.records = (self.unpack)(message).into(),
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
