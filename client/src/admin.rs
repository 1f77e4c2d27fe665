//! Looking after nodes and their group.

use steeple_wire::admin::v1::{
    AddMemberRequest, AddMemberResponse, ChangeAddressRequest, ChangeAddressResponse, ClusterStatusRequest,
    ClusterStatusResponse, CompactRequest, CompactResponse, DeleteNamespaceRequest, DeleteNamespaceResponse,
    DigestRequest, DigestResponse, ListNamespacesRequest, ListNamespacesResponse, LogStatisticsRequest,
    LogStatisticsResponse, Namespace as NamespaceRecord, OpenNamespaceRequest, OpenNamespaceResponse,
    PromoteMemberRequest, PromoteMemberResponse, RemoveMemberRequest, RemoveMemberResponse, SaveSnapshotRequest,
    SaveSnapshotResponse, SnapshotSummary, StatusRequest, StatusResponse, TransferLeaderRequest,
    TransferLeaderResponse,
};
use tonic::{Response, Streaming};

use crate::call::{Call, calls, revision};
use crate::cluster::Route;
use crate::namespace::required;
use crate::retry::Stake;
use crate::streams::read_error;
use crate::{Client, Error, Namespace, RequestId};

calls! { "steeple.admin.v1.Admin", plain:
    "Status": StatusRequest => StatusResponse,
    "Digest": DigestRequest => DigestResponse,
    "Compact": CompactRequest => CompactResponse,
    "SaveSnapshot": SaveSnapshotRequest => SaveSnapshotResponse,
    "LogStatistics": LogStatisticsRequest => LogStatisticsResponse,
    "OpenNamespace": OpenNamespaceRequest => OpenNamespaceResponse,
    "ListNamespaces": ListNamespacesRequest => ListNamespacesResponse,
    "DeleteNamespace": DeleteNamespaceRequest => DeleteNamespaceResponse,
    "ClusterStatus": ClusterStatusRequest => ClusterStatusResponse,
    "AddMember": AddMemberRequest => AddMemberResponse,
    "RemoveMember": RemoveMemberRequest => RemoveMemberResponse,
    "PromoteMember": PromoteMemberRequest => PromoteMemberResponse,
    "ChangeAddress": ChangeAddressRequest => ChangeAddressResponse,
    "TransferLeader": TransferLeaderRequest => TransferLeaderResponse,
}

/// Nodes and their group, to be looked after.
///
/// What is about one node (its status, digest, log and files) is asked of the first of those that the client was told of
/// that can be reached. Changes to the group and to the list of namespaces go to the leader, wherever it is.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

