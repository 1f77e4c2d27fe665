//! The leader's side: decides commands ahead of commit, and answers when that is safe.
//!
//! A command is decided over the committed view with the overlay of undecided events on top, so any number of them may
//! be in flight and conflicting ones are decided in order. An accepted command is answered once its event is folded. A
//! rejection, or an answer that changed nothing, is held until every event that it saw is folded: had one of those
//! been lost, the answer would have been about a state that never was. It is held as well until a quorum has confirmed
//! that this replica still led after it was decided: another leader may have changed what it is about.
//!
//! A pipeline lives as long as one leadership. It ends in [`Pipeline::abandon`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use steeple_engine::domain::{Answer, AnswerSource, Command, Rejection};
use steeple_engine::event::{Event, RequestStamp};
use steeple_engine::ids::{LogIndex, LogPosition, NamespaceId, RequestId, Revision, Timestamp};
use steeple_engine::log::EntryKind;
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_engine::table::RecordDecodeError;
use steeple_engine::transaction::{Content, Entropy, Transaction};
use steeple_engine::view::{Overlay, OverlayReader, Reader, View, ViewError};
use thiserror::Error;

use crate::replica::ProposalRefused;
use crate::requests::{Known, RequestLedger};

/// Bytes of events that are decided and not yet folded at the most.
pub const UNDECIDED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Takes entries into the log of the group.
pub trait Proposer {
    /// Proposes an entry and answers its place, which is final unless leadership is lost before it is committed.
    ///
    /// # Errors
    /// See [`ProposalRefused`]; nothing happened.
    fn propose(&mut self, kind: EntryKind, tag: u64, payload: bytes::Bytes) -> Result<LogPosition, ProposalRefused>;
}

impl Proposer for crate::replica::Replica {
    fn propose(&mut self, kind: EntryKind, tag: u64, payload: bytes::Bytes) -> Result<LogPosition, ProposalRefused> {
        Self::propose(self, kind, tag, payload)
    }
}

/// Encoded bytes of an event at the most.
pub const EVENT_BYTES_MAX: usize = 40 * 1024 * 1024;

/// The driver's name for whoever waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A command and whom to answer.
#[derive(Debug)]
pub struct Submission {
    /// Whom to answer.
    pub ticket: Ticket,
    /// Where.
    pub namespace: NamespaceId,
    /// The client's name for the mutation, which makes repeating it safe: the [`stamp`](Command::stamp) of the command.
    pub request: Option<RequestStamp>,
    /// What.
    pub command: Command,
}

/// What became of a submission.
#[derive(Debug)]
pub enum Outcome {
    /// Committed as an event of its own.
    Committed {
        /// The event.
        event: Arc<Event>,
        /// Where what to answer is found in it. Reading it is left to whoever waits: everybody else waits for the thread that
        /// decides.
        source: AnswerSource,
    },
    /// Accepted without a change.
    Unchanged {
        /// The state that it saw.
        revision: Revision,
        /// What to answer.
        answer: Answer,
    },
    /// Refused; nothing changed.
    Rejected {
        /// The state that it saw.
        revision: Revision,
        /// Why.
        rejection: Rejection,
    },
    /// The same request was carried out before; the answer is that of this event, which the log holds.
    Repeated {
        /// The event.
        revision: Revision,
    },
    /// The request id was used for another command.
    RequestReused,
    /// The event would be larger than the log or [`EVENT_BYTES_MAX`] allows.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// Nothing was proposed, because leadership is ending or too much is in flight.
    NotProposed(NotProposed),
}

/// Why an accepted command was not proposed. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotProposed {
    /// The replica takes no proposals.
    #[error(transparent)]
    Refused(#[from] ProposalRefused),
    /// As many bytes are in flight as there may be, [`UNDECIDED_BYTES_MAX`] at the most.
    #[error("too many changes wait to be committed; repeat this later")]
    Overloaded,
}

