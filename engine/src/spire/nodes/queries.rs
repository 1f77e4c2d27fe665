//! What can be asked about attested nodes.

use std::collections::HashSet;

use super::records::{Node, NodeSelectors, indexes, selector_indexes};
use crate::ids::{NamespaceId, Sequence};
use crate::index::{Predicate, Query};
use crate::spire::pages::{CHUNK_BYTES, Chunk, Page, PageRequest, Window};
use crate::spire::selectors::{self, Selector, SelectorFilter};
use crate::spire::{Error, flag_key, limits, tables};
use crate::view::{Reader, ReaderExtension, Record};

/// Conditions on nodes, all of which must hold (4.4). Default selects every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// Empty means any.
    pub attestation_type: String,
    /// By whether it is banned.
    pub banned: Option<bool>,
    /// Unix seconds, exclusive; 0 means absent.
    pub expires_before: i64,
    /// Unix seconds, inclusive; 0 means absent.
    pub valid_at: i64,
    /// By the flag.
    pub can_reattest: Option<bool>,
    /// Any of these; empty means any.
    pub spiffe_ids: Vec<String>,
    /// By stored selectors.
    pub selectors: Option<SelectorFilter>,
}

/// A list of nodes (9.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListNodes {
    /// Conditions.
    pub filter: NodeFilter,
    /// Whether to return each node's selectors.
    pub fetch_selectors: bool,
    /// `None` for everything.
    pub page: Option<PageRequest>,
}

/// A node as stored, with its selectors if they were asked for and there are any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Body of a [`Node`].
    pub node: Record,
    /// Body of a [`NodeSelectors`].
    pub selectors: Option<Record>,
}

/// A node with its selectors, which are empty if they were not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeWithSelectors {
    /// The node.
    pub node: Node,
    /// In the order in which they were set.
    pub selectors: Vec<Selector>,
}

impl NodeRecord {
    /// The owned form.
    ///
    /// # Errors
    /// When a body cannot be read.
    pub fn decode(&self) -> Result<NodeWithSelectors, Error> {
        let selectors = self.selectors.as_ref().map(|record| NodeSelectors::decode(&record.body)).transpose()?;
        Ok(NodeWithSelectors {
            node: Node::decode(&self.node.body)?,
            selectors: selectors.map(|record| record.selectors).unwrap_or_default(),
        })
    }
}

impl NodeFilter {
    /// Checks what can be checked without the state.
    ///
    /// # Errors
    /// When the selector filter is empty or a limit is exceeded.
    pub fn check(&self) -> Result<(), Error> {
        if let Some(filter) = &self.selectors {
            if filter.selectors.is_empty() {
                return Err(selectors::Error::EmptyForNodes.into());
            }
            selectors::check_limits(&filter.selectors)?;
        }
        limits::check_count("SPIFFE IDs", self.spiffe_ids.len(), limits::KEYS_MAX)?;
        Ok(())
    }

    /// The filter as conditions on the indexes of nodes; all of it but the selectors, which are another table's.
    fn query(&self) -> Query {
        let mut query = Query::all();
        if !self.attestation_type.is_empty() {
            let key = self.attestation_type.as_bytes().to_vec();
            query = query.and(Predicate::Is { index: indexes::ATTESTATION_TYPE, key });
        }
        for (index, flag) in [(indexes::BANNED, self.banned), (indexes::CAN_REATTEST, self.can_reattest)] {
            if let Some(flag) = flag {
                query = query.and(Predicate::Is { index, key: flag_key(flag).to_vec() });
            }
        }
        if self.expires_before != 0 {
            query = query.and(Predicate::Below { index: indexes::EXPIRY, number: self.expires_before });
        }
        if self.valid_at != 0 {
            query = query.and(Predicate::AtLeast { index: indexes::EXPIRY, number: self.valid_at });
        }
        if !self.spiffe_ids.is_empty() {
            let keys = self.spiffe_ids.iter().map(|id| id.as_bytes().to_vec()).collect();
            query = query.and(Predicate::AnyOf { index: indexes::SPIFFE_ID, keys });
        }
        query
    }
}

impl ListNodes {
    /// Checks what can be checked without the state, in the contract's order.
    ///
    /// # Errors
    /// When the page or the filter is wrong.
    pub fn check(&self) -> Result<Window, Error> {
        Window::check_size(self.page.as_ref())?;
        self.filter.check()?;
        Ok(Window::new(self.page.as_ref())?)
    }
}

