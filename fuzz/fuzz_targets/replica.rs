//! One replica of three, whose peers say whatever they like.
//!
//! The input is a list of steps of 8 bytes: what happens, then small numbers. Messages are made from them, so that many
//! get past the gate and into the consensus crate; those of the target `peer_batch` hardly ever do.
#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NodeId, Term};
use steeple_engine::log::{Entry, EntryKind, Log, LogIdentity, LogOptions, LogReader, LogWriter};
use steeple_raft::eraftpb::{self, EntryType, Message, MessageType};
use steeple_raft::{Member, Membership, MembershipChange, Replica, ReplicaOptions, Step, Write};

const KINDS: [MessageType; 15] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
    MessageType::MsgPropose,
    MessageType::MsgHup,
];

const IDENTITY: LogIdentity =
    LogIdentity { cluster: ClusterId([1; 16]), node: NodeId(1), group: GroupId(0), history: HistoryId([2; 16]) };

/// Node 1, its disk, and what it has not written yet.
struct Bench {
    replica: Replica,
    writer: LogWriter,
    log: LogReader,
    writes: VecDeque<Write>,
    folded: LogIndex,
    tag: u64,
}

impl Bench {
    /// In term 1 with the entry that founds the group.
    fn new() -> Self {
        let member = |node| (node, Member { peer_address: format!("node{node}:1"), ..Member::default() });
        let members: BTreeMap<u64, Member> = (1..=3).map(member).collect();
        let options =
            LogOptions { segment_bytes: 64 << 10, segment_entries: 256, spare_segments: 0, ..LogOptions::default() };
        let disk = Arc::new(SimulatedDisk::new());
        let (mut writer, log, _) = Log::open(disk, options, IDENTITY).expect("an empty log opens");
        let payload = MembershipChange::founding(members.clone()).encode().into();
        let position = LogPosition { term: Term(1), index: LogIndex(1) };
        let entry = Entry { position, kind: EntryKind::Membership, tag: 0, payload };
        writer.append(&[entry]).expect("a simulated disk does not fail");
        writer.sync().expect("a simulated disk does not fail");
        let membership = Membership::of_voters(members);
        let state = writer.hard_state();
        let folded = LogIndex(1);
        let replica = Replica::new(NodeId(1), ReplicaOptions::default(), log.clone(), state, folded, membership, 1)
            .expect("sound");
        Self { replica, writer, log, writes: VecDeque::new(), folded, tag: 0 }
    }

    fn drain(&mut self) {
        while let Some(output) = self.replica.take_output().expect("the log can be read") {
            self.writes.extend(output.write);
            for entry in output.committed {
                assert_eq!(entry.position.index, self.folded.next(), "entries come one after the other");
                if entry.kind == EntryKind::Membership {
                    // What cannot be read was refused when it came.
                    let after = self.replica.apply_membership(&entry).expect("it was let in");
                    assert!(after.check().is_ok());
                }
                self.folded = entry.position.index;
                self.replica.applied(self.folded);
            }
        }
    }

    /// Makes the oldest write durable.
    fn write(&mut self) {
        let Some(write) = self.writes.pop_front() else { return };
        if let Some(state) = write.hard_state {
            self.writer.save_hard_state(state).expect("a simulated disk does not fail");
        }
        if let Some(first) = write.entries.first().map(|entry| entry.position.index) {
            if first <= self.log.last().index {
                self.writer.truncate_suffix(first).expect("only what is there is cut off");
            }
            self.writer.append(&write.entries).expect("entries follow on what is there");
        }
        if let Some(committed) = write.committed {
            let state = HardState { commit: committed, ..self.writer.hard_state() };
            self.writer.save_hard_state(state).expect("a simulated disk does not fail");
        }
        self.writer.sync().expect("a simulated disk does not fail");
        self.replica.persisted(write.number);
    }

