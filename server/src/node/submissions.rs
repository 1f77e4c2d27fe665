//! Handing mutations to the group's thread, one or many at a time, and hearing what became of them.

use std::sync::Arc;

use parking_lot::Mutex;
use steeple_engine::domain::{Answer, AnswerSource, Command};
use steeple_engine::event::{Event, RequestStamp};
use steeple_engine::ids::{NamespaceId, RequestId, Revision};
use steeple_engine::spire::entries::records::{ArchivedEntry, Entry};
use steeple_engine::spire::notices::{self, Notice};
use steeple_engine::spire::tables;
use steeple_raft::Outcome;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::group::Message;
use super::{Accepted, NOTICES_MAX, Node, QueryError, SubmitError};

/// What became of a command.
pub(super) type Decided = Result<Outcome, SubmitError>;

/// A command and who waits for its outcome.
pub(super) struct Waiting {
    pub(super) namespace: NamespaceId,
    pub(super) request: Option<RequestStamp>,
    pub(super) command: Command,
    pub(super) answer: Answering,
}

impl Waiting {
    /// Works out what can be known before the group's thread, for which all wait, has it.
    pub(super) fn new(namespace: NamespaceId, request: Option<RequestId>, command: Command, answer: Answering) -> Self {
        let request = request.map(|id| command.stamp(id));
        Self { namespace, request, command, answer }
    }
}

/// Where an outcome goes. The permits, which bound what is in flight, are given back with it.
pub(super) enum Answering {
    /// To somebody who waits for it alone.
    Alone { answer: oneshot::Sender<Decided>, _permit: OwnedSemaphorePermit },
    /// To its place among those that were submitted together.
    Together { place: usize, all: Arc<Together> },
}

impl Answering {
    /// Tells the outcome. The caller may have gone; the command was carried out, or not, all the same.
    pub(super) fn tell(self, outcome: Decided) {
        match self {
            Self::Alone { answer, .. } => drop(answer.send(outcome)),
            Self::Together { place, all } => {
                if let Some(told) = all.outcomes.lock().get_mut(place) {
                    *told = Some(outcome);
                }
            }
        }
    }
}

/// The outcomes of commands that were submitted together. They are handed over when the last one of those who were to tell
/// them is gone, with nothing in the places of those who did not.
pub(super) struct Together {
    outcomes: Mutex<Vec<Option<Decided>>>,
    done: Mutex<Option<oneshot::Sender<Vec<Option<Decided>>>>>,
    _permits: OwnedSemaphorePermit,
}

impl Together {
    fn new(count: usize, permits: OwnedSemaphorePermit) -> (Arc<Self>, oneshot::Receiver<Vec<Option<Decided>>>) {
        let (done, outcomes) = oneshot::channel();
        let nothing = std::iter::repeat_with(|| None).take(count).collect();
        (Arc::new(Self { outcomes: Mutex::new(nothing), done: Mutex::new(Some(done)), _permits: permits }), outcomes)
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        if let Some(done) = self.done.get_mut().take() {
            // Whoever waited may have gone.
            drop(done.send(std::mem::take(self.outcomes.get_mut())));
        }
    }
}

/// Mutations that are on their way.
pub struct Submitted {
    node: Node,
    /// Their ids, and those of them that are worth a line in the log.
    asked: Vec<(Option<RequestId>, Option<steeple_engine::spire::Command>)>,
    parts: Vec<Part>,
}

/// Those that were handed over with one message, or were not.
struct Part {
    length: usize,
    /// Why the node takes none, when it was not handed over.
    outcomes: Result<oneshot::Receiver<Vec<Option<Decided>>>, String>,
}

impl Part {
    async fn outcomes(self, node: &Node) -> Vec<Decided> {
        match self.outcomes {
            Ok(outcomes) => {
                let outcomes = outcomes.await.unwrap_or_default().into_iter();
                let missing = std::iter::repeat_with(|| None);
                let told = outcomes.chain(missing).take(self.length);
                told.map(|outcome| outcome.unwrap_or_else(|| Err(node.unknown()))).collect()
            }
            Err(reason) => {
                let refused = || Err(SubmitError::Unavailable(reason.clone()));
                std::iter::repeat_with(refused).take(self.length).collect()
            }
        }
    }
}

impl Submitted {
    /// Waits for all of them, and tells what became of each, in their order.
    pub async fn outcomes(self) -> Vec<Result<Accepted, SubmitError>> {
        self.carried_out().await.into_iter().map(|carried_out| carried_out?.read()).collect()
    }

    /// As [`Submitted::outcomes`], with answers that are still to be read.
    pub(crate) async fn carried_out(self) -> Vec<Result<CarriedOut, SubmitError>> {
        let mut decided = Vec::with_capacity(self.asked.len());
        for part in self.parts {
            decided.extend(part.outcomes(&self.node).await);
        }
        let asked = self.asked.iter().zip(decided);
        asked
            .map(|((request, notable), decided)| self.node.read_outcome(*request, notable.as_ref(), decided?))
            .collect()
    }
}

