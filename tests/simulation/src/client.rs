//! A client: one operation after the other, each repeated with the same request id until somebody knows what became of
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use steeple_engine::ids::{NamespaceId, RequestId};
use steeple_engine::spire::entries::queries::{ListEntries, fetch_entry, list_entries};
use steeple_engine::view::Reader;
use steeple_server::node::stepped::SteppedNode;
use steeple_server::node::{Accepted, Node, SubmitError};

use crate::chance::Chance;
use crate::history::Held;
use crate::machine::Serving;
use crate::network::machine_of;
use crate::time::Instant;
use crate::workload::{Call, list_of};

/// What a member says to an attempt.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "taken from the mailbox at once")]
pub(crate) enum Reply {
    Submitted(Result<Accepted, SubmitError>),
    /// At this revision the key held this.
    Read(Result<(u64, Option<Held>), String>),
    /// At this revision the list was this.
    Listed(Result<(u64, Listed), String>),
    /// Nobody listens there.
    Refused,
    /// The connection broke.
    Broken,
}

/// Entries of a list by their ids.
pub(crate) type Listed = BTreeMap<String, Held>;

/// Replies on their way out of members.
pub(crate) type Mailbox = Arc<Mutex<Vec<(usize, u64, Reply)>>>;

/// An operation under way.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) call: Call,
    pub(crate) request: RequestId,
    pub(crate) began: Instant,
    /// No answer may stand below this revision.
    pub(crate) floor: u64,
    /// A stale read must not be older.
    pub(crate) seen: u64,
    pub(crate) attempts: u32,
    /// Whether an earlier attempt may have been carried out.
    pub(crate) uncertain: bool,
}

/// One client.
pub(crate) struct Client {
    pub(crate) chance: Chance,
    pub(crate) operation: Option<Operation>,
    /// Tells answers to the newest attempt from those to earlier ones.
    pub(crate) attempt: u64,
    /// The member that it calls.
    pub(crate) target: usize,
    pub(crate) namespace: Option<NamespaceId>,
    /// The newest revision that it was told of.
    pub(crate) seen: u64,
    pub(crate) done: u64,
    /// Operations done since the faults have ended.
    pub(crate) done_after: u64,
}

impl Client {
    pub(crate) fn new(mut chance: Chance, members: u64) -> Self {
        let target = chance.below(members) as usize;
        Self { chance, operation: None, attempt: 0, target, namespace: None, seen: 0, done: 0, done_after: 0 }
    }

    /// Whom to call after one that did not lead.
    pub(crate) fn follow(&mut self, error: &SubmitError, machines: usize) {
        match error {
            SubmitError::NotLeader { leader: Some((leader, _)) } if machine_of(*leader) < machines => {
                self.target = machine_of(*leader);
            }
            _ => self.turn_elsewhere(machines),
        }
    }

    pub(crate) fn turn_elsewhere(&mut self, machines: usize) {
        self.target = self.chance.below(machines as u64) as usize;
    }
}

/// What a member does for an attempt, as its services would.
pub(crate) fn serve(
    node: &SteppedNode,
    operation: &Operation,
    namespace: NamespaceId,
    to: (usize, u64),
    mailbox: &Mailbox,
) -> Serving {
    let mailbox = Arc::clone(mailbox);
    let handle = node.node().clone();
    let (client, attempt) = to;
    if let Some(command) = operation.call.command() {
        let request = operation.request;
        return Box::pin(async move {
            let submitted = handle.submit(namespace, Some(request), command).await;
            mailbox.lock().push((client, attempt, Reply::Submitted(submitted)));
        });
    }
    let key = operation.call.key().unwrap_or_default().to_owned();
    let current = operation.call.is_current_read().then(|| node.current());
    let seen = operation.seen;
    let call = operation.call.clone();
    Box::pin(async move {
        let confirmed = match current {
            Some(current) => current.await.map_err(|error| error.to_string()),
            None if handle.revision().0 < seen => Err("the member is behind".into()),
            None => Ok(()),
        };
        let reply = match call {
            Call::List { parent, group } => {
                Reply::Listed(confirmed.and_then(|()| list(&handle, namespace, &list_of(parent, group))))
            }
            _ => Reply::Read(confirmed.and_then(|()| read(&handle, namespace, &key))),
        };
        mailbox.lock().push((client, attempt, reply));
    })
}

fn read(node: &Node, namespace: NamespaceId, key: &str) -> Result<(u64, Option<Held>), String> {
    node.read(|reader| {
        let entry = fetch_entry(reader, namespace, key).map_err(|error| error.to_string())?;
        Ok((reader.revision().0, entry.as_ref().map(Held::of)))
    })
}

fn list(node: &Node, namespace: NamespaceId, request: &ListEntries) -> Result<(u64, Listed), String> {
    node.read(|reader| {
        let page = list_entries(reader, namespace, request).map_err(|error| error.to_string())?;
        let listed = page.items.iter().map(|entry| (entry.entry_id.clone(), Held::of(entry))).collect();
        Ok((reader.revision().0, listed))
    })
}
