//! Where the messages of other nodes come in.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::Entry;
use steeple_raft::{Question, Statement};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;

use super::Message;
use crate::node::Shared;
use crate::peer::repair::WantedEntries;
use crate::peer::{BoxFuture, Delivered, Delivery, HandshakeError, Introduction, PeerSink};

/// Hands what peers send to the group's thread. Does not keep the node running.
///
/// The inbox is shared with everybody who submits and reads, and these wait for room in turn. Peers have to wait in the
/// same line: whoever only tries finds the inbox full for as long as anybody waits, so that under load a leader would
/// hear nothing of its followers, confirm nothing, and give up leading. While a stream of a peer waits it holds one
/// batch, and its flow control holds the sender back.
pub(in crate::node) struct NodeSink {
    pub(in crate::node) inbox: tokio::sync::mpsc::WeakSender<Message>,
    pub(in crate::node) shared: Weak<Shared>,
}

impl PeerSink for NodeSink {
    fn deliver(&self, delivery: Delivery) -> Delivered {
        let Some(inbox) = self.inbox.upgrade() else { return Delivered::Closed };
        match inbox.try_send(Message::Peer(delivery)) {
            Ok(()) => Delivered::Taken,
            Err(TrySendError::Closed(_)) => Delivered::Closed,
            // As if the network had lost them: whoever sent them repeats them.
            Err(TrySendError::Full(_)) => {
                metrics::counter!("steeple_peer_messages_crowded_out_total").increment(1);
                Delivered::Crowded
            }
        }
    }

    fn deliver_when_room(&self, delivery: Delivery) -> BoxFuture<'_, Delivered> {
        Box::pin(async move {
            let Some(inbox) = self.inbox.upgrade() else { return Delivered::Closed };
            match inbox.send(Message::Peer(delivery)).await {
                Ok(()) => Delivered::Taken,
                Err(_) => Delivered::Closed,
            }
        })
    }

    fn unreachable(&self, node: NodeId) {
        if let Some(inbox) = self.inbox.upgrade() {
            // With a full inbox the group has better things to do, and notices by itself.
            drop(inbox.try_send(Message::Unreachable(node)));
        }
    }

    fn describe_log(&self, _from: NodeId, question: Question) -> BoxFuture<'static, Result<Statement, String>> {
        let inbox = self.inbox.upgrade();
        Box::pin(async move {
            let inbox = inbox.ok_or("the node is stopping")?;
            let (answer, answered) = oneshot::channel();
            inbox.send(Message::Describe(question, answer)).await.map_err(|_| "the node is stopping")?;
            drop(inbox);
            answered.await.map_err(|_| "the node cannot tell now".into())
        })
    }

    fn entries(&self, wanted: WantedEntries) -> BoxFuture<'static, Result<Vec<Entry>, String>> {
        let shared = self.shared.upgrade();
        Box::pin(async move {
            let log = shared.ok_or("the node is stopping")?.core().log.clone();
            let reading = tokio::task::spawn_blocking(move || wanted.gather(|index| log.read(index).ok().flatten()));
            reading.await.map_err(|error| error.to_string())
        })
    }

    fn admit(&self, peer: &Introduction) -> Result<(), HandshakeError> {
        let running = self.shared.upgrade().filter(|shared| !shared.is_broken());
        let shared = running.ok_or_else(|| HandshakeError::NotAdmitted("the node has stopped".into()))?;
        shared.roster.admit(peer)
    }

    fn log_end(&self) -> Option<LogIndex> {
        let shared = self.shared.upgrade()?;
        let end = shared.core().log.last().index;
        // While a snapshot is taken over, the log is emptied and filled again.
        (!shared.replacing.load(Ordering::SeqCst)).then_some(end)
    }

    fn admitted_by(&self, node: NodeId) {
        let Some(shared) = self.shared.upgrade() else { return };
        if let Err(error) = shared.roster.admitted_by(node) {
            tracing::error!(%error, "the group is not founded yet");
        }
    }

    fn turned_away_by(&self, node: NodeId, reason: &str, for_good: bool) {
        let Some(shared) = self.shared.upgrade() else { return };
        let text = format!("node {node} refuses this node: {reason}");
        if for_good && shared.roster.is_worthless(shared.core().log.last().index) {
            // It has confirmed nothing that its group relies on, and will never be let in.
            shared.fail(text);
        } else {
            shared.roster.note_turned_away(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(50);

    fn delivery() -> Delivery {
        Delivery::new(NodeId(2), Vec::new())
    }

    #[tokio::test]
    async fn a_peer_waits_in_line_with_those_who_submit() {
        let (inbox, mut messages) = tokio::sync::mpsc::channel(1);
        let sink = NodeSink { inbox: inbox.downgrade(), shared: Weak::new() };
        assert_eq!(sink.deliver(delivery()), Delivered::Taken);
        assert_eq!(sink.deliver(delivery()), Delivered::Crowded, "whoever cannot wait is told");
        let mut waiting = sink.deliver_when_room(delivery());
        let crowded = tokio::time::timeout(MOMENT, &mut waiting).await;
        assert!(crowded.is_err(), "there is no room");
        // Somebody else is behind it in the line.
        let mut later = Box::pin(inbox.send(Message::Tick));
        assert!(tokio::time::timeout(MOMENT, &mut later).await.is_err());
        assert!(matches!(messages.recv().await, Some(Message::Peer(_))));
        assert_eq!(waiting.await, Delivered::Taken);
        assert!(matches!(messages.recv().await, Some(Message::Peer(_))));
        later.await.unwrap();
        assert!(matches!(messages.recv().await, Some(Message::Tick)));
    }

    #[tokio::test]
    async fn nobody_waits_for_a_group_that_has_ended() {
        let (inbox, messages) = tokio::sync::mpsc::channel(1);
        let sink = NodeSink { inbox: inbox.downgrade(), shared: Weak::new() };
        assert_eq!(sink.deliver(delivery()), Delivered::Taken);
        let waiting = sink.deliver_when_room(delivery());
        drop(messages);
        assert_eq!(waiting.await, Delivered::Closed);
    }
}
