//! Several mutations in one message, each with an outcome of its own, and streams of such messages.

mod outcomes;

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use prost::Message;
use steeple_engine::domain::Command;
use steeple_engine::ids::{RequestId, Revision};
use steeple_engine::spire::{self, bundles, nodes};
use steeple_wire::common::v1::RequestContext;
use steeple_wire::spire::v1::mutation::Operation;
use steeple_wire::spire::v1::mutation_outcome::Result as Answer;
use steeple_wire::spire::v1::{BatchRequest, MutationOutcome};
use steeple_wire::status::ErrorKind;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use self::outcomes::{EntryAnswer, Outcomes};
use super::answers::BatchResponse;
use super::mutations::{Mutation, Steps};
use super::scope::{Scope, request_id};
use super::{errors, limits, sending};
use crate::node::{Accepted, CarriedOut, NOTICES_MAX, Node, Submitted};

/// How long the first batch of a stream may be on its way.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);

/// Answers that wait for a caller to take them.
const ANSWERS_WAITING_MAX: usize = 4;

/// Carries a batch out; the revision is the newest one that it made.
pub(crate) async fn carry_out(node: &Node, batch: BatchRequest) -> Result<(BatchResponse, Revision), Status> {
    let scope = Scope::open(node, &batch.namespace).await?;
    submit(&scope, &batch.namespace.clone(), batch).await?.finish().await
}

/// A batch that was submitted.
struct Pending {
    scope: Scope,
    /// In the order of the batch; those without a way to finish were refused before they were submitted.
    mutations: Vec<Result<Finish, Status>>,
    submitted: Submitted,
}

/// How an answer of the engine becomes one of a mutation, and what to go on with when it is not done in one step.
struct Finish {
    answer: Box<dyn FnOnce(spire::Answer, Steps) -> Result<Answer, Status> + Send>,
    /// For an answer that is a registration entry alone.
    entry: Option<EntryAnswer>,
    again: Option<(Option<RequestId>, spire::Command)>,
}

/// A mutation that is ready to be submitted.
struct Prepared {
    request: Option<RequestId>,
    command: spire::Command,
    finish: Finish,
}

/// Hands a batch to the node. It returns when all of it is in the line, so that what is submitted behind it comes after it.
async fn submit(scope: &Scope, namespace: &str, batch: BatchRequest) -> Result<Pending, Status> {
    limits::check_count("mutations", batch.mutations.len(), limits::BATCH_MUTATIONS_MAX)?;
    let mut commands = Vec::with_capacity(batch.mutations.len());
    let prepared = batch.mutations.into_iter().map(|mutation| {
        let Prepared { request, command, finish } = prepare(scope, namespace, mutation.operation)?;
        commands.push((request, Command::Spire(command)));
        Ok(finish)
    });
    let mutations = prepared.collect();
    let submitted = scope.node.submit_all(scope.namespace, commands).await;
    Ok(Pending { scope: scope.clone(), mutations, submitted })
}

impl Pending {
    /// Waits until all of it is done, or refused; the revision is the newest one that it made.
    async fn finish(self) -> Result<(BatchResponse, Revision), Status> {
        let mut submitted = self.submitted.carried_out().await.into_iter();
        let mut outcomes = Outcomes::default();
        for mutation in self.mutations {
            match mutation {
                Ok(finish) => match submitted.next() {
                    Some(Ok(done)) => finish.finish(&self.scope, done, &mut outcomes).await,
                    Some(Err(error)) => outcomes.put(Err(errors::not_submitted(&error))),
                    None => outcomes.put(Err(errors::panicked())),
                },
                Err(refused) => outcomes.put(Err(refused)),
            }
        }
        outcomes.answer()
    }
}

impl Finish {
    async fn finish(self, scope: &Scope, first: CarriedOut, outcomes: &mut Outcomes) {
        match (self.entry, first.entry()) {
            (Some(answer), Some(entry)) => outcomes.put_entry(first.revision, answer, entry),
            _ => outcomes.put(self.read(scope, first).await),
        }
    }