    fn step(&mut self, step: &[u8; 8]) {
        let [what, who, ..] = *step;
        match what % 16 {
            0 => self.replica.tick(),
            1 => (0..20).for_each(|_| self.replica.tick()),
            2 | 3 => self.write(),
            4 => self.propose(),
            5 => self.replica.read_index(u64::from(who)),
            6 => {
                let _ = self.replica.transfer_leadership(NodeId(u64::from(who % 5)));
            }
            7 => self.change(who),
            8 => self.replica.unreachable(NodeId(u64::from(who % 5))),
            _ => {
                let message = self.message(step);
                let _ = self.replica.receive(message);
            }
        }
        self.drain();
    }

    fn propose(&mut self) {
        let payload = bytes::Bytes::from_static(b"x");
        let tag = self.log.last_tag().max(self.tag) + 1;
        if self.replica.propose(EntryKind::Event, tag, payload).is_ok() {
            self.tag = tag;
        }
    }

    fn change(&mut self, who: u8) {
        let node = u64::from(who % 5) + 1;
        let steps = vec![match who / 5 % 4 {
            0 => Step::Remove { node },
            1 => Step::Learner { node, member: None },
            2 => Step::Voter { node, member: None },
            _ => Step::Address { node, member: Member::default() },
        }];
        let _ = self.replica.change_members(&MembershipChange::of(steps));
    }

    /// Numbers lie around those that the replica is at.
    fn message(&self, [_, kind, from, term, index, log_term, commit, entries]: &[u8; 8]) -> Message {
        let around = |center: u64, offset: u8| center.saturating_add_signed(i64::from(offset as i8 / 16));
        let now = self.replica.leadership().term.0;
        let mut message = Message {
            from: u64::from(from % 4),
            to: 1,
            term: around(now, *term),
            index: around(self.replica.last().index.0, *index),
            log_term: around(now, *log_term),
            commit: around(self.replica.committed().0, *commit),
            commit_term: around(now, *log_term),
            reject: entries & 0x80 != 0,
            reject_hint: around(self.replica.last().index.0, *entries),
            ..Message::default()
        };
        message.set_msg_type(KINDS[usize::from(*kind) % KINDS.len()]);
        match message.get_msg_type() {
            MessageType::MsgAppend => {
                let first = message.index + 1;
                let list = (first..).take(usize::from(entries % 4)).map(|index| entry(index, message.term, *entries));
                message.set_entries(list.collect::<Vec<_>>().into());
            }
            MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
                let data = [u64::from(*from % 4), 1, u64::from(*entries)].map(u64::to_be_bytes).concat().into();
                message.set_entries(vec![eraftpb::Entry { data, ..Default::default() }].into());
                message.term = if *term > 128 { 0 } else { message.term };
            }
            MessageType::MsgSnapshot => {
                let metadata = message.mut_snapshot().mut_metadata();
                (metadata.index, metadata.term) = (u64::from(*index), u64::from(*log_term));
            }
            _ => {}
        }
        message
    }
}

fn entry(index: u64, term: u64, choice: u8) -> eraftpb::Entry {
    let mut entry = eraftpb::Entry { index, term, ..Default::default() };
    match choice / 4 % 4 {
        0 => {}
        1 => {
            let node = u64::from(choice / 16 % 5) + 1;
            let step = if choice > 127 { Step::Remove { node } } else { Step::Voter { node, member: None } };
            entry.context = MembershipChange::of(vec![step]).encode().into();
            entry.set_entry_type(EntryType::EntryConfChangeV2);
        }
        _ => {
            entry.data = bytes::Bytes::from_static(b"x");
            entry.context = bytes::Bytes::copy_from_slice(&index.to_be_bytes());
        }
    }
    entry
}

fuzz_target!(|bytes: &[u8]| {
    let mut bench = Bench::new();
    bench.drain();
    for step in bytes.as_chunks::<8>().0.iter().take(200) {
        bench.step(step);
    }
});
