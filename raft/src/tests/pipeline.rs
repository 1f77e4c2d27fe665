//! The pipeline over a view in memory, with the log played by hand.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::domain::{CATALOG, Command};
use steeple_engine::event::Event;
use steeple_engine::ids::{LogIndex, LogPosition, NamespaceId, NodeId, RequestId, Revision, Term, Timestamp};
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::EntryKind;
use steeple_engine::namespaces;
use steeple_engine::record_store::MemoryStore;
use steeple_engine::spire;
use steeple_engine::view::{Committed, Reader, View};

use crate::pipeline::Proposer;
use crate::{Abandoned, NotProposed, Outcome, Pipeline, ProposalRefused, RequestLedger, Submission, Ticket};

/// A log that takes what it is given until it is told to refuse.
#[derive(Default)]
struct HandLog {
    last: u64,
    proposed: VecDeque<(LogIndex, u64, Bytes)>,
    refuses: Option<ProposalRefused>,
}

impl Proposer for HandLog {
    fn propose(&mut self, kind: EntryKind, tag: u64, payload: Bytes) -> Result<LogPosition, ProposalRefused> {
        assert_eq!(kind, EntryKind::Event);
        if let Some(refused) = self.refuses {
            return Err(refused);
        }
        self.last += 1;
        let position = LogPosition { term: Term(1), index: LogIndex(self.last) };
        self.proposed.push_back((position.index, tag, payload));
        Ok(position)
    }
}

struct Bench {
    pipeline: Pipeline,
    log: HandLog,
    requests: RequestLedger,
    view: Arc<View>,
    ticket: u64,
}

impl Bench {
    fn new() -> Self {
        let view = Arc::new(View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap());
        let pipeline = Pipeline::lead(Arc::clone(&view), Box::new(SeededEntropy::new(1)), 0);
        Self { pipeline, log: HandLog::default(), requests: RequestLedger::new(1_000_000), view, ticket: 0 }
    }

    /// With namespace 1 open and nothing in flight.
    fn opened() -> Self {
        let mut bench = Self::new();
        let open = Command::Namespace(namespaces::Command::Open { name: "one".into() });
        bench.submit(NamespaceId::SYSTEM, None, open);
        bench.commit_all();
        assert_eq!(bench.answers(), [(1, "committed 1".to_owned())]);
        bench
    }

    fn submit(&mut self, namespace: NamespaceId, request: Option<RequestId>, command: Command) -> Ticket {
        self.submit_at(namespace, request, command, 100)
    }

    fn submit_at(&mut self, namespace: NamespaceId, request: Option<RequestId>, command: Command, now: u64) -> Ticket {
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        let request = request.map(|id| command.stamp(id));
        let submission = Submission { ticket, namespace, request, command };
        self.pipeline.submit(submission, Timestamp(now), &mut self.requests, &mut self.log).unwrap();
        ticket
    }

    /// Plays the group: the oldest `count` entries proposed are committed and folded.
    fn commit(&mut self, count: usize) {
        for _ in 0..count {
            let (index, tag, payload) = self.log.proposed.pop_front().unwrap();
            let event = Arc::new(Event::decode(&payload).unwrap());
            assert_eq!(event.revision, Revision(tag), "the tag by which the log finds an event is its revision");
            self.requests.remember(&event);
            self.view.fold(&[Committed { index, event }]).unwrap();
            self.pipeline.folded(index).unwrap();
        }
    }

    fn commit_all(&mut self) {
        self.commit(self.log.proposed.len());
    }

    /// Plays the quorum: it confirms the leadership, if that was asked for.
    fn confirm(&mut self) -> Option<u64> {
        let round = self.pipeline.take_round()?;
        self.pipeline.confirmed(round);
        Some(round)
    }

    fn answers(&mut self) -> Vec<(u64, String)> {
        let name = |outcome: Outcome| match outcome {
            Outcome::Committed { event, .. } => format!("committed {}", event.revision),
            Outcome::Unchanged { revision, .. } => format!("unchanged {revision}"),
            Outcome::Rejected { rejection, .. } => rejection.to_string(),
            Outcome::Repeated { revision } => format!("repeated {revision}"),
            Outcome::RequestReused => "reused".into(),
            Outcome::TooLarge { .. } => "too large".into(),
            Outcome::NotProposed(NotProposed::Overloaded) => "overloaded".into(),
            Outcome::NotProposed(NotProposed::Refused(refused)) => format!("refused: {refused}"),
        };
        self.pipeline.take_answers().into_iter().map(|(ticket, outcome)| (ticket.0, name(outcome))).collect()
    }
}

