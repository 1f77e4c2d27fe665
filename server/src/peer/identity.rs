//! Who a node is to its peers, and how they make sure of it.

use steeple_engine::ids::{ClusterId, GroupId, LogIndex, NodeId};
use steeple_raft::Incarnation;
use steeple_wire::peer::v1::{ExchangeAnswer, Handshake};
use thiserror::Error;

use super::limits::PROTOCOL;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its group.
    pub group: GroupId,
    /// Its number in the group.
    pub node: NodeId,
    /// Its data directory.
    pub incarnation: Incarnation,
    /// The version of the features that it supports.
    pub features: u32,
}

/// How a node introduces itself to another one of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its number.
    pub node: NodeId,
    /// Its data directory.
    pub incarnation: Incarnation,
    /// The version of the features that it supports.
    pub features: u32,
    /// Where its log ends, if it says so.
    pub log_end: Option<LogIndex>,
}

/// The key in a refusal that says that the caller's data directory is the wrong one, whatever it does.
pub(super) const WRONG_DIRECTORY: &str = "steeple-wrong-directory";

/// A node that may not speak to this one. The text goes to both sides; it says what differs and what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HandshakeError {
    /// It says nothing about itself.
    #[error("the call does not begin with a handshake; only nodes of the group use this service")]
    Missing,
    /// It speaks another version.
    #[error(
        "protocol version {theirs} meets version {ours}; upgrade the older node, one release at a time, so that both speak \
         the same version"
    )]
    Protocol {
        /// This node's.
        ours: u32,
        /// The other's.
        theirs: u32,
    },
    /// It belongs to another cluster.
    #[error(
        "node {from} belongs to cluster {theirs} and node {node} to cluster {ours}; one of them has the data directory of \
         another cluster, or an address in its configuration points to the wrong cluster"
    )]
    Cluster {
        /// The node that sends.
        from: NodeId,
        /// This node.
        node: NodeId,
        /// This node's.
        ours: ClusterId,
        /// The other's.
        theirs: String,
    },
    /// It belongs to another group.
    #[error("node {from} speaks for group {theirs} and node {node} serves group {ours}; correct its peer addresses")]
    Group {
        /// The node that sends.
        from: NodeId,
        /// This node.
        node: NodeId,
        /// This node's.
        ours: GroupId,
        /// The other's.
        theirs: GroupId,
    },
    /// It means somebody else.
    #[error(
        "node {from} expects node {expected} at this address, where node {node} is now; correct the address of node \
         {expected} in the list of members"
    )]
    Receiver {
        /// The node that sends.
        from: NodeId,
        /// The node that it expects.
        expected: NodeId,
        /// This node.
        node: NodeId,
    },
    /// It says that it is this node.
    #[error(
        "node {node} was called by a node that says that it is node {node} too; two processes run with the same number or \
         with copies of one data directory: stop one of them, and add it as a new node with an empty directory"
    )]
    Own {
        /// This node.
        node: NodeId,
    },
    /// The number of no node.
    #[error("a node cannot have the number 0")]
    Zero,
    /// It does not say which data directory it has, or which features it supports.
    #[error("node {from} does not say which data directory it has; upgrade it")]
    Anonymous {
        /// The node that says nothing.
        from: NodeId,
    },
    /// Another data directory stands behind its number.
    #[error(
        "node {from} has data directory {theirs}, and the group knows node {from} with {known}: the disk of node {from} was \
         wiped or replaced, and what it had confirmed is lost with it; remove node {from} from the group and add it under a \
         number that was never used, with an empty data directory (a group that has never served anything may be founded \
         anew with empty directories on all nodes)"
    )]
    WrongDirectory {
        /// The node.
        from: NodeId,
        /// The directory that it has.
        theirs: Incarnation,
        /// The directory that is known.
        known: Incarnation,
    },
    /// It is no member any more.
    #[error(
        "node {from} was removed from the group and is not let in again under this number, which may still stand for what it \
         had confirmed; stop it, and add its machine under a number that was never used, with an empty data directory"
    )]
    Removed {
        /// The node.
        from: NodeId,
    },
    /// Its log has lost what it had confirmed.
    #[error(
        "the log of node {from} ends at {end}, and it had confirmed entries up to {held}: its data directory is an older \
         copy; remove node {from} from the group and add it under a number that was never used, with an empty data directory"
    )]
    OldCopy {
        /// The node.
        from: NodeId,
        /// The end of its log.
        end: LogIndex,
        /// What it is known to have had.
        held: LogIndex,
    },
    /// It is older than what the group uses.
    #[error(
        "node {from} supports features up to version {theirs} and the group uses version {active}; upgrade node {from}"
    )]
    Features {
        /// The node.
        from: NodeId,
        /// What it supports.
        theirs: u32,
        /// What the group uses.
        active: u32,
    },
    /// The node does not want it.
    #[error("{0}")]
    NotAdmitted(String),
}

