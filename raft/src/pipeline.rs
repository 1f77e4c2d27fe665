//! The leader's side: decides commands ahead of commit, folds what is committed, answers when that is safe.
//!
//! A command is decided over the committed view with the overlay of undecided events on top, so any number of them may
//! be in flight and conflicting ones are decided in order. An accepted command is answered once its event is folded. A
//! rejection, or an answer that changed nothing, is held until every event that it saw is folded: had one of those
//! been lost, the answer would have been about a state that never was.

use std::collections::VecDeque;
use std::sync::Arc;

use steeple_engine::domain::{Answer, AnswerSource, Command, Rejection};
use steeple_engine::event::{Event, RequestStamp};
use steeple_engine::ids::{LogIndex, LogPosition, NamespaceId, RequestId, Revision, Timestamp};
use steeple_engine::log::{Entry, EntryKind};
use steeple_engine::table::RecordDecodeError;
use steeple_engine::transaction::{Content, Entropy, Transaction};
use steeple_engine::view::{Committed, Overlay, OverlayReader, Reader, View, ViewError};
use thiserror::Error;

use crate::consensus::Consensus;
use crate::requests::{Known, RequestLedger};

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
    /// The client's name for the mutation, which makes repeating it safe.
    pub request: Option<RequestId>,
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
        /// What to answer.
        answer: Answer,
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
        source: AnswerSource,
        ticket: Ticket,
    },
    /// Waits until everything before it is folded.
    Held {
        ticket: Ticket,
        outcome: Outcome,
    },
}

/// Decides, in order, what becomes of commands.
pub struct Pipeline {
    view: Arc<View>,
    overlay: Overlay,
    consensus: Consensus,
    requests: RequestLedger,
    entropy: Box<dyn Entropy + Send>,
    /// Time of the newest event.
    time: Timestamp,
    in_flight: VecDeque<InFlight>,
    appending: Vec<Entry>,
    answers: Vec<(Ticket, Outcome)>,
    event_bytes_max: usize,
}

impl Pipeline {
    /// Starts deciding. The view must be folded up to the end of the log, and `requests` hold what its recent events
    /// say. The first entry to append is the empty one that opens the leader's term.
    #[must_use]
    pub fn lead(
        view: Arc<View>,
        mut consensus: Consensus,
        requests: RequestLedger,
        entropy: Box<dyn Entropy + Send>,
    ) -> Self {
        let folded = view.folded();
        let opening = Entry {
            position: consensus.propose(),
            kind: EntryKind::Empty,
            tag: folded.revision.0,
            payload: bytes::Bytes::new(),
        };
        Self {
            overlay: Overlay::new(view.catalog()),
            time: folded.time,
            view,
            consensus,
            requests,
            entropy,
            in_flight: VecDeque::new(),
            appending: vec![opening],
            answers: Vec::new(),
            event_bytes_max: EVENT_BYTES_MAX,
        }
    }

    /// Refuses events of more bytes than this as well: a log that is handed a larger entry than it has room for can
    /// only fail, and the node with it.
    #[must_use]
    pub fn with_event_bytes_max(mut self, bytes: usize) -> Self {
        self.event_bytes_max = bytes.min(EVENT_BYTES_MAX);
        self
    }