    async fn read(self, scope: &Scope, first: CarriedOut) -> Result<MutationOutcome, Status> {
        let first = first.read().map_err(|error| errors::not_submitted(&error))?;
        let (accepted, changed) = match (first.answer.progress(), self.again) {
            (Some((changed, true)), Some((request, command))) => {
                let (rest, more) =
                    scope.submit_rest(request, command).await.map_err(|error| errors::not_submitted(&error))?;
                let mut notices = first.notices;
                notices.extend(rest.notices);
                notices.truncate(NOTICES_MAX);
                (Accepted { notices, ..rest }, changed + more)
            }
            (progress, _) => (first, progress.map_or(0, |(changed, _)| changed)),
        };
        let steeple_engine::domain::Answer::Spire(answer) = accepted.answer else {
            return Err(Status::internal("the store gave an answer of another domain"));
        };
        let answer = (self.answer)(answer, Steps { changed, notices: accepted.notices })?;
        Ok(MutationOutcome { revision: accepted.revision.0, result: Some(answer) })
    }
}

/// Answers a stream of batches, each in its turn. They are submitted as they come, while earlier ones are under way. All are
/// about one namespace, because that is looked at before the stream begins.
pub(crate) async fn stream(
    node: Node,
    mut batches: Streaming<BatchRequest>,
    stopping: watch::Receiver<bool>,
) -> Result<ReceiverStream<Result<BatchResponse, Status>>, Status> {
    let late = |_| Err(Status::deadline_exceeded("the first batch of the stream did not come in time"));
    let first = tokio::time::timeout(FIRST_PATIENCE, batches.message()).await.unwrap_or_else(late)?;
    let first = first.ok_or_else(|| Status::invalid_argument("the stream has no batch"))?;
    let scope = Scope::open(&node, &first.namespace).await?;
    let (answers, stream) = mpsc::channel(ANSWERS_WAITING_MAX);
    let streamed = Streamed { scope, namespace: first.namespace.clone(), answers, pending: VecDeque::new(), bytes: 0 };
    tokio::spawn(streamed.run(first, batches, stopping));
    Ok(ReceiverStream::new(stream))
}

/// A stream of batches that is being served.
struct Streamed {
    scope: Scope,
    namespace: String,
    answers: mpsc::Sender<Result<BatchResponse, Status>>,
    /// What is under way, in order, with the bytes of each request.
    pending: VecDeque<(usize, Running)>,
    bytes: usize,
}

type Running = Pin<Box<dyn Future<Output = Result<(BatchResponse, Revision), Status>> + Send>>;

impl Streamed {
    /// Serves until the caller has said all and heard all, or goes, or something is wrong with the stream, or the node stops.
    async fn run(mut self, first: BatchRequest, batches: Streaming<BatchRequest>, stopping: watch::Receiver<bool>) {
        let mut batches = Some(batches);
        let answers = self.answers.clone();
        let mut stop = std::pin::pin!(stop(self.scope.node.clone(), stopping));
        let mut end = self.take(first).await.err();
        loop {
            if end.is_some() {
                batches = None;
            }
            if batches.is_none() && self.pending.is_empty() {
                break;
            }
            let has_room = self.pending.len() < limits::STREAM_BATCHES_MAX && self.bytes < limits::STREAM_BYTES_MAX;
            tokio::select! {
                // What is done is told first.
                biased;
                () = answers.closed() => return,
                answer = first_of(&mut self.pending) => {
                    let Some((bytes, _)) = self.pending.pop_front() else { return };
                    self.bytes -= bytes;
                    let ends = answer.is_err();
                    if sending::send(&answers, answer.map(|(answer, _)| answer)).await.is_none() || ends {
                        return;
                    }
                }
                next = next_of(&mut batches), if has_room && batches.is_some() => match next {
                    Ok(Some(batch)) => end = self.take(batch).await.err(),
                    Ok(None) => batches = None,
                    Err(status) => end = Some(status),
                },
                () = &mut stop, if batches.is_some() => {
                    end = Some(ErrorKind::Unavailable.status("the node is stopping"));
                }
            }
        }
        if let Some(status) = end {
            sending::send(&answers, Err(status)).await;
        }
    }

