//! One member of a group: drives the consensus crate as a state machine without I/O.
//!
//! Messages, ticks, proposals and persistence results go in; [`Output`] comes out. The order that Raft asks for is in
//! what an output holds: every message in it may be sent at once, because a message that must wait for a write comes
//! out only after [`Replica::persisted`] has reported that write. Entries come out as committed only when they are
//! durable here, and a membership entry only when a commit index that covers it is.
//!
//! What the consensus crate does not check, and would panic over, is checked in its module `gate` before it is stepped
//! (`docs/raft.md`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use raft::eraftpb::{self, Message, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use steeple_engine::ids::{LogIndex, LogPosition, NodeId, Term};
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::{Entry, EntryKind, HardState, LogError, LogReader, Outline};
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_engine::transaction::Entropy;

use crate::group_log::{GroupLog, from_log, to_log};
use crate::membership::Membership;
use crate::repair::{Question, Statement};

mod gate;
mod guard;
mod members;
mod output;
mod progress;
mod refused;
mod sending;

pub use gate::MessageRefused;
pub use guard::LeaseGround;
pub use output::{FollowerProgress, Leadership, Output, ReadIndex, SnapshotOffer, Write, WriteNumber};
pub use refused::{ProposalRefused, ReplicaError, TransferRefused};

/// Settings of a replica. Times are in ticks, whose length the driver chooses.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaOptions {
    /// Ticks between heartbeats of a leader.
    pub heartbeat_ticks: usize,
    /// Ticks without a word from a leader after which a follower looks for votes, at the least; at the most twice as
    /// many.
    pub election_ticks: usize,
    /// Bytes of entries in one message, unless a single entry is larger.
    pub message_bytes_max: u64,
    /// Messages with entries on their way to one follower at the most.
    pub messages_in_flight_max: usize,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        Self { heartbeat_ticks: 2, election_ticks: 12, message_bytes_max: 1 << 20, messages_in_flight_max: 64 }
    }
}

/// Answers and outputs that wait for a write.
struct Waiting {
    number: u64,
    is_write: bool,
    /// The first and last entry that it writes.
    entries: Option<(u64, u64)>,
    messages: Vec<Message>,
}

/// A member of a group.
pub struct Replica {
    node: RawNode<GroupLog>,
    id: NodeId,
    membership: Membership,
    /// What was handed out and not yet reported, in order.
    waiting: VecDeque<Waiting>,
    /// Committed entries from the first membership entry on, which wait until the write before which they came is
    /// durable.
    held: VecDeque<(u64, Vec<Entry>)>,
    /// Changes of members in the log that no commit index which was handed out covers, as far as they came in this run.
    changes: BTreeSet<LogIndex>,
    output: Output,
    leadership: Leadership,
    ticks: u64,
    /// The hard state that was handed out last.
    stored: HardState,
    /// A term that is on the disk, the newest that is known to be.
    durable_term: Term,
    /// Tags the read requests of this run, so that an answer to an earlier run is not taken for one of this.
    run: u64,
    /// The shortest election time-out.
    election_ticks: usize,
    /// How often a leader is heard at the least.
    heartbeat_ticks: usize,
    /// Whether it must not lead.
    abstains: bool,
    /// The commit indexes that others were sent last, while it leads.
    told: BTreeMap<u64, u64>,
    /// The ticks at which others answered last, while it leads.
    answered: BTreeMap<u64, u64>,
    /// When it may vote, where votes are guarded.
    guard: Option<guard::Guard>,
    /// The newest term in which this replica began to hand leadership over.
    handed_over: Option<Term>,
    /// Changes of members that were applied in this run.
    changes_applied: u64,
}

