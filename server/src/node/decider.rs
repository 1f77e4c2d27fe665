//! The thread that decides commands, folds committed events and answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use steeple_engine::domain::Command;
use steeple_engine::ids::{LogPosition, NamespaceId, RequestId};
use steeple_engine::log::LogError;
use steeple_raft::{Outcome, Pipeline, PipelineError, Submission, Ticket};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Shared;
use super::log_writer::Task;

/// Messages taken in one turn before entries are handed to the log.
const TURN_MAX: usize = 1024;

/// What reaches the thread.
pub(super) enum Message {
    /// A command to decide.
    Submit(Box<Waiting>),
    /// The log's report on the batch that was handed to it.
    Persisted(Result<LogPosition, LogError>),
    /// Finish what is in flight and end.
    Stop,
}

/// A command and who waits for its outcome.
pub(super) struct Waiting {
    pub(super) namespace: NamespaceId,
    pub(super) request: Option<RequestId>,
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Outcome>,
    /// Given back with the answer; bounds what is in flight.
    pub(super) permit: OwnedSemaphorePermit,
}

/// Owns the pipeline.
pub(super) struct Decider {
    pub(super) pipeline: Pipeline,
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: mpsc::Sender<Task>,
    /// Whether the log works on a batch; the next one forms meanwhile.
    pub(super) appending: bool,
    pub(super) next_ticket: u64,
    pub(super) waiting: HashMap<Ticket, (oneshot::Sender<Outcome>, OwnedSemaphorePermit)>,
}

/// Why the thread ended before it was asked to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("log: {0}")]
    Log(#[from] LogError),
    #[error("view: {0}")]
    Pipeline(#[from] PipelineError),
    #[error("the log's thread is gone")]
    WriterGone,
}

impl Decider {
    /// Runs until it is stopped, the handles are gone, or the log or view fails. Whoever waits then learns that the
    /// outcome is unknown.
    pub(super) fn run(mut self, inbox: &mut tokio::sync::mpsc::Receiver<Message>) {
        if let Err(failure) = self.serve(inbox) {
            tracing::error!(%failure, "node stops taking mutations");
            self.shared.fail(failure.to_string());
        }
    }

    fn serve(&mut self, inbox: &mut tokio::sync::mpsc::Receiver<Message>) -> Result<(), Failure> {
        self.hand_over()?;
        let mut stopping = false;
        while !stopping || self.is_busy() {
            let Some(message) = inbox.blocking_recv() else { return Ok(()) };
            stopping |= self.handle(message)?;
            for _ in 1..TURN_MAX {
                let Ok(message) = inbox.try_recv() else { break };
                stopping |= self.handle(message)?;
            }
            stopping |= self.shared.submissions.is_closed();
            self.hand_over()?;
            self.answer();
        }
        Ok(())
    }

    /// Whether something is on its way to the log or back.
    fn is_busy(&self) -> bool {
        self.pipeline.undecided() > 0 || self.appending || self.pipeline.has_entries()
    }

    /// Whether the message asked to stop.
    fn handle(&mut self, message: Message) -> Result<bool, Failure> {
        match message {
            Message::Submit(waiting) => self.submit(*waiting)?,
            Message::Persisted(position) => {
                self.appending = false;
                let started = Instant::now();
                self.pipeline.persisted(position?)?;
                metrics::histogram!("steeple_fold_seconds").record(started.elapsed().as_secs_f64());
            }
            Message::Stop => return Ok(true),
        }
        Ok(false)
    }

    fn submit(&mut self, waiting: Waiting) -> Result<(), Failure> {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let Waiting { namespace, request, command, answer, permit } = waiting;
        self.waiting.insert(ticket, (answer, permit));
        let now = self.shared.clock.now();
        self.pipeline.submit(Submission { ticket, namespace, request, command }, now)?;
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Failure> {
        if !self.appending && self.pipeline.has_entries() {
            self.tasks.send(Task::Append(self.pipeline.take_entries())).map_err(|_| Failure::WriterGone)?;
            self.appending = true;
        }
        metrics::gauge!("steeple_events_in_flight").set(self.pipeline.undecided() as f64);
        Ok(())
    }

    fn answer(&mut self) {
        let answers = self.pipeline.take_answers();
        let core = self.shared.core();
        for (_, outcome) in &answers {
            if let Outcome::Committed { event, .. } = outcome {
                core.recent.push(Arc::clone(event));
            }
        }
        if !answers.is_empty() {
            // Consumers look at the recent events once they are woken, so these come first.
            self.shared.folded.send_replace(core.view.folded().revision);
        }
        for (ticket, outcome) in answers {
            if let Some((answer, permit)) = self.waiting.remove(&ticket) {
                // The caller may have gone; its command was carried out all the same.
                drop(answer.send(outcome));
                drop(permit);
            }
        }
    }
}