/// What becomes of those who waited for a pipeline that ended.
#[derive(Debug, Default)]
pub struct Abandoned {
    /// Their events may or may not be committed by another leader.
    pub unknown: Vec<Ticket>,
    /// Nothing of theirs was proposed.
    pub undone: Vec<Ticket>,
}

/// Why the pipeline cannot go on. The view has to be rebuilt; outcomes of commands in flight are unknown.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// Folding failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A body or answer that was just decided cannot be read.
    #[error(transparent)]
    Record(#[from] RecordDecodeError),
}

/// An event on its way to commitment, or an answer that waits for one.
enum InFlight {
    Event {
        index: LogIndex,
        event: Arc<Event>,
        bytes: usize,
        source: AnswerSource,
        ticket: Ticket,
    },
    /// Waits until everything before it is folded, and until leadership was confirmed in this round or a later one.
    Held {
        ticket: Ticket,
        round: u64,
        outcome: Outcome,
    },
}

/// Decides, in order, what becomes of commands.
pub struct Pipeline {
    view: Arc<View>,
    overlay: Overlay,
    entropy: Box<dyn Entropy + Send>,
    /// Time of the newest event.
    time: Timestamp,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    /// The requests whose events are in flight.
    requests: HashMap<(NamespaceId, RequestId), (u64, Revision)>,
    answers: Vec<(Ticket, Outcome)>,
    event_bytes_max: usize,
    undecided_bytes_max: usize,
    /// The newest round of confirmation that was asked for, and the newest that came back.
    asked: u64,
    confirmed: u64,
    /// Whether something is held for a round that was not asked for yet.
    asks: bool,
}

impl Pipeline {
    /// Starts deciding. The view must be folded up to the entry that opened this leadership. `round` is the newest
    /// round of confirmation that was asked for by anyone.
    #[must_use]
    pub fn lead(view: Arc<View>, entropy: Box<dyn Entropy + Send>, round: u64) -> Self {
        Self {
            overlay: Overlay::new(view.catalog()),
            time: if is_planted(Bug::TimeForgottenAtElection) { Timestamp(0) } else { view.folded().time },
            view,
            entropy,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            requests: HashMap::new(),
            answers: Vec::new(),
            event_bytes_max: EVENT_BYTES_MAX,
            undecided_bytes_max: UNDECIDED_BYTES_MAX,
            asked: round,
            confirmed: round,
            asks: false,
        }
    }

    /// Refuses events of more bytes than this as well: a log that is handed a larger entry than it has room for can
    /// only fail, and the node with it.
    #[must_use]
    pub fn with_event_bytes_max(mut self, bytes: usize) -> Self {
        self.event_bytes_max = bytes.min(EVENT_BYTES_MAX);
        self
    }

    /// Lets fewer bytes be in flight than [`UNDECIDED_BYTES_MAX`].
    #[must_use]
    pub fn with_undecided_bytes_max(mut self, bytes: usize) -> Self {
        self.undecided_bytes_max = bytes.min(UNDECIDED_BYTES_MAX);
        self
    }

    /// Decides a command at `now`. What follows from it goes to `log` at once, and comes out of
    /// [`Pipeline::take_answers`] in time. `requests` holds what the folded events say.
    ///
    /// # Errors
    /// See [`PipelineError`]; the pipeline must then be dropped.
    pub fn submit(
        &mut self,
        submission: Submission,
        now: Timestamp,
        requests: &mut RequestLedger,
        log: &mut impl Proposer,
    ) -> Result<(), PipelineError> {
        let Submission { ticket, namespace, request: stamp, command } = submission;
        let time = if is_planted(Bug::TimeGoesBack) { now } else { self.time.max(now) };
        if let Some(outcome) = stamp.and_then(|stamp| self.recall(namespace, stamp, time, requests)) {
            reached("request: repeated");
            self.hold(ticket, outcome);
            return Ok(());
        }
        let (decided, revision) = self.decide(namespace, command, time);
        match decided {
            Err(rejection) => self.hold(ticket, Outcome::Rejected { revision, rejection }),
            Ok((content, source)) if content.is_empty() => {
                let answer = source.resolve(&[])?;
                self.hold(ticket, Outcome::Unchanged { revision, answer });
            }
            Ok((content, source)) => {
                let event = Event {
                    revision: revision.next(),
                    time,
                    namespace,
                    request: stamp.filter(|_| source.is_final()),
                    changes: content.changes,
                    items: content.items,
                    marks: content.marks,
                    answer: source.encode(),
                };
                self.propose(ticket, event, source, log)?;
            }
        }
        Ok(())
    }

