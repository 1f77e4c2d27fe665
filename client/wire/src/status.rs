//! Headers of answers, and the errors that are Steeple's own.

/// Header of an answer: the revision that a mutation made or that a read saw, in decimal digits.
pub const REVISION_HEADER: &str = "steeple-revision";

/// Header of a status that is Steeple's own: one of the texts of [`ErrorKind`]; or [`REFUSED`].
pub const ERROR_HEADER: &str = "steeple-error";

/// Value of [`ERROR_HEADER`] for a refusal of the datastore itself under a code that a transport makes as well when an
/// answer gets lost, `UNKNOWN` or `INTERNAL`. It is no [`ErrorKind`].
pub const REFUSED: &str = "refused";

/// A refusal of the datastore itself, which no transport can have made.
#[must_use]
pub fn refusal(code: tonic::Code, message: impl Into<String>) -> tonic::Status {
    let mut status = tonic::Status::new(code, message);
    if is_ambiguous(code) {
        status.metadata_mut().insert(ERROR_HEADER, tonic::metadata::MetadataValue::from_static(REFUSED));
    }
    status
}

/// Whether a status was made by a node on purpose, and not by what is between, or by a node that lost its way.
#[must_use]
pub fn is_refusal(status: &tonic::Status) -> bool {
    let marked = || status.metadata().get(ERROR_HEADER).is_some_and(|value| value == REFUSED);
    !is_ambiguous(status.code()) || marked()
}

fn is_ambiguous(code: tonic::Code) -> bool {
    matches!(code, tonic::Code::Unknown | tonic::Code::Internal)
}

/// Header of a [`ErrorKind::NotLeader`] status: number of the node that decides, in decimal digits; absent when unknown.
pub const LEADER_NODE_HEADER: &str = "steeple-leader-node";

/// Header of a [`ErrorKind::NotLeader`] status: where clients reach the node that decides; absent when unknown.
pub const LEADER_ADDRESS_HEADER: &str = "steeple-leader-address";

/// Where a node that does not decide sends a client to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderHint {
    /// Number of the node that decides, if known.
    pub node: Option<u64>,
    /// Its address for clients, if known.
    pub address: Option<String>,
}

impl LeaderHint {
    /// What a status says about the leader; nothing unless it is of the kind [`ErrorKind::NotLeader`].
    #[must_use]
    pub fn of(status: &tonic::Status) -> Option<Self> {
        if ErrorKind::of(status) != Some(ErrorKind::NotLeader) {
            return None;
        }
        let text = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
        Some(Self {
            node: text(LEADER_NODE_HEADER).and_then(|node| node.parse().ok()),
            address: text(LEADER_ADDRESS_HEADER).filter(|address| !address.is_empty()).map(str::to_owned),
        })
    }

    /// A [`ErrorKind::NotLeader`] status that says this. What does not fit into a header is left out.
    #[must_use]
    pub fn status(&self, message: impl Into<String>) -> tonic::Status {
        let mut status = ErrorKind::NotLeader.status(message);
        if let Some(node) = self.node {
            status.metadata_mut().insert(LEADER_NODE_HEADER, node.into());
        }
        if let Some(Ok(address)) = self.address.as_ref().map(|address| address.parse()) {
            status.metadata_mut().insert(LEADER_ADDRESS_HEADER, address);
        }
        status
    }
}

