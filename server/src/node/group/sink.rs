//! Where the messages of other nodes come in.

use std::sync::Weak;

use steeple_engine::ids::NodeId;

use super::Message;
use crate::node::Shared;
use crate::peer::{Delivered, Delivery, PeerSink};

/// Hands what peers send to the group's thread. Does not keep the node running.
pub(in crate::node) struct NodeSink {
    pub(in crate::node) inbox: tokio::sync::mpsc::WeakSender<Message>,
    pub(in crate::node) shared: Weak<Shared>,
}

impl PeerSink for NodeSink {
    fn deliver(&self, delivery: Delivery) -> Delivered {
        let Some(inbox) = self.inbox.upgrade() else { return Delivered::Closed };
        match inbox.try_send(Message::Peer(delivery)) {
            Ok(()) => Delivered::Taken,
            Err(tokio::sync::mpsc::error::TrySendError::Closed(_)) => Delivered::Closed,
            // As if the network had lost them: whoever sent them repeats them.
            Err(tokio::sync::mpsc::error::TrySendError::Full(_)) => {
                metrics::counter!("steeple_peer_messages_crowded_out_total").increment(1);
                Delivered::Taken
            }
        }
    }

    fn unreachable(&self, node: NodeId) {
        if let Some(inbox) = self.inbox.upgrade() {
            // With a full inbox the group has better things to do, and notices by itself.
            drop(inbox.try_send(Message::Unreachable(node)));
        }
    }

    fn admit(&self, _from: NodeId) -> Result<(), String> {
        let stopped = self.shared.upgrade().is_none_or(|shared| shared.failure.borrow().is_some());
        if stopped { Err("the node has stopped".into()) } else { Ok(()) }
    }
}
