//! The service `steeple.admin.v1.Admin`.

use std::time::Instant;

use steeple_engine::domain::{Answer, CATALOG, Command, Rejection};
use steeple_engine::ids::{GroupId, LogIndex, NamespaceId, NodeId};
use steeple_engine::index::Query;
use steeple_engine::namespaces;
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::view::Reader;
use steeple_wire::CHUNK_BYTES;
use steeple_wire::admin::v1 as wire;
use steeple_wire::admin::v1::admin_server::Admin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::errors;
use super::limits;
use super::scope::{Freshness, blocking, request_id, respond};
use super::sending::send;
use crate::authorization;
use crate::node::cluster::{ClusterChange, ClusterStatus, MemberRole, MemberStatus};
use crate::node::{Node, SubmitError, TakenSnapshot};

/// Messages of a snapshot that wait for a slow consumer.
const SNAPSHOT_MESSAGES_WAITING_MAX: usize = 2;

/// Serves the looking after of a node.
#[derive(Clone)]
pub(crate) struct AdminService {
    node: Node,
    started: Instant,
}

impl AdminService {
    pub(crate) fn new(node: Node) -> Self {
        Self { node, started: Instant::now() }
    }

    async fn status_now(&self) -> wire::StatusResponse {
        let status = self.node.status();
        let group = self.node.cluster_status().await;
        wire::StatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster_id: status.cluster.to_string(),
            node_id: status.node.0,
            history_id: status.history.to_string(),
            group_id: GroupId::ZERO.0,
            revision: status.revision.0,
            last_log_index: status.log_last.index.0,
            committed_log_index: group.committed.0,
            leader_node_id: group.leader.map_or(0, |leader| leader.0),
            last_event_time_micros: super::convert::micros(status.time),
            uptime_micros: i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX),
            record_store: record_store_name(self.node.record_store()).into(),
            namespaces: status.namespaces as u64,
            tables: self.tables(),
            failure: status.failure.unwrap_or_default(),
        }
    }

    /// Records by table, in all namespaces.
    fn tables(&self) -> Vec<wire::TableStatus> {
        self.node.read(|reader| {
            let namespaces = reader.namespaces();
            let count = |table| namespaces.iter().map(|id| reader.count(*id, table, &Query::all())).sum();
            let table = |table: &&steeple_engine::table::TableDefinition| wire::TableStatus {
                table: table.name.into(),
                records: count(table.id),
            };
            CATALOG.tables.iter().map(table).collect()
        })
    }

    fn fetch_namespace(&self, id: NamespaceId) -> Result<Option<wire::Namespace>, Status> {
        let found = self.node.read(|reader| namespaces::queries::fetch(reader, id));
        let found = found.map_err(|error| errors::namespace_refused(&error))?;
        Ok(found.map(|namespace| namespace_to_wire(id, namespace)))
    }

    fn list_namespaces_now(&self) -> Result<Vec<wire::Namespace>, Status> {
        let mut all = Vec::new();
        let mut after = NamespaceId::SYSTEM;
        loop {
            let piece = self.node.read(|reader| namespaces::queries::list(reader, after, limits::READ_STEP));
            let piece = piece.map_err(|error| errors::namespace_refused(&error))?;
            let Some((last, _)) = piece.last() else { return Ok(all) };
            after = *last;
            all.extend(piece.into_iter().map(|(id, namespace)| namespace_to_wire(id, namespace)));
        }
    }

    async fn open(&self, request: wire::OpenNamespaceRequest) -> Result<wire::OpenNamespaceResponse, Status> {
        authorization::check_namespace(&request.name)?;
        let id = request_id(&request.request_id)?;
        if self.node.namespace(&request.name).is_some() || request.must_exist {
            // Answered without deciding anything, so the state has to be current.
            Freshness::CURRENT.reach(&self.node).await?;
        }
        let present = self.node.namespace(&request.name);
        let namespace = match present {
            Some(namespace) if !request.must_create => {
                let namespace = self.fetch_namespace(namespace)?;
                return Ok(wire::OpenNamespaceResponse { namespace, created: false });
            }
            None if request.must_exist => {
                return Err(Status::not_found(format!("namespace {:?} not found", request.name)));
            }
            _ => request.name,
        };
        let command = Command::Namespace(namespaces::Command::Open { name: namespace.clone() });
        let accepted = self.node.submit(NamespaceId::SYSTEM, id, command).await;
        let accepted = accepted.map_err(|error| errors::namespace_not_submitted(&error))?;
        match accepted.answer {
            Answer::Namespace(namespaces::Answer::Opened { existing: true, .. }) if request.must_create => {
                Err(Status::already_exists(format!("namespace {namespace:?} exists already")))
            }
            Answer::Namespace(namespaces::Answer::Opened { id, existing }) => {
                Ok(wire::OpenNamespaceResponse { namespace: self.fetch_namespace(id)?, created: !existing })
            }
            _ => Err(Status::internal("opening a namespace was answered with something else")),
        }
    }

    /// Removes the namespace from the list, after clearing it step by step if it holds anything.
    ///
    /// Deleting is tried first, because only that says whether this request was carried out before: the namespace that
    /// has the name now may be another one. Nor is any cleared but the one that had the name when the request came.
    async fn delete(&self, request: wire::DeleteNamespaceRequest) -> Result<(), Status> {
        let id = request_id(&request.request_id)?;
        let namespace = self.node.namespace(&request.name);
        let delete = Command::Namespace(namespaces::Command::Delete { name: request.name });
        let mut deleted = self.node.submit(NamespaceId::SYSTEM, id, delete.clone()).await;
        if let (Err(error), Some(namespace)) = (&deleted, namespace)
            && holds_something(error)
        {
            self.clear(namespace).await?;
            let again = self.node.submit(NamespaceId::SYSTEM, id, delete).await;
            // What was in it is gone by now, so "nothing happened" would be wrong.
            deleted = again.map_err(SubmitError::after_a_step);
        }
        deleted.map_err(|error| errors::namespace_not_submitted(&error))?;
        Ok(())
    }

    /// Changes the group; the answers to that say nothing but that it is done.
    async fn change<Answer: Default>(&self, change: ClusterChange) -> Result<Answer, Status> {
        self.node.change_cluster(change).await.map_err(|error| errors::not_changed(&error))?;
        Ok(Answer::default())
    }

    /// Clears a namespace; one that is gone by now is clear.
    async fn clear(&self, namespace: NamespaceId) -> Result<(), Status> {
        let clear = Command::Namespace(namespaces::Command::Clear);
        match self.node.submit_to_end(namespace, None, clear).await {
            Ok(_) => Ok(()),
            Err(SubmitError::Rejected { rejection: Rejection::Namespace(namespaces::Error::NotFound(_)), .. }) => {
                Ok(())
            }
            Err(error) => Err(errors::namespace_not_submitted(&error)),
        }
    }
}

