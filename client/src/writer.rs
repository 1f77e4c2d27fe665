//! Many mutations under way at a time, over one stream.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use steeple_wire::MESSAGE_BYTES_MAX;
use steeple_wire::common::v1::RequestContext;
use steeple_wire::spire::v1::{BatchRequest, BatchResponse, Mutation};
use steeple_wire::status::ErrorKind;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::batch::{Operation, Outcome, context, share, sort_outcome};
use crate::call::batches_once;
use crate::cluster::{Node, Route};
use crate::error::{Failure, sort};
use crate::retry::{AT_ONCE_MAX, Backoff, REPEATED_MAX, later};
use crate::{Error, Namespace, RequestId};

/// Mutations of one message at the most.
const MESSAGE_MUTATIONS_MAX: usize = 256;

/// Bytes of a message, behind which no more is put into it.
const MESSAGE_BYTES: usize = 512 << 10;

/// Bytes of one mutation at the most: a message that holds nothing else has room for it.
const MUTATION_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (64 << 10);

/// Messages that are sent and not answered. What comes meanwhile travels together.
const MESSAGES_MAX: usize = 8;

/// Mutations that are under way at the most, unless the caller says otherwise.
const IN_FLIGHT_MAX: usize = 1_024;

/// How much a [`Writer`] does at a time.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// Mutations that are handed over and have no outcome yet. [`Writer::write`] waits while there are as many.
    pub in_flight_max: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { in_flight_max: IN_FLIGHT_MAX }
    }
}

/// Carries out mutations in the order in which they are handed over, many at a time, each with an outcome of its own. Cheap to
/// clone.
///
/// They travel over one stream to the node that decides, as many in a message as have come up meanwhile, which costs a
/// fraction of a call for each. Like calls they are sent again under their request ids after a failure, while their deadlines
/// allow. Those whose outcome was unknown keep their order among each other; but what a node turned away and what it had
/// already carried out behind that is not put back into order. Mutations whose order matters when something fails
/// have to wait for each other's outcomes.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::UnboundedSender<Slot>,
    room: Arc<Semaphore>,
    deadline: Duration,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("room", &self.room.available_permits()).finish_non_exhaustive()
    }
}

/// What became of a mutation that a [`Writer`] took, once that is known. It is carried out whether or not anybody waits.
#[derive(Debug)]
pub struct Written {
    id: RequestId,
    outcome: oneshot::Receiver<Outcome>,
}

impl Written {
    /// The id that the mutation has.
    #[must_use]
    pub fn request_id(&self) -> RequestId {
        self.id
    }
}

impl Future for Written {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let id = self.id;
        // The task is gone only with its runtime.
        let gone = || Error::OutcomeUnknown { request: id, message: "the runtime has ended".into() };
        let outcome = Pin::new(&mut self.outcome).poll(context);
        outcome.map(|outcome| outcome.unwrap_or_else(|_| Outcome { revision: 0, answer: Err(gone()) }))
    }
}

impl Namespace {
    /// A way to carry out many mutations at a time. Has to be called within a runtime, whose task goes on until the writer
    /// and its clones are gone and everything has an outcome.
    ///
    /// # Panics
    /// Outside of a runtime.
    #[must_use]
    pub fn writer(&self, options: WriterOptions) -> Writer {
        let (queue, coming) = mpsc::unbounded_channel();
        let task = Task {
            namespace: self.clone(),
            coming,
            is_closed: false,
            waiting: VecDeque::new(),
            sent: VecDeque::new(),
            timeouts: 0,
            heard: Instant::now(),
        };
        tokio::spawn(task.run());
        let room = Arc::new(Semaphore::new(options.in_flight_max.clamp(1, Semaphore::MAX_PERMITS)));
        Writer { queue, room, deadline: self.client().options().deadline }
    }
}

impl Writer {
    /// Hands a mutation over, and returns when there is room for it. Its context is overwritten.
    pub async fn write(&self, mut operation: Operation) -> Written {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        let id = RequestId::random();
        *context(&mut operation) = Some(RequestContext { namespace: String::new(), request_id: id.0.to_vec() });
        let mutation = Mutation { operation: Some(operation) };
        let bytes = prost::Message::encoded_len(&mutation);
        let (answer, outcome) = oneshot::channel();
        if bytes > MUTATION_BYTES_MAX {
            // No node would take it, and it would break the stream for the others.
            let message = format!("the mutation is {bytes} bytes long, {MUTATION_BYTES_MAX} are allowed");
            let refused = Error::Unsuitable { kind: ErrorKind::LimitExceeded, message };
            drop(answer.send(Outcome { revision: 0, answer: Err(refused) }));
            return Written { id, outcome };
        }
        let now = Instant::now();
        let deadline = later(now, self.deadline);
        // Should the task be gone, the outcome says so.
        drop(self.queue.send(Slot {
            id,
            mutation,
            bytes,
            answer,
            deadline,
            doubtful_since: None,
            first_sent: None,
            _permit: permit,
        }));
        Written { id, outcome }
    }
}

