//! What waits for one lane of one peer.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use raft::eraftpb::Message;

use super::limits::{BATCH_BYTES, BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_MESSAGES_MAX, QUEUE_MESSAGES_MAX};
use super::messages::encoded_bytes;
use super::metrics::Holds;

/// Messages in the order in which they were sent, bounded in number and bytes.
pub(super) struct Queue {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Something was dropped since the last batch was taken.
    overflowed: bool,
    /// The stream that may take batches. Those before it are over, even if they do not know yet.
    reader: u64,
    /// Whether the other side has accepted that stream. Nothing goes to a node that may be the wrong one.
    accepted: bool,
    waker: Option<Waker>,
}

struct Waiting {
    message: Message,
    bytes: usize,
}

/// Messages that travel together.
pub(super) struct Taken {
    pub(super) messages: Vec<Message>,
    pub(super) bytes: usize,
    /// Messages before these were dropped, because there was no room.
    pub(super) after_loss: bool,
}

/// Bytes of a message that was dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped(pub(super) usize);

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// Puts a message at the end, or drops it when there is no room.
    pub(super) fn push(&self, message: Message) -> Result<(), Dropped> {
        let bytes = encoded_bytes(&message);
        if bytes > BATCH_BYTES_MAX || message.entries.len() > BATCH_ENTRIES_MAX {
            // The other side would close the stream over it, again and again.
            tracing::error!(bytes, entries = message.entries.len(), "a message to a peer is too large; this is a bug");
            return Err(Dropped(bytes));
        }
        let mut state = self.state.lock();
        let full = state.bytes + bytes > self.bytes_max || state.waiting.len() >= QUEUE_MESSAGES_MAX;
        if full && !state.waiting.is_empty() {
            state.overflowed = true;
            return Err(Dropped(bytes));
        }
        state.bytes += bytes;
        state.waiting.push_back(Waiting { message, bytes });
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    /// Makes way for a new stream and gives its number. It gets nothing before [`Queue::accept`].
    pub(super) fn next_reader(&self) -> u64 {
        let mut state = self.state.lock();
        state.reader += 1;
        state.accepted = false;
        let waker = state.waker.take();
        let reader = state.reader;
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        reader
    }

    /// Lets the newest stream take batches.
    pub(super) fn accept(&self) {
        let mut state = self.state.lock();
        state.accepted = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next batch; `None` when another stream has taken over.
    pub(super) fn poll_batch(&self, reader: u64, context: &Context<'_>) -> Poll<Option<Taken>> {
        let mut state = self.state.lock();
        if state.reader != reader {
            return Poll::Ready(None);
        }
        if state.waiting.is_empty() || !state.accepted {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(state.take_batch()))
    }

    /// Drops all that waits and says how many messages and bytes that was.
    pub(super) fn clear(&self) -> (usize, usize) {
        let mut state = self.state.lock();
        let dropped = (state.waiting.len(), state.bytes);
        state.waiting.clear();
        state.bytes = 0;
        state.overflowed = false;
        dropped
    }

    /// What waits now.
    pub(super) fn holds(&self) -> Holds {
        let state = self.state.lock();
        Holds { messages: state.waiting.len(), bytes: state.bytes }
    }
}

impl State {
    /// The first message in any case, and as many more as make a batch.
    fn take_batch(&mut self) -> Taken {
        let mut taken = Taken { messages: Vec::new(), bytes: 0, after_loss: std::mem::take(&mut self.overflowed) };
        let mut entries = 0;
        while let Some(next) = self.waiting.front() {
            entries += next.message.entries.len();
            let full = taken.bytes + next.bytes > BATCH_BYTES
                || taken.messages.len() >= BATCH_MESSAGES_MAX
                || entries > BATCH_ENTRIES_MAX;
            if full && !taken.messages.is_empty() {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            self.bytes -= next.bytes;
            taken.bytes += next.bytes;
            taken.messages.push(next.message);
        }
        taken
    }
}
