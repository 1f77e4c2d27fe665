//! From the wire to consensus: nothing is believed.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{self, ConfState, EntryType, Message, MessageType, Snapshot};
use steeple_engine::log::MAX_PAYLOAD_BYTES;
use steeple_wire::peer::v1 as wire;

use super::super::limits::{CONTEXT_BYTES_MAX, MEMBERS_MAX, MEMBERSHIP_CONTEXT_BYTES_MAX, POSITION_MAX};
use super::{BatchError, Link, MessageError, check_link, scan};

/// The messages of an encoded batch, all of them checked. Their payloads share the buffer.
///
/// # Errors
/// When anything in it is not as it should be. Nothing of the batch may be used then, and nothing that the peer sends
/// after it.
pub fn decode_batch(batch: Bytes, link: Link) -> Result<Vec<Message>, BatchError> {
    scan(&batch)?;
    let batch = wire::Batch::decode(batch).map_err(|error| BatchError::Malformed(error.to_string()))?;
    if batch.messages.is_empty() {
        return Err(BatchError::Empty);
    }
    let checked = |(number, message)| from_wire(message, link).map_err(|error| BatchError::Message { number, error });
    batch.messages.into_iter().enumerate().map(checked).collect()
}

/// A message that came from a peer, checked as far as it can be without knowing the state of the group.
///
/// # Errors
/// See [`MessageError`].
pub fn from_wire(message: wire::RaftMessage, link: Link) -> Result<Message, MessageError> {
    check_link(message.from, message.to, link)?;
    let kind = message_type(message.kind)?;
    check_positions(&message)?;
    check_term(kind, message.term)?;
    check_bytes("a context", message.context.len(), CONTEXT_BYTES_MAX)?;
    check_entries(kind, &message)?;
    let mut checked = Message {
        msg_type: kind,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        commit: message.commit,
        commit_term: message.commit_term,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        // What the `raft` crate itself sends beside the newer field.
        deprecated_priority: u64::try_from(message.priority).unwrap_or(0),
        priority: message.priority,
        ..Message::default()
    };
    // Room for all at once, which collecting results would not make.
    let mut entries = Vec::with_capacity(message.entries.len());
    for received in message.entries {
        entries.push(entry(received)?);
    }
    checked.entries = entries.into();
    match (kind, message.snapshot) {
        (MessageType::MsgSnapshot, Some(position)) => checked.set_snapshot(snapshot(position, message.term)?),
        (MessageType::MsgSnapshot, None) | (_, Some(_)) => return Err(MessageError::Snapshot),
        (_, None) => {}
    }
    Ok(checked)
}

fn message_type(kind: i32) -> Result<MessageType, MessageError> {
    use wire::MessageKind as Kind;
    let known = Kind::try_from(kind).map_err(|_| MessageError::Kind { kind })?;
    Ok(match known {
        Kind::Unspecified => return Err(MessageError::Kind { kind }),
        Kind::Append => MessageType::MsgAppend,
        Kind::AppendResponse => MessageType::MsgAppendResponse,
        Kind::RequestVote => MessageType::MsgRequestVote,
        Kind::RequestVoteResponse => MessageType::MsgRequestVoteResponse,
        Kind::RequestPreVote => MessageType::MsgRequestPreVote,
        Kind::RequestPreVoteResponse => MessageType::MsgRequestPreVoteResponse,
        Kind::Heartbeat => MessageType::MsgHeartbeat,
        Kind::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
        Kind::Snapshot => MessageType::MsgSnapshot,
        Kind::TransferLeader => MessageType::MsgTransferLeader,
        Kind::TimeoutNow => MessageType::MsgTimeoutNow,
        Kind::ReadIndex => MessageType::MsgReadIndex,
        Kind::ReadIndexResponse => MessageType::MsgReadIndexResp,
    })
}

fn check_position(field: &'static str, value: u64) -> Result<(), MessageError> {
    if value > POSITION_MAX { Err(MessageError::Position { field, value }) } else { Ok(()) }
}

fn check_bytes(what: &'static str, bytes: usize, max_bytes: usize) -> Result<(), MessageError> {
    if bytes > max_bytes { Err(MessageError::TooLarge { what, bytes, max_bytes }) } else { Ok(()) }
}

fn check_positions(message: &wire::RaftMessage) -> Result<(), MessageError> {
    check_position("term", message.term)?;
    check_position("log term", message.log_term)?;
    check_position("index", message.index)?;
    check_position("commit", message.commit)?;
    check_position("commit term", message.commit_term)?;
    check_position("requested snapshot", message.request_snapshot)?;
    check_position("reject hint", message.reject_hint)
}

