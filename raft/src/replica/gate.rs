//! What a peer's message must be like before the consensus crate sees it.
//!
//! The consensus crate trusts its peers: what it does not check it panics over, or believes. Rules and reasons are in
//! `docs/raft.md`, "What the gate asks of a message".

use raft::StateRole;
use raft::eraftpb::{self, EntryType, Message, MessageType};
use steeple_engine::ids::LogIndex;
use steeple_engine::simulation::{Bug, is_planted};
use thiserror::Error;

use super::{COUNT_MAX, READ_CONTEXT_BYTES, Replica};
use crate::group_log::to_log;
use crate::membership::{MembershipChange, MembershipError};

/// Bytes of the context of a peer's read request at the most.
const CONTEXT_MAX: usize = 64;

/// Why a peer's message was not taken.
#[derive(Debug, Error)]
pub enum MessageRefused {
    /// It is for another node.
    #[error("message is for node {to}")]
    Misdirected {
        /// Whom it names.
        to: u64,
    },
    /// No peer sends messages of this kind.
    #[error("a peer does not send messages of kind {kind:?}")]
    Kind {
        /// The kind.
        kind: MessageType,
    },
    /// It speaks of entries that do not fit the log.
    #[error("message does not fit this log: {what}")]
    Unfit {
        /// In what way.
        what: &'static str,
    },
    /// The leader counts on entries that this node confirmed and does not have: its disk was wiped or is an old copy.
    #[error(
        "the leader counts on entries up to {committed}, which this node confirmed, but its log ends at {last}: its data \
         directory was wiped or is an old copy; remove the node from the group and add it again under a new id"
    )]
    LogLost {
        /// What the leader knows to be here.
        committed: LogIndex,
        /// The end of the log.
        last: LogIndex,
    },
    /// A membership entry cannot be read.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

impl Replica {
    /// Whether a message that is well-formed comes at a time at which the consensus crate must not see it.
    pub(super) fn is_untimely(&self, message: &Message) -> bool {
        let raft = &self.node.raft;
        match message.get_msg_type() {
            // Votes count only once the own one is durable.
            MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
                self.has_writes() && !is_planted(Bug::VoteCountedBeforeDurable)
            }
            MessageType::MsgTimeoutNow => {
                let is_from_leader = message.from == raft.leader_id && message.term == raft.term;
                !is_from_leader || raft.state != StateRole::Follower || self.abstains || self.may_win_alone()
            }
            MessageType::MsgReadIndex | MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse => {
                raft.state != StateRole::Leader
            }
            MessageType::MsgReadIndexResp => {
                message.from != raft.leader_id || message.term != raft.term || raft.state != StateRole::Follower
            }
            _ => false,
        }
    }

    /// Refuses what would make the consensus crate panic, or what only this node itself may say.
    pub(super) fn check(&self, message: &Message) -> Result<(), MessageRefused> {
        let kind = message.get_msg_type();
        if message.to != self.id.0 || message.from == self.id.0 || message.from == 0 {
            return Err(MessageRefused::Misdirected { to: message.to });
        }
        let last = self.node.raft.raft_log.last_index();
        let unfit = |what| Err(MessageRefused::Unfit { what });
        let asks_to_read = kind == MessageType::MsgReadIndex;
        let counts = [message.term, message.index, message.commit, message.log_term, message.commit_term];
        if (message.term == 0) != asks_to_read || counts.iter().any(|count| *count > COUNT_MAX) {
            return unfit("its term or index is out of range");
        }
        if message.context.len() > CONTEXT_MAX {
            return unfit("its context is too long");
        }
        match kind {
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader => Err(MessageRefused::Kind { kind }),
            MessageType::MsgHeartbeat if message.term >= self.node.raft.term && message.commit > last => {
                Err(MessageRefused::LogLost { committed: LogIndex(message.commit), last: LogIndex(last) })
            }
            MessageType::MsgAppend => self.check_append(message),
            // After a restart in the same term there may be answers about entries that this node sent and lost; only
            // a leader would believe them, and nobody leads again in a term.
            MessageType::MsgAppendResponse
                if self.node.raft.state == StateRole::Leader
                    && message.term == self.node.raft.term
                    && (message.index > last || message.reject_hint > last) =>
            {
                unfit("it answers about entries that this node never sent")
            }
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => check_vote(message),
            MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => check_read(message),
            MessageType::MsgSnapshot => check_offer(message),
            _ => Ok(()),
        }
    }

    fn check_append(&self, message: &Message) -> Result<(), MessageRefused> {
        let unfit = |what| Err(MessageRefused::Unfit { what });
        let log = &self.node.raft.raft_log;
        let (mut index, mut term) = (message.index, message.log_term);
        if (term == 0) != (index == 0) || term > message.term {
            return unfit("it does not say which entry it follows");
        }
        for entry in message.get_entries() {
            if index.checked_add(1) != Some(entry.index)
                || entry.term == 0
                || entry.term < term
                || entry.term > message.term
            {
                return unfit("its entries do not follow on each other");
            }
            (index, term) = (entry.index, entry.term);
            let is_committed = entry.index <= log.committed;
            if message.term >= self.node.raft.term
                && is_committed
                && log.term(entry.index).is_ok_and(|own| own != 0 && own != entry.term)
            {
                return unfit("it would replace a committed entry");
            }
        }
        if self.revisions_fall(message) { unfit("the revisions of its events fall") } else { Ok(()) }
    }

    /// Whether the log could not take the entries: it finds events by revision, and nothing else could follow on them.
    fn revisions_fall(&self, message: &Message) -> bool {
        // What does not follow on an entry that is here is not appended anyway.
        let follows = self.node.raft.raft_log.match_term(message.index, message.log_term);
        if !follows || message.get_entries().is_empty() {
            return false;
        }
        let Ok(mut tag) = self.node.store().tag_before(message.index + 1) else { return false };
        message.get_entries().iter().any(|entry| {
            let before = tag;
            tag = to_log(entry, before).tag;
            tag < before
        })
    }
}