/// Errors that are Steeple's own. Statuses of the datastore itself (not found, already exists, ...) have no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The mutation may or may not have been carried out; the same request id tells. `ABORTED`.
    OutcomeUnknown,
    /// The request id was used for another mutation. `INVALID_ARGUMENT`.
    RequestIdReused,
    /// Too much to do; nothing was done. `UNAVAILABLE`.
    Overloaded,
    /// The node cannot serve now; nothing was done. `UNAVAILABLE`.
    Unavailable,
    /// There is no such namespace. `FAILED_PRECONDITION`, so that it is not taken for a missing record.
    NamespaceUnknown,
    /// The request exceeds a limit. `INVALID_ARGUMENT`.
    LimitExceeded,
    /// The answer does not fit into one message; the text names the streaming call. `RESOURCE_EXHAUSTED`.
    AnswerTooLarge,
    /// Not a cursor. `INVALID_ARGUMENT`.
    CursorMalformed,
    /// A cursor of another namespace or history. `FAILED_PRECONDITION`.
    CursorForeign,
    /// A cursor beyond what the node has. `FAILED_PRECONDITION`.
    CursorAhead,
    /// Events that are needed are no longer kept. `OUT_OF_RANGE`.
    Compacted,
    /// The asked node does not decide; the text says which one does if that is known. `UNAVAILABLE`.
    NotLeader,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::OutcomeUnknown,
        Self::RequestIdReused,
        Self::Overloaded,
        Self::Unavailable,
        Self::NamespaceUnknown,
        Self::LimitExceeded,
        Self::AnswerTooLarge,
        Self::CursorMalformed,
        Self::CursorForeign,
        Self::CursorAhead,
        Self::Compacted,
        Self::NotLeader,
    ];

    /// The header's value.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::OutcomeUnknown => "outcome-unknown",
            Self::RequestIdReused => "request-id-reused",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::NamespaceUnknown => "namespace-unknown",
            Self::LimitExceeded => "limit-exceeded",
            Self::AnswerTooLarge => "answer-too-large",
            Self::CursorMalformed => "cursor-malformed",
            Self::CursorForeign => "cursor-foreign",
            Self::CursorAhead => "cursor-ahead",
            Self::Compacted => "compacted",
            Self::NotLeader => "not-leader",
        }
    }

    /// The kind with this header value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.text() == text)
    }

    /// The gRPC status that goes with it.
    #[must_use]
    pub const fn code(self) -> tonic::Code {
        match self {
            Self::OutcomeUnknown => tonic::Code::Aborted,
            Self::RequestIdReused | Self::LimitExceeded | Self::CursorMalformed => tonic::Code::InvalidArgument,
            Self::Overloaded | Self::Unavailable | Self::NotLeader => tonic::Code::Unavailable,
            Self::NamespaceUnknown | Self::CursorForeign | Self::CursorAhead => tonic::Code::FailedPrecondition,
            Self::AnswerTooLarge => tonic::Code::ResourceExhausted,
            Self::Compacted => tonic::Code::OutOfRange,
        }
    }

    /// A status of this kind.
    #[must_use]
    pub fn status(self, message: impl Into<String>) -> tonic::Status {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.insert(ERROR_HEADER, tonic::metadata::MetadataValue::from_static(self.text()));
        tonic::Status::with_metadata(self.code(), message, metadata)
    }

    /// The kind of a status; none for a status of the datastore itself or of the transport.
    #[must_use]
    pub fn of(status: &tonic::Status) -> Option<Self> {
        status.metadata().get(ERROR_HEADER).and_then(|value| value.to_str().ok()).and_then(Self::parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_its_kind() {
        for kind in ErrorKind::ALL {
            let status = kind.status("text");
            assert_eq!(status.code(), kind.code());
            assert_eq!(ErrorKind::of(&status), Some(kind));
        }
        assert_eq!(ErrorKind::of(&tonic::Status::not_found("text")), None);
    }

    #[test]
    fn a_refusal_is_marked_where_a_transport_uses_its_code() {
        for (code, marked) in
            [(tonic::Code::Unknown, true), (tonic::Code::Internal, true), (tonic::Code::NotFound, false)]
        {
            let status = refusal(code, "text");
            assert!(is_refusal(&status));
            assert_eq!(is_refusal(&tonic::Status::new(code, "text")), !marked);
            assert_eq!((status.metadata().is_empty(), ErrorKind::of(&status)), (!marked, None));
        }
    }

    #[test]
    fn a_hint_survives_the_headers() {
        let both = LeaderHint { node: Some(3), address: Some("node-3:7400".into()) };
        for hint in [both.clone(), LeaderHint { address: None, ..both.clone() }, LeaderHint::default()] {
            let status = hint.status("text");
            assert_eq!((ErrorKind::of(&status), LeaderHint::of(&status)), (Some(ErrorKind::NotLeader), Some(hint)));
        }
        let unfit = LeaderHint { address: Some("a\nb".into()), ..both };
        assert_eq!(LeaderHint::of(&unfit.status("text")).unwrap().address, None);
        assert_eq!(LeaderHint::of(&ErrorKind::Unavailable.status("text")), None);
    }
}
