//! What can go wrong, sorted by what a caller can do about it.

use steeple_wire::status::{ErrorKind, is_refusal};
use thiserror::Error;
use tonic::{Code, Status};

use crate::RequestId;
use crate::tls::TlsError;

/// Why a call has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The datastore refused; code and text are those of SPIRE's datastore. Nothing was changed.
    ///
    /// After an attempt whose outcome had stayed open, the refusal says that the attempt had not been carried out when the
    /// next one was refused: a node answers a request id that was carried out with the same answer again, and a new
    /// leader knows of everything that earlier ones have carried out. Two things are left. Nodes remember the ids for
    /// `retention.request_ids`, a million at the most, and an open mutation is repeated for 45 seconds at the most, so a
    /// refusal (`already exists`, say) may be the echo of an own success only where more than a million came between. And
    /// an earlier attempt that is still on its way through the network may be carried out later, if it is not refused then
    /// as well.
    #[error("{message}")]
    Refused {
        /// The status code.
        code: Code,
        /// The text.
        message: String,
    },
    /// The mutation may or may not have been carried out. Repeating it under the same id
    /// ([`crate::Namespace::with_request`]) is safe and tells.
    #[error("outcome of request {request} is unknown: {message}")]
    OutcomeUnknown {
        /// The id that the mutation was sent under.
        request: RequestId,
        /// What stood in the way.
        message: String,
    },
    /// A change of the group may or may not have been made; the group's status
    /// ([`cluster_status`](crate::Admin::cluster_status)) tells. Asking for it again is safe.
    #[error("whether the group was changed is unknown: {message}")]
    ChangeUnknown {
        /// What stood in the way.
        message: String,
    },
    /// No node could be reached and serve until the deadline. Nothing was changed.
    #[error("unavailable: {message}")]
    Unavailable {
        /// What stood in the way.
        message: String,
    },
    /// The deadline passed without an answer. Nothing was changed.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// The request cannot be served as it is; the kind says why, and [`ErrorKind`] what helps.
    #[error("{message}")]
    Unsuitable {
        /// What is wrong.
        kind: ErrorKind,
        /// The text.
        message: String,
    },
    /// The node's answer makes no sense to this client.
    #[error("answer of the node is incomplete: {0}")]
    Protocol(&'static str),
    /// The address does not suit the client.
    #[error("`{address}` {reason}")]
    Address {
        /// The address.
        address: String,
        /// Why not.
        reason: &'static str,
    },
    /// The files for encrypted connections are of no use.
    #[error("cannot use TLS: {0}")]
    Tls(#[from] TlsError),
    /// The endpoint is malformed or nobody answers there.
    #[error("cannot connect: {0}")]
    Connect(#[from] tonic::transport::Error),
}

impl Error {
    /// The gRPC status code that comes closest.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::OutcomeUnknown { .. } | Self::ChangeUnknown { .. } => Code::Aborted,
            Self::Unavailable { .. } | Self::Connect(_) => Code::Unavailable,
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::Unsuitable { kind, .. } => kind.code(),
            Self::Protocol(_) => Code::Internal,
            Self::Address { .. } | Self::Tls(_) => Code::InvalidArgument,
        }
    }

    /// Whether the datastore says that the target does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Code::NotFound, .. })
    }

    /// Whether the datastore says that the key is taken.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Refused { code: Code::AlreadyExists, .. })
    }

    /// The kind of an error that is Steeple's own.
    #[must_use]
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Unsuitable { kind, .. } => Some(*kind),
            Self::OutcomeUnknown { .. } | Self::ChangeUnknown { .. } => Some(ErrorKind::OutcomeUnknown),
            _ => None,
        }
    }
}

/// What a failed attempt means.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt would fail alike.
    Final(Error),
    /// Another attempt may succeed.
    Transient {
        /// Whether this attempt may have changed something.
        may_have_happened: bool,
        /// What stood in the way.
        message: String,
    },
}

