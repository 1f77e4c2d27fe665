//! What can be asked of attested nodes.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::{Node, NodeSelectors, indexes};
use super::{Error, queries};
use crate::ids::{IndexId, Sequence};
use crate::index::{Predicate, Query};
use crate::spire::limits::{self, StepBudget};
use crate::spire::selectors::{self, Selector};
use crate::spire::{self, Answer, AnswerSource, NODES, entries, tables};
use crate::transaction::{ChangeError, Transaction};
use crate::view::{ReaderExtension, Record};

/// A change to nodes or node selectors.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 9.1; `None` stands for a request without node.
    Create(Option<Node>),
    /// 9.6; no mask means all fields.
    Update(Option<Node>, Option<NodeMask>),
    /// 9.7; answers [`super::super::Answer::Progress`] first when many entries go with the node.
    Delete {
        /// Which node.
        spiffe_id: String,
    },
    /// 9.8; one batch: answers [`super::super::Answer::Batch`].
    Prune {
        /// Unix seconds.
        expired_before: i64,
        /// Also nodes that cannot attest again.
        include_non_reattestable: bool,
        /// Nodes at the most; 0 or less means 1000.
        batch_size: i32,
    },
    /// 10.1
    SetSelectors {
        /// Whose.
        spiffe_id: String,
        /// The whole list; empty clears it.
        selectors: Vec<Selector>,
    },
}

/// Which fields an update sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct NodeMask {
    pub cert_serial_number: bool,
    pub cert_not_after: bool,
    pub new_cert_serial_number: bool,
    pub new_cert_not_after: bool,
    pub can_reattest: bool,
    pub agent_version: bool,
}

/// Nodes of this type take the entries of their alias with them.
const JOIN_TOKEN: &str = "join_token";
/// Selector type of an alias entry.
const ALIAS_SELECTOR_TYPE: &str = "spiffe_id";

