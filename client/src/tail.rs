//! Following a namespace across broken connections.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use steeple_wire::events::v1::tail_response::Content;
use steeple_wire::events::v1::{
    Event, StartPosition, StreamStatusRequest, StreamStatusResponse, TailRequest, TailResponse,
};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::Namespace;
use crate::call::calls;
use crate::error::{Error, Failure, sort};
use crate::retry::Backoff;

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
    /// Fail when the node cannot be reached for so long; without it the tail tries for ever.
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
        /// Whether the tail has caught up with the node.
        live: bool,
    },
}

/// Events of a namespace in order, from history and then live, without gap or repetition. When the connection breaks it is
/// made again behind the last message.
#[derive(Debug)]
pub struct Tail {
    namespace: Namespace,
    options: TailOptions,
    cursor: Option<String>,
    connection: Option<Streaming<TailResponse>>,
    trouble: Option<Trouble>,
}

/// A row of failed attempts.
#[derive(Debug)]
struct Trouble {
    began: Instant,
    backoff: Backoff,
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
        Tail { namespace: self.clone(), options, cursor, connection: None, trouble: None }
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
    /// When the tail cannot go on: the cursor is of no use (any more), or the node was unreachable for too long. Asking
    /// again tries again.
    pub async fn next(&mut self) -> Result<TailMessage, Error> {
        loop {
            match self.attempt().await {
                Ok(message) => {
                    self.trouble = None;
                    self.cursor = Some(message.cursor.clone());
                    return Ok(message);
                }
                Err(status) => self.note(&status)?,
            }
        }
    }

    /// This tail as a stream, which ends after the first error.
    #[must_use]
    pub fn into_stream(self) -> TailStream {
        TailStream { waiting: Some(Box::pin(step(self))) }
    }

    async fn attempt(&mut self) -> Result<TailMessage, Status> {
        if let Some(trouble) = &self.trouble {
            sleep_until(trouble.wake).await;
        }
        let silence = self.namespace.client().options().tail_silence_max;
        let heard = timeout(silence, self.receive()).await.map_err(|_| Status::unavailable("the node fell silent"));
        heard?.and_then(read)
    }

    async fn receive(&mut self) -> Result<TailResponse, Status> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        let Some(connection) = &mut self.connection else { return Err(Status::unavailable("not connected")) };
        connection.message().await?.ok_or_else(|| Status::unavailable("the node ended the tail"))
    }

    async fn connect(&mut self) -> Result<Streaming<TailResponse>, Status> {
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
        Ok(self.namespace.client().streaming_once(request).await?.into_inner())
    }

    async fn cursor_of_now(&self) -> Result<String, Status> {
        let client = self.namespace.client();
        let request = StreamStatusRequest { context: Some(self.namespace.read_context()) };
        Ok(client.unary_once(request, client.options().deadline).await?.into_inner().cursor)
    }

    /// Prepares the next attempt, unless there should be none.
    fn note(&mut self, status: &Status) -> Result<(), Error> {
        self.connection = None;
        let message = match sort(status) {
            Failure::Final(error) => return Err(error),
            Failure::Transient { message, .. } => message,
        };
        let now = Instant::now();
        let backoff = self.namespace.client().options().backoff();
        let trouble = self.trouble.get_or_insert(Trouble { began: now, backoff, wake: now });
        trouble.wake = now + trouble.backoff.pause();
        if self.options.unreachable_max.is_some_and(|longest| trouble.wake > trouble.began + longest) {
            self.trouble = None;
            return Err(Error::Unavailable { message });
        }
        tracing::debug!(%message, "tail broke off, connecting again");
        Ok(())
    }
}

fn read(message: TailResponse) -> Result<TailMessage, Status> {
    let content = match message.content {
        Some(Content::Event(event)) => TailContent::Event(event),
        Some(Content::Progress(progress)) => TailContent::Progress { revision: progress.revision, live: progress.live },
        // From a later protocol: nothing that this client could show, but its cursor counts.
        None => TailContent::Progress { revision: 0, live: false },
    };
    Ok(TailMessage { content, cursor: message.cursor })
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
