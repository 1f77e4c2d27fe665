//! Following a namespace across broken connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use steeple_wire::events::v1::tail_response::Content;
use steeple_wire::events::v1::{
    Event, StartPosition, StreamStatusRequest, StreamStatusResponse, TailRequest, TailResponse,
};
use steeple_wire::status::ErrorKind;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::Namespace;
use crate::call::{calls, streaming_once, unary_once};
use crate::cluster::{Node, Route};
use crate::error::{Error, Failure, sort};
use crate::retry::{Backoff, Failed, Turn};

calls! { "steeple.events.v1.Events", plain:
    "Tail": TailRequest => TailResponse,
}

calls! { "steeple.events.v1.Events", query:
    "StreamStatus": StreamStatusRequest => StreamStatusResponse,
}

/// Where a tail begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TailStart {
    /// With the next event.
    #[default]
    Now,
    /// With the oldest event that is kept.
    Oldest,
    /// After this cursor.
    Cursor(String),
}

/// What a tail delivers.
#[derive(Clone, Debug, Default)]
pub struct TailOptions {
    /// Where to begin.
    pub start: TailStart,
    /// Names of streams; none means all.
    pub streams: Vec<String>,
    /// Only items with one of these keys; none means all.
    pub keys: Vec<String>,
    /// Leave the changes out: items then say only what they are about.
    pub without_changes: bool,
    /// Fail when no node can be reached for so long; without it the tail tries for ever.
    pub unreachable_max: Option<Duration>,
}

/// One message of a tail.
#[derive(Clone, Debug, PartialEq)]
pub struct TailMessage {
    /// What it says.
    pub content: TailContent,
    /// A tail from here continues after this message. Persist it once the message is dealt with.
    pub cursor: String,
}

/// What a message of a tail says.
#[derive(Clone, Debug, PartialEq)]
pub enum TailContent {
    /// Something happened.
    Event(Event),
    /// Nothing to see up to here.
    Progress {
        /// Everything up to this revision was delivered or filtered out.
        revision: u64,
        /// Whether the tail has caught up with the node that it reads from.
        live: bool,
    },
}

/// Events of a namespace in order, from history and then live, without gap or repetition. When the connection breaks the
/// tail goes on behind its last message, at another node if there is one.
#[derive(Debug)]
pub struct Tail {
    namespace: Namespace,
    options: TailOptions,
    cursor: Option<String>,
    connection: Option<Connection>,
    /// The node that failed last; another one is preferred.
    avoided: Option<Arc<Node>>,
    trouble: Option<Trouble>,
}

/// A node that messages come from.
#[derive(Debug)]
struct Connection {
    node: Arc<Node>,
    messages: Streaming<TailResponse>,
}

/// A row of failed attempts.
#[derive(Debug)]
struct Trouble {
    began: Instant,
    /// When a node first said that it is behind the cursor.
    behind_since: Option<Instant>,
    backoff: Backoff,
    /// Attempts at other nodes since the last pause.
    at_once: usize,
    wake: Instant,
}

impl Namespace {
    /// Follows the namespace. Nothing is sent before the first message is asked for.
    #[must_use]
    pub fn tail(&self, options: TailOptions) -> Tail {
        let cursor = match &options.start {
            TailStart::Cursor(cursor) => Some(cursor.clone()),
            TailStart::Now | TailStart::Oldest => None,
        };
        Tail { namespace: self.clone(), options, cursor, connection: None, avoided: None, trouble: None }
    }

    /// Where the streams stand, and the cursor of this moment.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream_status(&self) -> Result<StreamStatusResponse, Error> {
        self.query(StreamStatusRequest { context: None }).await
    }
}

impl Tail {
    /// Continues after the last message, wherever it is handed in; none before the first message of a tail that did not
    /// begin with a cursor.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The next message. May be dropped while it waits without losing anything.
    ///
    /// # Errors
    /// When the tail cannot go on: the cursor is of no use (any more), or no node could be reached for too long. Asking
    /// again tries again.
    pub async fn next(&mut self) -> Result<TailMessage, Error> {
        loop {
            match self.attempt().await {
                Ok(message) => {
                    self.trouble = None;
                    self.cursor = Some(message.cursor.clone());
                    return Ok(message);
                }
                Err(failed) => self.note(&failed)?,
            }
        }
    }

    /// This tail as a stream, which ends after the first error.
    #[must_use]
    pub fn into_stream(self) -> TailStream {
        TailStream { waiting: Some(Box::pin(step(self))) }
    }

    async fn attempt(&mut self) -> Result<TailMessage, Failed> {
        if let Some(trouble) = &self.trouble {
            sleep_until(trouble.wake).await;
        }
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { return Err(Status::unavailable("not connected").into()) };
        let silence = self.namespace.client().options().tail_silence_max;
        let heard = timeout(silence, connection.messages.message()).await;
        let heard = heard.unwrap_or_else(|_| Err(Status::unavailable("the node fell silent")));
        match heard.and_then(|message| message.ok_or_else(|| Status::unavailable("the node ended the tail"))) {
            Ok(message) => Ok(read(message)),
            Err(status) => {
                let node = Arc::clone(&connection.node);
                Err(self.failed_at(node, status))
            }
        }
    }

