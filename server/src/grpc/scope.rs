//! What a request is about: the node, one namespace, and how fresh the answer must be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steeple_engine::domain::{Answer, Command};
use steeple_engine::ids::{NamespaceId, RequestId, Revision};
use steeple_engine::spire::limits::{PRUNE_NODES_DEFAULT, PRUNE_NODES_MAX};
use steeple_engine::spire::{self, nodes};
use steeple_engine::view::{Reader, ViewReader};
use steeple_wire::common::v1::{Consistency, ReadContext, RequestContext};
use steeple_wire::status::{ErrorKind, REVISION_HEADER};
use tonic::{Response, Status};

use super::{errors, limits};
use crate::authorization;
use crate::node::{Accepted, NOTICES_MAX, Node, QueryError, SubmitError};

/// How long a read waits until the node is fresh enough for it, when the request has no shorter deadline.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a read that may be stale waits for that on a node that others could answer for: longer than what is committed
/// takes to come here, and shorter than it would take a caller to try another node.
const STALE_PATIENCE: Duration = Duration::from_millis(200);

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Freshness {
    consistency: Consistency,
    min_revision: Revision,
}

impl Freshness {
    /// As current as can be.
    pub(crate) const CURRENT: Self = Self { consistency: Consistency::RequireCurrent, min_revision: Revision::ZERO };

    /// As a request says.
    pub(crate) fn new(consistency: Consistency, min_revision: u64) -> Self {
        Self { consistency, min_revision: Revision(min_revision) }
    }

    /// Waits until the node is as fresh as that.
    pub(crate) async fn reach(self, node: &Node) -> Result<(), Status> {
        self.wait_for(node).await?;
        // Also when that was found out meanwhile.
        node.check_records().map_err(|error| errors::not_answered(&error))
    }

    async fn wait_for(self, node: &Node) -> Result<(), Status> {
        if self.consistency == Consistency::RequireCurrent {
            confirm(node).await.map_err(|error| errors::not_answered(&error))?;
        }
        if self.min_revision > node.revision() {
            let reached = node.reach(self.min_revision, self.patience(node)).await;
            reached.map_err(|error| errors::not_answered(&error))?;
        }
        Ok(())
    }

    /// How long a node is waited for that is behind what the caller has seen.
    fn patience(self, node: &Node) -> Duration {
        let others_could = self.consistency == Consistency::TolerateStale && !node.is_alone();
        if others_could { STALE_PATIENCE } else { PATIENCE }
    }
}

/// Waits until the node's state is known to be current.
async fn confirm(node: &Node) -> Result<(), QueryError> {
    let confirmed = async {
        #[cfg(test)]
        confirmation::pass().await?;
        node.current().await
    };
    let late = |_| Err(QueryError::NotConfirmed("no confirmation came in time".into()));
    tokio::time::timeout(PATIENCE, confirmed).await.unwrap_or_else(late)
}

/// One namespace of a node.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) node: Node,
    pub(crate) namespace: NamespaceId,
    /// The newest revision that was read; clones share it.
    shown: Arc<AtomicU64>,
}

impl Scope {
    /// A namespace that exists.
    pub(crate) fn of(node: Node, namespace: NamespaceId) -> Self {
        let shown = Arc::new(AtomicU64::new(node.revision().0));
        Self { node, namespace, shown }
    }

    /// The newest revision that an answer from here shows anything of so far. A client that has seen it must not be shown
    /// older ones elsewhere, so that what is told is not the revision from before the read.
    pub(crate) fn shown(&self) -> Revision {
        Revision(self.shown.load(Ordering::Relaxed))
    }

    /// The namespace of this name in the state that the node has.
    fn open_as_is(node: &Node, name: &str) -> Result<Self, Status> {
        limits::check_bytes("namespace name", name.len(), steeple_engine::namespaces::commands::NAME_BYTES_MAX)?;
        // Before anything shows whether it exists.
        authorization::check_namespace(name)?;
        let namespace = node.namespace(name).ok_or_else(|| errors::namespace_unknown(name))?;
        Ok(Self::of(node.clone(), namespace))
    }

