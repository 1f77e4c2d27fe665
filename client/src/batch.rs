//! Several mutations in one message.

use std::sync::{Mutex, PoisonError};

use steeple_wire::common::v1::RequestContext;
pub use steeple_wire::spire::v1::mutation::Operation;
use steeple_wire::spire::v1::mutation_outcome::Result as Answer;
use steeple_wire::spire::v1::{BatchRequest, BatchResponse, Mutation, MutationFailure, MutationOutcome};
use steeple_wire::status::{ERROR_HEADER, ErrorKind, refusal};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::call::{calls, unary_once};
use crate::cluster::Route;
use crate::error::{Failure, sort};
use crate::retry::{Stake, retry};
use crate::{Error, Namespace, RequestId};

calls! { "steeple.spire.v1.Datastore", plain:
    "Batch": BatchRequest => BatchResponse,
}

/// What became of one mutation of a batch.
#[derive(Debug)]
pub struct Outcome {
    /// The event that it made, or the state that was seen when nothing had to change; 0 when it failed.
    pub revision: u64,
    /// The answer, in the variant that is named like the operation. An error of the kind `answer-too-large` with a
    /// revision is about the answer alone: the mutation was carried out.
    pub answer: Result<Answer, Error>,
}

impl Namespace {
    /// Carries out several mutations, each on its own and in this order, and returns as many outcomes.
    ///
    /// Contexts inside the operations are overwritten. Mutations whose outcome is unknown, or that the node had no room
    /// for or did not decide, are sent again under their request ids while the deadline allows, and unknown ones for 45
    /// seconds at the most. What is sent again comes behind what was settled meanwhile, also where that stood behind it in
    /// `operations`: mutations whose order matters belong into batches of their own, one after the other.
    pub async fn batch(&self, operations: Vec<Operation>) -> Vec<Outcome> {
        let batch = Mutex::new(Batch::new(operations));
        let deadline = self.client().options().deadline_from_now();
        let stake = Stake::Mutation(RequestId::random());
        let result = retry(deadline, self.client().options().backoff(), stake, |turn| {
            let batch = &batch;
            self.client().attempt(Route::Leader, turn, move |node, left| async move {
                let request = lock(batch).request(self.name());
                let answer = unary_once(&node, request, left).await?.into_inner();
                lock(batch).settle(answer)
            })
        })
        .await;
        let outcomes = batch.into_inner().unwrap_or_else(PoisonError::into_inner).finish(result.err());
        outcomes.iter().for_each(|outcome| self.see(outcome.revision));
        outcomes
    }
}

fn lock(batch: &Mutex<Batch>) -> std::sync::MutexGuard<'_, Batch> {
    batch.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The operations of a batch, and what became of them so far.
struct Batch {
    slots: Vec<Slot>,
}

struct Slot {
    id: RequestId,
    operation: Operation,
    outcome: Option<Outcome>,
}

impl Batch {
    fn new(operations: Vec<Operation>) -> Self {
        let slot = |mut operation| {
            let id = RequestId::random();
            *context(&mut operation) = Some(RequestContext { namespace: String::new(), request_id: id.0.to_vec() });
            Slot { id, operation, outcome: None }
        };
        Self { slots: operations.into_iter().map(slot).collect() }
    }

    /// What is still to be done.
    fn request(&self, namespace: &str) -> BatchRequest {
        let open = self.slots.iter().filter(|slot| slot.outcome.is_none());
        let mutations = open.map(|slot| Mutation { operation: Some(slot.operation.clone()) }).collect();
        BatchRequest { namespace: namespace.to_owned(), mutations }
    }

    /// Notes an answer to the last request; fails while something is still to be done.
    fn settle(&mut self, answer: BatchResponse) -> Result<(), Status> {
        let mut open: Vec<_> = self.slots.iter_mut().filter(|slot| slot.outcome.is_none()).collect();
        if open.len() != answer.outcomes.len() {
            return Err(Status::data_loss(format!("{} outcomes for {} mutations", answer.outcomes.len(), open.len())));
        }
        let mut worst = Ok(());
        for (slot, outcome) in open.iter_mut().zip(answer.outcomes) {
            match sort_outcome(outcome) {
                Ok(outcome) => slot.outcome = Some(outcome),
                Err(status) if ErrorKind::of(&status) == Some(ErrorKind::OutcomeUnknown) => worst = Err(status),
                Err(status) => worst = worst.and(Err(status)),
            }
        }
        worst
    }

    /// All outcomes; what is still open ends with `error`.
    fn finish(self, error: Option<Error>) -> Vec<Outcome> {
        let end = |slot: Slot| {
            let failed = || Outcome { revision: 0, answer: Err(share(error.as_ref(), slot.id)) };
            slot.outcome.unwrap_or_else(failed)
        };
        self.slots.into_iter().map(end).collect()
    }
}

/// An outcome that is settled, or the status of one that another attempt may settle.
pub(crate) fn sort_outcome(outcome: MutationOutcome) -> Result<Outcome, Status> {
    let revision = outcome.revision;
    match outcome.result {
        None => Ok(Outcome { revision, answer: Err(Error::Protocol("outcome")) }),
        Some(Answer::Failure(failure)) => {
            let status = status(failure);
            match sort(&status) {
                Failure::Final(error) => Ok(Outcome { revision, answer: Err(error) }),
                Failure::Transient { .. } => Err(status),
            }
        }
        Some(answer) => Ok(Outcome { revision, answer: Ok(answer) }),
    }
}