/// The node with this SPIFFE ID, as stored (9.2).
///
/// # Errors
/// When the state cannot be read.
pub fn fetch_node_record(
    reader: &dyn Reader,
    namespace: NamespaceId,
    spiffe_id: &str,
) -> Result<Option<Record>, Error> {
    Ok(reader.get_by_key(namespace, tables::NODES, indexes::SPIFFE_ID, spiffe_id.as_bytes())?)
}

/// The node with this SPIFFE ID (9.2).
///
/// # Errors
/// As [`fetch_node_record`].
pub fn fetch_node(reader: &dyn Reader, namespace: NamespaceId, spiffe_id: &str) -> Result<Option<Node>, Error> {
    fetch_node_record(reader, namespace, spiffe_id)?.map(|record| Ok(Node::decode(&record.body)?)).transpose()
}

/// The nodes with these SPIFFE IDs and their selectors, as stored, each once, in the order of the ids (9.3). Ids of
/// no node are passed over.
///
/// # Errors
/// When there are too many ids or the state cannot be read.
pub fn fetch_node_records<S: AsRef<str>>(
    reader: &dyn Reader,
    namespace: NamespaceId,
    spiffe_ids: &[S],
) -> Result<Vec<NodeRecord>, Error> {
    limits::check_count("SPIFFE IDs", spiffe_ids.len(), limits::KEYS_MAX)?;
    let mut seen = HashSet::with_capacity(spiffe_ids.len());
    let mut nodes = Vec::with_capacity(spiffe_ids.len());
    for spiffe_id in spiffe_ids.iter().map(AsRef::as_ref).filter(|id| seen.insert(*id)) {
        if let Some(node) = fetch_node_record(reader, namespace, spiffe_id)? {
            nodes.push(NodeRecord { node, selectors: selectors_record(reader, namespace, spiffe_id)? });
        }
    }
    Ok(nodes)
}

/// The nodes with these SPIFFE IDs and their selectors, each once, in the order of the ids (9.3).
///
/// # Errors
/// As [`fetch_node_records`].
pub fn fetch_nodes<S: AsRef<str>>(
    reader: &dyn Reader,
    namespace: NamespaceId,
    spiffe_ids: &[S],
) -> Result<Vec<NodeWithSelectors>, Error> {
    fetch_node_records(reader, namespace, spiffe_ids)?.iter().map(NodeRecord::decode).collect()
}

/// A page of nodes as stored, or all of them (9.5).
///
/// # Errors
/// When the request is wrong or the state cannot be read.
pub fn list_node_records(
    reader: &dyn Reader,
    namespace: NamespaceId,
    request: &ListNodes,
) -> Result<Page<NodeRecord>, Error> {
    let window = request.check()?;
    let items = read_nodes(reader, namespace, request, window.after, window.limit)?;
    let response = window.response(items.last().map(|item| item.node.sequence));
    Ok(Page { items, response })
}

/// A page of nodes, or all of them (9.5).
///
/// # Errors
/// As [`list_node_records`].
pub fn list_nodes(
    reader: &dyn Reader,
    namespace: NamespaceId,
    request: &ListNodes,
) -> Result<Page<NodeWithSelectors>, Error> {
    list_node_records(reader, namespace, request)?.try_map(|node| node.decode())
}

/// The next nodes of a list that is read piece by piece, as stored. The request's filter has been checked; its page is
/// not looked at.
///
/// # Errors
/// When the state cannot be read.
pub fn list_nodes_chunk(
    reader: &dyn Reader,
    namespace: NamespaceId,
    request: &ListNodes,
    after: Sequence,
    limit: usize,
) -> Result<Chunk<NodeRecord>, Error> {
    let selected = select(reader, namespace, &request.filter, after, limit)?;
    let Chunk { items: nodes, next } = Chunk::read(reader, namespace, tables::NODES, &selected, limit)?;
    let (mut items, mut bytes) = (Vec::with_capacity(nodes.len()), 0);
    for node in nodes {
        let item = with_selectors(reader, namespace, request, node)?;
        bytes += item.node.body.len() + item.selectors.as_ref().map_or(0, |list| list.body.len());
        items.push(item);
        if bytes >= CHUNK_BYTES {
            return Ok(Chunk { next: items.last().map(|item: &NodeRecord| item.node.sequence), items });
        }
    }
    Ok(Chunk { items, next })
}

