//! A consumer that follows the streams, stores where it stands, and goes on elsewhere when its member is gone.

use steeple_engine::ids::{NamespaceId, StreamSequence};
use steeple_engine::spire::{NODES, REGISTRATIONS};
use steeple_server::node::tail::{StreamPosition, Tail, TailError};

use crate::chance::Chance;
use crate::checkers::tails::Seen;
use crate::machine::Machine;

/// One consumer.
pub(crate) struct Consumer {
    pub(crate) chance: Chance,
    pub(crate) target: usize,
    /// The life of the process that it follows, and its tail.
    pub(crate) tail: Option<(u32, Tail)>,
    pub(crate) seen: Seen,
    /// What it has stored, and goes on from after its own restart.
    pub(crate) stored: Seen,
}

impl Consumer {
    pub(crate) fn new(mut chance: Chance, members: u64) -> Self {
        let target = chance.below(members) as usize;
        Self { chance, target, tail: None, seen: Seen::default(), stored: Seen::default() }
    }

    /// Opens a tail behind what it has seen.
    pub(crate) fn open(&self, machine: &Machine, namespace: NamespaceId) -> Option<Result<Tail, TailError>> {
        let node = machine.node.as_ref()?;
        let position = |stream| StreamPosition { stream, after: StreamSequence(self.seen.last(stream)) };
        Some(node.node().tail(namespace, vec![position(REGISTRATIONS), position(NODES)], None))
    }
}