impl NodeMask {
    /// Every field.
    pub const ALL: Self = Self {
        cert_serial_number: true,
        cert_not_after: true,
        new_cert_serial_number: true,
        new_cert_not_after: true,
        can_reattest: true,
        agent_version: true,
    };
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(&self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, spire::Error> {
        match self {
            Self::Create(node) => create(transaction, node.as_ref()),
            Self::Update(node, mask) => update(transaction, node.as_ref(), mask.unwrap_or(NodeMask::ALL)),
            Self::Delete { spiffe_id } => delete(transaction, spiffe_id),
            Self::Prune { expired_before, include_non_reattestable, batch_size } => {
                prune(transaction, *expired_before, *include_non_reattestable, *batch_size)
            }
            Self::SetSelectors { spiffe_id, selectors } => set_selectors(transaction, spiffe_id, selectors),
        }
    }
}

fn create(transaction: &mut Transaction<'_>, node: Option<&Node>) -> Result<AnswerSource, spire::Error> {
    let node = node.ok_or(Error::MissingNode)?;
    check_limits(node)?;
    let (_, change) = transaction.insert(tables::NODES, node.encode()).map_err(node_error)?;
    transaction.emit(NODES, node.spiffe_id.as_str(), Some(change));
    Ok(AnswerSource::After(change))
}

fn update(
    transaction: &mut Transaction<'_>,
    input: Option<&Node>,
    mask: NodeMask,
) -> Result<AnswerSource, spire::Error> {
    let input = input.ok_or(Error::MissingNode)?;
    let record = find(transaction, &input.spiffe_id)?;
    let mut node = Node::decode(&record.body)?;
    assign(&mut node, input, mask);
    check_limits(&node)?;
    let change = transaction.update(tables::NODES, &record, node.encode()).map_err(node_error)?;
    transaction.emit(NODES, node.spiffe_id, Some(change));
    Ok(AnswerSource::After(change))
}

/// The attestation type never changes.
fn assign(node: &mut Node, input: &Node, mask: NodeMask) {
    fn set<T: Clone>(in_scope: bool, field: &mut T, value: &T) {
        if in_scope {
            field.clone_from(value);
        }
    }
    set(mask.cert_serial_number, &mut node.cert_serial_number, &input.cert_serial_number);
    set(mask.cert_not_after, &mut node.cert_not_after, &input.cert_not_after);
    set(mask.new_cert_serial_number, &mut node.new_cert_serial_number, &input.new_cert_serial_number);
    set(mask.new_cert_not_after, &mut node.new_cert_not_after, &input.new_cert_not_after);
    set(mask.can_reattest, &mut node.can_reattest, &input.can_reattest);
    set(mask.agent_version, &mut node.agent_version, &input.agent_version);
}

fn delete(transaction: &mut Transaction<'_>, spiffe_id: &str) -> Result<AnswerSource, spire::Error> {
    let record = find(transaction, spiffe_id)?;
    Ok(match remove(transaction, &record, &mut StepBudget::new(limits::CASCADE_MAX))? {
        Removal::Whole(change) => AnswerSource::Before(change),
        Removal::EntriesOnly(changed) => AnswerSource::Inline(Answer::Progress { changed, more: true }),
    })
}

/// One batch and never more, so that what the caller asked for stays a bound; a batch that would make too large an
/// event ends early and the rest is left to the next call.
fn prune(
    transaction: &mut Transaction<'_>,
    expired_before: i64,
    include_non_reattestable: bool,
    batch_size: i32,
) -> Result<AnswerSource, spire::Error> {
    let batch = match usize::try_from(batch_size) {
        Ok(0) | Err(_) => limits::PRUNE_NODES_DEFAULT,
        Ok(batch) => batch.min(limits::PRUNE_NODES_MAX),
    };
    let doomed = expired(transaction, expired_before, include_non_reattestable, batch + 1)?;
    let mut budget = StepBudget::new(limits::PRUNE_STEP_MAX);
    let mut removed = 0;
    for record in doomed.iter().take(batch) {
        if !budget.has_room() {
            break;
        }
        match remove(transaction, record, &mut budget)? {
            Removal::Whole(_) => removed += 1,
            Removal::EntriesOnly(_) => break,
        }
    }
    Ok(AnswerSource::Inline(Answer::Batch { removed: removed as u64, more: removed < doomed.len() }))
}

/// Up to `limit` nodes to prune, oldest expiry first.
fn expired(
    transaction: &Transaction<'_>,
    before: i64,
    include_non_reattestable: bool,
    limit: usize,
) -> Result<Vec<Record>, spire::Error> {
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let lowest = |index: IndexId| reader.select_lowest(namespace, tables::NODES, index, before, limit);
    let mut sequences = lowest(indexes::REATTESTABLE_EXPIRY);
    if include_non_reattestable {
        sequences.extend(lowest(indexes::NON_REATTESTABLE_EXPIRY));
    }
    let mut nodes = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        let record = reader.get_listed(namespace, tables::NODES, sequence)?;
        nodes.push((Node::view(&record.body)?.cert_not_after.to_native(), record));
    }
    nodes.sort_by_key(|(expiry, record)| (*expiry, record.sequence));
    nodes.truncate(limit);
    Ok(nodes.into_iter().map(|(_, record)| record).collect())
}

/// How far the removal of a node came.
enum Removal {
    /// The node is gone; the position of its change.
    Whole(u16),
    /// So many entries are gone that the node has to wait for another event.
    EntriesOnly(u64),
}

/// Deletes a node with its selectors and, for join token nodes, the entries of its alias (9.7).
fn remove(
    transaction: &mut Transaction<'_>,
    record: &Record,
    budget: &mut StepBudget,
) -> Result<Removal, spire::Error> {
    let node = Node::view(&record.body)?;
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    if node.attestation_data_type == JOIN_TOKEN {
        let one_more = budget.records_left() + 1;
        let aliases = reader.select(namespace, tables::ENTRIES, &aliases_of(&node.spiffe_id), Sequence::ZERO, one_more);
        for (removed, sequence) in aliases.into_iter().enumerate() {
            let entry = reader.get_listed(namespace, tables::ENTRIES, sequence)?;
            if !budget.take(entry.body.len()) {
                return Ok(Removal::EntriesOnly(removed as u64));
            }
            entries::commands::remove(transaction, &entry)?;
        }
    }
    if let Some(selectors) = queries::selectors_record(reader, namespace, &node.spiffe_id)? {
        budget.spend(selectors.body.len());
        transaction.delete(tables::NODE_SELECTORS, &selectors);
    }
    budget.spend(record.body.len());
    let change = transaction.delete(tables::NODES, record);
    transaction.emit(NODES, node.spiffe_id.as_str(), Some(change));
    Ok(Removal::Whole(change))
}

