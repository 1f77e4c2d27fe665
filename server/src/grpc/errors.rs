//! Refusals and failures as gRPC statuses.

use steeple_engine::code::Code;
use steeple_engine::domain::Rejection;
use steeple_engine::ids::NodeId;
use steeple_engine::{namespaces, spire};
use steeple_wire::status::{ErrorKind, LeaderHint, refusal as refusal_status};
use tonic::Status;

use crate::node::cluster::ClusterError;
use crate::node::tail::TailError;
use crate::node::{QueryError, SubmitError};

/// The gRPC code of a refusal.
fn code(code: Code) -> tonic::Code {
    match code {
        Code::Unknown => tonic::Code::Unknown,
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Internal => tonic::Code::Internal,
        Code::Unavailable => tonic::Code::Unavailable,
    }
}

/// A refusal of the datastore, with exactly its code and text.
pub(crate) fn refused(error: &spire::Error) -> Status {
    match (error.limit(), error.code()) {
        (Some(limit), _) => ErrorKind::LimitExceeded.status(limit.to_string()),
        (None, Code::Unavailable) => failed(error),
        (None, refusal) => refusal_status(code(refusal), error.to_string()),
    }
}

/// The request's handler panicked: nobody knows what it did before.
pub(crate) fn panicked() -> Status {
    let mut status = ErrorKind::OutcomeUnknown.status("the request failed inside the node; its log says more");
    let metadata = std::mem::take(status.metadata_mut());
    Status::with_metadata(tonic::Code::Internal, status.message(), metadata)
}

/// The node's own trouble, not the caller's.
pub(crate) fn failed(error: &dyn std::fmt::Display) -> Status {
    ErrorKind::Unavailable.status(error.to_string())
}

/// There is no namespace of that name (any more).
pub(crate) fn namespace_unknown(name: &str) -> Status {
    ErrorKind::NamespaceUnknown.status(format!("namespace {name:?} does not exist; open it first"))
}

/// A mutation of a datastore that was not carried out, or nobody knows.
pub(crate) fn not_submitted(error: &SubmitError) -> Status {
    match error {
        SubmitError::Rejected { rejection: Rejection::Spire(error), .. } => refused(error),
        SubmitError::Rejected { rejection: Rejection::Namespace(error), .. } => match error.code() {
            Code::NotFound => ErrorKind::NamespaceUnknown.status(error.to_string()),
            _ => namespace_refused(error),
        },
        SubmitError::OutcomeUnknown(_) => ErrorKind::OutcomeUnknown.status(error.to_string()),
        SubmitError::Unavailable(_) => failed(error),
        SubmitError::NotLeader { leader } => not_leader(leader.as_ref(), error),
        SubmitError::RequestReused(_) => ErrorKind::RequestIdReused.status(error.to_string()),
        SubmitError::TooLarge { .. } => ErrorKind::LimitExceeded.status(error.to_string()),
    }
}

/// Another node decides.
fn not_leader(leader: Option<&(NodeId, String)>, error: &dyn std::fmt::Display) -> Status {
    let hint = match leader {
        Some((node, address)) => LeaderHint { node: Some(node.0), address: Some(address.clone()) },
        None => LeaderHint::default(),
    };
    hint.status(error.to_string())
}

/// A change of the group's members that was not carried out, or nobody knows.
pub(crate) fn not_changed(error: &ClusterError) -> Status {
    match error {
        ClusterError::Refused(text) => Status::failed_precondition(text.as_str()),
        ClusterError::NotLeader { leader } => not_leader(leader.as_ref(), error),
        ClusterError::OutcomeUnknown(_) => ErrorKind::OutcomeUnknown.status(error.to_string()),
        ClusterError::Unavailable(_) => failed(error),
    }
}

/// A mutation of the list of namespaces that was not carried out, or nobody knows.
pub(crate) fn namespace_not_submitted(error: &SubmitError) -> Status {
    match error {
        SubmitError::Rejected { rejection: Rejection::Namespace(error), .. } => namespace_refused(error),
        error => not_submitted(error),
    }
}