/// A mutation without an outcome.
struct Slot {
    id: RequestId,
    mutation: Mutation,
    bytes: usize,
    answer: oneshot::Sender<Outcome>,
    deadline: Instant,
    first_sent: Option<Instant>,
    /// When it was first sent, if it may have been carried out.
    doubtful_since: Option<Instant>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// Until when it may be sent again.
    fn until(&self) -> Instant {
        self.doubtful_since.map_or(self.deadline, |since| self.deadline.min(later(since, REPEATED_MAX)))
    }

    fn doubt(&mut self) {
        self.doubtful_since = self.first_sent;
    }

    fn settle(self, outcome: Outcome) {
        // Whoever wrote it may not care.
        drop(self.answer.send(outcome));
    }

    /// Ends with a refusal of the whole stream. That says nothing about an earlier attempt that may have been carried out.
    fn refuse(self, error: &Error) {
        if self.doubtful_since.is_some() {
            return self.give_up(&error.to_string());
        }
        let error = share(Some(error), self.id);
        self.settle(Outcome { revision: 0, answer: Err(error) });
    }

    /// Gives up, because its time is over.
    fn give_up(self, message: &str) {
        let (request, message) = (self.id, message.to_owned());
        let error = match self.doubtful_since {
            Some(_) => Error::OutcomeUnknown { request, message },
            None => Error::Unavailable { message },
        };
        self.settle(Outcome { revision: 0, answer: Err(error) });
    }
}

/// Sends what a writer takes.
struct Task {
    namespace: Namespace,
    coming: mpsc::UnboundedReceiver<Slot>,
    /// Nothing more will come.
    is_closed: bool,
    /// Not sent on the current stream yet, in order.
    waiting: VecDeque<Slot>,
    /// Messages that are not answered, in order.
    sent: VecDeque<Vec<Slot>>,
    /// Streams in a row that were given up because a node took too long.
    timeouts: u32,
    /// When the node last gave a sign of life, or was asked for one.
    heard: Instant,
}

