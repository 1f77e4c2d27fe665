//! The thread that owns a group: it steps its replica, folds what is committed, and decides and answers while it leads.
//!
//! Everything that happens to the group comes to it as a [`Message`]. After each batch of them it takes what follows
//! from its [`Replica`] until nothing does: writes go to the log's thread, messages to the transport, committed entries
//! into the view. It never waits for a peer, and for a disk only when it makes a small write durable by itself because
//! nothing else is to be done at that moment ([`drive`]). What comes during such a write waits for its end.

mod astray;
mod changes;
mod drive;
mod failed_store;
mod fold;
mod lease;
mod reads;
mod sink;
mod snapshots;

#[cfg(test)]
mod astray_tests;
#[cfg(test)]
mod catching_up_tests;
#[cfg(test)]
mod drive_tests;
#[cfg(test)]
mod failed_store_tests;
#[cfg(test)]
mod founding_tests;
#[cfg(test)]
mod features_tests;
#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc;

use steeple_engine::event::EventDecodeError;
use steeple_engine::ids::{LogIndex, LogPosition, NodeId, Term, Timestamp};
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::LogError;
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_engine::view::ViewError;
use steeple_raft::membership::MembershipError;
use steeple_raft::{
    Leadership, Member, MessageRefused, NotProposed, Outcome, Output, Pipeline, PipelineError, ProposalRefused,
    Question, Replica, ReplicaError, RequestLedger, Statement, Submission, Ticket, Write, WriteNumber,
};
use tokio::sync::oneshot;

use super::Shared;
use super::cluster::{ClusterChange, ClusterError};
use super::core::Core;
use super::errors::{QueryError, SubmitError};
use super::install::{InstallError, Installation, Rebuilding};
use super::log_writer::{LogQueue, Task};
use super::options::ClusterOrigin;
use super::submissions::{Answering, Waiting};
use crate::peer::{Delivery, Transport};

use self::astray::Astray;
pub(super) use self::astray::{Finding, Verdict};
pub(super) use self::changes::GroupStatus;
pub(super) use self::fold::Noted;
pub(super) use self::lease::PublishedLease;
pub(super) use self::reads::Reads;
pub(super) use self::sink::NodeSink;
pub(super) use self::snapshots::Scratch;
use self::snapshots::Takeover;

/// Messages taken in one turn.
const TURN_MAX: usize = 1024;

/// Ticks between two notes of how far the log is committed.
const NOTE_TICKS: u64 = 20;

/// Ticks that a stop waits for leadership to be handed over, or for what is in flight.
const STOP_TICKS: u32 = 40;

/// The part of the time for which requests are remembered that a command waits in a group of one until it can be decided.
/// The rest is for how long it was on its way before.
const REQUEST_WINDOW_PARTS: u128 = 4;

/// What reaches the thread.
pub(super) enum Message {
    /// A command to decide.
    Submit(Box<Waiting>),
    /// Commands to decide one after the other.
    SubmitAll(Vec<Waiting>),
    /// The log's report on what was handed to it.
    Persisted(Result<WriteNumber, LogError>),
    /// Messages of another node.
    Peer(Delivery),
    /// Another node cannot be reached.
    Unreachable(NodeId),
    /// Time passes.
    Tick,
    /// Whoever wants to read what is current waits for a word that the view holds it.
    Read(oneshot::Sender<Result<(), QueryError>>),
    /// An operator changes the members or the leader.
    Change(ClusterChange, oneshot::Sender<Result<(), ClusterError>>),
    /// How the group is doing.
    Status(oneshot::Sender<GroupStatus>),
    /// A snapshot has been fetched and loaded, or has not.
    Prepared(Result<Box<Installation>, String>),
    /// The log holds what the snapshot holds, or does not.
    Filled(Box<Installation>, Result<LogPosition, InstallError>),
    /// The record store of this core has failed, and how.
    StoreFailed(Arc<Core>, String),
    /// The records have been built anew, or have not.
    Rebuilt(Result<Box<Rebuilding>, String>),
    /// Another member, whose log is damaged, asks what this one's holds.
    Describe(Question, oneshot::Sender<Statement>),
    /// Finish what is in flight and end.
    Stop,
}