/// How many nodes a filter selects (9.4).
///
/// # Errors
/// When the filter is wrong or the state cannot be read.
pub fn count_nodes(reader: &dyn Reader, namespace: NamespaceId, filter: &NodeFilter) -> Result<u64, Error> {
    filter.check()?;
    if filter.selectors.is_none() {
        return Ok(reader.count(namespace, tables::NODES, &filter.query()));
    }
    Ok(select(reader, namespace, filter, Sequence::ZERO, usize::MAX)?.len() as u64)
}

/// The selectors stored under a SPIFFE ID, as stored (10.2).
///
/// # Errors
/// When the state cannot be read.
pub fn selectors_record(reader: &dyn Reader, namespace: NamespaceId, spiffe_id: &str) -> Result<Option<Record>, Error> {
    Ok(reader.get_by_key(namespace, tables::NODE_SELECTORS, selector_indexes::SPIFFE_ID, spiffe_id.as_bytes())?)
}

/// The selectors stored under a SPIFFE ID, in the order in which they were set; empty when there are none (10.2).
///
/// # Errors
/// As [`selectors_record`].
pub fn get_node_selectors(
    reader: &dyn Reader,
    namespace: NamespaceId,
    spiffe_id: &str,
) -> Result<Vec<Selector>, Error> {
    match selectors_record(reader, namespace, spiffe_id)? {
        Some(record) => Ok(NodeSelectors::decode(&record.body)?.selectors),
        None => Ok(Vec::new()),
    }
}

/// All selectors, or those of nodes that expire after `valid_at` (Unix seconds, exclusive; 0 means absent) (10.3).
///
/// # Errors
/// When the state cannot be read.
pub fn list_node_selectors(
    reader: &dyn Reader,
    namespace: NamespaceId,
    valid_at: i64,
) -> Result<Vec<NodeSelectors>, Error> {
    let chunk = list_node_selectors_chunk(reader, namespace, valid_at, Sequence::ZERO, usize::MAX)?;
    chunk.items.iter().map(|record| Ok(NodeSelectors::decode(&record.body)?)).collect()
}

/// The next selectors of a list that is read piece by piece, as stored. Looks at `limit` records and leaves out those
/// whose node has expired, so a piece may be short, or empty, before the end.
///
/// # Errors
/// When the state cannot be read.
pub fn list_node_selectors_chunk(
    reader: &dyn Reader,
    namespace: NamespaceId,
    valid_at: i64,
    after: Sequence,
    limit: usize,
) -> Result<Chunk<Record>, Error> {
    let selected = reader.select(namespace, tables::NODE_SELECTORS, &Query::all(), after, limit);
    let Chunk { mut items, next } = Chunk::read(reader, namespace, tables::NODE_SELECTORS, &selected, limit)?;
    if valid_at != 0 {
        items = with_valid_node(reader, namespace, items, valid_at)?;
    }
    Ok(Chunk { items, next })
}

/// Keeps the lists of selectors whose node expires after an instant; asks the indexes only.
fn with_valid_node(
    reader: &dyn Reader,
    namespace: NamespaceId,
    lists: Vec<Record>,
    valid_at: i64,
) -> Result<Vec<Record>, Error> {
    let Some(number) = valid_at.checked_add(1) else { return Ok(Vec::new()) };
    let mut pairs = Vec::with_capacity(lists.len());
    for list in lists {
        if let Some(node) = find_node(reader, namespace, &NodeSelectors::view(&list.body)?.spiffe_id) {
            pairs.push((node, list));
        }
    }
    let mut sequences: Vec<Sequence> = pairs.iter().map(|(node, _)| *node).collect();
    sequences.sort_unstable();
    let query =
        Query::all().and(Predicate::Among { sequences }).and(Predicate::AtLeast { index: indexes::EXPIRY, number });
    let valid = reader.select(namespace, tables::NODES, &query, Sequence::ZERO, usize::MAX);
    Ok(pairs.into_iter().filter(|(node, _)| valid.binary_search(node).is_ok()).map(|(_, list)| list).collect())
}

fn read_nodes(
    reader: &dyn Reader,
    namespace: NamespaceId,
    request: &ListNodes,
    after: Sequence,
    limit: usize,
) -> Result<Vec<NodeRecord>, Error> {
    let selected = select(reader, namespace, &request.filter, after, limit)?;
    let nodes = reader.get_all(namespace, tables::NODES, &selected)?;
    nodes.into_iter().map(|node| with_selectors(reader, namespace, request, node)).collect()
}