    /// The events that are not yet answered and their places, oldest first, so that whoever folds them need not decode
    /// them again.
    pub fn proposed(&self) -> impl Iterator<Item = (LogIndex, &Arc<Event>)> {
        self.in_flight.iter().filter_map(|in_flight| match in_flight {
            InFlight::Event { index, event, .. } => Some((*index, event)),
            InFlight::Held { .. } => None,
        })
    }

    /// Notes that the view is folded up to `index`, and answers what that allows.
    ///
    /// # Errors
    /// See [`PipelineError`]; the pipeline must then be dropped.
    pub fn folded(&mut self, index: LogIndex) -> Result<(), PipelineError> {
        let all = is_planted(Bug::OverlayDroppedTooEarly);
        self.overlay.drop_folded(if all { Revision(u64::MAX) } else { self.view.folded().revision })?;
        self.answer_folded(index);
        Ok(())
    }

    /// The round of confirmation to ask a quorum for, when something waits for one.
    pub fn take_round(&mut self) -> Option<u64> {
        std::mem::take(&mut self.asks).then(|| {
            self.asked += 1;
            self.asked
        })
    }

    /// Whether an answer waits for a round that was asked for and has not come back; it may have got lost.
    #[must_use]
    pub fn awaits_round(&self) -> Option<u64> {
        (self.confirmed < self.asked).then_some(self.asked)
    }

    /// Notes that leadership was confirmed after `round` was asked for.
    pub fn confirmed(&mut self, round: u64) {
        self.confirmed = self.confirmed.max(round.min(self.asked));
        self.answer_folded(self.view.folded().index);
    }

    /// Ends the pipeline, because leadership has ended or the view failed.
    #[must_use]
    pub fn abandon(self) -> Abandoned {
        let mut abandoned = Abandoned::default();
        for in_flight in self.in_flight {
            match in_flight {
                InFlight::Event { ticket, .. } if is_planted(Bug::UnknownToldAsUndone) => abandoned.undone.push(ticket),
                InFlight::Event { ticket, .. } => abandoned.unknown.push(ticket),
                // What an earlier request did is done, but this one does not know it for sure any more.
                InFlight::Held { ticket, outcome: Outcome::Repeated { .. }, .. } => abandoned.unknown.push(ticket),
                InFlight::Held { ticket, .. } => abandoned.undone.push(ticket),
            }
        }
        abandoned
    }

    /// Answers that may be given now.
    pub fn take_answers(&mut self) -> Vec<(Ticket, Outcome)> {
        std::mem::take(&mut self.answers)
    }

    /// Events decided and not yet folded.
    #[must_use]
    pub fn undecided(&self) -> usize {
        self.overlay.len()
    }

