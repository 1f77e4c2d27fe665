//! Following a namespace across broken connections.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use steeple_wire::events::v1::tail_response::Content;
use steeple_wire::events::v1::{
    Event, StartPosition, StreamStatusRequest, StreamStatusResponse, TailRequest, TailResponse,
};
use steeple_wire::status::ErrorKind;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::Namespace;
use crate::call::{calls, streaming_once, unary_once};
use crate::cluster::{Node, Route};
use crate::error::{Error, Failure, sort};
use crate::retry::{Backoff, Failed, Turn, later};

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
        /// Whether the tail has caught up, with a node that is in touch with its group.
        live: bool,
    },
}

/// Events of a namespace in order, from history and then live, without gap or repetition. When the connection breaks the
/// tail goes on behind its last message, at another node if there is one; so it does when its node has been out of touch
/// with the group for longer than [`Options::tail_silence_max`](crate::Options::tail_silence_max), or has left the group.
#[derive(Debug)]
pub struct Tail {
    namespace: Namespace,
    options: TailOptions,
    cursor: Option<String>,
    /// A connection in the making, which outlives the call that began it.
    connecting: Option<Connecting>,
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
    since: Instant,
    /// Since when the next message is waited for, however often whoever waits gave up and came back.
    waiting_since: Option<Instant>,
    /// When the node last said that it is live, or something new.
    moved_at: Instant,
}

impl Connection {
    fn new(node: Arc<Node>, messages: Streaming<TailResponse>) -> Self {
        let now = Instant::now();
        Self { node, messages, since: now, waiting_since: None, moved_at: now }
    }

    /// The next message, unless the node is silent for too long.
    async fn hear(&mut self, silence_max: Duration) -> Result<TailResponse, Status> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let heard = timeout_at(later(since, silence_max), self.messages.message()).await;
        self.waiting_since = None;
        let heard = heard.unwrap_or_else(|_| Err(Status::unavailable("the node fell silent")))?;
        heard.ok_or_else(|| Status::unavailable("the node ended the tail"))
    }
}

/// What connecting came to.
struct Connected {
    /// Where the tail stands by then.
    cursor: Option<String>,
    /// With the node that failed, if it came to one.
    result: Result<Connection, (Option<Arc<Node>>, Failed)>,
}

struct Connecting(Pin<Box<dyn Future<Output = Connected> + Send>>);