fn token(text: &str) -> Command {
    let token = spire::tokens::records::JoinToken { token: text.into(), expiry: 50 };
    Command::Spire(spire::Command::Token(spire::tokens::Command::Create(Some(token))))
}

fn delete_token(text: &str) -> Command {
    Command::Spire(spire::Command::Token(spire::tokens::Command::Delete { token: text.into() }))
}

fn numbers(tickets: &[Ticket]) -> Vec<u64> {
    tickets.iter().map(|ticket| ticket.0).collect()
}

const ONE: NamespaceId = NamespaceId(1);

const REQUEST: Option<RequestId> = Some(RequestId([7; 16]));

#[test]
fn commands_are_decided_ahead_of_commit_and_answered_after_it() {
    let mut bench = Bench::opened();
    bench.submit(ONE, None, token("a"));
    bench.submit(ONE, None, token("a"));
    bench.submit(ONE, None, delete_token("a"));
    bench.submit(ONE, None, delete_token("a"));
    assert_eq!(bench.confirm(), Some(1));
    assert_eq!(bench.answers(), [], "nothing is answered before it is committed");
    assert_eq!(bench.view.read().revision(), Revision(1));
    assert_eq!(bench.pipeline.undecided(), 2);
    let proposed: Vec<_> = bench.pipeline.proposed().map(|(index, event)| (index.0, event.revision.0)).collect();
    assert_eq!(proposed, [(2, 2), (3, 3)]);
    bench.commit_all();
    let answers = bench.answers();
    let tickets: Vec<u64> = answers.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [2, 3, 4, 5], "in the order of submission");
    assert_eq!(answers[0].1, "committed 2");
    assert!(answers[1].1.contains("UNIQUE constraint failed: join_tokens.token"), "{answers:?}");
    assert_eq!(answers[2].1, "committed 3");
    assert_eq!(answers[3].1, "datastore-sql: record not found");
    assert!(bench.pipeline.is_idle());
}

#[test]
fn a_rejection_waits_for_what_it_saw_and_for_no_more() {
    let mut bench = Bench::opened();
    bench.submit(ONE, None, token("a"));
    bench.submit(ONE, None, delete_token("absent"));
    bench.submit(ONE, None, token("b"));
    assert_eq!(bench.confirm(), Some(1));
    assert_eq!(bench.answers(), []);
    bench.commit(1);
    assert_eq!(bench.answers().len(), 2, "the creation and the rejection that saw it");
    assert_eq!(bench.pipeline.undecided(), 1);
}

#[test]
fn a_rejection_waits_until_leadership_is_confirmed_after_it() {
    let mut bench = Bench::opened();
    assert_eq!(bench.pipeline.take_round(), None, "what is accepted is confirmed by its commitment");
    bench.submit(ONE, None, delete_token("first"));
    assert_eq!(bench.answers(), [], "another leader may have created it");
    let round = bench.pipeline.take_round().unwrap();
    assert_eq!(bench.pipeline.take_round(), None, "one round at a time is enough");
    assert_eq!(bench.pipeline.awaits_round(), Some(round), "it may get lost, and be asked for again");

    bench.submit(ONE, None, delete_token("second"));
    bench.pipeline.confirmed(round);
    let tickets: Vec<u64> = bench.answers().iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [2], "the round was asked for before the second was decided");
    let next = bench.pipeline.take_round().unwrap();
    assert!(next > round);
    bench.pipeline.confirmed(round);
    assert_eq!(bench.answers(), [], "an old confirmation that comes again says nothing new");
    bench.pipeline.confirmed(next);
    assert_eq!(bench.answers().len(), 1);
    assert_eq!(bench.pipeline.awaits_round(), None);
    assert!(bench.pipeline.is_idle());
}

#[test]
fn a_confirmation_that_nobody_asked_for_confirms_nothing() {
    let mut bench = Bench::opened();
    bench.pipeline.confirmed(1_000);
    bench.submit(ONE, None, delete_token("absent"));
    assert_eq!(bench.answers(), []);
    let round = bench.pipeline.take_round().unwrap();
    bench.pipeline.confirmed(round);
    assert_eq!(bench.answers().len(), 1);
}

#[test]
fn answers_keep_the_order_of_submission_when_confirmation_is_late() {
    let mut bench = Bench::opened();
    bench.submit(ONE, None, delete_token("absent"));
    bench.submit(ONE, None, token("a"));
    bench.commit_all();
    assert_eq!(bench.answers(), [], "the rejection before it is not confirmed yet");
    assert_eq!(bench.confirm(), Some(1));
    let tickets: Vec<u64> = bench.answers().iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [2, 3]);
}

