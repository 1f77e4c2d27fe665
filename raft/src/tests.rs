//! The pipeline over a view in memory, with the log played by hand.

use std::sync::Arc;

use steeple_engine::domain::{Answer, CATALOG, Command};
use steeple_engine::ids::{LogIndex, NamespaceId, RequestId, Revision, Term, Timestamp};
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::EntryKind;
use steeple_engine::namespaces;
use steeple_engine::record_store::MemoryStore;
use steeple_engine::spire;
use steeple_engine::view::{Reader, View};

use super::*;

struct Bench {
    pipeline: Pipeline,
    view: Arc<View>,
    ticket: u64,
}

impl Bench {
    fn new() -> Self {
        let view = Arc::new(View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap());
        let consensus = Consensus::lead(Term(0), LogIndex(0));
        let requests = RequestLedger::new(1_000_000);
        let pipeline = Pipeline::lead(Arc::clone(&view), consensus, requests, Box::new(SeededEntropy::new(1)));
        Self { pipeline, view, ticket: 0 }
    }

    /// With namespace 1 open and nothing in flight.
    fn opened() -> Self {
        let mut bench = Self::new();
        let open = Command::Namespace(namespaces::Command::Open { name: "one".into() });
        bench.submit(NamespaceId::SYSTEM, None, open);
        bench.persist();
        bench.pipeline.take_answers();
        bench
    }

    fn submit(&mut self, namespace: NamespaceId, request: Option<RequestId>, command: Command) -> Ticket {
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        self.pipeline.submit(Submission { ticket, namespace, request, command }, Timestamp(100)).unwrap();
        ticket
    }

    /// Plays the log: everything handed out so far is durable.
    fn persist(&mut self) {
        let entries = self.pipeline.take_entries();
        self.pipeline.persisted(entries.last().unwrap().position).unwrap();
    }

    fn answers(&mut self) -> Vec<(u64, String)> {
        let name = |outcome: Outcome| match outcome {
            Outcome::Committed { event, .. } => format!("committed {}", event.revision),
            Outcome::Unchanged { revision, .. } => format!("unchanged {revision}"),
            Outcome::Rejected { rejection, .. } => rejection.to_string(),
            Outcome::Repeated { revision } => format!("repeated {revision}"),
            Outcome::RequestReused => "reused".into(),
            Outcome::TooLarge { .. } => "too large".into(),
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

const ONE: NamespaceId = NamespaceId(1);

#[test]
fn the_first_entry_opens_the_term() {
    let mut bench = Bench::new();
    let entries = bench.pipeline.take_entries();
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].kind, entries[0].position.term), (EntryKind::Empty, Term(1)));
}

#[test]
fn commands_are_decided_ahead_of_commit_and_answered_after_it() {
    let mut bench = Bench::opened();
    bench.submit(ONE, None, token("a"));
    bench.submit(ONE, None, token("a"));
    bench.submit(ONE, None, delete_token("a"));
    bench.submit(ONE, None, delete_token("a"));
    assert_eq!(bench.answers(), [], "nothing is answered before it is durable");
    assert_eq!(bench.view.read().revision(), Revision(1));
    bench.persist();
    let answers = bench.answers();
    let tickets: Vec<u64> = answers.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(tickets, [2, 3, 4, 5], "in the order of submission");
    assert_eq!(answers[0].1, "committed 2");
    assert!(answers[1].1.contains("UNIQUE constraint failed: join_tokens.token"), "{answers:?}");
    assert_eq!(answers[2].1, "committed 3");
    assert_eq!(answers[3].1, "datastore-sql: record not found");
}

#[test]
fn a_rejection_waits_for_what_it_saw_and_for_no_more() {
    let mut bench = Bench::opened();
    bench.submit(ONE, None, delete_token("absent"));
    assert_eq!(bench.answers().len(), 1, "nothing was in flight");
    bench.submit(ONE, None, token("a"));
    bench.submit(ONE, None, delete_token("absent"));
    let first = bench.pipeline.take_entries();
    bench.submit(ONE, None, token("b"));
    assert_eq!(bench.answers(), []);
    bench.pipeline.persisted(first.last().unwrap().position).unwrap();
    assert_eq!(bench.answers().len(), 2, "the creation and the rejection that saw it");
    assert_eq!(bench.pipeline.undecided(), 1);
}

#[test]
fn a_repeated_request_gets_the_first_event_and_a_reused_id_is_refused() {
    let mut bench = Bench::opened();
    let id = Some(RequestId([7; 16]));
    bench.submit(ONE, id, token("a"));
    bench.submit(ONE, id, token("a"));
    bench.submit(ONE, id, token("b"));
    bench.persist();
    let answers: Vec<String> = bench.answers().into_iter().map(|(_, answer)| answer).collect();
    assert_eq!(answers, ["committed 2", "repeated 2", "reused"]);
    bench.submit(NamespaceId::SYSTEM, id, Command::Namespace(namespaces::Command::Open { name: "two".into() }));
    bench.persist();
    assert_eq!(bench.answers()[0].1, "committed 3", "ids are remembered per namespace");
}

#[test]
fn event_time_never_goes_backwards() {
    let mut bench = Bench::opened();
    let submit_at = |bench: &mut Bench, text: &str, now: u64| {
        let submission = Submission { ticket: Ticket(now), namespace: ONE, request: None, command: token(text) };
        bench.pipeline.submit(submission, Timestamp(now)).unwrap();
    };
    submit_at(&mut bench, "a", 5_000);
    submit_at(&mut bench, "b", 4_000);
    bench.persist();
    let times: Vec<u64> = bench
        .pipeline
        .take_answers()
        .into_iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Committed { event, answer } => {
                assert!(matches!(answer, Answer::Spire(_)));
                event.time.0
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [5_000, 5_000]);
}