    /// The namespace of this name. That there is none is said only of a state that is current: one that was just opened
    /// may not have reached a node that is behind.
    pub(crate) async fn open(node: &Node, name: &str) -> Result<Self, Status> {
        match Self::open_as_is(node, name) {
            Err(status) if ErrorKind::of(&status) == Some(ErrorKind::NamespaceUnknown) => {
                Freshness::CURRENT.reach(node).await?;
                Self::open_as_is(node, name)
            }
            opened => opened,
        }
    }

    /// The namespace of a mutation, and the mutation's id.
    pub(crate) async fn of_mutation(
        node: &Node,
        context: Option<RequestContext>,
    ) -> Result<(Self, Option<RequestId>), Status> {
        let context = context.unwrap_or_default();
        Ok((Self::open(node, &context.namespace).await?, request_id(&context.request_id)?))
    }

    /// The namespace of a read, once the node is fresh enough.
    pub(crate) async fn of_query(node: &Node, context: Option<ReadContext>) -> Result<Self, Status> {
        let context = context.unwrap_or_default();
        let freshness = Freshness::new(context.consistency(), context.min_revision);
        Self::fresh(node, &context.namespace, freshness).await
    }

    /// The namespace of this name, once the node is fresh enough.
    pub(crate) async fn fresh(node: &Node, name: &str, freshness: Freshness) -> Result<Self, Status> {
        freshness.reach(node).await?;
        Self::open(node, name).await
    }

    /// Asks the state now.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ViewReader<'_>, NamespaceId) -> Result<T, spire::Error>,
    ) -> Result<T, Status> {
        self.look(|reader| read(reader, self.namespace)).map_err(|error| errors::refused(&error))
    }

    /// Looks at the state now, and notes its revision as shown.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&ViewReader<'_>) -> T) -> T {
        self.node.read(|reader| {
            self.shown.fetch_max(reader.revision().0, Ordering::Relaxed);
            look(reader)
        })
    }

    /// Asks the state now, off the threads that serve connections: for reads that take long.
    pub(crate) async fn read_blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&ViewReader<'_>, NamespaceId) -> Result<T, spire::Error> + Send + 'static,
    ) -> Result<T, Status> {
        let scope = self.clone();
        blocking(move || scope.read(read)).await
    }

    /// Carries a command out, in as many steps as it takes; tells how many records the steps changed together.
    pub(crate) async fn submit(
        &self,
        request: Option<RequestId>,
        command: spire::Command,
    ) -> Result<(Accepted, u64), Status> {
        let done = match command {
            spire::Command::Node(nodes::Command::Prune { expired_before, include_non_reattestable, batch_size }) => {
                let command =
                    |batch_size| nodes::Command::Prune { expired_before, include_non_reattestable, batch_size };
                self.prune_nodes(request, command, batch_size).await
            }
            command => self.node.submit_to_end(self.namespace, request, Command::Spire(command)).await,
        };
        done.map_err(|error| errors::not_submitted(&error))
    }

    /// Goes on with a command whose first step is done; tells how many records the other steps changed together.
    pub(crate) async fn submit_rest(
        &self,
        request: Option<RequestId>,
        command: spire::Command,
    ) -> Result<(Accepted, u64), SubmitError> {
        let rest = self.node.submit_to_end(self.namespace, request, Command::Spire(command)).await;
        // The first step stays done, so "nothing happened" would be wrong.
        rest.map_err(SubmitError::after_a_step)
    }

    /// Carries one batch out in steps that the engine takes, until as many nodes are gone or nothing is left. Each
    /// step has a request id of its own, so that a repeated request finds every one of them done.
    async fn prune_nodes(
        &self,
        request: Option<RequestId>,
        command: impl Fn(i32) -> nodes::Command,
        batch_size: i32,
    ) -> Result<(Accepted, u64), SubmitError> {
        let batch = u64::try_from(batch_size).ok().filter(|batch| *batch > 0).unwrap_or(PRUNE_NODES_DEFAULT as u64);
        let (mut total, mut notices, mut step) = (0, Vec::new(), 0);
        loop {
            let size = (batch - total).min(PRUNE_NODES_MAX as u64);
            let command = Command::Spire(spire::Command::Node(command(i32::try_from(size).unwrap_or(i32::MAX))));
            let request = request.map(|request| request.of_step(step));
            let submitted = self.node.submit(self.namespace, request, command).await;
            let mut accepted = submitted.map_err(|error| match error {
                // Earlier steps stay done, so "nothing happened" would be wrong.
                error if step > 0 => error.after_a_step(),
                error => error,
            })?;
            notices.append(&mut accepted.notices);
            notices.truncate(NOTICES_MAX);
            let (removed, more) = match &accepted.answer {
                Answer::Spire(spire::Answer::Batch { removed, more }) => (*removed, *more),
                _ => (0, false),
            };
            step += 1;
            total = (total + removed).min(batch);
            if !more || total == batch {
                return Ok((Accepted { notices, ..accepted }, total));
            }
        }
    }
}