/// A stream to a node.
struct Lane {
    requests: mpsc::Sender<BatchRequest>,
    answers: Streaming<BatchResponse>,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = self.namespace.client().options().backoff();
        let mut at_once = 0;
        while self.something_to_send().await {
            let answered = self.namespace.seen_revision();
            let Err((status, elsewhere)) = self.serve().await else { continue };
            self.take_back(&status);
            if self.namespace.seen_revision() > answered {
                (backoff, at_once) = (self.namespace.client().options().backoff(), 0);
            }
            match sort(&status) {
                Failure::Final(error) => self.waiting.drain(..).for_each(|slot| slot.refuse(&error)),
                Failure::Transient { message, .. } => {
                    tracing::debug!(%message, "a stream of mutations broke");
                    self.pause(&mut backoff, &mut at_once, elsewhere, &status, &message).await;
                }
            }
        }
    }

    /// Waits until there is something to be sent; `false` when there will never be.
    async fn something_to_send(&mut self) -> bool {
        if self.waiting.is_empty() {
            match self.coming.recv().await {
                Some(slot) => self.waiting.push_back(slot),
                None => return false,
            }
        }
        true
    }

    /// Lets some time pass before the next attempt, and gives up what has none left.
    async fn pause(
        &mut self,
        backoff: &mut Backoff,
        at_once: &mut u32,
        elsewhere: bool,
        status: &Status,
        message: &str,
    ) {
        if elsewhere && *at_once < AT_ONCE_MAX {
            *at_once += 1;
        } else {
            *at_once = 0;
            sleep_until(Instant::now() + backoff.pause_after(status)).await;
        }
        let now = Instant::now();
        for slot in std::mem::take(&mut self.waiting) {
            if slot.until() <= now { slot.give_up(message) } else { self.waiting.push_back(slot) }
        }
    }

    /// Puts what was sent and not answered back to the front, in its order.
    fn take_back(&mut self, status: &Status) {
        let may_have_happened = match sort(status) {
            Failure::Transient { may_have_happened, .. } => may_have_happened,
            // Said in the place of the answer to the oldest message, of which nothing was carried out.
            Failure::Final(_) => false,
        };
        for (place, mut message) in std::mem::take(&mut self.sent).into_iter().enumerate().rev() {
            // The status is about the oldest message.
            if place > 0 || may_have_happened {
                message.iter_mut().for_each(Slot::doubt);
            }
            message.into_iter().rev().for_each(|slot| self.waiting.push_front(slot));
        }
    }

    /// Sends and receives until there is nothing to do for now, or something fails: with the status, and whether another node
    /// is there to be asked at once.
    async fn serve(&mut self) -> Result<(), (Status, bool)> {
        let client = self.namespace.client().clone();
        client.discover_when_due();
        let node = client.cluster().pick(Route::Leader, None).map_err(|status| (status, false))?;
        client.check(Route::Leader, &node).await.map_err(|failed| (failed.status, failed.elsewhere))?;
        let served = self.serve_at(&node).await;
        match served {
            Ok(()) => Ok(()),
            Err(status) => {
                let elsewhere = client.cluster().failed(Route::Leader, &node, &status);
                Err((status, elsewhere))
            }
        }
    }

    async fn serve_at(&mut self, node: &Arc<Node>) -> Result<(), Status> {
        let (requests, stream) = mpsc::channel(MESSAGES_MAX);
        // A node answers nothing before it has the first message.
        self.send_next(&requests)?;
        let opening = batches_once(node, ReceiverStream::new(stream));
        let late = self.too_late();
        let answers = tokio::select! {
            answers = opening => answers?.into_inner(),
            () = sleep_until(late) => return Err(self.late(node)),
        };
        let mut lane = Lane { requests, answers };
        loop {
            while self.sent.len() < MESSAGES_MAX && !self.waiting.is_empty() {
                self.send_next(&lane.requests)?;
            }
            if self.sent.is_empty() && self.is_closed {
                return Ok(());
            }
            let late = self.too_late();
            tokio::select! {
                biased;
                answer = lane.answers.message() => {
                    let ended = || ErrorKind::Unavailable.status("the node has ended the stream");
                    self.settle(answer?.ok_or_else(ended)?)?;
                    (self.timeouts, self.heard) = (0, Instant::now());
                    self.namespace.client().cluster().succeeded(Route::Leader, node);
                }
                slot = self.coming.recv(), if !self.is_closed && self.waiting.len() < MESSAGE_MUTATIONS_MAX => match slot {
                    Some(slot) => {
                        self.waiting.push_back(slot);
                        self.take_what_has_come();
                    }
                    None => self.is_closed = true,
                },
                () = sleep_until(late) => return Err(self.late(node)),
            }
        }
    }

    /// What was handed over meanwhile, as much as fits into a message.
    fn take_what_has_come(&mut self) {
        while self.waiting.len() < MESSAGE_MUTATIONS_MAX {
            let Ok(slot) = self.coming.try_recv() else { return };
            self.waiting.push_back(slot);
        }
    }

    /// When the node has taken too long, or the time of what it was sent is over.
    fn too_late(&self) -> Instant {
        let client = self.namespace.client();
        let Some(first) = self.sent.front().and_then(|message| message.first()) else {
            return later(Instant::now(), Duration::MAX);
        };
        if client.cluster().len() < 2 {
            return first.until();
        }
        let patience = client.options().node_patience.saturating_mul(1 << self.timeouts.min(16));
        first.until().min(later(self.heard, patience))
    }

    fn late(&mut self, node: &Arc<Node>) -> Status {
        self.timeouts += 1;
        Status::deadline_exceeded(format!("{node:?} did not answer in time"))
    }

    /// Sends the next message.
    fn send_next(&mut self, requests: &mpsc::Sender<BatchRequest>) -> Result<(), Status> {
        self.take_what_has_come();
        let (mut count, mut bytes) = (0, 0);
        for slot in self.waiting.iter().take(MESSAGE_MUTATIONS_MAX) {
            if count > 0 && bytes + slot.bytes > MESSAGE_BYTES {
                break;
            }
            (count, bytes) = (count + 1, bytes + slot.bytes);
        }
        let now = Instant::now();
        let mut message: Vec<_> = self.waiting.drain(..count).collect();
        message.iter_mut().for_each(|slot| slot.first_sent = slot.first_sent.or(Some(now)));
        if self.sent.is_empty() {
            self.heard = now;
        }
        let mutations = message.iter().map(|slot| slot.mutation.clone()).collect();
        self.sent.push_back(message);
        // There is room for all that may be unanswered; it is closed only when the stream is over.
        let request = BatchRequest { namespace: self.namespace.name().to_owned(), mutations };
        requests.try_send(request).map_err(|_| Status::unavailable("the stream is over"))
    }

    /// Takes up the answer to the oldest message; fails when some of it has to be sent again.
    fn settle(&mut self, answer: BatchResponse) -> Result<(), Status> {
        let Some(message) = self.sent.pop_front() else {
            return Err(Status::data_loss("the node has answered what was not sent"));
        };
        if message.len() != answer.outcomes.len() {
            let text = format!("{} outcomes for {} mutations", answer.outcomes.len(), message.len());
            self.sent.push_front(message);
            return Err(Status::data_loss(text));
        }
        let (mut open, mut failed) = (Vec::new(), None);
        for (mut slot, outcome) in message.into_iter().zip(answer.outcomes) {
            match sort_outcome(outcome) {
                Ok(outcome) => {
                    self.namespace.see(outcome.revision);
                    slot.settle(outcome);
                }
                Err(status) => {
                    if matches!(sort(&status), Failure::Transient { may_have_happened: true, .. }) {
                        slot.doubt();
                    }
                    open.push(slot);
                    failed = Some(status);
                }
            }
        }
        let Some(status) = failed else { return Ok(()) };
        // What was sent behind it is under way, and will be sent again behind it.
        let behind = std::mem::take(&mut self.sent).into_iter().flatten().map(|mut slot| {
            slot.doubt();
            slot
        });
        let later = std::mem::take(&mut self.waiting);
        self.waiting = open.into_iter().chain(behind).chain(later).collect();
        Err(status)
    }
}