/// A mutation that was carried out, with its answer where that lies.
pub(crate) struct CarriedOut {
    pub(crate) revision: Revision,
    notices: Vec<Notice>,
    answer: Unread,
}

/// An answer that is still to be read.
enum Unread {
    /// There is nothing to be read.
    Answer(Answer),
    /// It is in the event.
    Event(Arc<Event>, AnswerSource),
}

impl CarriedOut {
    /// The registration entry that the answer is, as the event has it; none when the answer is another one, or cannot be read.
    pub(crate) fn entry(&self) -> Option<&ArchivedEntry> {
        let Unread::Event(event, AnswerSource::Spire(source)) = &self.answer else { return None };
        let (change, body) = source.stored(&event.changes)?;
        (change.table == tables::ENTRIES).then(|| Entry::view(body).ok()).flatten()
    }

    /// Reads the answer.
    pub(crate) fn read(self) -> Result<Accepted, SubmitError> {
        let Self { revision, notices, answer } = self;
        let answer = match answer {
            Unread::Answer(answer) => answer,
            Unread::Event(event, source) => source.resolve(&event.changes).map_err(|error| {
                tracing::error!(%revision, %error, "the answer of a committed event cannot be read");
                no_answer(revision, &error)
            })?,
        };
        Ok(Accepted { revision, answer, notices })
    }
}