#[test]
fn a_repeated_request_gets_the_first_event_and_a_reused_id_is_refused() {
    let mut bench = Bench::opened();
    bench.submit(ONE, REQUEST, token("a"));
    bench.submit(ONE, REQUEST, token("a"));
    bench.submit(ONE, REQUEST, token("b"));
    assert_eq!(bench.log.proposed.len(), 1, "a request that is in flight is not carried out twice");
    bench.confirm();
    assert_eq!(bench.answers(), [], "its answer is that of an event which is not committed yet");
    bench.commit_all();
    let answers: Vec<String> = bench.answers().into_iter().map(|(_, answer)| answer).collect();
    assert_eq!(answers, ["committed 2", "repeated 2", "reused"]);
    bench.submit(ONE, REQUEST, token("a"));
    bench.confirm();
    assert_eq!(bench.answers()[0].1, "repeated 2", "and none that is folded is");
    let open = Command::Namespace(namespaces::Command::Open { name: "two".into() });
    bench.submit(NamespaceId::SYSTEM, REQUEST, open);
    bench.commit_all();
    assert_eq!(bench.answers()[0].1, "committed 3", "ids are remembered per namespace");
}

#[test]
fn event_time_never_goes_backwards() {
    let mut bench = Bench::opened();
    bench.submit_at(ONE, None, token("a"), 5_000);
    bench.submit_at(ONE, None, token("b"), 4_000);
    bench.commit_all();
    let time = |(_, outcome): (Ticket, Outcome)| match outcome {
        Outcome::Committed { event, .. } => event.time.0,
        other => panic!("{other:?}"),
    };
    let times: Vec<u64> = bench.pipeline.take_answers().into_iter().map(time).collect();
    assert_eq!(times, [5_000, 5_000]);
}

#[test]
fn what_the_log_refuses_has_not_happened() {
    let mut bench = Bench::opened();
    bench.log.refuses = Some(ProposalRefused::Transferring(NodeId(3)));
    bench.submit(ONE, REQUEST, token("a"));
    assert_eq!(bench.answers(), [(2, "refused: leadership is being handed to node 3".to_owned())]);
    assert_eq!(bench.pipeline.undecided(), 0);
    bench.log.refuses = None;
    bench.submit(ONE, REQUEST, token("a"));
    bench.commit_all();
    assert_eq!(bench.answers(), [(3, "committed 2".to_owned())], "neither the token nor the request is there");
}

#[test]
fn too_much_in_flight_is_refused_and_one_event_always_goes() {
    let mut bench = Bench::opened();
    bench.pipeline =
        Pipeline::lead(Arc::clone(&bench.view), Box::new(SeededEntropy::new(2)), 0).with_undecided_bytes_max(1);
    bench.submit(ONE, None, token("a"));
    bench.submit(ONE, None, token("b"));
    assert_eq!(bench.answers(), [(3, "overloaded".to_owned())]);
    bench.commit_all();
    assert_eq!(bench.answers(), [(2, "committed 2".to_owned())]);
    bench.submit(ONE, None, token("b"));
    bench.commit_all();
    assert_eq!(bench.answers(), [(4, "committed 3".to_owned())], "what is folded is in flight no more");
}

#[test]
fn an_event_that_is_too_large_is_not_proposed() {
    let mut bench = Bench::opened();
    bench.pipeline =
        Pipeline::lead(Arc::clone(&bench.view), Box::new(SeededEntropy::new(2)), 0).with_event_bytes_max(500);
    bench.submit(ONE, None, token(&"a".repeat(1_000)));
    assert!(bench.log.proposed.is_empty());
    bench.confirm();
    assert_eq!(bench.answers(), [(2, "too large".to_owned())]);
}

#[test]
fn a_pipeline_that_ends_tells_what_may_have_happened_from_what_has_not() {
    let mut bench = Bench::opened();
    let first = bench.submit(ONE, REQUEST, token("a"));
    let repeated = bench.submit(ONE, REQUEST, token("a"));
    let rejected = bench.submit(ONE, None, delete_token("absent"));
    let second = bench.submit(ONE, None, token("b"));
    let reused = bench.submit(ONE, REQUEST, token("c"));
    bench.commit(1);
    assert_eq!(bench.answers(), [(first.0, "committed 2".to_owned())]);
    let Abandoned { unknown, undone } = bench.pipeline.abandon();
    assert_eq!(numbers(&unknown), numbers(&[repeated, second]));
    assert_eq!(numbers(&undone), numbers(&[rejected, reused]));
}
