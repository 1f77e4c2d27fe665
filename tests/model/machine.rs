//! The real code of a leader, run again from what it has been through.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use steeple_engine::domain::{Answer, AnswerSource, CATALOG, Command};
use steeple_engine::event::Event;
use steeple_engine::ids::{LogIndex, LogPosition, NamespaceId, RequestId, Term, Timestamp};
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::EntryKind;
use steeple_engine::namespaces;
use steeple_engine::record_store::MemoryStore;
use steeple_engine::spire::{self, entries, entries::records::Entry, selectors::Selector};
use steeple_engine::view::{Committed, Digest, View};
use steeple_raft::pipeline::Proposer;
use steeple_raft::{NotProposed, Outcome, Pipeline, ProposalRefused, RequestLedger, Submission, Ticket};

use crate::mistake::Mistake;

/// The namespace that all clients work in; the first event opens it.
const NAMESPACE: NamespaceId = NamespaceId(1);

/// What the clients compete for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) u8);

/// What is done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    /// Answers what is there when there is something.
    Create,
    /// Refused when there is nothing.
    Delete,
}

/// What a client wants, under a request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Order {
    pub(crate) request: u8,
    pub(crate) deed: Deed,
    pub(crate) key: Key,
}

impl Order {
    pub(crate) fn request_id(self) -> RequestId {
        RequestId([self.request; 16])
    }

    fn entry_id(self) -> String {
        format!("key-{}", self.key.0)
    }

    pub(crate) fn command(self) -> Command {
        let command = match self.deed {
            Deed::Delete => entries::Command::Delete { entry_id: self.entry_id() },
            Deed::Create => entries::Command::CreateOrReturn(Some(Entry {
                spiffe_id: format!("spiffe://td.example/{}", self.entry_id()),
                entry_id: self.entry_id(),
                parent_id: "spiffe://td.example/node".into(),
                selectors: vec![Selector { kind: "unix".into(), value: "uid:1".into() }],
                ..Entry::default()
            })),
        };
        Command::Spire(spire::Command::Entry(command))
    }
}

/// An event by its stored form: equal numbers, equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EventNumber(pub(crate) u16);

/// One place of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    pub(crate) term: u8,
    /// `None` where a leader opened its term.
    pub(crate) event: Option<EventNumber>,
    /// The attempt that it comes from.
    pub(crate) attempt: Option<Attempt>,
}

/// A client's attempt: which client, and how often it has tried before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Attempt {
    pub(crate) client: u8,
    pub(crate) number: u8,
}

impl Attempt {
    fn ticket(self) -> Ticket {
        Ticket(u64::from(self.client) << 8 | u64::from(self.number))
    }

    fn of(ticket: Ticket) -> Self {
        let [number, client, ..] = ticket.0.to_le_bytes();
        Self { client, number }
    }
}

/// What a node does while it leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    /// Decides an order; what it proposes comes to this index.
    Submit { attempt: Attempt, order: Order, index: u8, term: u8 },
    /// Folds what is agreed upon.
    Fold { slot: Slot, index: u8 },
    /// A quorum has confirmed the leadership after this round was asked for.
    Confirm { round: u64 },
    /// Learns that it does not lead any more.
    Abandon,
}

/// What a leader has been through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// What was folded when it began to decide.
    pub(crate) folded: Vec<Slot>,
    /// Rounds of confirmation that it had asked for in earlier leaderships.
    pub(crate) rounds: u64,
    /// By its clock, which is not that of others.
    pub(crate) now: u64,
    /// Its term; what it finds folded of this term is its own.
    pub(crate) term: u8,
    pub(crate) inputs: Vec<Input>,
}

/// What a leader answers, as far as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    /// Carried out by this event; `is_source_right` says whether the answer is the one that the event holds.
    Accepted { event: EventNumber, is_source_right: bool },
    /// Carried out before.
    Repeated { revision: u64 },
    /// There was nothing to do at this revision.
    Unchanged { revision: u64 },
    /// Refused at this revision.
    Rejected { revision: u64 },
    /// The request id belongs to another command.
    Reused,
    /// May have happened or not.
    Unknown,
    /// Did not happen.
    Undone,
}

/// What followed from the last input.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(crate) proposed: Option<EventNumber>,
    pub(crate) replies: Vec<(Attempt, Reply)>,
    /// The newest round that was asked for.
    pub(crate) asked: u64,
    /// Events laid over the view.
    pub(crate) undecided: usize,
    pub(crate) digest: Digest,
}

/// Runs the real code. Equal pasts are run once.
#[derive(Default)]
pub(crate) struct Machine {
    mistake: Option<Mistake>,
    events: Mutex<Events>,
    steps: Mutex<HashMap<Past, Arc<Step>>>,
    digests: Mutex<HashMap<Vec<Slot>, Digest>>,
    runs: AtomicUsize,
}