impl Node {
    /// Submits a mutation and waits for its outcome. With a request id it may be repeated safely: the same id gets the
    /// same answer as long as it is remembered.
    ///
    /// # Errors
    /// See [`SubmitError`]. Dropping the future does not take the mutation back.
    pub async fn submit(
        &self,
        namespace: NamespaceId,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Accepted, SubmitError> {
        let notable = notable(&command);
        let outcome = self.carry_out(namespace, request, command).await?;
        self.read_outcome(request, notable.as_ref(), outcome)?.read()
    }

    /// Submits a bounded mutation again and again until nothing is left to do, and answers how many records all steps
    /// changed together. Each step is one event; a reader may see the state between two of them.
    ///
    /// # Errors
    /// See [`SubmitError`]; steps before the failed one stay done.
    pub async fn submit_to_end(
        &self,
        namespace: NamespaceId,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<(Accepted, u64), SubmitError> {
        let (mut total, mut notices) = (0, Vec::new());
        loop {
            let submitted = self.submit(namespace, request, command.clone()).await;
            let mut accepted = submitted.map_err(|error| match error {
                // Earlier steps stay done, so "nothing happened" would be wrong.
                error if total > 0 => error.after_a_step(),
                error => error,
            })?;
            notices.append(&mut accepted.notices);
            notices.truncate(NOTICES_MAX);
            let (changed, more) = accepted.answer.progress().unwrap_or((0, false));
            total += changed;
            if !more {
                return Ok((Accepted { notices, ..accepted }, total));
            }
        }
    }

    async fn carry_out(
        &self,
        namespace: NamespaceId,
        request: Option<RequestId>,
        command: Command,
    ) -> Result<Outcome, SubmitError> {
        let permit = Arc::clone(&self.shared.submissions).acquire_owned().await.map_err(|_| self.unavailable())?;
        let (answer, outcome) = oneshot::channel();
        let answer = Answering::Alone { answer, _permit: permit };
        let waiting = Box::new(Waiting::new(namespace, request, command, answer));
        let inbox = self.shared.inbox_sender().ok_or_else(|| self.unavailable())?;
        inbox.send(Message::Submit(waiting)).await.map_err(|_| self.unavailable())?;
        outcome.await.map_err(|_| self.unknown())?
    }

    /// Submits several mutations at once, and returns when they are on their way. They are decided in this order. Others
    /// may be decided in between when they are more than the node takes at a time.
    pub async fn submit_all(&self, namespace: NamespaceId, commands: Vec<(Option<RequestId>, Command)>) -> Submitted {
        let asked: Vec<_> = commands.iter().map(|(request, command)| (*request, notable(command))).collect();
        let mut commands = commands.into_iter();
        let mut parts = Vec::new();
        while commands.len() > 0 {
            let part: Vec<_> = commands.by_ref().take(self.shared.options.submissions_max.max(1)).collect();
            let length = part.len();
            let outcomes = self.submit_part(namespace, part).await;
            parts.push(Part { length, outcomes });
        }
        Submitted { node: self.clone(), asked, parts }
    }

    async fn submit_part(
        &self,
        namespace: NamespaceId,
        commands: Vec<(Option<RequestId>, Command)>,
    ) -> Result<oneshot::Receiver<Vec<Option<Decided>>>, String> {
        let count = u32::try_from(commands.len()).unwrap_or(u32::MAX);
        let permits = Arc::clone(&self.shared.submissions).acquire_many_owned(count).await;
        let (together, outcomes) = Together::new(commands.len(), permits.map_err(|_| self.reason())?);
        let waiting = |(place, (request, command))| {
            let answer = Answering::Together { place, all: Arc::clone(&together) };
            Waiting::new(namespace, request, command, answer)
        };
        let waiting = commands.into_iter().enumerate().map(waiting).collect();
        let inbox = self.shared.inbox_sender().ok_or_else(|| self.reason())?;
        inbox.send(Message::SubmitAll(waiting)).await.map_err(|_| self.reason())?;
        Ok(outcomes)
    }

    /// What is told to whoever waits for a node that has ended.
    fn unknown(&self) -> SubmitError {
        SubmitError::OutcomeUnknown(self.failure().unwrap_or_else(|| "node stopped".into()))
    }

    fn read_outcome(
        &self,
        request: Option<RequestId>,
        notable: Option<&steeple_engine::spire::Command>,
        outcome: Outcome,
    ) -> Result<CarriedOut, SubmitError> {
        match outcome {
            Outcome::Committed { event, source } => {
                let mut notices = notices_of(notable, &event);
                notices.iter().for_each(log_notice);
                notices.truncate(NOTICES_MAX);
                Ok(CarriedOut { revision: event.revision, notices, answer: Unread::Event(event, source) })
            }
            Outcome::Unchanged { revision, answer } => {
                Ok(CarriedOut { revision, notices: Vec::new(), answer: Unread::Answer(answer) })
            }
            Outcome::Rejected { revision, rejection } => Err(SubmitError::Rejected { revision, rejection }),
            Outcome::Repeated { revision } => {
                self.answer_again(revision, notable).map_err(|error| no_answer(revision, &error))
            }
            Outcome::RequestReused => Err(SubmitError::RequestReused(request.unwrap_or(RequestId([0; 16])))),
            Outcome::TooLarge { bytes, limit } => Err(SubmitError::TooLarge { bytes, limit }),
            Outcome::NotProposed(reason) => Err(SubmitError::Unavailable(reason.to_string())),
        }
    }

    /// The answer of an event that is committed already. It is read at once: the event, which may be large, was perhaps fetched from
    /// the log for this answer alone, and a batch may ask for many.
    fn answer_again(
        &self,
        revision: Revision,
        notable: Option<&steeple_engine::spire::Command>,
    ) -> Result<CarriedOut, QueryError> {
        let event = self.event(revision)?;
        let source = AnswerSource::decode(&event.answer)?;
        let mut notices = notices_of(notable, &event);
        notices.truncate(NOTICES_MAX);
        Ok(CarriedOut { revision, notices, answer: Unread::Answer(source.resolve(&event.changes)?) })
    }
}

/// It was carried out, and what it came to cannot be read.
fn no_answer(revision: Revision, error: &dyn std::fmt::Display) -> SubmitError {
    SubmitError::OutcomeUnknown(format!("it was carried out at revision {revision}, but: {error}"))
}

/// The command again, when what it changes is worth a line in the log.
fn notable(command: &Command) -> Option<steeple_engine::spire::Command> {
    use steeple_engine::spire::{Command as Spire, entries, journals, nodes};
    match command {
        Command::Spire(
            command @ (Spire::Entry(entries::Command::Prune { .. })
            | Spire::Node(nodes::Command::Delete { .. } | nodes::Command::Prune { .. })
            | Spire::Journal(journals::Command::Prune { .. })),
        ) => Some(command.clone()),
        _ => None,
    }
}

fn notices_of(notable: Option<&steeple_engine::spire::Command>, event: &Event) -> Vec<Notice> {
    notable.and_then(|command| notices::notices(command, &event.changes).ok()).unwrap_or_default()
}

/// The names of a line's fields are what operators search for, so each is a field of its own.
fn log_notice(notice: &Notice) {
    macro_rules! line {
        ($($name:ident = $value:expr),*) => {
            tracing::info!(target: "steeple::spire", $($name = $value,)* "{}", notice.message())
        };
    }
    match notice {
        Notice::ExpiredEntry(entry) | Notice::CascadedEntry(entry) => {
            line!(spiffe_id = entry.spiffe_id, parent_id = entry.parent_id, entry_id = entry.entry_id);
        }
        Notice::ExpiredNodes { count } => line!(count = count),
        Notice::StaleJournal { id } => line!(ca_journal_id = id),
    }
}

#[cfg(test)]
mod tests {
    use steeple_engine::spire;

    use super::super::tests::entry;
    use super::super::{NodeOptions, NodeParts};
    use super::*;

    #[tokio::test]
    async fn what_was_carried_out_is_not_called_undone_when_its_answer_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::start(NodeOptions::at(directory.path()), NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        let accepted = node.submit(namespace, None, entry(1)).await.unwrap();
        let event = node.event(accepted.revision).unwrap();
        let outcome = |place| Outcome::Committed {
            event: Arc::clone(&event),
            source: AnswerSource::Spire(spire::AnswerSource::After(place)),
        };
        let read = |place| node.read_outcome(None, None, outcome(place)).unwrap().read();
        assert_eq!(read(0).unwrap().answer, accepted.answer);
        match read(7) {
            Err(SubmitError::OutcomeUnknown(reason)) => assert!(reason.contains("carried out at revision"), "{reason}"),
            other => panic!("{other:?}"),
        }
        node.stop().await;
    }
}