/// A node and, if the request wants them, its selectors.
fn with_selectors(
    reader: &dyn Reader,
    namespace: NamespaceId,
    request: &ListNodes,
    node: Record,
) -> Result<NodeRecord, Error> {
    let selectors = if request.fetch_selectors {
        selectors_record(reader, namespace, &Node::view(&node.body)?.spiffe_id)?
    } else {
        None
    };
    Ok(NodeRecord { node, selectors })
}

/// The first `limit` nodes above `after` that a filter selects.
///
/// Selectors belong to SPIFFE IDs and are numbered apart from nodes, so a selector filter is answered in one of two
/// ways: look up the node of every list of selectors that matches, or walk the nodes in order and look at the
/// selectors of each until the page is full. Of `n` nodes with `m` matching lists, a walk is expected to look at
/// `limit * n / m`, so lookup is cheaper while `m` is below the root of `limit * n`, and neither costs more than that.
fn select(
    reader: &dyn Reader,
    namespace: NamespaceId,
    filter: &NodeFilter,
    after: Sequence,
    limit: usize,
) -> Result<Vec<Sequence>, Error> {
    let query = filter.query();
    let Some(selectors) = &filter.selectors else {
        return Ok(reader.select(namespace, tables::NODES, &query, after, limit));
    };
    let node_count = reader.count(namespace, tables::NODES, &Query::all());
    let lookups_max =
        usize::try_from((limit as u64).saturating_mul(node_count).isqrt().min(node_count)).unwrap_or(usize::MAX);
    let matching = Query::all().and(selectors.predicate(selector_indexes::SELECTORS));
    let one_more = lookups_max.saturating_add(1);
    let lists = reader.select(namespace, tables::NODE_SELECTORS, &matching, Sequence::ZERO, one_more);
    // Other conditions may leave fewer nodes to walk over than there are lists to look up.
    let few_nodes = || reader.select(namespace, tables::NODES, &query, after, lists.len()).len() < lists.len();
    if lists.len() > lookups_max || few_nodes() {
        return walk(reader, namespace, &query, selectors, after, limit);
    }
    let sequences = nodes_of(reader, namespace, &lists)?;
    Ok(reader.select(namespace, tables::NODES, &query.and(Predicate::Among { sequences }), after, limit))
}

/// The nodes of these lists of selectors, ascending.
fn nodes_of(reader: &dyn Reader, namespace: NamespaceId, lists: &[Sequence]) -> Result<Vec<Sequence>, Error> {
    let mut nodes = Vec::with_capacity(lists.len());
    for sequence in lists {
        let record = reader.get_listed(namespace, tables::NODE_SELECTORS, *sequence)?;
        nodes.extend(find_node(reader, namespace, &NodeSelectors::view(&record.body)?.spiffe_id));
    }
    nodes.sort_unstable();
    Ok(nodes)
}

fn find_node(reader: &dyn Reader, namespace: NamespaceId, spiffe_id: &str) -> Option<Sequence> {
    reader.find(namespace, tables::NODES, indexes::SPIFFE_ID, spiffe_id.as_bytes())
}

/// Nodes that one step of a walk looks at; doubles from step to step.
const WALK_STEP_MIN: usize = 128;
const WALK_STEP_MAX: usize = 16_384;

fn walk(
    reader: &dyn Reader,
    namespace: NamespaceId,
    query: &Query,
    filter: &SelectorFilter,
    after: Sequence,
    limit: usize,
) -> Result<Vec<Sequence>, Error> {
    let requested = selectors::set(&filter.selectors);
    let (mut found, mut after, mut step) = (Vec::new(), after, WALK_STEP_MIN);
    loop {
        let candidates = reader.select(namespace, tables::NODES, query, after, step);
        for sequence in &candidates {
            let node = reader.get_listed(namespace, tables::NODES, *sequence)?;
            let stored = selectors_record(reader, namespace, &Node::view(&node.body)?.spiffe_id)?;
            let Some(stored) = stored else { continue };
            let set = selectors::archived_set(&NodeSelectors::view(&stored.body)?.selectors);
            if filter.matching.holds(&set, &requested) {
                found.push(*sequence);
            }
            if found.len() >= limit {
                return Ok(found);
            }
        }
        match candidates.last() {
            Some(last) if candidates.len() >= step => after = *last,
            _ => return Ok(found),
        }
        step = (step * 2).min(WALK_STEP_MAX);
    }
}