#[derive(Default)]
struct Events {
    numbers: HashMap<Bytes, EventNumber>,
    all: Vec<Arc<Event>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes what one command proposes.
struct Place {
    position: LogPosition,
    taken: Option<Bytes>,
}

impl Proposer for Place {
    fn propose(&mut self, kind: EntryKind, _: u64, payload: Bytes) -> Result<LogPosition, ProposalRefused> {
        assert_eq!(kind, EntryKind::Event);
        assert!(self.taken.replace(payload).is_none(), "a command proposes one event");
        Ok(self.position)
    }
}

impl Machine {
    pub(crate) fn new(mistake: Option<Mistake>) -> Self {
        Self { mistake, ..Self::default() }
    }

    pub(crate) fn runs(&self) -> usize {
        self.runs.load(Ordering::Relaxed)
    }

    pub(crate) fn event(&self, number: EventNumber) -> Arc<Event> {
        Arc::clone(&lock(&self.events).all[usize::from(number.0)])
    }

    /// The event that opens the namespace, decided by the real code.
    pub(crate) fn first_event(&self) -> EventNumber {
        let (view, mut ledger) = (empty_view(), RequestLedger::new(u64::MAX));
        let mut pipeline = Pipeline::lead(view, Box::new(SeededEntropy::new(1)), 0);
        let command = Command::Namespace(namespaces::Command::Open { name: "model".into() });
        let mut place = Place { position: LogPosition { term: Term(0), index: LogIndex(1) }, taken: None };
        let submission = Submission { ticket: Ticket(0), namespace: NamespaceId::SYSTEM, request: None, command };
        pipeline.submit(submission, Timestamp(1), &mut ledger, &mut place).expect("nothing can fail in memory");
        self.number(place.taken.expect("a namespace is opened"))
    }

    /// What the last of a leader's inputs leads to.
    pub(crate) fn step(&self, past: &Past) -> Arc<Step> {
        if let Some(step) = lock(&self.steps).get(past) {
            return Arc::clone(step);
        }
        let step = Arc::new(self.run(past));
        lock(&self.steps).insert(past.clone(), Arc::clone(&step));
        step
    }

    /// The digest of a view that has folded these entries from their stored form.
    pub(crate) fn digest(&self, folded: &[Slot]) -> Digest {
        if let Some(digest) = lock(&self.digests).get(folded) {
            return *digest;
        }
        let view = empty_view();
        self.fold_stored(&view, &mut RequestLedger::new(u64::MAX), folded);
        let digest = view.folded().digest;
        lock(&self.digests).insert(folded.to_vec(), digest);
        digest
    }

    fn number(&self, stored: Bytes) -> EventNumber {
        let mut events = lock(&self.events);
        if let Some(number) = events.numbers.get(&stored) {
            return *number;
        }
        let number = EventNumber(u16::try_from(events.all.len()).expect("a small model has few events"));
        events.all.push(Arc::new(Event::decode(&stored).expect("what was encoded can be decoded")));
        events.numbers.insert(stored, number);
        number
    }

    fn fold_stored(&self, view: &View, ledger: &mut RequestLedger, slots: &[Slot]) {
        for (index, slot) in (1..).zip(slots) {
            let event = slot.event.map(|number| self.event(number));
            fold(view, ledger, LogIndex(index), event);
        }
    }

    fn run(&self, past: &Past) -> Step {
        self.runs.fetch_add(1, Ordering::Relaxed);
        let view = empty_view();
        let mut ledger = RequestLedger::new(u64::MAX);
        self.fold_stored(&view, &mut ledger, &past.folded);
        if self.mistake == Some(Mistake::ForgetsRequests) {
            ledger = RequestLedger::new(u64::MAX);
        }
        let pipeline = Pipeline::lead(Arc::clone(&view), Box::new(SeededEntropy::new(1)), past.rounds);
        let mut run = Run { machine: self, past, view, ledger, pipeline: Some(pipeline), step: Step::default() };
        for input in &past.inputs {
            run.step = Step { asked: run.step.asked, ..Step::default() };
            run.take(input);
        }
        run.finish()
    }
}

fn empty_view() -> Arc<View> {
    Arc::new(View::open(CATALOG, Arc::new(MemoryStore::new())).expect("an empty view opens"))
}

fn fold(view: &View, ledger: &mut RequestLedger, index: LogIndex, event: Option<Arc<Event>>) {
    if let Some(event) = event {
        // An event behind a hole is refused. It is found as such when it is agreed upon.
        if view.fold(&[Committed { index, event: Arc::clone(&event) }]).is_ok() {
            ledger.remember(&event);
        }
    }
    view.note_folded(index);
}

/// One run from the beginning of a past to its end.
struct Run<'a> {
    machine: &'a Machine,
    past: &'a Past,
    view: Arc<View>,
    ledger: RequestLedger,
    /// Until leadership ends.
    pipeline: Option<Pipeline>,
    step: Step,
}

