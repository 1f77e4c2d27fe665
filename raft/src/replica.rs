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

use raft::eraftpb::{self, ConfChangeV2, EntryType, Message, MessageType};
use raft::{Config, Progress, ProgressState, RawNode, ReadOnlyOption, SnapshotStatus, StateRole};
use steeple_engine::ids::{LogIndex, LogPosition, NodeId, Term};
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::{Entry, EntryKind, HardState, LogError, LogReader, Outline};
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_engine::transaction::Entropy;
use thiserror::Error;

use crate::group_log::{GroupLog, from_log, to_log};
use crate::membership::{Membership, MembershipChange, MembershipError};
use crate::repair::{Configuration, Question, Statement};

mod gate;

pub use gate::MessageRefused;

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

/// Number of a write that was handed out; they count up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteNumber(pub u64);

/// What has to become durable, in this order and before the next write.
#[derive(Debug)]
pub struct Write {
    /// What to report once it is durable.
    pub number: WriteNumber,
    /// Term, vote and commit; durable before the entries are.
    pub hard_state: Option<HardState>,
    /// Entries to append. The first replaces whatever the log holds at its place and behind it.
    pub entries: Vec<Entry>,
    /// A commit index that has to be durable with the entries, because it covers a change of members: with the change, before
    /// what follows on it is in the log, and as a whole after the entries.
    pub committed: Option<LogIndex>,
}

/// Whether the replica leads, and who does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: Term,
    /// Who leads it, when that is known.
    pub leader: Option<NodeId>,
    /// The entry that opened the term of this replica, while it leads.
    pub opened: Option<LogIndex>,
}

/// An answer to [`Replica::read_index`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadIndex {
    /// What was given to tell the requests apart.
    pub round: u64,
    /// A view that is folded up to here may answer every read that was asked for before the request.
    pub index: LogIndex,
}

/// A leader's word that this replica is too far behind for its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Who has the snapshot.
    pub from: NodeId,
    /// What it holds at the least.
    pub holds: LogPosition,
}

/// What follows from the inputs.
#[derive(Debug, Default)]
pub struct Output {
    /// To be made durable.
    pub write: Option<Write>,
    /// To be sent now.
    pub messages: Vec<Message>,
    /// Committed and durable here, in order; to be folded.
    pub committed: Vec<Entry>,
    /// Confirmed reads.
    pub reads: Vec<ReadIndex>,
    /// The leadership, when it has changed.
    pub leadership: Option<Leadership>,
    /// A snapshot is needed.
    pub snapshot: Option<SnapshotOffer>,
}

/// What a member knows of another one while it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerProgress {
    /// Who.
    pub node: NodeId,
    /// Its log equals the leader's up to here.
    pub matched: LogIndex,
    /// Whether it was heard of within the last election time-out.
    pub active: bool,
    /// Whether it waits for a snapshot.
    pub needs_snapshot: bool,
}

/// Why a replica could not be made.
#[derive(Debug, Error)]
pub enum ReplicaError {
    /// The consensus crate refuses the state.
    #[error("consensus cannot start from this state: {0}")]
    Consensus(#[from] raft::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The view does not belong to the log: one of them was restored or lost without the other.
    #[error(
        "the records are folded up to entry {folded}, but the log holds entries {first} to {last} and what is folded must \
         lie among them; one of the two was replaced without the other"
    )]
    Apart {
        /// How far the view is.
        folded: LogIndex,
        /// The first entry that the log can hold.
        first: LogIndex,
        /// The end of the log.
        last: LogIndex,
    },
    /// The members contradict each other.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// Why nothing was proposed. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProposalRefused {
    /// The replica does not lead.
    #[error("this node does not lead its group")]
    NotLeader,
    /// Leadership is being handed over.
    #[error("leadership is being handed to node {0}")]
    Transferring(NodeId),
    /// A change of members is under way.
    #[error("another change of members is not finished yet; repeat this one when it is")]
    ChangeUnderWay,
    /// The change contradicts itself, names what cannot be, changes nothing, or makes too many members.
    #[error("the change of members makes no sense: it contradicts itself, changes nothing, or makes too many members")]
    Senseless,
    /// The change would leave nobody who votes.
    #[error("the change would leave the group without a voter")]
    NobodyVotes,
    /// A leader does not take the vote from itself.
    #[error("node {0} leads; hand leadership to another node first")]
    Leads(NodeId),
}