fn check_vote(message: &Message) -> Result<(), MessageRefused> {
    let is_sound = (message.commit == 0) == (message.commit_term == 0)
        && (message.log_term == 0) == (message.index == 0)
        && message.commit <= message.index
        && message.log_term <= message.term
        && (message.context.is_empty() || &message.context[..] == b"CampaignTransfer");
    if is_sound { Ok(()) } else { Err(MessageRefused::Unfit { what: "a request for a vote that contradicts itself" }) }
}

fn check_offer(message: &Message) -> Result<(), MessageRefused> {
    let metadata = message.get_snapshot().get_metadata();
    let is_sound = (1..=COUNT_MAX).contains(&metadata.index) && (1..=message.term).contains(&metadata.term);
    if is_sound { Ok(()) } else { Err(MessageRefused::Unfit { what: "the offer of a snapshot of nothing" }) }
}

fn check_read(message: &Message) -> Result<(), MessageRefused> {
    let [entry] = message.get_entries() else {
        return Err(MessageRefused::Unfit { what: "a read request without a context" });
    };
    let asks_to_read = message.get_msg_type() == MessageType::MsgReadIndex;
    let reader = if asks_to_read { message.from } else { message.to };
    let is_sound = entry.data.len() == READ_CONTEXT_BYTES && entry.data[..8] == reader.to_be_bytes();
    if is_sound {
        Ok(())
    } else {
        Err(MessageRefused::Unfit { what: "a read request with the context of another node" })
    }
}

/// Takes from a peer's membership entry only what this build can read, in its own encoding.
pub(super) fn translate(entry: &mut eraftpb::Entry) -> Result<(), MessageRefused> {
    match entry.get_entry_type() {
        EntryType::EntryNormal => Ok(()),
        EntryType::EntryConfChange => Err(MessageRefused::Unfit { what: "a membership entry of an unknown form" }),
        EntryType::EntryConfChangeV2 => {
            if !entry.context.is_empty() {
                MembershipChange::decode(&entry.context)?;
            }
            entry.data = bytes::Bytes::new();
            Ok(())
        }
    }
}