/// A refusal about namespaces themselves.
pub(crate) fn namespace_refused(error: &namespaces::Error) -> Status {
    match error.code() {
        Code::Unavailable => failed(error),
        other => refusal_status(code(other), error.to_string()),
    }
}

/// A question about past or present that has no answer.
pub(crate) fn not_answered(error: &QueryError) -> Status {
    match error {
        QueryError::Compacted(_) => ErrorKind::Compacted.status(error.to_string()),
        error => failed(error),
    }
}

/// A tail that cannot go on.
pub(crate) fn not_tailed(error: &TailError) -> Status {
    match error {
        TailError::Compacted { .. } => ErrorKind::Compacted.status(error.to_string()),
        TailError::Ahead { .. } => ErrorKind::CursorAhead.status(error.to_string()),
        TailError::Query(error) => not_answered(error),
        TailError::TooMany { .. } => ErrorKind::Overloaded.status(error.to_string()),
        TailError::Stopped => failed(error),
    }
}

#[cfg(test)]
mod tests {
    use steeple_engine::ids::{RequestId, Revision};
    use steeple_wire::status::is_refusal;

    use super::*;

    #[test]
    fn refusals_keep_code_and_text_and_have_no_kind() {
        let error = spire::Error::Bundle(spire::bundles::Error::NotFound);
        let rejected = SubmitError::Rejected { revision: Revision(1), rejection: error.into() };
        let status = not_submitted(&rejected);
        assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, "datastore-sql: record not found"));
        assert_eq!(ErrorKind::of(&status), None);
    }

    #[test]
    fn refusals_are_told_from_what_the_transport_makes() {
        let error = spire::Error::Bundle(spire::bundles::Error::Missing);
        let status = refused(&error);
        assert_eq!((status.code(), ErrorKind::of(&status)), (tonic::Code::Unknown, None));
        assert!(is_refusal(&status));
        assert!(!is_refusal(&panicked()));
        assert_eq!(ErrorKind::of(&panicked()), Some(ErrorKind::OutcomeUnknown));
    }

    #[test]
    fn the_nodes_own_errors_have_a_kind() {
        let reused = SubmitError::RequestReused(RequestId([0; 16]));
        for (error, kind) in [
            (SubmitError::OutcomeUnknown("stopped".into()), ErrorKind::OutcomeUnknown),
            (SubmitError::Unavailable("stopping".into()), ErrorKind::Unavailable),
            (reused, ErrorKind::RequestIdReused),
            (SubmitError::TooLarge { bytes: 2, limit: 1 }, ErrorKind::LimitExceeded),
        ] {
            assert_eq!(ErrorKind::of(&not_submitted(&error)), Some(kind), "{error}");
        }
    }

    #[test]
    fn a_node_that_does_not_lead_says_who_does() {
        let leader = Some((NodeId(3), "node-3:7400".to_owned()));
        let status = not_submitted(&SubmitError::NotLeader { leader: leader.clone() });
        let hint = LeaderHint { node: Some(3), address: Some("node-3:7400".into()) };
        assert_eq!((status.code(), LeaderHint::of(&status)), (tonic::Code::Unavailable, Some(hint.clone())));
        assert_eq!(LeaderHint::of(&not_changed(&ClusterError::NotLeader { leader })), Some(hint));
        let unknown = not_submitted(&SubmitError::NotLeader { leader: None });
        assert_eq!(LeaderHint::of(&unknown), Some(LeaderHint::default()));
        assert_eq!(unknown.metadata().len(), 1, "absent and not empty");
        let step = SubmitError::NotLeader { leader: None }.after_a_step();
        assert_eq!(ErrorKind::of(&not_submitted(&step)), Some(ErrorKind::OutcomeUnknown));
    }

    #[test]
    fn a_missing_namespace_is_not_taken_for_a_missing_record() {
        let rejected =
            |error: namespaces::Error| SubmitError::Rejected { revision: Revision(1), rejection: error.into() };
        let missing = rejected(namespaces::Error::NameNotFound("x".into()));
        assert_eq!(not_submitted(&missing).code(), tonic::Code::FailedPrecondition);
        assert_eq!(namespace_not_submitted(&missing).code(), tonic::Code::NotFound);
    }
}
