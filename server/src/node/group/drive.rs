//! Driving a group on a thread of its own: turns, the writes between them, and what can wait for a moment.
//!
//! The thread drives a runtime on which the connections to the other nodes live as well. So a message of a peer is read,
//! taken up and answered without waking anybody, a small write included.

use std::time::Duration;

use steeple_raft::Write;
use tokio::sync::mpsc::Receiver;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

use super::{Failure, Group, Message};
use crate::node::log_writer::{Task, weigh};

/// Bytes of entries that the group writes by itself at the most.
const KEPT_BYTES: usize = 16 << 10;

/// How long followers wait for the news that something is committed, when nothing else is sent to them. The runtime counts whole
/// milliseconds, so it is one or two of them. A client that sends one mutation after the other is mostly quicker, and its news
/// goes with its next entry.
const NEWS_DELAY: Duration = Duration::from_micros(500);

/// Turns of the other tasks of the thread after the last one of the group, so that what it sent leaves.
const LAST_TURNS: u32 = 16;

impl Group {
    /// Runs until it is stopped, the handles are gone, or log or view fails. Whoever waits then learns that the outcome
    /// is unknown.
    pub(in crate::node) async fn run(mut self, inbox: &mut Receiver<Message>) {
        self.keeps_writes = true;
        if let Err(failure) = self.serve(inbox).await {
            tracing::error!(%failure, "node stops taking mutations");
            if failure.is_damage() {
                crate::node::repair::suspect(&self.shared.options);
            }
            self.shared.fail(failure.to_string());
        }
        for _ in 0..LAST_TURNS {
            yield_now().await;
        }
    }

    async fn serve(&mut self, inbox: &mut Receiver<Message>) -> Result<(), Failure> {
        self.begin()?;
        self.write_kept(inbox).await?;
        let mut news = None;
        while self.goes_on() {
            match self.next_message(inbox, &mut news).await {
                Some(Some(message)) => self.take_turn(message, inbox)?,
                Some(None) => return Ok(()),
                None => self.spread_news()?,
            }
            self.write_kept(inbox).await?;
        }
        self.end();
        Ok(())
    }

    /// The next message; `None` when followers have waited for news long enough.
    async fn next_message(&self, inbox: &mut Receiver<Message>, news: &mut Option<Instant>) -> Option<Option<Message>> {
        if !self.replica.has_news() {
            *news = None;
            return Some(inbox.recv().await);
        }
        let due = *news.get_or_insert_with(|| Instant::now() + NEWS_DELAY);
        if Instant::now() >= due {
            return None;
        }
        timeout_at(due, inbox.recv()).await.ok()
    }

    /// Tells followers what is committed.
    pub(in crate::node) fn spread_news(&mut self) -> Result<(), Failure> {
        self.replica.spread_news();
        self.turn()
    }

    /// Hands a write to the log's thread, or keeps it for the end of the turn.
    pub(super) fn write(&mut self, write: Write) -> Result<(), Failure> {
        self.kept.push(write);
        if self.keeps_writes && self.log.rests() && weigh(&self.kept) <= KEPT_BYTES {
            return Ok(());
        }
        self.hand_over_kept()
    }

    /// Has something done by the log's thread, behind all writes.
    pub(super) fn hand_to_log(&mut self, task: Task) -> Result<(), Failure> {
        self.hand_over_kept()?;
        self.log.send(task).map_err(|_| Failure::WriterGone)
    }

    fn hand_over_kept(&mut self) -> Result<(), Failure> {
        for write in self.kept.drain(..) {
            self.log.send(Task::Write(write)).map_err(|_| Failure::WriterGone)?;
        }
        Ok(())
    }

    /// Makes durable what was kept, here if nothing else waits to be done.
    ///
    /// Before that the thread does its other tasks, also when nothing was kept: what was sent in the turn leaves, what
    /// peers have sent is read, and time passes, however much waits to be taken up.
    pub(super) async fn write_kept(&mut self, inbox: &mut Receiver<Message>) -> Result<(), Failure> {
        loop {
            yield_now().await;
            if self.kept.is_empty() || !inbox.is_empty() {
                return self.hand_over_kept();
            }
            let Some(persisted) = self.log.write_here(&self.kept) else { return self.hand_over_kept() };
            self.kept.clear();
            self.handle(Message::Persisted(persisted))?;
            self.turn()?;
        }
    }
}