/// Why leadership was not handed over. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransferRefused {
    /// The replica does not lead.
    #[error("this node does not lead its group")]
    NotLeader,
    /// Only a voter can lead.
    #[error("node {0} has no vote in this group")]
    NoVoter(NodeId),
    /// Nothing was heard of it.
    #[error("node {0} was not heard of lately")]
    Unreachable(NodeId),
    /// Writing would stop until it has caught up.
    #[error("node {node} is {entries} entries behind; repeat this when it has caught up")]
    Behind {
        /// Who.
        node: NodeId,
        /// By how much.
        entries: u64,
    },
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
    /// Whether it must not lead.
    abstains: bool,
    /// The commit indexes that others were sent last, while it leads.
    told: BTreeMap<u64, u64>,
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
            abstains: false,
            told: BTreeMap::new(),
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

    /// What the leader knows of the others; empty on a follower.
    #[must_use]
    pub fn progress(&self) -> Vec<FollowerProgress> {
        if self.node.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let others = self.node.raft.prs().iter().filter(|(node, _)| **node != self.id.0);
        others
            .map(|(node, progress)| FollowerProgress {
                node: NodeId(*node),
                matched: LogIndex(progress.matched),
                active: progress.recent_active,
                needs_snapshot: progress.state == ProgressState::Snapshot,
            })
            .collect()
    }

    /// One tick has passed.
    pub fn tick(&mut self) {
        self.ticks += 1;
        if self.may_win_alone() || self.would_campaign_in_vain() {
            return;
        }
        self.node.tick();
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
        let raft = &self.node.raft;
        // A joint configuration whose two halves are this node is one voter as well.
        let others_vote = raft.prs().conf().voters().ids().iter().any(|voter| voter != self.id.0);
        raft.state != StateRole::Leader && !others_vote && self.has_writes()
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

    /// Proposes a change of members.
    ///
    /// # Errors
    /// See [`ProposalRefused`]; nothing happened.
    pub fn change_members(&mut self, change: &MembershipChange) -> Result<LogPosition, ProposalRefused> {
        self.may_propose()?;
        let joint = !self.membership.voters_outgoing.is_empty();
        if self.node.raft.has_pending_conf() || joint || change.founding.is_some() {
            return Err(ProposalRefused::ChangeUnderWay);
        }
        let voters = change.voters_after(&self.membership);
        if voters.is_empty() {
            return Err(ProposalRefused::NobodyVotes);
        }
        if !voters.contains(&self.id.0) {
            return Err(ProposalRefused::Leads(self.id));
        }
        // Once it is in the log, every member has to be able to carry it out and to store what comes of it.
        let payload = change.encode();
        let after = self.membership.after_entry(&payload).map_err(|_| ProposalRefused::Senseless)?;
        let conf_change = change.conf_change(&self.membership);
        if conf_change.get_changes().is_empty() || after == self.membership || after.check().is_err() {
            return Err(ProposalRefused::Senseless);
        }
        self.node.propose_conf_change(payload, conf_change).map_err(|_| ProposalRefused::ChangeUnderWay)?;
        // The consensus crate appends an empty entry in place of a change that it does not want.
        let appended = self.node.raft.raft_log.unstable_entries().last();
        if appended.is_none_or(|entry| entry.get_entry_type() != EntryType::EntryConfChangeV2) {
            return Err(ProposalRefused::ChangeUnderWay);
        }
        Ok(self.proposed())
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

    /// Sends what was proposed to those who can take more and were not sent it yet.
    fn send_proposed(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Leader {
            return;
        }
        let last = raft.raft_log.last_index();
        let waits = |progress: &Progress| progress.next_idx <= last && !progress.is_paused();
        let others = raft.prs().iter().filter(|(node, progress)| **node != self.id.0 && waits(progress));
        let others: Vec<_> = others.map(|(node, _)| *node).collect();
        for node in others {
            raft.send_append(node);
        }
    }

    /// Whether this replica leads and others were not told yet what is committed. They hear it with the next entries, with a
    /// heartbeat, or by [`Replica::spread_news`].
    #[must_use]
    pub fn has_news(&self) -> bool {
        let raft = &self.node.raft;
        raft.state == StateRole::Leader
            && raft.prs().iter().any(|(node, progress)| *node != self.id.0 && self.misses_news(*node, progress))
    }

    /// Tells others what is committed, with the next output. Whoever drives the replica calls it when nothing else has been
    /// sent for a moment; a tick does it as well. Each message wakes a node, and so does its answer: under load the next
    /// entries tell them for nothing.
    pub fn spread_news(&mut self) {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return;
        }
        let miss_it = |(node, progress): &(&u64, &Progress)| **node != self.id.0 && self.misses_news(**node, progress);
        let others: Vec<_> = raft.prs().iter().filter(miss_it).map(|(node, _)| *node).collect();
        let committed = raft.raft_log.committed;
        for node in others {
            self.node.raft.send_append(node);
            // Also when there is nothing to be sent to it now: then it needs more than news.
            self.told.insert(node, committed);
        }
    }

    fn misses_news(&self, node: u64, progress: &Progress) -> bool {
        let told = self.told.get(&node).copied().unwrap_or_default();
        !progress.is_paused() && told < self.node.raft.raft_log.committed
    }

    /// Remembers which commit index goes to whom.
    fn note_told(&mut self, messages: &[Message]) {
        for message in messages.iter().filter(|message| message.get_msg_type() == MessageType::MsgAppend) {
            let told = self.told.entry(message.to).or_default();
            *told = (*told).max(message.commit);
        }
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

    /// Who votes, unless the log holds a change of that which is not applied.
    fn settled_configuration(&self) -> Result<Option<Configuration>, LogError> {
        let log = self.node.store();
        let (applied, last) = (self.node.raft.raft_log.applied, log.last().index.0);
        if last.saturating_sub(applied) > UNAPPLIED_MAX {
            return Ok(None);
        }
        for index in applied + 1..=last {
            if log.entry(LogIndex(index))?.is_none_or(|entry| entry.kind == EntryKind::Membership) {
                return Ok(None);
            }
        }
        Ok(Some(Configuration::of(&self.membership)))
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

    /// A joint configuration is left by whoever leads, as soon as it has folded the entry that opened its term.
    fn leave_joint_configuration(&mut self) {
        let raft = &self.node.raft;
        let is_settled = self.leadership.opened.is_some_and(|opened| raft.raft_log.applied >= opened.0)
            && !is_planted(Bug::JointConfigurationNotLeft);
        if is_settled && !self.membership.voters_outgoing.is_empty() && !raft.has_pending_conf() {
            reached("members: joint configuration to be left");
            // Refused while leadership is being handed over. Whoever gets it leaves, or this replica with a later tick.
            drop(self.node.propose_conf_change(Vec::new(), ConfChangeV2::default()));
        }
    }

    /// Applies a committed membership entry; must come before [`Replica::applied`] covers it. Answers the membership
    /// from there on, which is a pure function of the one before and the entry. A change that makes no sense changes
    /// nothing.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub fn apply_membership(&mut self, entry: &Entry) -> Result<&Membership, MembershipError> {
        let change = MembershipChange::decode_payload(&entry.payload)?;
        let steps = self.membership.conf_changes(change.as_ref());
        self.step_down_before(&steps);
        let mut state = self.membership.conf_state();
        for step in &steps {
            match self.node.apply_conf_change(step) {
                Ok(after) => state = after,
                Err(error) => tracing::warn!(%error, index = %entry.position.index, "a change of members was void"),
            }
        }
        self.membership = self.membership.after(change.as_ref(), &state);
        Ok(&self.membership)
    }

    /// A leader without a vote would answer reads on its own word, and the consensus crate does not survive its removal.
    fn step_down_before(&mut self, steps: &[ConfChangeV2]) {
        let takes_own_vote = steps
            .iter()
            .flat_map(ConfChangeV2::get_changes)
            .any(|change| change.node_id == self.id.0 && change.get_change_type() != eraftpb::ConfChangeType::AddNode);
        let leaves_without =
            steps.iter().any(|step| step.get_changes().is_empty()) && !self.membership.voters.contains(&self.id.0);
        if (takes_own_vote || leaves_without) && self.node.raft.state != StateRole::Follower {
            self.forget_leader();
        }
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

    /// Looks for changes of members among entries that are about to be written. Answers the commit index to be stored with
    /// them when it covers a change that is not folded: whoever confirms what follows on the change helps to commit that
    /// with the members from there on, and must not start again with those from before. Folding comes later, and a crash
    /// may come first.
    fn note_changes(&mut self, entries: &[Entry]) -> Option<LogIndex> {
        let first = entries.first()?.position.index;
        drop(self.changes.split_off(&first));
        let changes = entries.iter().filter(|entry| entry.kind == EntryKind::Membership);
        self.changes.extend(changes.map(|entry| entry.position.index));
        self.changes = self.changes.split_off(&self.stored.commit.next());
        let committed = self.committed();
        if self.changes.first().is_none_or(|change| *change > committed) || is_planted(Bug::CommitOfChangeForgotten) {
            return None;
        }
        reached("members: commit index of a change stored with what follows on it");
        self.stored.commit = committed;
        Some(committed).filter(|_| !is_planted(Bug::MembersBeforeCommit))
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

/// Entries that are not applied and are looked at for a change of members, to answer one question.
const UNAPPLIED_MAX: u64 = 1 << 16;

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