impl fmt::Debug for Connecting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connecting")
    }
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
        Tail {
            namespace: self.clone(),
            options,
            cursor,
            connecting: None,
            connection: None,
            avoided: None,
            trouble: None,
        }
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

    /// The next message. May be dropped while it waits without losing anything: the next call goes on where it was.
    ///
    /// # Errors
    /// When the tail cannot go on: the cursor is of no use (any more), or no node could be reached for too long. Asking
    /// again tries again.
    pub async fn next(&mut self) -> Result<TailMessage, Error> {
        loop {
            match self.attempt().await {
                Ok(message) => {
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
        let silence_max = self.namespace.client().options().tail_silence_max;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        // Put back before waiting: whoever waits may give up.
        let connection = self.connection.insert(connection);
        match connection.hear(silence_max).await {
            Ok(message) => self.take(message),
            Err(status) => {
                let node = Arc::clone(&connection.node);
                Err(self.failed_at(node, status))
            }
        }
    }

    /// Takes a message up, unless it says that another node should be asked.
    fn take(&mut self, message: TailResponse) -> Result<TailMessage, Failed> {
        let message = read(message);
        let client = self.namespace.client();
        let Some(connection) = &mut self.connection else { return Ok(message) };
        let (now, options, cluster) = (Instant::now(), client.options(), client.cluster());
        let mut reason = None;
        match message.content {
            TailContent::Event(ref event) => {
                connection.moved_at = now;
                self.namespace.see(event.revision);
            }
            TailContent::Progress { revision, live } => {
                if live || self.cursor.as_ref() != Some(&message.cursor) {
                    connection.moved_at = now;
                }
                client.discover_when_due();
                if cluster.len() > 1 && now.duration_since(connection.moved_at) >= options.tail_silence_max {
                    reason = Some("the node is out of touch with its group");
                } else if !cluster.knows(&connection.node) {
                    reason = Some("the node does not belong to the group any more");
                }
                self.namespace.see(revision);
            }
        }
        if let Some(reason) = reason {
            let node = Arc::clone(&connection.node);
            return Err(self.failed_at(node, ErrorKind::Unavailable.status(reason)));
        }
        if now.duration_since(connection.since) >= options.pause_max {
            self.trouble = None;
        } else if let Some(trouble) = &mut self.trouble {
            // The pauses stay long: what ends after its first message each time is no connection.
            (trouble.began, trouble.behind_since) = (now, None);
        }
        Ok(message)
    }

    /// Connects, or goes on with that where an earlier call left it.
    async fn connect(&mut self) -> Result<Connection, Failed> {
        let connecting = match &mut self.connecting {
            Some(connecting) => connecting,
            none => none.insert(Connecting(Box::pin(connect(
                self.namespace.clone(),
                self.options.clone(),
                self.cursor.clone(),
                self.avoided.clone(),
            )))),
        };
        let Connected { cursor, result } = connecting.0.as_mut().await;
        self.connecting = None;
        self.cursor = cursor;
        result.map_err(|(node, failed)| {
            self.avoided = node.or(self.avoided.take());
            failed
        })
    }

    /// Remembers that a node failed.
    fn failed_at(&mut self, node: Arc<Node>, status: Status) -> Failed {
        let failed = failed_at(&self.namespace, &node, status);
        self.avoided = Some(node);
        failed
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
                if now.duration_since(since) >= deadline {
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
        let lasts = trouble.wake.duration_since(trouble.began);
        if self.options.unreachable_max.is_some_and(|longest| lasts > longest) {
            self.trouble = None;
            return Err(Error::Unavailable { message });
        }
        tracing::debug!(%message, "tail broke off, connecting again");
        Ok(())
    }
}

/// Makes a connection, from the cursor or from where the options say.
async fn connect(
    namespace: Namespace,
    options: TailOptions,
    mut cursor: Option<String>,
    avoided: Option<Arc<Node>>,
) -> Connected {
    let nobody = |failed| (None, failed);
    if cursor.is_none() && options.start == TailStart::Now {
        // With a cursor from the beginning, nothing is lost when the connection breaks before the first message.
        match cursor_of_now(&namespace).await {
            Ok(now) => cursor = Some(now),
            Err(failed) => return Connected { cursor, result: Err(nobody(failed)) },
        }
    }
    let start = match options.start {
        TailStart::Oldest => StartPosition::Oldest,
        TailStart::Now | TailStart::Cursor(_) => StartPosition::Now,
    };
    let request = TailRequest {
        namespace: namespace.name().to_owned(),
        streams: options.streams,
        keys: options.keys,
        cursor: cursor.clone().unwrap_or_default(),
        start: start.into(),
        without_changes: options.without_changes,
    };
    Connected { cursor, result: begin(&namespace, request, avoided.as_deref()).await }
}

/// Begins a tail at some node, if possible another one than `avoided`.
async fn begin(
    namespace: &Namespace,
    request: TailRequest,
    avoided: Option<&Node>,
) -> Result<Connection, (Option<Arc<Node>>, Failed)> {
    let client = namespace.client();
    client.discover_when_due();
    let node = client.cluster().pick(Route::Any, avoided.map(Node::address)).map_err(|status| (None, status.into()))?;
    client.check(Route::Any, &node).await.map_err(|failed| (None, failed))?;
    let begun = timeout(client.options().tail_silence_max, streaming_once(&node, request)).await;
    match begun.unwrap_or_else(|_| Err(Status::unavailable("the node did not begin the tail"))) {
        Ok(messages) => {
            client.cluster().succeeded(Route::Any, &node);
            Ok(Connection::new(node, messages.into_inner()))
        }
        Err(status) => {
            let failed = failed_at(namespace, &node, status);
            Err((Some(node), failed))
        }
    }
}

fn failed_at(namespace: &Namespace, node: &Node, status: Status) -> Failed {
    let cluster = namespace.client().cluster();
    let elsewhere = cluster.failed(Route::Any, node, &status) || is_behind(&status) && cluster.len() > 1;
    Failed { status, elsewhere, timed_out: false }
}

async fn cursor_of_now(namespace: &Namespace) -> Result<String, Failed> {
    let client = namespace.client();
    let deadline = client.options().deadline_from_now();
    let turn = Turn { left: deadline.duration_since(Instant::now()), timeouts: 0 };
    let request = StreamStatusRequest { context: Some(namespace.read_context()) };
    let route = namespace.read_route();
    let asked = client.attempt(route, turn, |node, left| async move { unary_once(&node, request, left).await });
    let late = |_| Err(Status::unavailable("no node told where the streams stand").into());
    Ok(timeout_at(deadline, asked).await.unwrap_or_else(late)?.into_inner().cursor)
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
