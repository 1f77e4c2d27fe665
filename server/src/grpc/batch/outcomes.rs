//! What became of each mutation of a batch, written into the answer as soon as it is known.

use prost::Message;
use steeple_engine::ids::Revision;
use steeple_engine::spire::entries::records::ArchivedEntry;
use steeple_wire::packed::{OUTCOMES, put_count, put_message};
use steeple_wire::spire::v1 as wire;
use steeple_wire::spire::v1::mutation::Operation;
use steeple_wire::spire::v1::mutation_outcome::Result as Answer;
use steeple_wire::spire::v1::{MutationFailure, MutationOutcome};
use steeple_wire::status::ErrorKind;
use tonic::Status;

use crate::grpc::answers::BatchResponse;
use crate::grpc::{convert, limits};

/// The field of an outcome that is the revision.
const REVISION: u32 = 100;

/// An answer that is a registration entry and nothing else: the field of an outcome that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryAnswer {
    field: u32,
}

impl EntryAnswer {
    /// The field of each of these answers that is the entry.
    const ENTRY: u32 = 1;

    /// The answer to an operation, when it is one of these once something has changed.
    pub(super) fn to(operation: &Operation) -> Option<Self> {
        let field = match operation {
            Operation::CreateRegistrationEntry(_) => 10,
            Operation::CreateOrReturnRegistrationEntry(_) => 11,
            Operation::UpdateRegistrationEntry(_) => 12,
            Operation::DeleteRegistrationEntry(_) => 13,
            _ => return None,
        };
        Some(Self { field })
    }
}

/// The outcomes so far, in the order of the batch.
pub(super) struct Outcomes {
    encoded: Vec<u8>,
    newest: Revision,
    /// What is left of the message for answers. Failures need none of it: they are short.
    room_bytes: usize,
    /// Why this node decided none so far; none when it did, or something else went wrong.
    not_led: Option<Status>,
    is_empty: bool,
}

impl Default for Outcomes {
    fn default() -> Self {
        let room_bytes = limits::ANSWER_BYTES_MAX;
        Self { encoded: Vec::new(), newest: Revision(0), room_bytes, not_led: None, is_empty: true }
    }
}

impl Outcomes {
    /// The next outcome.
    pub(super) fn put(&mut self, outcome: Result<MutationOutcome, Status>) {
        match outcome {
            Ok(outcome) => self.put_done(Revision(outcome.revision), |bytes| outcome.encode_raw(bytes)),
            Err(status) => {
                put_outcome(&mut self.encoded, &failed(Revision(0), &status));
                let not_led = ErrorKind::of(&status) == Some(ErrorKind::NotLeader);
                let is_first = std::mem::take(&mut self.is_empty);
                self.not_led = (not_led && (is_first || self.not_led.is_some())).then_some(status);
            }
        }
    }

    /// The next outcome, which is an entry as it is stored.
    pub(super) fn put_entry(&mut self, revision: Revision, answer: EntryAnswer, entry: &ArchivedEntry) {
        self.put_done(revision, |bytes| {
            put_message(bytes, answer.field, |bytes| convert::entries::put(bytes, EntryAnswer::ENTRY, entry));
            put_count(bytes, REVISION, revision.0);
        });
    }

    /// A mutation that was carried out; only that is told when its answer does not fit any more. A message that is too large
    /// would be lost with all outcomes.
    fn put_done(&mut self, revision: Revision, put_fields: impl FnOnce(&mut Vec<u8>)) {
        self.is_empty = false;
        self.not_led = None;
        self.newest = self.newest.max(revision);
        let start = self.encoded.len();
        put_message(&mut self.encoded, OUTCOMES, put_fields);
        match self.room_bytes.checked_sub(self.encoded.len() - start) {
            Some(left) => self.room_bytes = left,
            None => {
                self.encoded.truncate(start);
                let text = "the mutation was carried out, but its answer does not fit into that of the batch";
                put_outcome(&mut self.encoded, &failed(revision, &ErrorKind::AnswerTooLarge.status(text)));
            }
        }
    }

    /// All of them, and the newest revision. When this node decided none, the answer to the whole batch says where to go.
    pub(super) fn answer(self) -> Result<(BatchResponse, Revision), Status> {
        match self.not_led {
            Some(status) => Err(status),
            None => {
                let message = wire::BatchResponse::default();
                Ok((BatchResponse { encoded: self.encoded, message }, self.newest))
            }
        }
    }
}

fn put_outcome(bytes: &mut Vec<u8>, outcome: &MutationOutcome) {
    put_message(bytes, OUTCOMES, |bytes| outcome.encode_raw(bytes));
}

fn failed(revision: Revision, status: &Status) -> MutationOutcome {
    let failure = MutationFailure {
        code: status.code().into(),
        message: status.message().to_owned(),
        error: ErrorKind::of(status).map(|kind| kind.text().to_owned()).unwrap_or_default(),
    };
    MutationOutcome { revision: revision.0, result: Some(Answer::Failure(failure)) }
}

#[cfg(test)]
mod tests {
    use steeple_engine::spire::entries::records::Entry;
    use steeple_engine::spire::selectors::Selector;
    use steeple_wire::status::LeaderHint;

    use super::*;

    fn node(revision: u64, spiffe_id: &str) -> MutationOutcome {
        let node = wire::AttestedNode { spiffe_id: spiffe_id.into(), ..Default::default() };
        let answer = wire::CreateAttestedNodeResponse { node: Some(node) };
        MutationOutcome { revision, result: Some(Answer::CreateAttestedNode(answer)) }
    }