/// Owns the replica, and the pipeline while it leads.
pub(super) struct Group {
    pub(super) id: NodeId,
    pub(super) replica: Replica,
    pub(super) core: Arc<Core>,
    pub(super) requests: RequestLedger,
    pub(super) shared: Arc<Shared>,
    pub(super) log: LogQueue,
    pub(super) transport: Option<Arc<dyn Transport>>,
    /// Told once the group serves for the first time: a group of one leads, any other one has started.
    pub(super) started: Option<mpsc::Sender<()>>,
    leading: Option<Leading>,
    /// Commands that came before the term was opened, and when.
    early: VecDeque<(Timestamp, Waiting)>,
    waiting: HashMap<Ticket, Answering>,
    next_ticket: u64,
    reads: Reads,
    changes: changes::Changes,
    checks: fold::Checks,
    takeover: Takeover,
    astray: Astray,
    /// The newest membership entry that the replica has applied.
    membership_applied: LogIndex,
    writing: VecDeque<WriteNumber>,
    /// Writes that were not handed to the log's thread, because the group may do them by itself.
    kept: Vec<Write>,
    /// Whether it may.
    keeps_writes: bool,
    ticks: u64,
    /// The commit index that the log was told last.
    noted: LogIndex,
    stopping: Option<u32>,
    /// Ticks since the leader was heard. A learner that is cut off goes on taking it for the leader.
    quiet_ticks: usize,
}

/// What a leader has.
struct Leading {
    term: Term,
    pipeline: Pipeline,
}