impl Replica {
    /// Starts from what is durable. `folded` is how far the view is, and `membership` the one that was in force there;
    /// `run` is a random number that no earlier run of this node had. All that is left to chance follows from it.
    ///
    /// # Errors
    /// See [`ReplicaError`].
    pub fn new(
        id: NodeId,
        options: ReplicaOptions,
        log: LogReader,
        hard_state: HardState,
        folded: LogIndex,
        membership: Membership,
        run: u64,
    ) -> Result<Self, ReplicaError> {
        let config = Config {
            id: id.0,
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            applied: folded.0,
            max_size_per_msg: options.message_bytes_max,
            max_inflight_msgs: options.messages_in_flight_max,
            check_quorum: true,
            pre_vote: true,
            read_only_option: match is_planted(Bug::LeaseReads) {
                true => ReadOnlyOption::LeaseBased,
                false => ReadOnlyOption::Safe,
            },
            max_committed_size_per_ready: 16 << 20,
            // Most of the time the next entries take it along; see `Replica::spread_news`.
            skip_bcast_commit: true,
            ..Config::default()
        };
        membership.check()?;
        let (first, last) = (log.contiguous_from(), log.last());
        if folded.next() < first || folded > last.index {
            return Err(ReplicaError::Apart { folded, first, last: last.index });
        }
        // A snapshot of a term that this node never saw may have been installed. It has not voted in that term, and
        // without it the consensus crate would speak in a term below that of its own log.
        let term = hard_state.term.max(last.term);
        let vote = hard_state.vote.filter(|_| term == hard_state.term);
        // What is folded was committed, also when the commit index did not make it to the disk.
        let commit = hard_state.commit.max(folded).min(last.index);
        let start = eraftpb::HardState {
            term: term.0,
            vote: vote.map_or(0, |node| node.0),
            commit: commit.0,
            ..Default::default()
        };
        let leadership = Leadership { term, leader: None, opened: None };
        let mut storage = GroupLog::new(log, start, &membership);
        storage.note_applied(folded, &membership);
        let node = RawNode::new(&config, storage, &slog::Logger::root(slog::Discard, slog::o!()))?;
        let mut replica = Self {
            node,
            id,
            membership,
            waiting: VecDeque::new(),
            held: VecDeque::new(),
            changes: BTreeSet::new(),
            output: Output::default(),
            leadership,
            ticks: 0,
            stored: hard_state,
            durable_term: hard_state.term,
            run,
            election_ticks: options.election_ticks,
            heartbeat_ticks: options.heartbeat_ticks,
            abstains: false,
            told: BTreeMap::new(),
            answered: BTreeMap::new(),
            guard: None,
            handed_over: None,
            changes_applied: 0,
        };
        replica.draw_election_timeout();
        Ok(replica)
    }

    /// Puts an election time-out of the own in the place of the one that the consensus crate draws from the thread's
    /// random numbers, so that the same inputs always have the same effect. Like that one it is another one in every
    /// term, between the shortest one and twice as long. It is another one on every node too, whatever their runs are
    /// called: nodes that draw the same again and again would stand against each other for ever.
    fn draw_election_timeout(&mut self) {
        let mut entropy =
            SeededEntropy::new(self.run ^ self.node.raft.term.rotate_left(32) ^ self.id.0.rotate_left(48));
        let shortest = self.election_ticks as u128;
        let drawn = shortest + entropy.next_bits() % shortest.max(1);
        self.node.raft.set_randomized_election_timeout(usize::try_from(drawn).unwrap_or(self.election_ticks));
    }

