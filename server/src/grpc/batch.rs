//! Several mutations in one message, each with an outcome of its own.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use prost::Message;
use steeple_engine::ids::Revision;
use steeple_wire::common::v1::RequestContext;
use steeple_wire::spire::v1::mutation::Operation;
use steeple_wire::spire::v1::mutation_outcome::Result as Answer;
use steeple_wire::spire::v1::{BatchRequest, BatchResponse, MutationFailure, MutationOutcome};
use steeple_wire::status::ErrorKind;
use tonic::Status;

use super::limits;
use super::mutations::{self, Mutation};
use super::scope::{Scope, request_id};
use crate::node::Node;

/// A future among others.
type Running<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries a batch out; the revision is the newest one that it made.
pub(crate) async fn carry_out(node: &Node, batch: BatchRequest) -> Result<(BatchResponse, Revision), Status> {
    limits::check_count("mutations", batch.mutations.len(), limits::BATCH_MUTATIONS_MAX)?;
    let scope = Scope::open(node, &batch.namespace).await?;
    let room = Room::new(limits::ANSWER_BYTES_MAX);
    let mut running: Vec<Running<'_, Result<MutationOutcome, Status>>> = Vec::with_capacity(batch.mutations.len());
    for mutation in batch.mutations {
        running.push(Box::pin(outcome(&scope, &batch.namespace, mutation.operation, &room)));
    }
    let outcomes = join_in_order(running).await;
    if let Some(status) = all_not_led(&outcomes) {
        return Err(status);
    }
    let outcomes: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|status| failed(&status))).collect();
    let newest = outcomes.iter().map(|outcome| outcome.revision).max().unwrap_or(0);
    Ok((BatchResponse { outcomes }, Revision(newest)))
}

async fn outcome(
    scope: &Scope,
    namespace: &str,
    operation: Option<Operation>,
    room: &Room,
) -> Result<MutationOutcome, Status> {
    let (answer, revision) = dispatch(scope, namespace, operation).await?;
    Ok(room.admit(MutationOutcome { revision: revision.0, result: Some(answer) }))
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
    bytes: AtomicUsize,
}

impl Room {
    fn new(bytes: usize) -> Self {
        Self { bytes: AtomicUsize::new(bytes) }
    }

    /// The outcome, or only that it was carried out when its answer does not fit any more. A message that is too large
    /// would be lost with all outcomes.
    fn admit(&self, outcome: MutationOutcome) -> MutationOutcome {
        let bytes = outcome.encoded_len() + limits::ITEM_FRAME_BYTES;
        let taken = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        match taken {
            Ok(_) => outcome,
            Err(_) => {
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

async fn dispatch(scope: &Scope, namespace: &str, operation: Option<Operation>) -> Result<(Answer, Revision), Status> {
    macro_rules! dispatch {
        ($($variant:ident)*) => {
            match operation {
                $(
                    Some(Operation::$variant(mutation)) => {
                        let (answer, revision) = one(scope, namespace, mutation).await?;
                        Ok((Answer::$variant(answer), revision))
                    }
                )*
                None => Err(Status::invalid_argument("a mutation of the batch has no operation that this node knows")),
            }
        };
    }
    dispatch! {
        CreateBundle SetBundle UpdateBundle AppendBundle DeleteBundle TaintX509Ca RevokeX509Ca TaintJwtKey RevokeJwtKey
        CreateRegistrationEntry CreateOrReturnRegistrationEntry UpdateRegistrationEntry DeleteRegistrationEntry
        CreateAttestedNode UpdateAttestedNode DeleteAttestedNode SetNodeSelectors CreateJoinToken DeleteJoinToken
        CreateFederationRelationship UpdateFederationRelationship DeleteFederationRelationship SetCaJournal
    }
}

async fn one<M: Mutation>(scope: &Scope, namespace: &str, mut mutation: M) -> Result<(M::Answer, Revision), Status> {
    let context: RequestContext = mutation.context().take().unwrap_or_default();
    if !context.namespace.is_empty() && context.namespace != namespace {
        return Err(Status::invalid_argument("a mutation of the batch names another namespace than the batch"));
    }
    mutations::carry_out(scope, request_id(&context.request_id)?, mutation).await
}

/// Runs futures together and polls them in order, so that what they submit arrives in order.
async fn join_in_order<T>(mut running: Vec<Running<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in running.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(outcome) = future.as_mut().poll(context) {
                *done = Some(outcome);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use steeple_wire::status::LeaderHint;

    use super::*;

    #[tokio::test]
    async fn outcomes_come_in_the_order_of_the_futures() {
        let (first, second) = (tokio::sync::oneshot::channel(), tokio::sync::oneshot::channel());
        let running: Vec<Running<'_, u32>> = vec![
            Box::pin(async { first.1.await.unwrap() }),
            Box::pin(async { second.1.await.unwrap() }),
            Box::pin(async { 3 }),
        ];
        second.0.send(2).unwrap();
        first.0.send(1).unwrap();
        assert_eq!(join_in_order(running).await, [1, 2, 3]);
    }

    #[test]
    fn an_answer_that_does_not_fit_leaves_word_that_it_was_carried_out() {
        let done = |revision, node: &str| {
            let node = steeple_wire::spire::v1::AttestedNode { spiffe_id: node.into(), ..Default::default() };
            let answer = steeple_wire::spire::v1::CreateAttestedNodeResponse { node: Some(node) };
            MutationOutcome { revision, result: Some(Answer::CreateAttestedNode(answer)) }
        };
        let room = Room::new(200);
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