    fn told(outcomes: Outcomes) -> (Vec<MutationOutcome>, Revision) {
        let (answer, newest) = outcomes.answer().unwrap();
        (wire::BatchResponse::decode(answer.encode_to_vec().as_slice()).unwrap().outcomes, newest)
    }

    #[test]
    fn an_entry_as_it_is_stored_is_told_as_its_message_would_be() {
        let entry = Entry {
            entry_id: "id".into(),
            selectors: vec![Selector { kind: "unix".into(), value: "uid:1".into() }],
            hint: "h".repeat(200),
            created_at: 7,
            ..Entry::default()
        };
        let message = Some(convert::entries::to_wire(entry.clone()));
        let operations = [
            (
                Operation::CreateRegistrationEntry(Default::default()),
                Answer::CreateRegistrationEntry(wire::CreateRegistrationEntryResponse { entry: message.clone() }),
            ),
            (
                Operation::CreateOrReturnRegistrationEntry(Default::default()),
                Answer::CreateOrReturnRegistrationEntry(wire::CreateOrReturnRegistrationEntryResponse {
                    entry: message.clone(),
                    existing: false,
                }),
            ),
            (
                Operation::UpdateRegistrationEntry(Default::default()),
                Answer::UpdateRegistrationEntry(wire::UpdateRegistrationEntryResponse { entry: message.clone() }),
            ),
            (
                Operation::DeleteRegistrationEntry(Default::default()),
                Answer::DeleteRegistrationEntry(wire::DeleteRegistrationEntryResponse { entry: message }),
            ),
        ];
        let stored = entry.encode();
        for revision in [0, 1, 300] {
            let (mut packed, mut plain) = (Outcomes::default(), Outcomes::default());
            for (operation, answer) in operations.clone() {
                let entry_answer = EntryAnswer::to(&operation).unwrap();
                packed.put_entry(Revision(revision), entry_answer, Entry::view(&stored).unwrap());
                plain.put(Ok(MutationOutcome { revision, result: Some(answer) }));
            }
            assert_eq!((packed.newest, packed.room_bytes), (plain.newest, plain.room_bytes));
            assert_eq!(packed.encoded, plain.encoded);
        }
        assert_eq!(EntryAnswer::to(&Operation::CreateAttestedNode(Default::default())), None);
    }

    #[test]
    fn outcomes_are_told_in_order_with_the_newest_revision() {
        let mut outcomes = Outcomes::default();
        outcomes.put(Ok(node(3, "a")));
        outcomes.put(Err(Status::not_found("datastore-sql: record not found")));
        outcomes.put(Ok(node(2, "b")));
        let (told, newest) = told(outcomes);
        let refused = MutationFailure { code: 5, message: "datastore-sql: record not found".into(), error: "".into() };
        let refused = MutationOutcome { revision: 0, result: Some(Answer::Failure(refused)) };
        assert_eq!((told, newest), (vec![node(3, "a"), refused, node(2, "b")], Revision(3)));
    }

    #[test]
    fn an_answer_that_does_not_fit_leaves_word_that_it_was_carried_out() {
        let mut outcomes = Outcomes { room_bytes: 200, ..Outcomes::default() };
        outcomes.put(Ok(node(1, "n")));
        outcomes.put(Ok(node(2, &"n".repeat(300))));
        outcomes.put(Ok(node(3, "n")));
        let (told, newest) = told(outcomes);
        let Some(Answer::Failure(failure)) = &told[1].result else { panic!("{:?}", told[1]) };
        assert_eq!((told[1].revision, failure.error.as_str(), newest), (2, "answer-too-large", Revision(3)));
        assert_eq!([&told[0], &told[2]], [&node(1, "n"), &node(3, "n")], "what fits still goes");
    }

    #[test]
    fn a_batch_of_which_nothing_was_decided_is_refused_as_one() {
        let hint = LeaderHint { node: Some(2), address: Some("node-2:7400".into()) };
        let not_led = || Err(hint.status("text"));
        let answer = |all: Vec<Result<MutationOutcome, Status>>| {
            let mut outcomes = Outcomes::default();
            all.into_iter().for_each(|outcome| outcomes.put(outcome));
            outcomes.answer()
        };
        let status = answer(vec![not_led(), not_led()]).unwrap_err();
        assert_eq!(LeaderHint::of(&status), Some(hint.clone()));
        let unknown = || Err(ErrorKind::OutcomeUnknown.status("text"));
        for all in [
            vec![],
            vec![not_led(), Ok(node(1, "n"))],
            vec![Ok(node(1, "n")), not_led()],
            vec![not_led(), unknown()],
            vec![unknown(), not_led()],
            vec![not_led(), unknown(), not_led()],
        ] {
            let count = all.len();
            let (answer, _) = answer(all).unwrap();
            let told = wire::BatchResponse::decode(answer.encode_to_vec().as_slice()).unwrap();
            assert_eq!(told.outcomes.len(), count);
        }
    }

    #[test]
    fn failures_say_what_a_status_says() {
        let failure = |status| match failed(Revision(0), &status).result {
            Some(Answer::Failure(failure)) => (failure.code, failure.error),
            other => panic!("{other:?}"),
        };
        assert_eq!(failure(ErrorKind::OutcomeUnknown.status("text")), (10, "outcome-unknown".into()));
        assert_eq!(failure(Status::not_found("datastore-sql: record not found")), (5, String::new()));
    }
}