/// Does work that would hold up other connections elsewhere.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(errors::panicked()),
    }
}

/// A request id, if there is one.
pub(crate) fn request_id(bytes: &[u8]) -> Result<Option<RequestId>, Status> {
    if bytes.is_empty() {
        return Ok(None);
    }
    match bytes.try_into() {
        Ok(id) => Ok(Some(RequestId(id))),
        Err(_) => Err(Status::invalid_argument(format!(
            "request id has {} bytes, it must have {} or none",
            bytes.len(),
            limits::REQUEST_ID_BYTES
        ))),
    }
}

/// An answer that tells its revision.
pub(crate) fn respond<T>(answer: T, revision: Revision) -> Response<T> {
    let mut response = Response::new(answer);
    response.metadata_mut().insert(REVISION_HEADER, revision.0.into());
    response
}

/// A list that does not fit into one message.
pub(crate) fn too_large(instead: &str) -> Status {
    ErrorKind::AnswerTooLarge
        .status(format!("the answer is larger than {} MiB; {instead}", limits::ANSWER_BYTES_MAX >> 20))
}

/// Makes the confirmations of a test wait or fail.
#[cfg(test)]
pub(crate) mod confirmation {
    use std::cell::RefCell;
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use crate::node::QueryError;

    thread_local! {
        static GATE: RefCell<Option<Arc<Semaphore>>> = const { RefCell::new(None) };
    }

    /// Every confirmation on this thread takes a permit, waiting for it, as long as this lives; all fail once it is closed.
    pub(crate) struct Gate(pub(crate) Arc<Semaphore>);

    impl Gate {
        pub(crate) fn new() -> Self {
            let permits = Arc::new(Semaphore::new(0));
            GATE.set(Some(Arc::clone(&permits)));
            Self(permits)
        }
    }

    impl Drop for Gate {
        fn drop(&mut self) {
            GATE.set(None);
        }
    }

    pub(super) async fn pass() -> Result<(), QueryError> {
        let Some(gate) = GATE.with_borrow(Clone::clone) else { return Ok(()) };
        let permit = gate.acquire().await;
        permit.map(|permit| permit.forget()).map_err(|_| QueryError::NotConfirmed("no quorum".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_have_sixteen_bytes_or_none() {
        assert_eq!(request_id(&[]).unwrap(), None);
        assert_eq!(request_id(&[7; 16]).unwrap(), Some(RequestId([7; 16])));
        for length in [1, 15, 17, 4096] {
            let status = request_id(&vec![0; length]).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains(&length.to_string()), "{status}");
        }
    }

    #[test]
    fn an_answer_tells_its_revision() {
        let response = respond((), Revision(42));
        assert_eq!(response.metadata().get(REVISION_HEADER).unwrap(), "42");
    }
}