/// A message without a term passes for one of the node's own, whatever its kind. Two kinds have none: they are requests
/// that a node makes of its leader, and the `raft` crate ends the process when it has to forward one with a term.
fn check_term(kind: MessageType, term: u64) -> Result<(), MessageError> {
    match kind {
        MessageType::MsgReadIndex | MessageType::MsgTransferLeader if term != 0 => Err(MessageError::TermUnexpected),
        MessageType::MsgReadIndex | MessageType::MsgTransferLeader => Ok(()),
        _ if term == 0 => Err(MessageError::TermMissing),
        _ => Ok(()),
    }
}

fn check_entries(kind: MessageType, message: &wire::RaftMessage) -> Result<(), MessageError> {
    let entries = &message.entries;
    match kind {
        MessageType::MsgAppend => check_sequence(message),
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => {
            let [only] = entries.as_slice() else { return Err(MessageError::Entries { found: entries.len() }) };
            check_bytes("the context of a read", only.data.len(), CONTEXT_BYTES_MAX)
        }
        _ if entries.is_empty() => Ok(()),
        _ => Err(MessageError::Entries { found: entries.len() }),
    }
}

/// Without gaps behind the message's index, with terms that never go back and are never newer than the message's.
fn check_sequence(message: &wire::RaftMessage) -> Result<(), MessageError> {
    let (mut index, mut term) = (message.index, message.log_term);
    let until = message.term;
    if term > until {
        return Err(MessageError::EntryTerm { index, term, after: 0, until });
    }
    for entry in &message.entries {
        if entry.index != index + 1 {
            return Err(MessageError::Gap { expected: index + 1, found: entry.index });
        }
        check_position("index", entry.index)?;
        if entry.term == 0 || entry.term < term || entry.term > until {
            return Err(MessageError::EntryTerm { index: entry.index, term: entry.term, after: term, until });
        }
        (index, term) = (entry.index, entry.term);
    }
    Ok(())
}

fn entry(entry: wire::RaftEntry) -> Result<eraftpb::Entry, MessageError> {
    let entry_type = match wire::EntryKind::try_from(entry.kind) {
        Ok(wire::EntryKind::Normal) => EntryType::EntryNormal,
        Ok(wire::EntryKind::Membership) => EntryType::EntryConfChangeV2,
        Err(_) => return Err(MessageError::EntryKind { kind: entry.kind }),
    };
    check_bytes("an entry", entry.data.len(), MAX_PAYLOAD_BYTES)?;
    let context_bytes_max = match entry_type {
        EntryType::EntryNormal => CONTEXT_BYTES_MAX,
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => MEMBERSHIP_CONTEXT_BYTES_MAX,
    };
    check_bytes("the context of an entry", entry.context.len(), context_bytes_max)?;
    Ok(eraftpb::Entry {
        entry_type,
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
        ..eraftpb::Entry::default()
    })
}

fn snapshot(position: wire::SnapshotPosition, message_term: u64) -> Result<Snapshot, MessageError> {
    for (field, value) in [("index of a snapshot", position.index), ("term of a snapshot", position.term)] {
        check_position(field, value)?;
        if value == 0 {
            return Err(MessageError::Position { field, value });
        }
    }
    if position.term > message_term {
        return Err(MessageError::Position { field: "term of a snapshot", value: position.term });
    }
    check_members(&position).map_err(|problem| MessageError::Members { problem })?;
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = position.index;
    metadata.term = position.term;
    metadata.set_conf_state(ConfState {
        voters: position.voters,
        voters_outgoing: position.voters_outgoing,
        learners: position.learners,
        learners_next: position.learners_next,
        auto_leave: position.auto_leave,
        ..ConfState::default()
    });
    Ok(snapshot)
}

/// Members that the `raft` crate can take up. It ends the process over others.
fn check_members(position: &wire::SnapshotPosition) -> Result<(), &'static str> {
    let voters = members(&position.voters)?;
    let outgoing = members(&position.voters_outgoing)?;
    let learners = members(&position.learners)?;
    let learners_next = members(&position.learners_next)?;
    if voters.is_empty() {
        return Err("nobody votes");
    }
    if !learners.is_disjoint(&voters) || !learners.is_disjoint(&outgoing) {
        return Err("a learner votes");
    }
    if !learners_next.is_subset(&outgoing) || !learners_next.is_disjoint(&voters) {
        return Err("who becomes a learner is no voter that leaves");
    }
    if outgoing.is_empty() && position.auto_leave {
        return Err("there is no change to finish");
    }
    Ok(())
}

fn members(nodes: &[u64]) -> Result<BTreeSet<u64>, &'static str> {
    if nodes.len() > MEMBERS_MAX {
        return Err("there are too many");
    }
    let members: BTreeSet<u64> = nodes.iter().copied().collect();
    if members.contains(&0) {
        return Err("there is no node 0");
    }
    if members.len() < nodes.len() { Err("one is named twice") } else { Ok(members) }
}