    /// Who belongs to the group, as far as it is folded.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Who leads, as far as this replica knows.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// The newest entry known to be committed.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.committed)
    }

    /// The end of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.node.store().last()
    }

    /// One tick has passed.
    pub fn tick(&mut self) {
        self.ticks += 1;
        if self.may_win_alone() || self.would_campaign_in_vain() || self.would_stand_too_early() {
            return;
        }
        self.node.tick();
        self.ask_again();
        self.draw_election_timeout();
        self.leave_joint_configuration();
        self.spread_news();
        // Nobody reports that a snapshot has arrived: the leader asks again from time to time.
        if self.ticks.is_multiple_of(SNAPSHOT_RETRY_TICKS) {
            let waiting = self.progress().into_iter().filter(|progress| progress.needs_snapshot);
            for progress in waiting.collect::<Vec<_>>() {
                self.node.report_snapshot(progress.node.0, SnapshotStatus::Finish);
            }
        }
    }

    /// Asks the others again whether it may stand, which changes nothing at any of them. They are silent while they take the
    /// leader for alive, and those who heard it a heartbeat later than this replica do so for a heartbeat longer: without this
    /// it would not ask before another election time-out.
    fn ask_again(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::PreCandidate && raft.election_elapsed >= self.heartbeat_ticks {
            reached("election: asked again who would vote");
            raft.election_elapsed = 0;
            drop(self.node.campaign());
        }
    }

    /// Looks for votes at once: a group of one has nobody to wait for.
    pub fn campaign(&mut self) {
        if !self.abstains && !self.may_win_alone() {
            // It says no when a membership entry is still to be folded; the next tick tries again.
            drop(self.node.campaign());
            self.draw_election_timeout();
        }
    }

    /// Says whether this replica may lead. One that may not goes on voting and confirming: what it has in its log is right.
    /// If it leads, it stops at once.
    pub fn abstain(&mut self, abstains: bool) {
        self.abstains = abstains;
        if abstains && self.node.raft.state != StateRole::Follower {
            self.forget_leader();
        }
    }

    /// Whether the next tick would begin an election in which this replica must not stand. The leader is taken for gone
    /// then, so that this replica votes for whoever else stands.
    fn would_campaign_in_vain(&mut self) -> bool {
        let raft = &self.node.raft;
        let is_due = raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        let in_vain = self.abstains && raft.state != StateRole::Leader && is_due;
        if in_vain {
            self.forget_leader();
        }
        in_vain
    }

    fn forget_leader(&mut self) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, 0);
        self.draw_election_timeout();
    }

    /// Whether an election now would be won on the spot while something is still being written, which the consensus
    /// crate does not survive: a lone voter does not wait for its own vote to be durable.
    fn may_win_alone(&self) -> bool {
        self.node.raft.state != StateRole::Leader && !self.others_vote() && self.has_writes()
    }

    /// Whether anybody else has a vote. A joint configuration whose two halves are this node is one voter as well.
    fn others_vote(&self) -> bool {
        self.node.raft.prs().conf().voters().ids().iter().any(|voter| voter != self.id.0)
    }

    /// Whether something is not durable yet, be it handed out or not: entries, the term, or the own vote.
    fn has_writes(&self) -> bool {
        let log = &self.node.raft.raft_log;
        self.waiting.iter().any(|waiting| waiting.is_write)
            || log.persisted < log.last_index()
            || self.promises(self.hard_state())
    }

    /// Whether the term or vote of a state were not handed out yet.
    fn promises(&self, state: HardState) -> bool {
        (state.term, state.vote) != (self.stored.term, self.stored.vote)
    }

    /// Proposes an entry and answers its place, which is final unless leadership is lost before it is committed.
    ///
    /// # Errors
    /// See [`ProposalRefused`]; nothing happened.
    pub fn propose(
        &mut self,
        kind: EntryKind,
        tag: u64,
        payload: bytes::Bytes,
    ) -> Result<LogPosition, ProposalRefused> {
        let entry = Entry { position: LogPosition { term: Term(0), index: LogIndex(0) }, kind, tag, payload };
        self.propose_entry(from_log(&entry))
    }

    /// Appends an entry. It goes to the others with the next output, together with all that are proposed until then:
    /// the consensus crate would send a message to each for each of them.
    fn propose_entry(&mut self, entry: eraftpb::Entry) -> Result<LogPosition, ProposalRefused> {
        self.may_propose()?;
        let belongs = self.node.raft.prs().get(self.id.0).is_some();
        if !belongs || !self.node.raft.append_entry(&mut [entry]) {
            return Err(ProposalRefused::NotLeader);
        }
        Ok(self.proposed())
    }

    fn may_propose(&self) -> Result<(), ProposalRefused> {
        // On a follower the consensus crate would forward the entry; commands are decided where the log is written.
        if self.node.raft.state != StateRole::Leader {
            return Err(ProposalRefused::NotLeader);
        }
        match self.node.raft.lead_transferee {
            Some(to) => Err(ProposalRefused::Transferring(NodeId(to))),
            None => Ok(()),
        }
    }

    fn proposed(&self) -> LogPosition {
        LogPosition { term: Term(self.node.raft.term), index: LogIndex(self.node.raft.raft_log.last_index()) }
    }

    /// Asks for the index that a read which was asked for before this call must see. The answer comes as
    /// [`Output::reads`], or not at all when there is no leader or leadership changes: ask again, with another round.
    pub fn read_index(&mut self, round: u64) {
        let mut context = [0; READ_CONTEXT_BYTES];
        context[..8].copy_from_slice(&self.id.0.to_be_bytes());
        context[8..16].copy_from_slice(&self.run.to_be_bytes());
        context[16..].copy_from_slice(&round.to_be_bytes());
        self.node.read_index(context.to_vec());
    }

    /// Hands leadership to another voter, which has to be alive and close to the end of the log: nothing can be proposed
    /// until it leads or an election time-out has passed.
    ///
    /// # Errors
    /// Why it cannot be handed there.
    pub fn transfer_leadership(&mut self, to: NodeId) -> Result<(), TransferRefused> {
        if self.node.raft.state != StateRole::Leader {
            return Err(TransferRefused::NotLeader);
        }
        if to == self.id {
            return Ok(());
        }
        if !self.membership.voters.contains(&to.0) {
            return Err(TransferRefused::NoVoter(to));
        }
        let progress = self.progress().into_iter().find(|progress| progress.node == to);
        let Some(progress) = progress.filter(|progress| progress.active && !progress.needs_snapshot) else {
            return Err(TransferRefused::Unreachable(to));
        };
        let behind = self.last().index.0.saturating_sub(progress.matched.0);
        if behind > TRANSFER_BEHIND_MAX {
            return Err(TransferRefused::Behind { node: to, entries: behind });
        }
        self.handed_over = Some(Term(self.node.raft.term));
        self.node.transfer_leader(to.0);
        Ok(())
    }

    /// A peer could not be reached.
    pub fn unreachable(&mut self, node: NodeId) {
        self.node.report_unreachable(node.0);
    }

    /// Takes a peer's message.
    ///
    /// # Errors
    /// [`MessageRefused`] when no sane peer sends it; nothing happened then.
    pub fn receive(&mut self, mut message: Message) -> Result<(), MessageRefused> {
        self.check(&message)?;
        if self.is_untimely(&message) {
            reached("message: came at a time at which it must not be heard");
            return Ok(());
        }
        if self.asks_too_early(&message) {
            return Ok(());
        }
        let (kind, from, term) = (message.get_msg_type(), message.from, message.term);
        for entry in message.mut_entries().iter_mut() {
            gate::translate(entry)?;
        }
        message.request_snapshot = 0;
        message.deprecated_priority = 0;
        message.priority = 0;
        if message.get_msg_type() == MessageType::MsgSnapshot {
            message = self.note_offer(&message);
        }
        // What is left to refuse is stale: a response of a node that is no member, a vote of an old term.
        drop(self.node.step(message));
        self.note_answer(kind, from, term);
        self.note_sign_of_life(kind, from, term);
        self.draw_election_timeout();
        Ok(())
    }

    /// Answers a member that repairs its log. A fence in the question is taken up first: an answer that is to count for
    /// it comes from a later call, once the term is durable.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn state_for(&mut self, question: &Question) -> Result<Statement, LogError> {
        if question.fence.0 > self.node.raft.term && question.fence.0 <= COUNT_MAX {
            self.node.raft.become_follower(question.fence.0, 0);
        }
        let leads = self.node.raft.state == StateRole::Leader;
        let log = self.node.store();
        let before = LogIndex(question.from.max(log.contiguous_from()).0.saturating_sub(1)).min(log.last().index);
        let term = log.term_of(before)?.unwrap_or_default();
        let mut outline = Outline::empty(LogPosition { term, index: before });
        outline.add_intact(before.next(), log.last().index, &mut |index| log.term_of(index))?;
        Ok(Statement {
            term: if leads { Term(self.node.raft.term) } else { self.durable_term },
            leads,
            commit: self.committed(),
            outline,
            configuration: self.settled_configuration()?,
        })
    }

    /// An entry of the log, durable or not.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub fn entry(&self, index: LogIndex) -> Result<Option<Entry>, LogError> {
        self.node.store().entry(index)
    }

    /// Whether a snapshot that ends at `position` holds what this replica can get in no other way: more than is committed
    /// here, and not an entry of its log. Nothing that it has confirmed to anyone is lost with the log then.
    #[must_use]
    pub fn needs(&self, position: LogPosition) -> bool {
        let has_it = self.node.raft.raft_log.term(position.index.0).is_ok_and(|term| term == position.term.0);
        position.index > self.committed() && (!has_it || is_planted(Bug::SnapshotNotNeeded))
    }

    /// Everything up to and with this write is durable.
    pub fn persisted(&mut self, number: WriteNumber) {
        let reportable = self.reportable(number.0);
        let mut newest = None;
        while let Some(done) = self.waiting.pop_front_if(|waiting| waiting.number <= reportable) {
            newest = Some(done.number);
            self.output.messages.extend(done.messages);
        }
        let Some(newest) = newest else { return };
        self.node.on_persist_ready(newest);
        let persisted = LogIndex(self.node.raft.raft_log.persisted);
        self.node.mut_store().note_durable(persisted);
        if !self.waiting.iter().any(|waiting| waiting.is_write) {
            self.durable_term = self.stored.term;
        }
        while let Some((_, entries)) = self.held.pop_front_if(|(number, _)| *number <= newest) {
            self.output.committed.extend(entries);
        }
    }

    /// The newest thing handed out that may be called durable once the write `durable` is. A write whose entries a later
    /// one is about to replace is not: a crash in between would leave neither. What needs no write is durable as soon as
    /// everything before it is.
    fn reportable(&self, durable: u64) -> u64 {
        let later = self.waiting.iter().filter(|waiting| waiting.number > durable);
        let replaced_from = later.filter_map(|waiting| waiting.entries).map(|(first, _)| first).min();
        let mut reportable = 0;
        for waiting in &self.waiting {
            let is_durable = waiting.number <= durable || !waiting.is_write;
            let is_replaced = waiting.entries.is_some_and(|(_, last)| replaced_from.is_some_and(|from| from <= last));
            if is_durable && is_replaced {
                reached("write: durable, and about to be replaced");
            }
            if (!is_durable || is_replaced) && !is_planted(Bug::LaterWriteIsDurable) {
                break;
            }
            reportable = waiting.number;
        }
        reportable
    }

    /// Everything up to `index` is folded, and the membership entries among it were applied.
    pub fn applied(&mut self, index: LogIndex) {
        if index.0 > self.node.raft.raft_log.applied {
            self.node.advance_apply_to(index.0);
            self.node.mut_store().note_applied(index, &self.membership);
        }
        self.leave_joint_configuration();
    }

    /// What follows from the inputs so far; `None` when nothing does.
    ///
    /// # Errors
    /// When the log cannot be read; the replica must then be dropped.
    pub fn take_output(&mut self) -> Result<Option<Output>, ReplicaError> {
        self.check_log()?;
        self.send_proposed();
        // One write at a time, so that none is lost; the rest comes with the next call.
        if self.output.write.is_none() && self.node.has_ready() {
            self.collect()?;
        }
        let output = std::mem::take(&mut self.output);
        let is_empty = output.write.is_none()
            && output.messages.is_empty()
            && output.committed.is_empty()
            && output.reads.is_empty()
            && output.leadership.is_none()
            && output.snapshot.is_none();
        Ok((!is_empty).then_some(output))
    }

    fn check_log(&self) -> Result<(), ReplicaError> {
        self.node.store().take_fault().map_or(Ok(()), |fault| Err(fault.into()))
    }

    fn collect(&mut self) -> Result<(), ReplicaError> {
        let mut ready = self.node.ready();
        let number = ready.number();
        let messages = ready.take_messages();
        self.note_told(&messages);
        self.output.messages.extend(messages);
        let mut after_write = ready.take_persisted_messages();
        if is_planted(Bug::MessagesBeforeWrite) {
            self.output.messages.append(&mut after_write);
        }
        if is_planted(Bug::VoteCountedBeforeDurable) {
            let asks = |message: &mut Message| message.get_msg_type() == MessageType::MsgRequestVote;
            self.output.messages.extend(after_write.extract_if(.., asks));
        }
        let reads = ready.take_read_states();
        let reads: Vec<_> = reads.iter().filter_map(|read| self.own_read(read)).collect();
        self.output.reads.extend(reads);
        self.check_log()?;
        let committed: Vec<_> = ready.take_committed_entries().iter().map(|entry| to_log(entry, 0)).collect();
        let changes_members = committed.iter().any(|entry| entry.kind == EntryKind::Membership);
        let entries = self.node.mut_store().append(ready.take_entries())?;
        // A commit index alone need not be durable, except before members change: a node that forgets that they have
        // could elect a leader together with those that have left.
        let own = commit_below(self.hard_state(), entries.first());
        let hard_state =
            (self.promises(own) || changes_members && !is_planted(Bug::MembersBeforeCommit)).then_some(own);
        self.stored = hard_state.unwrap_or(self.stored);
        let committed_with_entries = self.note_changes(&entries);
        let is_write = hard_state.is_some() || !entries.is_empty();
        let range =
            entries.first().zip(entries.last()).map(|(first, last)| (first.position.index.0, last.position.index.0));
        if is_write {
            self.output.write =
                Some(Write { number: WriteNumber(number), hard_state, entries, committed: committed_with_entries });
        }
        self.node.advance_append_async(ready);
        self.waiting.push_back(Waiting { number, is_write, entries: range, messages: after_write });
        if (changes_members || !self.held.is_empty()) && !is_planted(Bug::MembersBeforeCommit) {
            reached("members: entries held until a commit index is durable");
            self.held.push_back((number, committed));
        } else {
            self.output.committed.extend(committed);
        }
        if !self.waiting.iter().any(|waiting| waiting.is_write) {
            self.persisted(WriteNumber(number));
        }
        self.note_leadership();
        Ok(())
    }

    fn hard_state(&self) -> HardState {
        let state = self.node.raft.hard_state();
        HardState {
            term: Term(state.term),
            vote: (state.vote != 0).then_some(NodeId(state.vote)),
            commit: LogIndex(state.commit),
        }
    }

    /// The newest entry that is both committed and on the disk here. It is worth noting from time to time and when the
    /// node stops, so that the next start knows how far the log is committed also when nobody is left to tell it.
    #[must_use]
    pub fn durable_commit(&self) -> LogIndex {
        let log = &self.node.raft.raft_log;
        self.stored.commit.max(LogIndex(log.committed.min(log.persisted)))
    }

    /// The state that was handed out: durable once every write is. What came in since then (a vote, a commit index that
    /// covers entries which are not written) is not among it, so that whoever starts again from here repeats no promise
    /// that is not on the disk.
    #[must_use]
    pub fn handed_out(&self) -> HardState {
        if self.node.has_ready() { self.stored } else { self.hard_state() }
    }

    fn own_read(&self, read: &raft::ReadState) -> Option<ReadIndex> {
        let context = <[u8; READ_CONTEXT_BYTES]>::try_from(&read.request_ctx[..]).ok()?;
        let number = |at: usize| context[at..at + 8].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        let is_own = number(0) == self.id.0 && (number(8) == self.run || is_planted(Bug::ReadOfEarlierRun));
        is_own.then(|| ReadIndex { round: number(16), index: LogIndex(read.index) })
    }

    fn note_leadership(&mut self) {
        let raft = &self.node.raft;
        let leads = raft.state == StateRole::Leader;
        let opened = match self.leadership.opened {
            Some(opened) if self.leadership.term.0 == raft.term => Some(opened),
            // The entry that opens the term is the first that a leader appends.
            _ => Some(LogIndex(raft.raft_log.last_index())),
        };
        let leadership = Leadership {
            term: Term(raft.term),
            leader: (raft.leader_id != 0).then_some(NodeId(raft.leader_id)),
            opened: opened.filter(|_| leads),
        };
        if leadership != self.leadership {
            self.told.clear();
            self.answered.clear();
            self.leadership = leadership;
            self.output.leadership = Some(leadership);
        }
    }

    /// The leader's offer, and what it means to the consensus crate: a sign of life.
    fn note_offer(&mut self, message: &Message) -> Message {
        let metadata = message.get_snapshot().get_metadata();
        let holds = LogPosition { term: Term(metadata.term), index: LogIndex(metadata.index) };
        if message.term >= self.node.raft.term {
            if self.needs(holds) {
                self.output.snapshot = Some(SnapshotOffer { from: NodeId(message.from), holds });
            } else {
                self.output.messages.push(self.not_needed(message));
            }
        }
        let mut heartbeat = Message::default();
        heartbeat.set_msg_type(MessageType::MsgHeartbeat);
        heartbeat.from = message.from;
        heartbeat.to = message.to;
        heartbeat.term = message.term;
        heartbeat
    }

    /// Tells a leader that offers a snapshot that this replica has what it holds.
    fn not_needed(&self, offer: &Message) -> Message {
        let log = &self.node.raft.raft_log;
        let mut answer = Message::default();
        answer.set_msg_type(MessageType::MsgAppendResponse);
        answer.from = self.id.0;
        answer.to = offer.from;
        answer.term = offer.term;
        answer.index = log.committed.min(log.persisted);
        answer
    }
}

/// Entries that the next leader may be behind when leadership is handed to it.
const TRANSFER_BEHIND_MAX: u64 = 10_000;

/// Bytes of the context of a read request: node, run and round.
const READ_CONTEXT_BYTES: usize = 24;

/// Ticks between two looks at whether a follower that needed a snapshot has one.
const SNAPSHOT_RETRY_TICKS: u64 = 20;

/// Terms and indexes beyond this are nonsense, and adding to them could overflow.
const COUNT_MAX: u64 = 1 << 62;

/// A state that is written together with entries, and before them: it must not promise them. A crash between the two
/// would leave the promise, and under it the entries of another leader that these were about to replace.
fn commit_below(state: HardState, first: Option<&Entry>) -> HardState {
    let below = first.map_or(state.commit, |entry| LogIndex(entry.position.index.0.saturating_sub(1)));
    HardState { commit: state.commit.min(below), ..state }
}