    /// Submits a batch behind those before it.
    async fn take(&mut self, batch: BatchRequest) -> Result<(), Status> {
        if !batch.namespace.is_empty() && batch.namespace != self.namespace {
            return Err(Status::invalid_argument("a batch names another namespace than the first one of the stream"));
        }
        let bytes = batch.encoded_len();
        let pending = submit(&self.scope, &self.namespace, batch).await?;
        self.bytes += bytes;
        self.pending.push_back((bytes, Box::pin(pending.finish())));
        Ok(())
    }
}

/// Waits until the node stops, or takes no mutations any more.
async fn stop(node: Node, mut stopping: watch::Receiver<bool>) {
    tokio::select! {
        _ = stopping.wait_for(|stopping| *stopping) => {}
        _ = node.failed() => {}
    }
}

/// The outcome of the oldest batch; never when there is none.
async fn first_of(pending: &mut VecDeque<(usize, Running)>) -> Result<(BatchResponse, Revision), Status> {
    match pending.front_mut() {
        Some((_, running)) => running.await,
        None => std::future::pending().await,
    }
}

/// The next batch; never when no more are taken.
async fn next_of(batches: &mut Option<Streaming<BatchRequest>>) -> Result<Option<BatchRequest>, Status> {
    match batches {
        Some(batches) => batches.message().await,
        None => std::future::pending().await,
    }
}

fn prepare(scope: &Scope, namespace: &str, operation: Option<Operation>) -> Result<Prepared, Status> {
    let entry = operation.as_ref().and_then(EntryAnswer::to);
    macro_rules! prepare {
        ($($variant:ident)*) => {
            match operation {
                $(Some(Operation::$variant(mutation)) => prepare_one(scope, namespace, mutation, entry, Answer::$variant),)*
                None => Err(Status::invalid_argument("a mutation of the batch has no operation that this node knows")),
            }
        };
    }
    prepare! {
        CreateBundle SetBundle UpdateBundle AppendBundle DeleteBundle TaintX509Ca RevokeX509Ca TaintJwtKey RevokeJwtKey
        CreateRegistrationEntry CreateOrReturnRegistrationEntry UpdateRegistrationEntry DeleteRegistrationEntry
        CreateAttestedNode UpdateAttestedNode DeleteAttestedNode SetNodeSelectors CreateJoinToken DeleteJoinToken
        CreateFederationRelationship UpdateFederationRelationship DeleteFederationRelationship SetCaJournal
    }
}

fn prepare_one<M: Mutation>(
    scope: &Scope,
    namespace: &str,
    mut mutation: M,
    entry: Option<EntryAnswer>,
    wrap: impl FnOnce(M::Answer) -> Answer + Send + 'static,
) -> Result<Prepared, Status> {
    let context: RequestContext = mutation.context().take().unwrap_or_default();
    if !context.namespace.is_empty() && context.namespace != namespace {
        return Err(Status::invalid_argument("a mutation of the batch names another namespace than the batch"));
    }
    let command = mutation.command(scope.node.clock().now())?;
    let request = request_id(&context.request_id)?.filter(|_| M::REMEMBERED);
    let again = goes_in_steps(&command).then(|| (request, command.clone()));
    let answer = Box::new(move |answer, steps| M::answer(answer, steps).map(wrap));
    Ok(Prepared { request, command, finish: Finish { answer, entry, again } })
}

/// Whether a command may take more than one step. No other one that a batch may hold does.
fn goes_in_steps(command: &spire::Command) -> bool {
    matches!(
        command,
        spire::Command::Bundle(bundles::Command::Delete { .. }) | spire::Command::Node(nodes::Command::Delete { .. })
    )
}