impl HandshakeError {
    /// Whether no node of the group will ever let this one in with the data directory and the number that it has.
    pub(super) fn is_for_good(&self) -> bool {
        matches!(self, Self::WrongDirectory { .. } | Self::Removed { .. })
    }
}

impl PeerIdentity {
    /// What the node says of itself to another one.
    #[must_use]
    pub fn handshake(&self, to: NodeId) -> Handshake {
        Handshake {
            protocol: PROTOCOL,
            cluster: bytes::Bytes::copy_from_slice(&self.cluster.0),
            group: self.group.0,
            from: self.node.0,
            to: to.0,
            incarnation: bytes::Bytes::copy_from_slice(&self.incarnation.0),
            features: self.features,
            log_end: None,
        }
    }

    /// How the node introduces itself.
    #[must_use]
    pub fn introduction(&self) -> Introduction {
        Introduction { node: self.node, incarnation: self.incarnation, features: self.features, log_end: None }
    }

    /// What the node answers to a handshake that it accepts.
    pub(super) fn answer(&self, log_end: Option<LogIndex>) -> ExchangeAnswer {
        let log_end = log_end.map(LogIndex::get);
        let incarnation = bytes::Bytes::copy_from_slice(&self.incarnation.0);
        ExchangeAnswer { protocol: PROTOCOL, incarnation, features: self.features, log_end }
    }

    /// The node that sends, if it may send to this one.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub fn check(&self, handshake: Option<&Handshake>) -> Result<Introduction, HandshakeError> {
        let handshake = handshake.ok_or(HandshakeError::Missing)?;
        let (from, node) = (NodeId(handshake.from), self.node);
        if handshake.protocol != PROTOCOL {
            return Err(HandshakeError::Protocol { ours: PROTOCOL, theirs: handshake.protocol });
        }
        if handshake.cluster != self.cluster.0[..] {
            let theirs = <[u8; 16]>::try_from(&handshake.cluster[..])
                .map_or_else(|_| "(malformed)".into(), |id| ClusterId(id).to_string());
            return Err(HandshakeError::Cluster { from, node, ours: self.cluster, theirs });
        }
        if handshake.group != self.group.0 {
            return Err(HandshakeError::Group { from, node, ours: self.group, theirs: GroupId(handshake.group) });
        }
        if from == NodeId::ZERO {
            return Err(HandshakeError::Zero);
        }
        if from == node {
            return Err(HandshakeError::Own { node });
        }
        if handshake.to != node.0 {
            return Err(HandshakeError::Receiver { from, expected: NodeId(handshake.to), node });
        }
        Introduction::read(from, &handshake.incarnation, handshake.features, handshake.log_end)
    }
}

impl Introduction {
    /// The node that has accepted a handshake.
    pub(super) fn of_answer(node: NodeId, answer: &ExchangeAnswer) -> Result<Self, HandshakeError> {
        Self::read(node, &answer.incarnation, answer.features, answer.log_end)
    }

    fn read(node: NodeId, incarnation: &[u8], features: u32, log_end: Option<u64>) -> Result<Self, HandshakeError> {
        let log_end = log_end.map(LogIndex);
        match <[u8; 16]>::try_from(incarnation) {
            Ok(incarnation) if features > 0 => {
                Ok(Self { node, incarnation: Incarnation(incarnation), features, log_end })
            }
            _ => Err(HandshakeError::Anonymous { from: node }),
        }
    }
}