impl Admin {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// What the node is and how it is doing.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        self.call(StatusRequest {}).await
    }

    /// Hash over all records; read from the store again if asked.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn digest(&self, recompute: bool) -> Result<DigestResponse, Error> {
        self.call(DigestRequest { recompute }).await
    }

    /// Gives back the space of events that nobody needs any more.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn compact(&self) -> Result<CompactResponse, Error> {
        self.call(CompactRequest {}).await
    }

    /// What the log on disk consists of.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn log_statistics(&self) -> Result<LogStatisticsResponse, Error> {
        self.call(LogStatisticsRequest {}).await
    }

    /// A snapshot file, in chunks.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn save_snapshot(&self, with_events: bool) -> Result<SnapshotChunks, Error> {
        let messages = self.client.streaming(SaveSnapshotRequest { with_events }, Route::Told).await?.into_inner();
        Ok(SnapshotChunks { messages, summary: None })
    }

    /// Makes sure that a namespace exists and returns it for use.
    ///
    /// # Errors
    /// When the name is not one; see also [`Error`].
    pub async fn open_namespace(&self, name: impl Into<String>) -> Result<Namespace, Error> {
        let name = name.into();
        let opened = self.open(name.clone(), false).await?;
        let namespace = self.client.namespace(name);
        // So that a node which has not heard of it waits until it has.
        namespace.see(revision(opened.metadata()));
        Ok(namespace)
    }

    /// Creates a namespace.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one of that name; see also [`Error`].
    pub async fn create_namespace(&self, name: impl Into<String>) -> Result<NamespaceRecord, Error> {
        required(self.open(name.into(), true).await?.into_inner().namespace, "namespace")
    }

    /// All namespaces in creation order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_namespaces(&self) -> Result<Vec<NamespaceRecord>, Error> {
        let request = ListNamespacesRequest::default();
        Ok(self.client.unary(request, Stake::None, Route::Current).await?.into_inner().namespaces)
    }

    /// Deletes a namespace and everything in it.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name; see also [`Error`].
    pub async fn delete_namespace(&self, name: impl Into<String>) -> Result<(), Error> {
        let id = RequestId::random();
        let request = DeleteNamespaceRequest { name: name.into(), request_id: id.0.to_vec() };
        self.client.unary(request, Stake::Mutation(id), Route::Leader).await?;
        Ok(())
    }

    /// Who the members of the node's group are and how they are doing. The leader knows most.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn cluster_status(&self) -> Result<ClusterStatusResponse, Error> {
        self.call(ClusterStatusRequest {}).await
    }

    /// Adds a member to the group. Done again it changes nothing, like the other changes of the group.
    ///
    /// # Errors
    /// `FailedPrecondition` when the group cannot do that; see also [`Error`].
    pub async fn add_member(&self, member: AddMemberRequest) -> Result<(), Error> {
        self.change(member).await
    }

    /// Removes a member from the group, for good.
    ///
    /// # Errors
    /// `FailedPrecondition` when the group cannot do that; see also [`Error`].
    pub async fn remove_member(&self, node_id: u64) -> Result<(), Error> {
        self.change(RemoveMemberRequest { node_id }).await
    }

    /// Gives a learner a vote.
    ///
    /// # Errors
    /// `FailedPrecondition` when the group cannot do that; see also [`Error`].
    pub async fn promote_member(&self, node_id: u64) -> Result<(), Error> {
        self.change(PromoteMemberRequest { node_id }).await
    }

    /// Changes where a member is reached; what is empty stays.
    ///
    /// # Errors
    /// `FailedPrecondition` when the group cannot do that; see also [`Error`].
    pub async fn change_address(&self, addresses: ChangeAddressRequest) -> Result<(), Error> {
        self.change(addresses).await
    }

    /// Makes another voter the leader.
    ///
    /// # Errors
    /// `FailedPrecondition` when the group cannot do that; see also [`Error`].
    pub async fn transfer_leader(&self, to_node_id: u64) -> Result<(), Error> {
        self.change(TransferLeaderRequest { to_node_id }).await
    }

    async fn open(&self, name: String, must_create: bool) -> Result<Response<OpenNamespaceResponse>, Error> {
        let id = RequestId::random();
        let request = OpenNamespaceRequest { name, must_exist: false, must_create, request_id: id.0.to_vec() };
        self.client.unary(request, Stake::Mutation(id), Route::Leader).await
    }

    /// Asks one node about itself.
    async fn call<C: Call>(&self, call: C) -> Result<C::Answer, Error> {
        Ok(self.client.unary(call, Stake::None, Route::Told).await?.into_inner())
    }

    /// Asks the leader to change the group. What is so already succeeds, so it may be asked again; when that is of no
    /// use it ends with [`Error::ChangeUnknown`].
    async fn change<C: Call>(&self, call: C) -> Result<(), Error> {
        let mut client = self.client.clone();
        // Such a change may well take long, and asking another node would not make it faster.
        client.options_mut().node_patience = client.options().deadline;
        client.unary(call, Stake::Change, Route::Leader).await.map(|_| ())
    }
}

/// A snapshot file on its way. It is complete only once [`SnapshotChunks::next`] has returned `None`.
#[derive(Debug)]
pub struct SnapshotChunks {
    messages: Streaming<SaveSnapshotResponse>,
    summary: Option<SnapshotSummary>,
}

impl SnapshotChunks {
    /// The next bytes of the file; `None` at its end.
    ///
    /// # Errors
    /// When the snapshot failed or the connection broke; what was received is then of no use.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while self.summary.is_none() {
            let message = self.messages.message().await.map_err(|status| read_error(&status))?;
            let message = message.ok_or(Error::Protocol("end of the snapshot"))?;
            self.summary = message.summary;
            if !message.chunk.is_empty() {
                return Ok(Some(message.chunk));
            }
        }
        Ok(None)
    }

    /// What the complete file holds; `None` before its end.
    #[must_use]
    pub fn summary(&self) -> Option<&SnapshotSummary> {
        self.summary.as_ref()
    }
}