/// Sorts a status of one attempt.
pub(crate) fn sort(status: &Status) -> Failure {
    let message = || status.message().to_owned();
    let transient = |may_have_happened| Failure::Transient {
        may_have_happened,
        message: format!("{}: {}", status.code(), message()),
    };
    match ErrorKind::of(status) {
        Some(ErrorKind::OutcomeUnknown) => transient(true),
        Some(ErrorKind::Overloaded | ErrorKind::Unavailable | ErrorKind::NotLeader) => transient(false),
        Some(kind) => Failure::Final(Error::Unsuitable { kind, message: message() }),
        None if is_connect_error(status) => transient(false),
        None if is_broken(status) => transient(true),
        None => Failure::Final(Error::Refused { code: status.code(), message: message() }),
    }
}

/// Whether nothing is known of the node but that no answer came from it.
pub(crate) fn is_broken(status: &Status) -> bool {
    if ErrorKind::of(status).is_some() {
        return false;
    }
    // Only a status that was made on this side has a source: the connection broke under the call. So it did where an
    // answer ended without a status, for which a code is made up.
    (std::error::Error::source(status).is_some() && !is_limit(status))
        || !is_refusal(status)
        || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}

/// A message above the size limit will be as large the next time. Its refusal was made on this side and then passed through
/// the connection; a connection that breaks can have the same code (a node that was frozen for some time closes it with
/// `ENHANCE_YOUR_CALM`) and says nothing about the message.
fn is_limit(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<Status>() {
            return matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted);
        }
        source = error.source();
    }
    false
}

/// Whether no connection could be made, so that the request cannot have arrived.
fn is_connect_error(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use steeple_wire::status::refusal;

    use super::*;

    #[test]
    fn refusals_of_the_datastore_are_final() {
        for status in [
            Status::not_found("datastore-sql: record not found"),
            refusal(Code::Unknown, "unable to find federated bundle \"spiffe://x\""),
            refusal(Code::Internal, "failed to parse rootCA: x509: malformed certificate"),
        ] {
            let Failure::Final(Error::Refused { code, message }) = sort(&status) else { panic!("{status:?}") };
            assert_eq!((code, message.as_str()), (status.code(), status.message()));
        }
    }

    #[test]
    fn only_some_failures_leave_the_outcome_open() {
        let open = |status: &Status| match sort(status) {
            Failure::Transient { may_have_happened, .. } => Some(may_have_happened),
            Failure::Final(_) => None,
        };
        assert_eq!(open(&ErrorKind::OutcomeUnknown.status("")), Some(true));
        assert_eq!(open(&Status::unavailable("")), Some(true));
        assert_eq!(open(&ErrorKind::Overloaded.status("")), Some(false));
        assert_eq!(open(&ErrorKind::NotLeader.status("")), Some(false));
        assert_eq!(open(&ErrorKind::Compacted.status("")), None);
        assert_eq!(open(&ErrorKind::AnswerTooLarge.status("")), None);
        assert_eq!(open(&Status::internal("Missing response message.")), Some(true));
        assert_eq!(open(&Status::unknown("grpc-status header missing")), Some(true));
        let mut broken = Status::unknown("transport error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("broken pipe")));
        assert_eq!(open(&broken), Some(true));
        let mut reset = Status::resource_exhausted("h2 protocol error: too_many_pings");
        reset.set_source(std::sync::Arc::new(std::io::Error::other("the connection was closed")));
        assert_eq!(open(&reset), Some(true), "says nothing about what became of the call");
        let mut too_large = Status::out_of_range("the message is too large");
        too_large.set_source(std::sync::Arc::new(Status::out_of_range("the message is too large")));
        assert_eq!(open(&too_large), None);
        let mut refused = Status::unknown("transport error");
        refused.set_source(std::sync::Arc::new(tonic::ConnectError("refused".into())));
        assert_eq!(open(&refused), Some(false));
    }
}