    /// Decides a command at `now`. What follows from it is in [`Pipeline::take_entries`] and
    /// [`Pipeline::take_answers`].
    ///
    /// # Errors
    /// See [`PipelineError`]; the pipeline must then be dropped.
    pub fn submit(&mut self, submission: Submission, now: Timestamp) -> Result<(), PipelineError> {
        let Submission { ticket, namespace, request, command } = submission;
        let stamp = request.map(|id| RequestStamp { id, fingerprint: command.fingerprint() });
        let time = self.time.max(now);
        if let Some(outcome) = stamp.and_then(|stamp| self.recall(namespace, stamp, time)) {
            self.hold(ticket, outcome);
            return Ok(());
        }
        let (decided, revision) = self.decide(namespace, &command, time);
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
                self.propose(ticket, event, source)?;
            }
        }
        Ok(())
    }

    /// Notes that the log is durable up to `position`, and folds and answers what is committed by that.
    ///
    /// # Errors
    /// See [`PipelineError`]; the pipeline must then be dropped.
    pub fn persisted(&mut self, position: LogPosition) -> Result<(), PipelineError> {
        let committed = self.consensus.persisted(position);
        let mut folding = Vec::new();
        for in_flight in &self.in_flight {
            match in_flight {
                InFlight::Event { index, event, .. } if *index <= committed => {
                    folding.push(Committed { index: *index, event: Arc::clone(event) });
                }
                InFlight::Event { .. } => break,
                InFlight::Held { .. } => {}
            }
        }
        self.view.fold(&folding)?;
        self.overlay.drop_folded(self.view.folded().revision)?;
        self.answer_folded(committed)
    }

    /// Entries to append to the log, in order, and to report by [`Pipeline::persisted`] once durable.
    pub fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.appending)
    }

    /// Whether entries wait to be appended.
    #[must_use]
    pub fn has_entries(&self) -> bool {
        !self.appending.is_empty()
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

    /// Requests remembered.
    #[must_use]
    pub fn requests_remembered(&self) -> usize {
        self.requests.len()
    }

    /// The positions of the group.
    #[must_use]
    pub fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    fn recall(&mut self, namespace: NamespaceId, stamp: RequestStamp, now: Timestamp) -> Option<Outcome> {
        match self.requests.look_up(namespace, stamp, now) {
            Known::New => None,
            Known::Caused(revision) => Some(Outcome::Repeated { revision }),
            Known::Reused => Some(Outcome::RequestReused),
        }
    }

    /// The decision, and the revision of the state that it saw.
    fn decide(
        &mut self,
        namespace: NamespaceId,
        command: &Command,
        time: Timestamp,
    ) -> (Result<(Content, AnswerSource), Rejection>, Revision) {
        let committed = self.view.read();
        let reader = OverlayReader::new(&committed, &self.overlay);
        let mut transaction = Transaction::new(&reader, self.view.catalog(), namespace, time, self.entropy.as_mut());
        let decided = command.decide(&mut transaction).map(|source| (transaction.into_content(), source));
        (decided, reader.revision())
    }

    fn propose(&mut self, ticket: Ticket, event: Event, source: AnswerSource) -> Result<(), PipelineError> {
        let payload = event.encode();
        if payload.len() > self.event_bytes_max {
            let (bytes, limit) = (payload.len(), self.event_bytes_max);
            self.hold(ticket, Outcome::TooLarge { bytes, limit });
            return Ok(());
        }
        let position = self.consensus.propose();
        self.appending.push(Entry { position, kind: EntryKind::Event, tag: event.revision.0, payload });
        self.time = event.time;
        self.requests.remember(&event);
        let event = Arc::new(event);
        self.overlay.push(Arc::clone(&event), &self.view.read())?;
        self.in_flight.push_back(InFlight::Event { index: position.index, event, source, ticket });
        Ok(())
    }

    fn hold(&mut self, ticket: Ticket, outcome: Outcome) {
        if self.in_flight.is_empty() {
            self.answers.push((ticket, outcome));
        } else {
            self.in_flight.push_back(InFlight::Held { ticket, outcome });
        }
    }

    fn answer_folded(&mut self, committed: LogIndex) -> Result<(), PipelineError> {
        let folded = |in_flight: &mut InFlight| match in_flight {
            InFlight::Event { index, .. } => *index <= committed,
            InFlight::Held { .. } => true,
        };
        while let Some(done) = self.in_flight.pop_front_if(folded) {
            self.answers.push(match done {
                InFlight::Held { ticket, outcome } => (ticket, outcome),
                InFlight::Event { event, source, ticket, .. } => {
                    let answer = source.resolve(&event.changes)?;
                    (ticket, Outcome::Committed { event, answer })
                }
            });
        }
        Ok(())
    }
}