    async fn connect(&mut self) -> Result<Connection, Failed> {
        if self.cursor.is_none() && self.options.start == TailStart::Now {
            // With a cursor from the beginning, nothing is lost when the connection breaks before the first message.
            self.cursor = Some(self.cursor_of_now().await?);
        }
        let start = match self.options.start {
            TailStart::Oldest => StartPosition::Oldest,
            TailStart::Now | TailStart::Cursor(_) => StartPosition::Now,
        };
        let request = TailRequest {
            namespace: self.namespace.name().to_owned(),
            streams: self.options.streams.clone(),
            keys: self.options.keys.clone(),
            cursor: self.cursor.clone().unwrap_or_default(),
            start: start.into(),
            without_changes: self.options.without_changes,
        };
        let client = self.namespace.client();
        client.discover_when_due();
        let avoid = self.avoided.as_ref().map(|node| node.address());
        let node = client.cluster().pick(Route::Any, avoid)?;
        client.check(&node).await?;
        let begun = timeout(client.options().tail_silence_max, streaming_once(&node, request)).await;
        match begun.unwrap_or_else(|_| Err(Status::unavailable("the node did not begin the tail"))) {
            Ok(messages) => {
                client.cluster().succeeded(Route::Any, &node);
                Ok(Connection { node, messages: messages.into_inner() })
            }
            Err(status) => Err(self.failed_at(node, status)),
        }
    }

    /// Remembers that a node failed.
    fn failed_at(&mut self, node: Arc<Node>, status: Status) -> Failed {
        let cluster = self.namespace.client().cluster();
        let elsewhere = cluster.failed(Route::Any, &node, &status) || is_behind(&status) && cluster.len() > 1;
        self.avoided = Some(node);
        Failed { status, elsewhere, timed_out: false }
    }

    async fn cursor_of_now(&self) -> Result<String, Failed> {
        let client = self.namespace.client();
        let turn = Turn { left: client.options().deadline, timeouts: 0 };
        let request = StreamStatusRequest { context: Some(self.namespace.read_context()) };
        let route = self.namespace.read_route();
        let asked = client.attempt(route, turn, |node, left| async move { unary_once(&node, request, left).await });
        Ok(asked.await?.into_inner().cursor)
    }

    /// Prepares the next attempt, unless there should be none.
    fn note(&mut self, failed: &Failed) -> Result<(), Error> {
        self.connection = None;
        let now = Instant::now();
        let (deadline, nodes) = (self.namespace.client().options().deadline, self.namespace.client().cluster().len());
        let backoff = self.namespace.client().options().backoff();
        let fresh = Trouble { began: now, behind_since: None, backoff, at_once: 0, wake: now };
        let trouble = self.trouble.get_or_insert(fresh);
        let message = match sort(&failed.status) {
            // Another node may be further, and this one soon; one node alone is not behind what it handed out.
            Failure::Final(error) if is_behind(&failed.status) && nodes > 1 => {
                let since = *trouble.behind_since.get_or_insert(now);
                if now >= since + deadline {
                    self.trouble = None;
                    return Err(error);
                }
                error.to_string()
            }
            Failure::Final(error) => {
                self.trouble = None;
                return Err(error);
            }
            Failure::Transient { message, .. } => message,
        };
        if failed.elsewhere && trouble.at_once + 1 < nodes {
            trouble.at_once += 1;
            trouble.wake = now;
        } else {
            trouble.at_once = 0;
            trouble.wake = now + trouble.backoff.pause();
        }
        if self.options.unreachable_max.is_some_and(|longest| trouble.wake > trouble.began + longest) {
            self.trouble = None;
            return Err(Error::Unavailable { message });
        }
        tracing::debug!(%message, "tail broke off, connecting again");
        Ok(())
    }
}

/// Whether a node does not have what the cursor says was seen.
fn is_behind(status: &Status) -> bool {
    ErrorKind::of(status) == Some(ErrorKind::CursorAhead)
}

fn read(message: TailResponse) -> TailMessage {
    let content = match message.content {
        Some(Content::Event(event)) => TailContent::Event(event),
        Some(Content::Progress(progress)) => TailContent::Progress { revision: progress.revision, live: progress.live },
        // From a later protocol: nothing that this client could show, but its cursor counts.
        None => TailContent::Progress { revision: 0, live: false },
    };
    TailMessage { content, cursor: message.cursor }
}

type Step = Pin<Box<dyn Future<Output = (Tail, Result<TailMessage, Error>)> + Send>>;

async fn step(mut tail: Tail) -> (Tail, Result<TailMessage, Error>) {
    let message = tail.next().await;
    (tail, message)
}

/// A [`Tail`] as a stream. Ends after the first error.
pub struct TailStream {
    waiting: Option<Step>,
}

impl std::fmt::Debug for TailStream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TailStream").field("ended", &self.waiting.is_none()).finish()
    }
}

impl Stream for TailStream {
    type Item = Result<TailMessage, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(None) };
        let (tail, message) = ready!(waiting.as_mut().poll(context));
        self.waiting = message.is_ok().then(|| Box::pin(step(tail)) as Step);
        Poll::Ready(Some(message))
    }
}