fn holds_something(error: &SubmitError) -> bool {
    let refused = |rejection: &_| matches!(rejection, Rejection::Namespace(namespaces::Error::NotEmpty { .. }));
    matches!(error, SubmitError::Rejected { rejection, .. } if refused(rejection))
}

fn record_store_name(kind: RecordStoreKind) -> &'static str {
    match kind {
        RecordStoreKind::Memory => "memory",
        RecordStoreKind::Sled => "sled",
        RecordStoreKind::Fjall => "fjall",
    }
}

type SnapshotMessage = Result<wire::SaveSnapshotResponse, Status>;

/// Sends a snapshot; the last message is what it returns, unless the consumer has gone.
async fn save_snapshot(
    node: &Node,
    with_events: bool,
    sender: &mpsc::Sender<SnapshotMessage>,
) -> Option<SnapshotMessage> {
    match node.snapshot(with_events, |bytes| send_pieces(sender, bytes)).await {
        Ok(Some(taken)) => Some(Ok(wire::SaveSnapshotResponse { chunk: Vec::new(), summary: Some(summary(&taken)) })),
        Ok(None) if sender.is_closed() => None,
        Ok(None) => Some(Err(errors::failed(&"the snapshot was given up: nobody took its next part for too long"))),
        Err(error) => Some(Err(errors::failed(&error))),
    }
}

/// Whether the consumer took all of it in time.
async fn send_pieces(sender: &mpsc::Sender<SnapshotMessage>, mut bytes: bytes::Bytes) -> bool {
    while !bytes.is_empty() {
        let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES)).to_vec();
        // The log gives no space back while a snapshot is taken.
        if send(sender, Ok(wire::SaveSnapshotResponse { chunk, summary: None })).await.is_none() {
            return false;
        }
    }
    true
}

