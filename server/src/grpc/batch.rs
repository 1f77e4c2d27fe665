//! Several mutations in one message, each with an outcome of its own, and streams of such messages.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use prost::Message;
use steeple_engine::domain::Command;
use steeple_engine::ids::{RequestId, Revision};
use steeple_engine::spire::{self, bundles};
use steeple_wire::common::v1::RequestContext;
use steeple_wire::spire::v1::mutation::Operation;
use steeple_wire::spire::v1::mutation_outcome::Result as Answer;
use steeple_wire::spire::v1::{BatchRequest, BatchResponse, MutationFailure, MutationOutcome};
use steeple_wire::status::ErrorKind;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::mutations::{Mutation, Steps};
use super::scope::{Scope, request_id};
use super::{errors, limits, sending};
use crate::node::{Accepted, NOTICES_MAX, Node, Submitted};

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
        let mut submitted = self.submitted.outcomes().await.into_iter();
        let mut room = Room { bytes: limits::ANSWER_BYTES_MAX };
        let mut outcomes = Vec::with_capacity(self.mutations.len());
        for mutation in self.mutations {
            let outcome = match mutation {
                Ok(finish) => match submitted.next() {
                    Some(Ok(accepted)) => finish.finish(&self.scope, accepted).await,
                    Some(Err(error)) => Err(errors::not_submitted(&error)),
                    None => Err(errors::panicked()),
                },
                Err(refused) => Err(refused),
            };
            outcomes.push(outcome.map(|outcome| room.admit(outcome)));
        }
        if let Some(status) = all_not_led(&outcomes) {
            return Err(status);
        }
        let outcomes: Vec<_> =
            outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|status| failed(&status))).collect();
        let newest = outcomes.iter().map(|outcome| outcome.revision).max().unwrap_or(0);
        Ok((BatchResponse { outcomes }, Revision(newest)))
    }
}

impl Finish {
    async fn finish(self, scope: &Scope, first: Accepted) -> Result<MutationOutcome, Status> {
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

/// The status of the whole batch when this node decided none of it, which says where to go.
fn all_not_led(outcomes: &[Result<MutationOutcome, Status>]) -> Option<Status> {
    let not_led = |outcome: &Result<_, Status>| match outcome {
        Err(status) => ErrorKind::of(status) == Some(ErrorKind::NotLeader),
        Ok(_) => false,
    };
    let last = outcomes.last()?.as_ref().err()?;
    outcomes.iter().all(not_led).then(|| last.clone())
}

fn failed(status: &Status) -> MutationOutcome {
    MutationOutcome { revision: 0, result: Some(Answer::Failure(failure(status))) }
}

/// What is left of the message for answers. Failures need none of it: they are short.
struct Room {
    bytes: usize,
}

impl Room {
    /// The outcome, or only that it was carried out when its answer does not fit any more. A message that is too large
    /// would be lost with all outcomes.
    fn admit(&mut self, outcome: MutationOutcome) -> MutationOutcome {
        let bytes = outcome.encoded_len() + limits::ITEM_FRAME_BYTES;
        match self.bytes.checked_sub(bytes) {
            Some(left) => {
                self.bytes = left;
                outcome
            }
            None => {
                let text = "the mutation was carried out, but its answer does not fit into that of the batch";
                let failure = failure(&ErrorKind::AnswerTooLarge.status(text));
                MutationOutcome { revision: outcome.revision, result: Some(Answer::Failure(failure)) }
            }
        }
    }
}

fn failure(status: &Status) -> MutationFailure {
    MutationFailure {
        code: status.code().into(),
        message: status.message().to_owned(),
        error: ErrorKind::of(status).map(|kind| kind.text().to_owned()).unwrap_or_default(),
    }
}

fn prepare(scope: &Scope, namespace: &str, operation: Option<Operation>) -> Result<Prepared, Status> {
    macro_rules! prepare {
        ($($variant:ident)*) => {
            match operation {
                $(Some(Operation::$variant(mutation)) => prepare_one(scope, namespace, mutation, Answer::$variant),)*
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
    Ok(Prepared { request, command, finish: Finish { answer, again } })
}

/// Whether a command may take more than one step. No other one that a batch may hold does.
fn goes_in_steps(command: &spire::Command) -> bool {
    matches!(command, spire::Command::Bundle(bundles::Command::Delete { .. }))
}

#[cfg(test)]
mod tests {
    use steeple_wire::status::LeaderHint;

    use super::*;

    #[test]
    fn an_answer_that_does_not_fit_leaves_word_that_it_was_carried_out() {
        let done = |revision, node: &str| {
            let node = steeple_wire::spire::v1::AttestedNode { spiffe_id: node.into(), ..Default::default() };
            let answer = steeple_wire::spire::v1::CreateAttestedNodeResponse { node: Some(node) };
            MutationOutcome { revision, result: Some(Answer::CreateAttestedNode(answer)) }
        };
        let mut room = Room { bytes: 200 };
        assert_eq!(room.admit(done(1, "n")), done(1, "n"));
        let omitted = room.admit(done(2, &"n".repeat(300)));
        let Some(Answer::Failure(failure)) = omitted.result else { panic!("{omitted:?}") };
        assert_eq!((omitted.revision, failure.error.as_str()), (2, "answer-too-large"));
        assert_eq!(room.admit(done(3, "n")), done(3, "n"), "what fits still goes");
    }

    #[test]
    fn a_batch_of_which_nothing_was_decided_is_refused_as_one() {
        let hint = LeaderHint { node: Some(2), address: Some("node-2:7400".into()) };
        let not_led = || Err(hint.status("text"));
        let status = all_not_led(&[not_led(), not_led()]).unwrap();
        assert_eq!(LeaderHint::of(&status), Some(hint.clone()));
        assert!(all_not_led(&[not_led(), Ok(MutationOutcome::default())]).is_none());
        assert!(all_not_led(&[not_led(), Err(ErrorKind::OutcomeUnknown.status("text"))]).is_none());
        assert!(all_not_led(&[]).is_none());
    }

    #[test]
    fn failures_say_what_a_status_says() {
        let failed = failure(&ErrorKind::OutcomeUnknown.status("text"));
        assert_eq!((failed.code, failed.error.as_str()), (10, "outcome-unknown"));
        let failed = failure(&Status::not_found("datastore-sql: record not found"));
        assert_eq!((failed.code, failed.error.as_str()), (5, ""));
    }
}
