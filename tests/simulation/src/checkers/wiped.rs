//! A member whose disk was lost neither votes nor confirms: it does not know what it has promised.

use raft::eraftpb::{Message, MessageType};

use crate::violation::{Checked, Violation};

/// Checks what such a member wants to say.
///
/// # Errors
/// When others would count on it.
pub fn check(member: usize, message: &Message) -> Checked {
    let is_promise = match message.get_msg_type() {
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => !message.reject,
        MessageType::MsgAppendResponse => !message.reject && message.index > 0,
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => true,
        _ => false,
    };
    if !is_promise {
        return Ok(());
    }
    let found = format!("member {member}, whose disk was wiped, says {:?} in term {}", message.msg_type, message.term);
    Err(Violation::new("wiped members", found))
}