impl Run<'_> {
    fn pipeline(&mut self) -> &mut Pipeline {
        self.pipeline.as_mut().expect("nothing follows the end of a leadership")
    }

    fn take(&mut self, input: &Input) {
        match input {
            Input::Submit { attempt, order, index, term } => self.submit(*attempt, *order, *index, *term),
            Input::Fold { slot, index } => self.fold(*slot, LogIndex(u64::from(*index))),
            Input::Confirm { round } => self.pipeline().confirmed(*round),
            Input::Abandon => self.abandon(),
        }
        self.answer();
    }

    fn submit(&mut self, attempt: Attempt, order: Order, index: u8, term: u8) {
        let position = LogPosition { term: Term(u64::from(term)), index: LogIndex(u64::from(index)) };
        let mut place = Place { position, taken: None };
        let command = order.command();
        let request = Some(command.stamp(order.request_id()));
        let submission = Submission { ticket: attempt.ticket(), namespace: NAMESPACE, request, command };
        let Self { pipeline: Some(pipeline), ledger, .. } = self else { unreachable!("only a leader decides") };
        pipeline.submit(submission, Timestamp(self.past.now), ledger, &mut place).expect("nothing can fail in memory");
        self.step.proposed = place.taken.map(|stored| self.machine.number(stored));
        if let Some(round) = pipeline.take_round() {
            self.step.asked = round;
            if self.machine.mistake == Some(Mistake::AsksNoQuorum) {
                pipeline.confirmed(round);
            }
        }
        if self.machine.mistake == Some(Mistake::NumbersBeforeCommit) {
            pipeline.folded(position.index).expect("nothing can fail in memory");
        }
    }

    /// As the group does: an event that this leader has proposed need not be decoded.
    fn fold(&mut self, slot: Slot, index: LogIndex) {
        let blind = self.machine.mistake == Some(Mistake::FoldsBeforeSteppingDown);
        let is_own = slot.term == self.past.term || blind;
        let own = self.pipeline().proposed().find(|(proposed, _)| is_own && *proposed == index);
        let own = own.map(|(_, event)| Arc::clone(event));
        let event = slot.event.map(|number| own.unwrap_or_else(|| self.machine.event(number)));
        fold(&self.view, &mut self.ledger, index, event);
        self.pipeline().folded(index).expect("nothing can fail in memory");
    }

    fn abandon(&mut self) {
        let Some(pipeline) = self.pipeline.take() else { return };
        let abandoned = pipeline.abandon();
        let lost = match self.machine.mistake {
            Some(Mistake::TakesLostForUndone) => Reply::Undone,
            _ => Reply::Unknown,
        };
        let replies = &mut self.step.replies;
        replies.extend(abandoned.unknown.into_iter().map(|ticket| (Attempt::of(ticket), lost)));
        replies.extend(abandoned.undone.into_iter().map(|ticket| (Attempt::of(ticket), Reply::Undone)));
    }

    fn answer(&mut self) {
        let Some(pipeline) = &mut self.pipeline else { return };
        for (ticket, outcome) in pipeline.take_answers() {
            self.step.replies.push((Attempt::of(ticket), reply(self.machine, outcome)));
        }
    }

    fn finish(mut self) -> Step {
        self.step.digest = self.view.folded().digest;
        let Some(pipeline) = &mut self.pipeline else { return self.step };
        self.step.undecided = pipeline.undecided();
        if self.machine.mistake == Some(Mistake::RejectsUnfolded) {
            // What is confirmed comes out once everything before it is folded.
            pipeline.folded(LogIndex(u64::MAX)).expect("nothing can fail in memory");
            let held = pipeline.take_answers().into_iter();
            let held = held.map(|(ticket, outcome)| (Attempt::of(ticket), reply(self.machine, outcome)));
            self.step
                .replies
                .extend(held.filter(|(_, reply)| matches!(reply, Reply::Rejected { .. } | Reply::Unchanged { .. })));
        }
        self.step
    }
}

fn reply(machine: &Machine, outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Committed { event, source } => {
            let answer = source.resolve(&event.changes).expect("an answer that was decided can be read");
            let is_source_right = answer_in(&event) == answer;
            Reply::Accepted { event: machine.number(event.encode()), is_source_right }
        }
        Outcome::Repeated { revision } => Reply::Repeated { revision: revision.0 },
        Outcome::Unchanged { revision, .. } => Reply::Unchanged { revision: revision.0 },
        Outcome::Rejected { revision, .. } => Reply::Rejected { revision: revision.0 },
        Outcome::RequestReused => Reply::Reused,
        Outcome::NotProposed(NotProposed::Refused(_) | NotProposed::Overloaded) | Outcome::TooLarge { .. } => {
            Reply::Undone
        }
    }
}

/// What a repeated request is answered from this event.
fn answer_in(event: &Event) -> Answer {
    let source = AnswerSource::decode(&event.answer).expect("an answer that was stored can be read");
    source.resolve(&event.changes).expect("an answer that was stored can be read")
}
