//! From consensus to the wire.

use bytes::Bytes;
use prost::Message as _;
use raft::eraftpb::{self, EntryType, Message, MessageType, Snapshot};
use steeple_wire::peer::v1 as wire;

use super::{Link, MessageError, check_link};

/// Bytes of a message or an entry besides its payloads, estimated from above.
const FIXED_BYTES: usize = 128;

/// The messages in their encoded form, to be sent as one item.
#[must_use]
pub fn encode_batch(messages: Vec<wire::RaftMessage>) -> Bytes {
    wire::Batch { messages }.encode_to_vec().into()
}

/// About how many bytes a message takes on the wire, never fewer than it does.
#[must_use]
pub fn encoded_bytes(message: &Message) -> usize {
    let entry = |entry: &eraftpb::Entry| FIXED_BYTES + entry.data.len() + entry.context.len();
    let members = message.snapshot.as_ref().map_or(0, |snapshot| {
        let state = snapshot.get_metadata().get_conf_state();
        10 * (state.voters.len() + state.voters_outgoing.len() + state.learners.len() + state.learners_next.len())
            + FIXED_BYTES
    });
    FIXED_BYTES + message.context.len() + members + message.entries.iter().map(entry).sum::<usize>()
}

/// A message as it travels. Payloads are shared, not copied. The data of a snapshot stays behind: what travels is where
/// it stands, and the receiver fetches its content.
///
/// # Errors
/// When the message may not travel on this link. That is no fault of a peer: the `raft` crate may make messages that it
/// forwards for somebody else. They must be dropped, because the receiver would close the stream over them.
pub fn to_wire(mut message: Message, link: Link) -> Result<wire::RaftMessage, MessageError> {
    check_link(message.from, message.to, link)?;
    let kind = kind(message.msg_type).ok_or(MessageError::Kind { kind: message.msg_type as i32 })?;
    // The `raft` crate ends the process when a follower has to forward a transfer that carries a term.
    let term = if kind == wire::MessageKind::TransferLeader { 0 } else { message.term };
    let snapshot = message.snapshot.take().map(position).filter(|_| kind == wire::MessageKind::Snapshot);
    Ok(wire::RaftMessage {
        kind: kind.into(),
        from: message.from,
        to: message.to,
        term,
        log_term: message.log_term,
        index: message.index,
        entries: message.take_entries().into_iter().map(entry).collect::<Result<_, _>>()?,
        commit: message.commit,
        commit_term: message.commit_term,
        snapshot,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
    })
}

/// Whether messages of a kind go to other nodes at all.
#[must_use]
pub fn travels(message_type: MessageType) -> bool {
    kind(message_type).is_some()
}

fn entry(entry: eraftpb::Entry) -> Result<wire::RaftEntry, MessageError> {
    let kind = match entry.entry_type {
        EntryType::EntryNormal => wire::EntryKind::Normal,
        EntryType::EntryConfChangeV2 => wire::EntryKind::Membership,
        EntryType::EntryConfChange => return Err(MessageError::EntryKind { kind: entry.entry_type as i32 }),
    };
    Ok(wire::RaftEntry {
        kind: kind.into(),
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
    })
}

fn position(mut snapshot: Snapshot) -> wire::SnapshotPosition {
    let mut metadata = snapshot.take_metadata();
    let state = metadata.take_conf_state();
    wire::SnapshotPosition {
        index: metadata.index,
        term: metadata.term,
        voters: state.voters,
        voters_outgoing: state.voters_outgoing,
        learners: state.learners,
        learners_next: state.learners_next,
        auto_leave: state.auto_leave,
    }
}

/// The kinds that travel. All others stay inside a node: a peer that could send them would speak with the voice of
/// the node itself.
fn kind(kind: MessageType) -> Option<wire::MessageKind> {
    use wire::MessageKind as Kind;
    Some(match kind {
        MessageType::MsgAppend => Kind::Append,
        MessageType::MsgAppendResponse => Kind::AppendResponse,
        MessageType::MsgRequestVote => Kind::RequestVote,
        MessageType::MsgRequestVoteResponse => Kind::RequestVoteResponse,
        MessageType::MsgRequestPreVote => Kind::RequestPreVote,
        MessageType::MsgRequestPreVoteResponse => Kind::RequestPreVoteResponse,
        MessageType::MsgHeartbeat => Kind::Heartbeat,
        MessageType::MsgHeartbeatResponse => Kind::HeartbeatResponse,
        MessageType::MsgSnapshot => Kind::Snapshot,
        MessageType::MsgTransferLeader => Kind::TransferLeader,
        MessageType::MsgTimeoutNow => Kind::TimeoutNow,
        MessageType::MsgReadIndex => Kind::ReadIndex,
        MessageType::MsgReadIndexResp => Kind::ReadIndexResponse,
        MessageType::MsgHup
        | MessageType::MsgBeat
        | MessageType::MsgPropose
        | MessageType::MsgUnreachable
        | MessageType::MsgSnapStatus
        | MessageType::MsgCheckQuorum => return None,
    })
}