fn status(failure: MutationFailure) -> Status {
    let code = tonic::Code::from_i32(failure.code);
    if failure.error.is_empty() {
        // It came in a message, so it is the node's own word.
        return refusal(code, failure.message);
    }
    let mut metadata = MetadataMap::new();
    if let Ok(kind) = failure.error.parse() {
        metadata.insert(ERROR_HEADER, kind);
    }
    Status::with_metadata(code, failure.message, metadata)
}

/// One mutation's share of what ended the whole batch.
pub(crate) fn share(error: Option<&Error>, request: RequestId) -> Error {
    match error {
        Some(Error::OutcomeUnknown { message, .. }) => Error::OutcomeUnknown { request, message: message.clone() },
        Some(Error::Unavailable { message }) => Error::Unavailable { message: message.clone() },
        Some(Error::Unsuitable { kind, message }) => Error::Unsuitable { kind: *kind, message: message.clone() },
        Some(Error::Refused { code, message }) => Error::Refused { code: *code, message: message.clone() },
        Some(error) => Error::OutcomeUnknown { request, message: error.to_string() },
        None => Error::Protocol("outcome"),
    }
}

/// The context inside an operation.
pub(crate) fn context(operation: &mut Operation) -> &mut Option<RequestContext> {
    macro_rules! contexts {
        ($($variant:ident)*) => {
            match operation { $(Operation::$variant(request) => &mut request.context,)* }
        };
    }
    contexts! {
        CreateBundle SetBundle UpdateBundle AppendBundle DeleteBundle TaintX509Ca RevokeX509Ca TaintJwtKey RevokeJwtKey
        CreateRegistrationEntry CreateOrReturnRegistrationEntry UpdateRegistrationEntry DeleteRegistrationEntry
        CreateAttestedNode UpdateAttestedNode DeleteAttestedNode SetNodeSelectors CreateJoinToken DeleteJoinToken
        CreateFederationRelationship UpdateFederationRelationship DeleteFederationRelationship SetCaJournal
    }
}

#[cfg(test)]
mod tests {
    use steeple_wire::spire::v1::{DeleteAttestedNodeRequest, DeleteAttestedNodeResponse};

    use super::*;

    fn delete(spiffe_id: &str) -> Operation {
        Operation::DeleteAttestedNode(DeleteAttestedNodeRequest { context: None, spiffe_id: spiffe_id.into() })
    }

    fn done(revision: u64) -> MutationOutcome {
        let answer = Answer::DeleteAttestedNode(DeleteAttestedNodeResponse::default());
        MutationOutcome { revision, result: Some(answer) }
    }

    fn failed(code: tonic::Code, error: &str) -> MutationOutcome {
        let failure = MutationFailure { code: code.into(), message: "text".into(), error: error.into() };
        MutationOutcome { revision: 0, result: Some(Answer::Failure(failure)) }
    }

    #[test]
    fn only_what_is_open_is_sent_again() {
        let mut batch = Batch::new(vec![delete("a"), delete("b"), delete("c"), delete("d")]);
        let first = batch.request("n");
        let answer = BatchResponse {
            outcomes: vec![
                done(4),
                failed(tonic::Code::Unavailable, "overloaded"),
                failed(tonic::Code::NotFound, ""),
                failed(tonic::Code::Aborted, "outcome-unknown"),
            ],
        };
        let status = batch.settle(answer).unwrap_err();
        assert_eq!(ErrorKind::of(&status), Some(ErrorKind::OutcomeUnknown));
        let second = batch.request("n");
        assert_eq!(second.mutations, [first.mutations[1].clone(), first.mutations[3].clone()]);
        batch.settle(BatchResponse { outcomes: vec![done(5), done(6)] }).unwrap();
        let outcomes = batch.finish(None);
        assert_eq!(outcomes.iter().map(|outcome| outcome.revision).collect::<Vec<_>>(), [4, 5, 0, 6]);
        assert!(outcomes[2].answer.as_ref().is_err_and(Error::is_not_found));
    }

    #[test]
    fn what_stays_open_has_an_unknown_outcome_of_its_own() {
        let mut batch = Batch::new(vec![delete("a"), delete("b")]);
        let ids: Vec<_> = batch.slots.iter().map(|slot| slot.id).collect();
        assert_ne!(ids[0], ids[1]);
        batch
            .settle(BatchResponse { outcomes: vec![done(1), failed(tonic::Code::Aborted, "outcome-unknown")] })
            .unwrap_err();
        let error = Error::OutcomeUnknown { request: RequestId([0; 16]), message: "gone".into() };
        let outcomes = batch.finish(Some(error));
        assert!(outcomes[0].answer.is_ok());
        let Err(Error::OutcomeUnknown { request, .. }) = &outcomes[1].answer else { panic!("{:?}", outcomes[1]) };
        assert_eq!(*request, ids[1]);
    }

    #[test]
    fn an_answer_of_another_length_is_refused() {
        let mut batch = Batch::new(vec![delete("a")]);
        assert_eq!(batch.settle(BatchResponse { outcomes: vec![] }).unwrap_err().code(), tonic::Code::DataLoss);
    }
}