fn summary(taken: &TakenSnapshot) -> wire::SnapshotSummary {
    let manifest = &taken.manifest;
    wire::SnapshotSummary {
        revision: manifest.state.revision.0,
        records: manifest.records(),
        events: manifest.events,
        bytes: taken.bytes,
        digest: manifest.state.digest.to_bytes().to_vec(),
    }
}

fn namespace_to_wire(id: NamespaceId, namespace: namespaces::records::Namespace) -> wire::Namespace {
    let created_at_micros = namespace.created_at.saturating_mul(1_000_000);
    wire::Namespace { name: namespace.name, id: id.0, created_at_micros }
}

/// A member's number, which a request has to give.
fn member(number: u64) -> Result<NodeId, Status> {
    match number {
        0 => Err(Status::invalid_argument("the number of the member is missing")),
        number => Ok(NodeId(number)),
    }
}

fn check_addresses(peer: &str, client: &str) -> Result<(), Status> {
    limits::check_bytes("peer address", peer.len(), limits::ADDRESS_BYTES_MAX)?;
    limits::check_bytes("client address", client.len(), limits::ADDRESS_BYTES_MAX)
}

fn cluster_to_wire(status: ClusterStatus) -> wire::ClusterStatusResponse {
    wire::ClusterStatusResponse {
        cluster_id: status.cluster.to_string(),
        group_id: status.group.0,
        node_id: status.node.0,
        leader_node_id: status.leader.map_or(0, |leader| leader.0),
        term: status.term.0,
        revision: status.revision.0,
        folded_log_index: status.folded.0,
        committed_log_index: status.committed.0,
        ready: status.not_ready.is_none(),
        not_ready_reason: status.not_ready.unwrap_or_default(),
        members: status.members.into_iter().map(member_to_wire).collect(),
        features: status.features,
    }
}

