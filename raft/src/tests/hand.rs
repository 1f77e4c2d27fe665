//! One replica whose peers are played by hand.

use bytes::Bytes;
use raft::eraftpb::{self, EntryType, Message, MessageType};
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::HardState;

use crate::membership::{MembershipChange, Step};
use crate::replica::{MessageRefused, Replica};

use super::cluster::{Cluster, Running, replica_options};

/// Node 1 of a group whose other nodes do not exist.
pub(super) struct Hand {
    pub(super) cluster: Cluster,
}

impl Hand {
    pub(super) fn of(voters: u64) -> Self {
        let mut cluster = Cluster::founded(voters, 1);
        cluster.nodes.retain(|node, _| *node == 1);
        let mut hand = Self { cluster };
        hand.write_all();
        hand.sent();
        hand
    }

    /// A follower of node 2 in term 3, with entries up to 5, three of them committed.
    pub(super) fn following(voters: u64) -> Self {
        let mut hand = Self::of(voters);
        hand.take(append(2, 3, (1, 1), &[2, 2, 3, 3], 3));
        hand.write_all();
        assert_eq!((hand.state().replica.last().index.0, hand.state().replica.committed().0), (5, 3));
        hand.sent();
        hand
    }

    pub(super) fn state(&mut self) -> &mut Running {
        self.cluster.running(1)
    }

    pub(super) fn receive(&mut self, message: Message) -> Result<(), MessageRefused> {
        let taken = self.state().replica.receive(message);
        self.cluster.drain(1);
        taken
    }

    pub(super) fn take(&mut self, message: Message) {
        self.receive(message).unwrap();
    }

    /// What it has sent since the last look.
    pub(super) fn sent(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.cluster.network)
    }

    pub(super) fn tick(&mut self, times: usize) {
        for _ in 0..times {
            self.cluster.tick(1);
        }
    }

    /// Makes the oldest `count` writes durable.
    pub(super) fn write(&mut self, count: usize) {
        self.state().write(count);
        self.state().report_written();
        self.cluster.drain(1);
    }

    pub(super) fn write_all(&mut self) {
        while !self.state().writes.is_empty() {
            self.write(usize::MAX);
        }
    }

    /// The same process goes on with another replica over the same log, as after a snapshot was taken over.
    pub(super) fn go_on_from(&mut self, state: HardState) {
        let running = self.state();
        let (log, folded, members) =
            (running.log.clone(), running.folded.position.index, running.folded.membership.clone());
        running.replica = Replica::new(NodeId(1), replica_options(), log, state, folded, members, 2).unwrap();
    }

    pub(super) fn leads(&mut self) -> bool {
        self.state().replica.leadership().opened.is_some()
    }

    /// Time passes until it asks for votes of this kind.
    pub(super) fn until_it_asks(&mut self, kind: MessageType) -> Message {
        for _ in 0..60 {
            self.tick(1);
            self.write_all();
            if let Some(found) = self.sent().into_iter().find(|message| message.get_msg_type() == kind) {
                return found;
            }
        }
        panic!("it does not ask for {kind:?}");
    }

    /// The others elect it.
    pub(super) fn elect(&mut self) {
        for _ in 0..60 {
            self.tick(1);
            self.write_all();
            for asked in self.sent() {
                if let Some(granted) = granted(&asked) {
                    self.take(granted);
                    self.write_all();
                }
            }
            if self.leads() {
                return;
            }
        }
        panic!("it is not elected");
    }

    /// A follower confirms the leader's log up to here.
    pub(super) fn acknowledge(&mut self, from: u64, index: u64) {
        let term = self.state().replica.leadership().term.0;
        let mut message = message(MessageType::MsgAppendResponse, from, term);
        message.index = index;
        self.take(message);
    }
}

pub(super) fn message(kind: MessageType, from: u64, term: u64) -> Message {
    let mut message = Message { from, to: 1, term, ..Message::default() };
    message.set_msg_type(kind);
    message
}

/// Entries of these terms that follow on `after`.
pub(super) fn append(from: u64, term: u64, after: (u64, u64), terms: &[u64], commit: u64) -> Message {
    let mut message = message(MessageType::MsgAppend, from, term);
    (message.index, message.log_term) = after;
    message.commit = commit;
    let entries = (after.0 + 1..).zip(terms).map(|(index, term)| event(index, *term));
    message.set_entries(entries.collect::<Vec<_>>().into());
    message
}

pub(super) fn event(index: u64, term: u64) -> eraftpb::Entry {
    let context = Bytes::copy_from_slice(&index.to_be_bytes());
    eraftpb::Entry { index, term, data: format!("{index} of {term}").into(), context, ..Default::default() }
}

pub(super) fn change_entry(index: u64, term: u64, steps: Vec<Step>) -> eraftpb::Entry {
    let context = MembershipChange::of(steps).encode().into();
    let mut entry = eraftpb::Entry { index, term, context, ..Default::default() };
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry
}

pub(super) fn with_entries(mut message: Message, entries: Vec<eraftpb::Entry>) -> Message {
    message.set_entries(entries.into());
    message
}

/// The vote that was asked for.
pub(super) fn granted(asked: &Message) -> Option<Message> {
    let kind = match asked.get_msg_type() {
        MessageType::MsgRequestVote => MessageType::MsgRequestVoteResponse,
        MessageType::MsgRequestPreVote => MessageType::MsgRequestPreVoteResponse,
        _ => return None,
    };
    Some(message(kind, asked.to, asked.term))
}

pub(super) fn index(index: u64) -> LogIndex {
    LogIndex(index)
}