/// Entries with this parent whose one selector names the parent as well: what SPIRE writes for a join token with an
/// alias.
fn aliases_of(parent_id: &str) -> Query {
    let selector = selectors::key(ALIAS_SELECTOR_TYPE, parent_id);
    Query::all()
        .and(Predicate::Is { index: entries::records::indexes::PARENT_ID, key: parent_id.as_bytes().to_vec() })
        .and(Predicate::Exactly { index: entries::records::indexes::SELECTORS, keys: vec![selector] })
}

/// Always announced, changed or not (8.6).
fn set_selectors(
    transaction: &mut Transaction<'_>,
    spiffe_id: &str,
    selectors: &[Selector],
) -> Result<AnswerSource, spire::Error> {
    let body = encode_selectors(&NodeSelectors { spiffe_id: spiffe_id.to_owned(), selectors: selectors.to_vec() })?;
    let stored = queries::selectors_record(transaction.reader(), transaction.namespace(), spiffe_id)?;
    let change = match (stored, selectors.is_empty()) {
        (None, true) => None,
        (Some(stored), true) => Some(transaction.delete(tables::NODE_SELECTORS, &stored)),
        (Some(stored), false) if stored.body == body => None,
        (Some(stored), false) => Some(transaction.update(tables::NODE_SELECTORS, &stored, body).map_err(node_error)?),
        (None, false) => Some(transaction.insert(tables::NODE_SELECTORS, body).map_err(node_error)?.1),
    };
    transaction.emit(NODES, spiffe_id, change);
    Ok(AnswerSource::Inline(Answer::Nothing))
}

fn encode_selectors(record: &NodeSelectors) -> Result<Vec<u8>, spire::Error> {
    limits::check_bytes("SPIFFE ID", record.spiffe_id.len(), limits::SPIFFE_ID_BYTES_MAX)?;
    selectors::check_limits(&record.selectors)?;
    if selectors::has_duplicates(&record.selectors) {
        return Err(Error::DuplicateSelector.into());
    }
    let body = record.encode();
    limits::check_bytes("list of node selectors", body.len(), limits::RECORD_BYTES_MAX)?;
    Ok(body)
}

/// The body of selectors that are taken over as they are.
///
/// # Errors
/// When there are none, one is there twice, or they are above a limit.
pub(in crate::spire) fn prepare_selectors(record: &NodeSelectors) -> Result<Vec<u8>, spire::Error> {
    if record.selectors.is_empty() {
        return Err(Error::MissingSelectors.into());
    }
    encode_selectors(record)
}

/// The body of a node that is taken over as it is.
///
/// # Errors
/// When it is above a limit.
pub(in crate::spire) fn prepare(node: &Node) -> Result<Vec<u8>, spire::Error> {
    check_limits(node)?;
    Ok(node.encode())
}

fn find(transaction: &Transaction<'_>, spiffe_id: &str) -> Result<Record, spire::Error> {
    let record = queries::fetch_node_record(transaction.reader(), transaction.namespace(), spiffe_id)?;
    Ok(record.ok_or(Error::NotFound)?)
}

fn check_limits(node: &Node) -> Result<(), limits::Error> {
    limits::check_bytes("SPIFFE ID", node.spiffe_id.len(), limits::SPIFFE_ID_BYTES_MAX)?;
    let texts = [
        ("attestation data type", &node.attestation_data_type),
        ("certificate serial number", &node.cert_serial_number),
        ("new certificate serial number", &node.new_cert_serial_number),
        ("agent version", &node.agent_version),
    ];
    texts.into_iter().try_for_each(|(what, text)| limits::check_bytes(what, text.len(), limits::NODE_TEXT_BYTES_MAX))
}

/// The SPIFFE ID is the only unique key, so a collision is always about it.
fn node_error(error: ChangeError) -> Error {
    match error {
        ChangeError::Duplicate { .. } => Error::SpiffeIdTaken,
        error => Error::Change(error),
    }
}