    /// Whether nobody waits for anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.answers.is_empty()
    }

    fn recall(
        &self,
        namespace: NamespaceId,
        stamp: RequestStamp,
        now: Timestamp,
        requests: &mut RequestLedger,
    ) -> Option<Outcome> {
        if let Some((fingerprint, revision)) = self.requests.get(&(namespace, stamp.id)) {
            let is_same = *fingerprint == stamp.fingerprint;
            return Some(if is_same { Outcome::Repeated { revision: *revision } } else { Outcome::RequestReused });
        }
        match requests.look_up(namespace, stamp, now) {
            Known::New => None,
            Known::Caused(revision) if is_planted(Bug::RepetitionAnswersBefore) => {
                Some(Outcome::Repeated { revision: Revision(revision.0 - 1) })
            }
            Known::Caused(revision) => Some(Outcome::Repeated { revision }),
            Known::Reused => Some(Outcome::RequestReused),
        }
    }

    /// The decision, and the revision of the state that it saw.
    fn decide(
        &mut self,
        namespace: NamespaceId,
        command: Command,
        time: Timestamp,
    ) -> (Result<(Content, AnswerSource), Rejection>, Revision) {
        let committed = self.view.read();
        let reader = OverlayReader::new(&committed, &self.overlay);
        let mut transaction = Transaction::new(&reader, self.view.catalog(), namespace, time, self.entropy.as_mut());
        let decided = command.decide(&mut transaction).map(|source| (transaction.into_content(), source));
        (decided, reader.revision())
    }

    fn propose(
        &mut self,
        ticket: Ticket,
        event: Event,
        source: AnswerSource,
        log: &mut impl Proposer,
    ) -> Result<(), PipelineError> {
        let payload = event.encode();
        let bytes = payload.len();
        if bytes > self.event_bytes_max {
            self.hold(ticket, Outcome::TooLarge { bytes, limit: self.event_bytes_max });
            return Ok(());
        }
        if self.in_flight_bytes > 0 && self.in_flight_bytes + bytes > self.undecided_bytes_max {
            self.answers.push((ticket, Outcome::NotProposed(NotProposed::Overloaded)));
            return Ok(());
        }
        let position = match log.propose(EntryKind::Event, event.revision.0, payload) {
            Ok(position) => position,
            Err(refused) => {
                self.answers.push((ticket, Outcome::NotProposed(refused.into())));
                return Ok(());
            }
        };
        self.time = event.time;
        if let Some(stamp) = event.request {
            self.requests.insert((event.namespace, stamp.id), (stamp.fingerprint, event.revision));
        }
        let event = Arc::new(event);
        self.overlay.push(Arc::clone(&event), &self.view.read())?;
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(InFlight::Event { index: position.index, event, bytes, source, ticket });
        Ok(())
    }

    fn hold(&mut self, ticket: Ticket, outcome: Outcome) {
        if is_planted(Bug::RejectionNotConfirmed) {
            self.answers.push((ticket, outcome));
            return;
        }
        self.asks = true;
        self.in_flight.push_back(InFlight::Held { ticket, round: self.asked + 1, outcome });
    }

    fn answer_folded(&mut self, folded: LogIndex) {
        let confirmed = self.confirmed;
        if is_planted(Bug::RejectionBeforeFold) {
            for waiting in std::mem::take(&mut self.in_flight) {
                match waiting {
                    InFlight::Held { ticket, round, outcome } if round <= confirmed => {
                        self.answers.push((ticket, outcome));
                    }
                    waiting => self.in_flight.push_back(waiting),
                }
            }
        }
        let is_done = |in_flight: &mut InFlight| match in_flight {
            InFlight::Event { index, .. } => *index <= folded || is_planted(Bug::AnswerBeforeFold),
            InFlight::Held { round, .. } => *round <= confirmed,
        };
        while let Some(done) = self.in_flight.pop_front_if(is_done) {
            self.answers.push(match done {
                InFlight::Held { ticket, outcome, .. } => (ticket, outcome),
                InFlight::Event { event, source, ticket, bytes, .. } => {
                    self.in_flight_bytes -= bytes;
                    if let Some(stamp) = event.request {
                        self.requests.remove(&(event.namespace, stamp.id));
                    }
                    (ticket, Outcome::Committed { event, source })
                }
            });
        }
    }
}