/// Why the thread ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("log: {0}")]
    Log(#[from] LogError),
    #[error("consensus: {0}")]
    Replica(#[from] ReplicaError),
    #[error("view: {0}")]
    Pipeline(#[from] PipelineError),
    #[error("view: {0}")]
    View(#[from] ViewError),
    #[error("log entry {index}: {source}")]
    Event { index: LogIndex, source: EventDecodeError },
    #[error("log entry {index}: {source}")]
    Membership { index: LogIndex, source: MembershipError },
    #[error("the log's thread is gone")]
    WriterGone,
    #[error("a snapshot could not be taken over: {0}")]
    Install(String),
    #[error("the record store has failed too often and is tried again at the next start: {0}")]
    Records(String),
    #[error("{0}")]
    LogLost(MessageRefused),
}

impl Failure {
    /// Whether the log was found to be damaged while it was read.
    fn is_damage(&self) -> bool {
        matches!(self, Self::Log(LogError::Corrupt { .. }) | Self::Replica(ReplicaError::Log(LogError::Corrupt { .. })))
    }
}

impl Group {
    /// A group that starts from what was opened.
    pub(super) fn new(
        replica: Replica,
        core: Arc<Core>,
        requests: RequestLedger,
        shared: Arc<Shared>,
        log: LogQueue,
        transport: Option<Arc<dyn Transport>>,
        started: mpsc::Sender<()>,
    ) -> Self {
        Self {
            id: shared.identity.node,
            replica: lease::guarded(replica, &shared),
            core,
            requests,
            shared,
            log,
            transport,
            started: Some(started),
            leading: None,
            early: VecDeque::new(),
            waiting: HashMap::new(),
            next_ticket: 0,
            reads: Reads::default(),
            changes: changes::Changes::default(),
            checks: fold::Checks::default(),
            takeover: Takeover::default(),
            astray: Astray::default(),
            membership_applied: LogIndex::ZERO,
            writing: VecDeque::new(),
            kept: Vec::new(),
            keeps_writes: false,
            ticks: 0,
            noted: LogIndex::ZERO,
            stopping: None,
            quiet_ticks: 0,
        }
    }

    /// Comes before the first turn.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        self.connect();
        self.recall_held();
        self.begin_astray();
        self.settle_astray_alone();
        if self.is_alone() {
            self.replica.campaign();
        } else {
            self.tell_started();
        }
        self.turn()
    }

    /// Takes up a message, and those that wait behind it, and does what follows from them.
    pub(super) fn take_turn(
        &mut self,
        message: Message,
        inbox: &mut tokio::sync::mpsc::Receiver<Message>,
    ) -> Result<(), Failure> {
        self.handle(message)?;
        for _ in 1..TURN_MAX {
            let Ok(message) = inbox.try_recv() else { break };
            self.handle(message)?;
        }
        if self.shared.submissions.is_closed() {
            self.begin_to_stop();
        }
        self.turn()
    }

    /// Comes after the last turn of a group that was asked to stop.
    pub(super) fn end(&mut self) {
        drop(self.hand_to_log(Task::Note(self.replica.durable_commit())));
    }

    /// Lets the log remember how far it is committed, so that a node which is killed and then left alone still knows.
    fn note_commit(&mut self) {
        self.ticks += 1;
        let committed = self.replica.durable_commit();
        if self.ticks.is_multiple_of(NOTE_TICKS) && committed > self.noted {
            self.noted = committed;
            drop(self.hand_to_log(Task::Note(committed)));
        }
    }

    /// Whether there is anything left to do for a group; `false` only after it was asked to stop.
    pub(super) fn goes_on(&self) -> bool {
        let is_busy = !self.writing.is_empty() || self.leading.as_ref().is_some_and(|it| !it.pipeline.is_idle());
        match self.stopping {
            None => true,
            Some(ticks) if self.is_alone() => is_busy && ticks < STOP_TICKS * 10,
            Some(ticks) => (is_busy || self.leading.is_some() && self.may_hand_over()) && ticks < STOP_TICKS,
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Submit(waiting) => self.submit(*waiting)?,
            Message::SubmitAll(all) => {
                for waiting in all {
                    self.submit(waiting)?;
                }
            }
            Message::Persisted(number) => {
                let number = number?;
                while self.writing.pop_front_if(|write| *write <= number).is_some() {}
                self.replica.persisted(number);
            }
            Message::Peer(delivery) => self.receive(delivery)?,
            Message::Unreachable(node) => self.replica.unreachable(node),
            Message::Tick => self.tick(),
            Message::Read(waiter) => self.read(waiter),
            Message::Change(change, answer) => self.change(change, answer),
            Message::Status(answer) => drop(answer.send(self.status())),
            Message::Prepared(prepared) => self.take_over(prepared)?,
            Message::Filled(installation, filled) => self.finish_takeover(*installation, filled)?,
            Message::StoreFailed(core, error) => self.store_failed_in(&core, &error)?,
            Message::Rebuilt(rebuilt) => self.finish_rebuilding(rebuilt)?,
            Message::Describe(question, answer) => self.describe(&question, answer)?,
            Message::Stop => self.begin_to_stop(),
        }
        Ok(())
    }

    /// Tells a member that repairs its log what this one holds. While a snapshot is taken over there is no saying.
    fn describe(&mut self, question: &Question, answer: oneshot::Sender<Statement>) -> Result<(), Failure> {
        if !self.rests() {
            let mut statement = self.replica.state_for(question)?;
            if !self.shared.roster.is_confirmed() {
                // Another directory may have stood behind this number: what is not here says nothing.
                statement.configuration = None;
            }
            drop(answer.send(statement));
        }
        Ok(())
    }

    fn begin_to_stop(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some(0);
            self.hand_over();
        }
    }

    fn receive(&mut self, delivery: Delivery) -> Result<(), Failure> {
        if self.rests() {
            return Ok(());
        }
        let known = self.replica.membership().incarnation(delivery.from);
        if known.zip(delivery.incarnation).is_some_and(|(known, theirs)| known != theirs)
            && !is_planted(Bug::WipedNodeVotes)
        {
            // It was let in before its data directory was known to be the wrong one.
            metrics::counter!("steeple_peer_messages_refused_total").increment(delivery.messages.len() as u64);
            return Ok(());
        }
        if self.replica.leadership().leader == Some(delivery.from) {
            let was_quiet = self.is_quiet();
            self.quiet_ticks = 0;
            if was_quiet {
                self.publish_leader();
            }
        }
        // Now, after they came.
        self.replica.time_is(self.shared.clock.monotonic());
        for message in delivery.messages {
            match self.replica.receive(message) {
                Ok(()) => {}
                Err(lost @ MessageRefused::LogLost { .. }) => return Err(Failure::LogLost(lost)),
                Err(refused) => {
                    metrics::counter!("steeple_peer_messages_refused_total").increment(1);
                    tracing::warn!(from = %delivery.from, %refused, "refused a message of a peer");
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self) {
        if let Some(ticks) = &mut self.stopping {
            *ticks += 1;
        }
        self.make_contact();
        self.forget_readers_who_left();
        if self.rests() {
            return;
        }
        self.replica.time_is(self.shared.clock.monotonic());
        self.replica.tick();
        self.quiet_ticks = self.quiet_ticks.saturating_add(1);
        if self.is_quiet() {
            self.publish_leader();
        }
        if self.is_alone() && self.replica.leadership().leader.is_none() {
            self.replica.campaign();
        }
        self.note_commit();
        self.turn_away_overdue();
        self.repeat_unconfirmed();
        self.tick_checks();
        self.tick_astray();
        self.tick_changes();
        self.record_members();
    }

    /// Whether another founder has not admitted this one yet.
    pub(in crate::node) fn is_on_probation(&self) -> bool {
        !self.shared.roster.is_confirmed()
    }

    /// Introduces this node to those who have to know it before it can take part.
    fn make_contact(&self) {
        let Some(transport) = &self.transport else { return };
        let awaited = self.shared.roster.awaited();
        awaited.iter().for_each(|node| transport.greet(*node));
        if let ClusterOrigin::Joining { members, .. } = &self.shared.options.cluster.origin
            && self.replica.membership().is_empty()
        {
            members.keys().filter(|node| **node != self.id.0).for_each(|node| transport.greet(NodeId(*node)));
        }
    }

    /// Carries out what follows from what was handled.
    fn turn(&mut self) -> Result<(), Failure> {
        while !self.rests() {
            self.ask_for_confirmation();
            let Some(output) = self.replica.take_output()? else { break };
            self.carry_out(output)?;
        }
        self.answer();
        let undecided = self.leading.as_ref().map_or(0, |leading| leading.pipeline.undecided());
        metrics::gauge!("steeple_events_in_flight").set(undecided as f64);
        metrics::gauge!("steeple_log_writes_waiting").set(self.writing.len() as f64);
        metrics::gauge!("steeple_reads_waiting").set(self.reads.waiting() as f64);
        Ok(())
    }

    fn carry_out(&mut self, output: Output) -> Result<(), Failure> {
        self.publish_lease();
        if let Some(write) = output.write {
            self.writing.push_back(write.number);
            self.write(write)?;
        }
        if let Some(transport) = &self.transport {
            for message in output.messages {
                transport.send(NodeId(message.to), message);
            }
        }
        // Before anything is folded: another leader's entries may stand where this one's pipeline has its own.
        if let Some(leadership) = output.leadership {
            self.follow_leadership(leadership);
        }
        self.fold(output.committed)?;
        self.open_term()?;
        for read in output.reads {
            self.confirm(read)?;
        }
        if let Some(offer) = output.snapshot {
            self.fetch(offer);
        }
        Ok(())
    }

    fn follow_leadership(&mut self, leadership: Leadership) {
        tracing::info!(term = %leadership.term, leader = ?leadership.leader, "leadership");
        metrics::gauge!("steeple_raft_term").set(leadership.term.0 as f64);
        metrics::gauge!("steeple_raft_leads").set(f64::from(u8::from(leadership.opened.is_some())));
        let goes_on = |leading: &Leading| leadership.opened.is_some() && leading.term == leadership.term;
        if !self.leading.as_ref().is_some_and(goes_on) && !is_planted(Bug::PipelineKeptOverTerms) {
            self.stop_leading();
        }
        // Also when nobody is known to lead: that may last for longer than requests are remembered, and what waited here would
        // then be decided as if it had just come. A group of one has nowhere else to send them.
        if leadership.opened.is_none() && (leadership.leader.is_some() || !self.is_alone()) {
            self.turn_away_early();
        }
        self.quiet_ticks = 0;
        self.publish_leader();
    }

    /// Ends the pipeline: what was proposed may or may not be committed by the next leader, the rest did not happen.
    fn stop_leading(&mut self) {
        self.shared.leads_alone.store(false, std::sync::atomic::Ordering::SeqCst);
        let Some(mut leading) = self.leading.take() else { return };
        self.publish_lease();
        for (ticket, outcome) in leading.pipeline.take_answers() {
            self.reply(ticket, Ok(outcome));
        }
        if leading.pipeline.undecided() > 0 {
            reached("leadership: lost with undecided events");
        }
        let abandoned = leading.pipeline.abandon();
        for ticket in abandoned.unknown {
            self.reply(ticket, Err(SubmitError::OutcomeUnknown("leadership has moved to another node".into())));
        }
        for ticket in abandoned.undone {
            self.reply(ticket, Err(self.not_leader()));
        }
        self.fail_changes();
    }

    /// Starts to decide, once everything is folded that any leader before can have committed.
    fn open_term(&mut self) -> Result<(), Failure> {
        let leadership = self.replica.leadership();
        let folded = self.core.view.folded().index;
        let is_open = leadership.opened.is_some_and(|opened| folded >= opened || is_planted(Bug::TermNotOpened));
        if !is_open || self.leading.is_some() || self.is_astray() {
            return Ok(());
        }
        let entropy = Box::new(SeededEntropy::new(self.shared.random.number()));
        let pipeline = Pipeline::lead(Arc::clone(&self.core.view), entropy, self.reads.pipeline_round)
            .with_event_bytes_max(self.shared.options.log.max_payload_bytes());
        self.leading = Some(Leading { term: leadership.term, pipeline });
        self.publish_leader();
        self.tell_started();
        // A group of one has no ticks.
        self.record_members();
        // The record store may fail meanwhile, and the rest waits again.
        while self.leading.is_some()
            && let Some((since, waiting)) = self.early.pop_front()
        {
            if self.has_waited_too_long(since, &waiting) {
                waiting.answer.tell(Err(self.not_leader()));
            } else {
                self.submit(waiting)?;
            }
        }
        Ok(())
    }

    fn tell_started(&mut self) {
        if let Some(started) = self.started.take() {
            // Whoever started the node may have given up waiting.
            let _ = started.send(());
        }
    }

    fn submit(&mut self, waiting: Waiting) -> Result<(), Failure> {
        let Some(leading) = &mut self.leading else {
            self.submit_early(waiting);
            return Ok(());
        };
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        let Waiting { namespace, request, command, answer } = waiting;
        self.waiting.insert(ticket, answer);
        let submission = Submission { ticket, namespace, request, command };
        let now = self.shared.clock.now();
        match leading.pipeline.submit(submission, now, &mut self.requests, &mut self.replica) {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure = Failure::from(error);
                let of_store = failure.of_store().ok_or(failure)?;
                // It may have been proposed before the store was asked for something.
                self.reply(ticket, Err(SubmitError::OutcomeUnknown("the record store has failed".into())));
                self.store_failed(&of_store)
            }
        }
    }

    /// A command that comes while nobody decides here.
    fn submit_early(&mut self, waiting: Waiting) {
        if self.replica.leadership().opened.is_some() || self.is_alone() {
            reached("leadership: a command waited for the term to be opened");
            self.early.push_back((self.shared.clock.now(), waiting));
        } else {
            waiting.answer.tell(Err(self.not_leader()));
        }
    }

    fn turn_away_early(&mut self) {
        while let Some((_, waiting)) = self.early.pop_front() {
            waiting.answer.tell(Err(self.not_leader()));
        }
    }

    /// Turns away what has waited too long for the term to be opened.
    fn turn_away_overdue(&mut self) {
        let early = std::mem::take(&mut self.early).into_iter();
        let (overdue, early): (VecDeque<_>, _) =
            early.partition(|(since, waiting)| self.has_waited_too_long(*since, waiting));
        self.early = early;
        for (_, waiting) in overdue {
            waiting.answer.tell(Err(self.not_leader()));
        }
    }

    /// A leader may be heard by a majority and still have nothing committed, as when their disks are slow. What is decided here
    /// must not be so old that an earlier attempt of its request is forgotten. A group of one has nowhere else to send it, and lets
    /// it wait for as long as that allows.
    fn has_waited_too_long(&self, since: Timestamp, waiting: &Waiting) -> bool {
        let options = &self.shared.options;
        let patience_micros = match (self.is_alone(), waiting.request) {
            (true, None) => return false,
            (true, Some(_)) => options.request_window.as_micros() / REQUEST_WINDOW_PARTS,
            (false, _) => {
                options.cluster.tick.as_micros().saturating_mul(options.cluster.replica.election_ticks as u128)
            }
        };
        u128::from(self.shared.clock.now().0.saturating_sub(since.0)) > patience_micros
    }

    fn answer(&mut self) {
        let Some(leading) = &mut self.leading else { return };
        for (ticket, outcome) in leading.pipeline.take_answers() {
            let reply = match outcome {
                Outcome::NotProposed(NotProposed::Refused(ProposalRefused::NotLeader)) => Err(self.not_leader()),
                Outcome::NotProposed(refused) => Err(SubmitError::Unavailable(refused.to_string())),
                outcome => Ok(outcome),
            };
            self.reply(ticket, reply);
        }
    }

    fn reply(&mut self, ticket: Ticket, reply: Result<Outcome, SubmitError>) {
        if let Some(answer) = self.waiting.remove(&ticket) {
            answer.tell(reply);
        }
    }

    /// What is answered to whoever came to the wrong node.
    fn not_leader(&self) -> SubmitError {
        SubmitError::NotLeader { leader: self.leader() }
    }

    /// Another node that leads, and where its clients reach it.
    fn leader(&self) -> Option<(NodeId, String)> {
        let leader = self.replica.leadership().leader.filter(|leader| *leader != self.id)?;
        let member = self.replica.membership().member(leader);
        Some((leader, member.map(|member| member.client_address.clone()).unwrap_or_default()))
    }

    /// Whether commands are decided here now.
    pub(super) fn decides(&self) -> bool {
        self.leading.is_some()
    }

    fn is_alone(&self) -> bool {
        self.replica.membership().is_alone(self.id)
    }

    /// Tells the handles whether reads and answers need anybody else.
    fn publish_leader(&self) {
        let leads_alone = self.is_alone() && self.leading.is_some();
        self.shared.leads_alone.store(leads_alone, std::sync::atomic::Ordering::SeqCst);
        self.shared.alone.store(self.is_alone(), std::sync::atomic::Ordering::SeqCst);
        self.shared.in_touch.store(self.is_in_touch(), std::sync::atomic::Ordering::SeqCst);
    }

    /// Whether what is committed comes here.
    fn is_in_touch(&self) -> bool {
        let leader = self.replica.leadership().leader;
        let belongs = self.replica.membership().role(self.id).is_some();
        belongs && leader.is_some_and(|leader| leader == self.id || !self.is_quiet())
    }

    /// Whether the leader was not heard for longer than any election takes to begin.
    fn is_quiet(&self) -> bool {
        self.quiet_ticks > 2 * self.shared.options.cluster.replica.election_ticks
    }

    /// Tells the transport who the others are, and the roster as whom they are known.
    fn connect(&self) {
        self.shared.roster.set_membership(self.replica.membership());
        if self.shared.roster.forgets_contacts() {
            let (shared, work) = (Arc::clone(&self.shared), Arc::clone(&self.shared.work));
            // A node that stops does it when it starts again.
            self.shared.work.spawn(async move { drop(work.blocking(move || shared.roster.keep_contacts()).await) });
        }
        if let Some(known) = self.replica.membership().member(self.id)
            && let Some(command) = command_after_moving(self.id, &self.shared.options.cluster.advertised, known)
        {
            let message = "the group looks for this node elsewhere than its configuration says; tell it";
            tracing::warn!(peers = known.peer_address, clients = known.client_address, command, message);
        }
        if let Some(transport) = &self.transport {
            let members = self.replica.membership();
            let known = match &self.shared.options.cluster.origin {
                ClusterOrigin::Joining { members, .. } if self.replica.membership().is_empty() => members,
                _ => &members.members,
            };
            let address = |(node, member): (&u64, &Member)| (NodeId(*node), member.peer_address.clone());
            transport.set_members(known.iter().map(address).collect());
        }
        self.publish_leader();
    }
}

/// What an operator does when the configuration of a node says that it is reached elsewhere than its group knows. A node does
/// not change that by itself: what it is told may be the mistake, and the group would lose it.
fn command_after_moving(node: NodeId, advertised: &Member, known: &Member) -> Option<String> {
    let mut command = format!("steeple cluster change-address {node}");
    let before = command.len();
    for (flag, advertised, known) in [
        ("--peer-address", &advertised.peer_address, &known.peer_address),
        ("--client-address", &advertised.client_address, &known.client_address),
    ] {
        if !advertised.is_empty() && advertised != known {
            command.push_str(&format!(" {flag} {advertised}"));
        }
    }
    (command.len() > before).then_some(command)
}