fn member_to_wire(member: MemberStatus) -> wire::ClusterMember {
    let role = match member.role {
        MemberRole::Voter => wire::MemberRole::Voter,
        MemberRole::Learner => wire::MemberRole::Learner,
        MemberRole::Outgoing => wire::MemberRole::Outgoing,
    };
    wire::ClusterMember {
        node_id: member.node.0,
        peer_address: member.peer_address,
        client_address: member.client_address,
        role: role.into(),
        matched_log_index: member.matched.map(|LogIndex(index)| index),
        lag_entries: member.lag_entries,
        recently_active: member.recently_active,
        features: member.features,
        needs_snapshot: member.needs_snapshot,
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type SaveSnapshotStream = ReceiverStream<Result<wire::SaveSnapshotResponse, Status>>;

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusResponse>, Status> {
        let status = self.status_now().await;
        let revision = status.revision.into();
        Ok(respond(status, revision))
    }

    async fn digest(&self, request: Request<wire::DigestRequest>) -> Result<Response<wire::DigestResponse>, Status> {
        let recomputed = request.into_inner().recompute;
        let node = self.node.clone();
        let (revision, digest) = blocking(move || {
            if recomputed {
                return node.view().recompute_digest().map_err(|error| errors::failed(&error));
            }
            let folded = node.view().folded();
            Ok((folded.revision, folded.digest))
        })
        .await?;
        let records = if recomputed { self.tables().iter().map(|table| table.records).sum() } else { 0 };
        let digest = digest.to_bytes().to_vec();
        Ok(respond(wire::DigestResponse { revision: revision.0, digest, recomputed, records }, revision))
    }

    async fn compact(&self, _: Request<wire::CompactRequest>) -> Result<Response<wire::CompactResponse>, Status> {
        let compacted = self.node.compact().await.map_err(|error| errors::failed(&error))?;
        let answer = wire::CompactResponse {
            segments_removed: compacted.segments_purged,
            segments_rewritten: compacted.segments_rewritten,
            bytes_freed: compacted.log_bytes_before.saturating_sub(compacted.log_bytes_after),
        };
        Ok(respond(answer, self.node.revision()))
    }

    async fn save_snapshot(
        &self,
        request: Request<wire::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        let with_events = request.into_inner().with_events;
        let (sender, messages) = mpsc::channel(SNAPSHOT_MESSAGES_WAITING_MAX);
        let node = self.node.clone();
        tokio::spawn(async move {
            if let Some(last) = save_snapshot(&node, with_events, &sender).await {
                // Whoever has gone needs no end.
                send(&sender, last).await;
            }
        });
        Ok(respond(ReceiverStream::new(messages), self.node.revision()))
    }

    async fn log_statistics(
        &self,
        _: Request<wire::LogStatisticsRequest>,
    ) -> Result<Response<wire::LogStatisticsResponse>, Status> {
        let status = self.node.status();
        let answer = wire::LogStatisticsResponse {
            segments: status.log_segments.len() as u64,
            recycled_segments: 0,
            bytes_on_disk: status.log_bytes,
            bytes_live: status.log_segments.iter().map(|segment| segment.frames_bytes).sum(),
            first_log_index: status.log_first.0,
            last_log_index: status.log_last.index.0,
            syncs: status.log_syncs,
            entries_appended: status.log_entries_appended,
        };
        Ok(respond(answer, status.revision))
    }

    async fn open_namespace(
        &self,
        request: Request<wire::OpenNamespaceRequest>,
    ) -> Result<Response<wire::OpenNamespaceResponse>, Status> {
        let answer = self.open(request.into_inner()).await?;
        Ok(respond(answer, self.node.revision()))
    }

    async fn list_namespaces(
        &self,
        request: Request<wire::ListNamespacesRequest>,
    ) -> Result<Response<wire::ListNamespacesResponse>, Status> {
        let request = request.into_inner();
        Freshness::new(request.consistency(), request.min_revision).reach(&self.node).await?;
        let (service, revision) = (self.clone(), self.node.revision());
        let namespaces = blocking(move || service.list_namespaces_now()).await?;
        Ok(respond(wire::ListNamespacesResponse { namespaces }, revision))
    }

    async fn delete_namespace(
        &self,
        request: Request<wire::DeleteNamespaceRequest>,
    ) -> Result<Response<wire::DeleteNamespaceResponse>, Status> {
        self.delete(request.into_inner()).await?;
        Ok(respond(wire::DeleteNamespaceResponse {}, self.node.revision()))
    }

    async fn cluster_status(
        &self,
        _: Request<wire::ClusterStatusRequest>,
    ) -> Result<Response<wire::ClusterStatusResponse>, Status> {
        let status = self.node.cluster_status().await;
        let revision = status.revision;
        Ok(respond(cluster_to_wire(status), revision))
    }

    async fn add_member(
        &self,
        request: Request<wire::AddMemberRequest>,
    ) -> Result<Response<wire::AddMemberResponse>, Status> {
        let wire::AddMemberRequest { node_id, peer_address, client_address, as_learner } = request.into_inner();
        let node = member(node_id)?;
        if peer_address.is_empty() {
            return Err(Status::invalid_argument("the peer address of the new member is missing"));
        }
        check_addresses(&peer_address, &client_address)?;
        let change = ClusterChange::Add { node, peer_address, client_address, as_learner };
        Ok(respond(self.change(change).await?, self.node.revision()))
    }

    async fn remove_member(
        &self,
        request: Request<wire::RemoveMemberRequest>,
    ) -> Result<Response<wire::RemoveMemberResponse>, Status> {
        let change = ClusterChange::Remove(member(request.into_inner().node_id)?);
        Ok(respond(self.change(change).await?, self.node.revision()))
    }

    async fn promote_member(
        &self,
        request: Request<wire::PromoteMemberRequest>,
    ) -> Result<Response<wire::PromoteMemberResponse>, Status> {
        let change = ClusterChange::Promote(member(request.into_inner().node_id)?);
        Ok(respond(self.change(change).await?, self.node.revision()))
    }

    async fn change_address(
        &self,
        request: Request<wire::ChangeAddressRequest>,
    ) -> Result<Response<wire::ChangeAddressResponse>, Status> {
        let wire::ChangeAddressRequest { node_id, peer_address, client_address } = request.into_inner();
        let node = member(node_id)?;
        if peer_address.is_empty() && client_address.is_empty() {
            return Err(Status::invalid_argument("neither a peer address nor a client address was given"));
        }
        check_addresses(&peer_address, &client_address)?;
        let change = ClusterChange::ChangeAddress { node, peer_address, client_address };
        Ok(respond(self.change(change).await?, self.node.revision()))
    }

    async fn transfer_leader(
        &self,
        request: Request<wire::TransferLeaderRequest>,
    ) -> Result<Response<wire::TransferLeaderResponse>, Status> {
        let change = ClusterChange::TransferLeader(member(request.into_inner().to_node_id)?);
        Ok(respond(self.change(change).await?, self.node.revision()))
    }
}
